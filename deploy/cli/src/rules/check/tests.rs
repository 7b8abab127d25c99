//! One mistake at a time in rules that are sound, and what is said of it.

use std::fs;
use std::time::Duration;

use backstop_lua::Slices;

use super::*;

const POLICY: &str = r#"local function judge(request, past)
  if request.terminal == "3156" and past.customer:count("1h") > 3 then
    return "decline", { "busy" }, 50
  end
  return "approve"
end

return {
  fields = { "terminal", "qty" },
  safe = "review",
  strict = false,
  keys = function(tx)
    return { history = { customer = "customer:" .. tx.account }, stock = { "gifts" } }
  end,
  decide = function(tx, history, stock)
    return judge(tx, history)
  end,
  effects = function(tx, decision)
    return { take = { gifts = decision == "approve" and 1 or 0 } }
  end,
}
"#;

const DEFAULT: &str = r#"return {
  fields = { "terminal" },
  safe = "review",
  decide = function(tx)
    if tx.terminal == "3156" then
      return "review"
    end
    return "approve"
  end,
}
"#;

fn limits() -> Limits {
    let slices = Slices { policy: Duration::from_millis(50), default: Duration::from_millis(50) };
    Limits { slices, memory_bytes_max: 8 << 20, history_entries_max: 1_000 }
}

fn said_of(policy: &str, default: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (folder, text) in [("policies", policy), ("defaults", default)] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("gift.lua"), text).unwrap();
    }
    let checked = check(dir.path(), limits()).unwrap();
    checked.findings.iter().map(|finding| finding.shown(&checked.texts)).collect()
}

#[test]
fn sound_rules_are_sound() {
    assert_eq!(said_of(POLICY, DEFAULT), [""; 0]);
}

#[test]
fn the_shipped_rules_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lua");
    let checked = check(&folder, limits()).unwrap();
    assert_eq!(checked.findings, []);
}

/// What to replace in the policy by what, and what is said then: the place, and words of the message.
const MISTAKES: [(&str, &str, &str, &[&str]); 18] = [
    (
        "request.terminal",
        "request.termnal",
        "policies/gift.lua:2: ",
        &[
            "request.termnal is always nil",
            "    2 |   if request.termnal",
            "write request.terminal, or add \"termnal\" to fields",
        ],
    ),
    (
        "return \"approve\"\n",
        "return \"aprove\"\n",
        "policies/gift.lua:5: ",
        &["\"aprove\" is no decision", "write \"approve\""],
    ),
    (
        "return \"approve\"\n",
        "return true\n",
        "policies/gift.lua:5: ",
        &["decide returns true", "return \"approve\", \"decline\" or"],
    ),
    (
        "  return \"approve\"\n",
        "",
        "policies/gift.lua:14: ",
        &["decide returned nothing", "return \"approve\""],
    ),
    (
        "past.customer:count",
        "past.customer:cuont",
        "policies/gift.lua:2: ",
        &["nothing answers to :cuont()", "write count"],
    ),
    (
        "past.customer:count",
        "past.custmer:count",
        "policies/gift.lua:2: ",
        &["keys asks for no history custmer", "write customer"],
    ),
    (
        "\"1h\"",
        "\"1 hour\"",
        "policies/gift.lua:2: ",
        &["is not a length of time", "write such as"],
    ),
    (
        "  return judge",
        "  seen = true\n    return judge",
        "policies/gift.lua:16: ",
        &["seen is a global", "write local seen"],
    ),
    (
        "  return judge",
        "  print(tx.id)\n    return judge",
        "policies/gift.lua:16: ",
        &["there is no print here", "no output"],
    ),
    (
        "  return judge",
        "  while true do tx.x = 1 end\n    return judge",
        "policies/gift.lua:16: ",
        &["this loop never ends", "for i = 1, N do"],
    ),
    (
        "  return judge",
        "  repeat local n = 1 until nil\n    return judge",
        "policies/gift.lua:16: ",
        &["this loop never ends"],
    ),
    (
        "  return judge",
        "  local n = 1 while n > 0 do n = n + 1 end\n    return judge",
        "policies/gift.lua:16: ",
        &["does not end", "bound the loop"],
    ),
    (
        "  return judge",
        "  if tx.qty > 6 then return 'review' end\n    return judge",
        "policies/gift.lua:16: ",
        &["compare", "test it first"],
    ),
    (
        "  return judge",
        "  if math.random() > 0.5 then return 'review' end\n    return judge",
        "policies/gift.lua:16: ",
        &["no math.random", "hash.share"],
    ),
    (
        "  return judge",
        "  if sring.len('x') > 1 then return 'review' end\n    return judge",
        "policies/gift.lua:16: ",
        &["no sring", "write string"],
    ),
    (
        "take = { gifts",
        "take = { gift",
        "policies/gift.lua:18: ",
        &["a key that keys did not name", "name there, in stock"],
    ),
    (
        "stock = { \"gifts\" }",
        "stok = { \"gifts\" }",
        "policies/gift.lua:12: ",
        &["keys returned a field \"stok\"", "either may be absent"],
    ),
    (
        "safe = \"review\"",
        "safe = \"maybe\"",
        "policies/gift.lua:10: ",
        &["safe is \"maybe\"", "write \"approve\""],
    ),
];

#[test]
fn each_mistake_is_said_with_its_line_and_what_to_write() {
    for (old, new, place, words) in MISTAKES {
        assert!(POLICY.contains(old), "{old}");
        let said = said_of(&POLICY.replacen(old, new, 1), DEFAULT);
        assert!(said.iter().any(|it| it.starts_with(place)), "{new}: {said:#?}");
        let all = said.concat();
        assert!(words.iter().all(|word| all.contains(word)), "{new}: {all}");
    }
}

#[test]
fn a_default_that_could_approve_where_the_policy_is_strict_is_found_on_its_line() {
    let said = said_of(&POLICY.replace("strict = false", "strict = true"), DEFAULT);
    assert_eq!(said.len(), 1, "{said:#?}");
    let words = [
        "defaults/gift.lua:8: the default approves",
        "policies/gift.lua is strict",
        "write strict = false",
    ];
    assert!(words.iter().all(|word| said.concat().contains(word)), "{said:#?}");
}

#[test]
fn what_is_no_lua_is_said_once_and_luau_is_no_lua() {
    let broken = said_of(&POLICY.replace("if request", "fi request"), DEFAULT);
    assert_eq!(broken.len(), 1, "{broken:#?}");
    assert!(broken.concat().starts_with("policies/gift.lua:2: "), "{broken:#?}");
    let luau = said_of(
        &POLICY
            .replace("  return \"approve\"\n", "  local n = 1\n  n += 1\n  return \"approve\"\n"),
        DEFAULT,
    );
    assert!(luau.concat().starts_with("policies/gift.lua:6: this is not Lua 5.1"), "{luau:#?}");
}

#[test]
fn a_loop_that_is_left_is_no_finding() {
    for body in [
        "while true do if tx.qty then break end return 'review' end",
        "for i = 1, math.huge do if i > 3 then break end end",
        "local n = 0 repeat n = n + 1 until n > 9",
    ] {
        let policy = POLICY.replace("    return judge", &format!("    {body}\n    return judge"));
        assert_eq!(said_of(&policy, DEFAULT), [""; 0], "{body}");
    }
}

#[test]
fn every_file_is_checked_though_one_is_broken() {
    let said = said_of(
        &POLICY.replace("return judge", "returns judge"),
        &DEFAULT.replace("tx.terminal", "tx.terminl"),
    );
    let all = said.concat();
    assert!(
        all.contains("policies/gift.lua:16: ") && all.contains("defaults/gift.lua:5: tx.terminl"),
        "{all}"
    );
}
