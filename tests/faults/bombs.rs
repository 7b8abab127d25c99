//! Rules that break, one kind each. Their safe answer is `decline`, which nobody else would give.

use std::path::Path;

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
