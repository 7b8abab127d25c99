//! Rules that break, one kind each. Their safe answer is `decline`, which nobody else would give.

use std::path::Path;

use super::scene::{Outcome, Scene};

/// A policy's name, and what its `decide` does; its default does the same.
const BOMBS: [(&str, &str); 8] = [
    ("loop", "while true do end"),
    ("swallow", "while true do pcall(function() while true do end end) end"),
    ("pattern", r#"return string.find(string.rep("a", 200), string.rep("a*", 100) .. "b")"#),
    ("memory", r#"local s = "x"; while true do s = s .. s end"#),
    ("deep", "local function f(n) return 1 + f(n + 1) end; return f(1)"),
    ("error", r#"error({ "a bomb" })"#),
    ("nothing", "return nil"),
    ("nonsense", r#"return "approve", { string.rep("x", 1000000) }, 0 / 0"#),
];

/// The names of the policies that break.
pub const NAMES: [&str; BOMBS.len()] = {
    let mut names = [""; BOMBS.len()];
    let mut at = 0;
    while at < BOMBS.len() {
        names[at] = BOMBS[at].0;
        at += 1;
    }
    names
};

/// Lets rules break for a while; whoever operates this must then find them in the log, by file and line.
pub fn are_named(scene: &Scene) -> Outcome {
    scene.hold();
    let logs = scene.logs();
    let is_named = |name: &&str| logs.contains(&format!("/{name}.lua:"));
    let named = NAMES.iter().filter(|name| is_named(name)).count();
    // One that was stopped, or returned what it may not, has no line of its own.
    if named > 0 { Ok(()) } else { Err(format!("no log names a rule that broke:\n{logs}")) }
}

/// Writes a bundle: the shipped rules, and one that breaks for each kind.
pub fn write_to(rules: &Path) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    for role in ["policies", "defaults"] {
        let folder = rules.join(role);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(shipped.join(role).join("payment.lua"), folder.join("payment.lua")).unwrap();
        let more = if role == "policies" {
            "strict = false,\n  keys = function(tx) return {} end,"
        } else {
            ""
        };
        for (name, body) in BOMBS {
            let text = format!(
                "return {{\n  fields = {{}},\n  safe = \"decline\",\n  {more}\n  decide = function(tx)\n    {body}\n  end,\n}}\n"
            );
            std::fs::write(folder.join(format!("{name}.lua")), text).unwrap();
        }
    }
}
