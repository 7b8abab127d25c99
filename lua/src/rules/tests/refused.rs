//! Bundles that are wrong, and where the error says so.

use super::*;

pub(super) const POLICY: &str = "return {
    fields = {},
    safe = 'review',
    strict = false,
    keys = function() return {} end,
    decide = function() return 'approve' end,
}
";
const DEFAULT: &str = "return {
    fields = {},
    safe = 'review',
    decide = function() return 'approve' end,
}
";

fn refusal(file: &str, text: &str) -> String {
    let mut texts = BTreeMap::from([("policies/p.lua", POLICY)]);
    texts.insert(file, text);
    let texts: Vec<(&str, &str)> = texts.into_iter().collect();
    rules_from(&texts).map(|_| text).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_remedy() {
    for (old, new, expected) in [
        (
            "'review'",
            "'maybe'",
            "policies/p.lua:3: safe is \"maybe\"; write \"approve\", \"decline\" or \"review\"",
        ),
        ("safe = 'review',", "", "policies/p.lua:1: safe is nothing; write"),
        (
            "safe =",
            "save =",
            "policies/p.lua:3: \"save\" means nothing here; return fields, safe, strict",
        ),
        ("strict = false,", "", "policies/p.lua:1: strict is nothing; write true or false"),
        ("false", "'no'", "policies/p.lua:4: strict is a string; write true or false"),
        (
            "{},\n    safe",
            "7,\n    safe",
            "policies/p.lua:2: fields are not a list but a number; write a list",
        ),
        (
            "{},\n    safe",
            "{ 1 },\n    safe",
            "policies/p.lua:2: fields hold one that is not a string",
        ),
        (
            "{},\n    safe",
            "{ 'at' },\n    safe",
            "policies/p.lua:2: fields names \"at\", which every rule sees",
        ),
        (
            "{},\n    safe",
            "{ 'backstop_force' },\n    safe",
            "policies/p.lua:2: fields names \"backstop_force\", which no rule may see",
        ),
        (
            "{},\n    safe",
            "{ 'a', 'a' },\n    safe",
            "policies/p.lua:2: fields names an attribute twice",
        ),
        (
            "decide = function() return 'approve' end,",
            "",
            "policies/p.lua:1: decide is nothing; write a function",
        ),
        (
            "keys = function() return {} end,",
            "keys = {},",
            "policies/p.lua:5: keys is a table; write a function",
        ),
        (
            "keys =",
            "effects = 1, keys =",
            "policies/p.lua:5: effects is a number; write a function",
        ),
        ("strict", "= strict", "policies/p.lua:4: "),
        ("}\n", "", "policies/p.lua:7: "),
        (
            "return {",
            "local x = 1 x.y.z = 2 return {",
            "policies/p.lua:1: attempt to index number with 'y'",
        ),
        ("return {", "error('boom') return {", "policies/p.lua:1: boom"),
        ("return {", "while true do end return {", "policies/p.lua:1: still running after 250ms"),
        ("return {", "leaked = 1 return {", "policies/p.lua:1: attempt to modify a readonly table"),
        ("return {", "local t = {} while true do t[#t + 1] = {} end return {", "policies/p.lua"),
        ("return {", "print(1) return {", "policies/p.lua:1: attempt to call a nil value"),
        ("return {", "local x = {", "policies/p.lua: returns nothing; return a table"),
    ] {
        assert!(POLICY.contains(old), "{old}");
        let message = refusal("policies/p.lua", &POLICY.replacen(old, new, 1));
        assert!(message.starts_with(expected), "{new}: {message}, not {expected}");
    }
}

#[test]
fn effects_are_optional_for_a_policy_and_unknown_to_a_default() {
    let with = POLICY.replace("keys =", "effects = function() return {} end,\n    keys =");
    assert!(rules_from(&[("policies/p.lua", &with)]).is_ok());
    for name in ["keys", "effects", "strict"] {
        let text = DEFAULT.replace("safe =", &format!("{name} = 1,\n    safe ="));
        let message = refusal("defaults/p.lua", &text);
        let expected =
            format!("defaults/p.lua:3: \"{name}\" means nothing here; return fields, safe");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_syntax_error_names_file_and_line() {
    let message = refusal("defaults/p.lua", "return {\n    safe = = 1\n}\n");
    assert!(message.starts_with("defaults/p.lua:2: "), "{message}");
}

#[test]
fn only_text_is_loaded() {
    let bytecode = "\u{6}\u{3}\u{1}";
    assert!(refusal("policies/q.lua", bytecode).starts_with("policies/q.lua"));
    assert!(refusal("policies/q.lua", "\u{1b}Lua").starts_with("policies/q.lua"));
}

#[test]
fn too_little_memory_is_said_before_the_first_call() {
    let bundle = Bundle::from_texts([("policies/p.lua", POLICY)]).unwrap();
    let error = Rules::new(bundle.clone(), 4096).unwrap_err();
    let BundleError::TooLittleMemory { bytes_min, .. } = error else { panic!("{error}") };
    assert!(Rules::new(bundle.clone(), bytes_min + 65_536).is_ok());
    assert!(Rules::new(bundle, bytes_min / 2).is_err());
}
