//! Rules that would not end, would eat the memory, or would get out.

use proptest::prelude::*;

use super::*;

/// A limit that is reached at once, and how long a call may take in all: unoptimized, on a machine
/// with other work, with a new virtual machine to build.
const SHORT: Duration = Duration::from_millis(20);
const GENEROUS: Duration = Duration::from_secs(2);
/// A limit that only what does not end reaches.
const LONG: Duration = Duration::from_secs(1);

/// Runs a body; it must end in the safe answer, in time, with this kind of breach, and the rules must
/// then serve an honest call as if nothing had been.
fn breach_of(body: &str) -> Breach {
    breach_within(SHORT, body)
}

#[allow(clippy::disallowed_types)]
fn breach_within(time_max: Duration, body: &str) -> Breach {
    let honest = "if tx.currency == 'EUR' then return 'approve' end\n";
    let rules = rules(&format!("{honest}{body}"));
    let started = std::time::Instant::now();
    let ruling = decide(&rules, time_max);
    assert!(started.elapsed() < GENEROUS, "took {:?}: {body}", started.elapsed());
    assert_eq!(ruling.verdict, Verdict::Decline, "{body}");
    assert_eq!(ruling.reasons, [SAFE], "{body}");

    let mut question = question();
    question.request.money = Some(Money { amount: 1, currency: "EUR".into() });
    let next = rules.decide_by_default(&question, TIME);
    assert_eq!((next.verdict, next.breach), (Verdict::Approve, None), "{body}");
    ruling.breach.unwrap_or_else(|| panic!("no breach: {body}"))
}

#[test]
fn what_does_not_end_is_stopped() {
    for body in [
        "while true do end",
        "repeat until false",
        "for i = 1, math.huge do end",
        "local function f() return f() end return f()",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local function f() pcall(f) pcall(f) end f()",
        "string.find(string.rep('a', 28), string.rep('a?', 28) .. string.rep('a', 28))",
        "string.match(string.rep('a', 20000), '.-.-.-.-b')",
        "string.gsub(string.rep('a', 20000), '(a*)*b', '')",
        "for _ in string.gmatch(string.rep('a', 20000), '.-.-.-b') do end",
        "local t = {} for i = 1, 9000 do t[i] = i % 7 end while true do table.sort(t) end",
        "table.sort({ 3, 2, 1 }, function() while true do end end)",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "return tostring(setmetatable({}, { __tostring = function() while true do end end }))",
        "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) return t[1]",
        "local t = setmetatable({}, { __eq = function() while true do end end }) \
         return t == setmetatable({}, getmetatable(t))",
        "for _ in next, setmetatable({}, { __iter = 1 }) do end while true do next({}) end",
    ] {
        let breach = breach_of(body);
        // A recursion may meet the end of the stack before the end of its time.
        let stack = breach.to_string().contains("stack overflow") && body.contains("function");
        assert!(
            stack || matches!(breach, Breach::OutOfTime { .. } | Breach::OutOfMemory { .. }),
            "{body}: {breach}"
        );
    }
}

#[test]
fn a_breach_of_time_names_file_and_line() {
    // The body begins on line 2 of the file, after the honest part.
    let breach = breach_of("local a = 1\nwhile true do\na = a + 1\nend");
    let Breach::OutOfTime { place, time_max } = breach else { panic!("{breach}") };
    assert_eq!(place.file, "policies/p.lua");
    assert!((3..=6).contains(&place.line.unwrap()), "{place}");
    assert_eq!(time_max, SHORT);
}

#[test]
fn what_eats_memory_is_stopped() {
    for body in [
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = string.rep('x', 65536) .. #t end",
        "local t = {} while true do pcall(function() while true do t[#t + 1] = #t .. 'x' end end) end",
        "string.gsub(string.rep('a', 65536), 'a', string.rep('b', 65536))",
        "local t = {} for i = 1, 9999 do t[i] = string.rep('x', 60000) end return table.concat(t)",
        "local function f(...) return f(1, ...) end f()",
    ] {
        let breach = breach_of(body);
        let stack = breach.to_string().contains("stack overflow");
        assert!(
            stack || matches!(breach, Breach::OutOfMemory { .. } | Breach::OutOfTime { .. }),
            "{body}: {breach}"
        );
    }
    let breach = breach_within(LONG, "local s = 'x' while true do s = s .. s end");
    assert_eq!(breach.as_str(), "memory", "{breach}");
}

#[test]
fn running_out_of_memory_cannot_be_swallowed() {
    for call in ["pcall(f)", "xpcall(f, tostring)", "pcall(pcall, f)"] {
        let body = format!(
            "local function f() local s = 'x' while true do s = s .. s end end {call} return 'approve'"
        );
        assert_eq!(breach_within(LONG, &body).as_str(), "memory", "{call}");
    }
}

#[test]
fn one_call_does_not_pay_for_what_another_left_in_memory() {
    // Over half the limit, and none of it garbage before the end: Luau paces its collector by the
    // clock, so nobody could say what would be left of that.
    let body = "local t = {} for i = 1, 95 do t[i] = string.rep(string.char(i), 65000) end return 'approve'";
    let rules = rules(body);
    for call in 0..5 {
        let breach = decide(&rules, Duration::from_secs(2)).breach;
        assert_eq!(breach, None, "call {call}");
    }
}

#[test]
fn a_bug_in_the_sandbox_costs_one_answer() {
    let rules = rules("return 'approve'");
    let program = &rules.policies.get("p").unwrap().program;
    let outcome: Result<(), Breach> = rules.on_a_machine(program, |_| panic!("a bug"));
    assert_eq!(outcome.unwrap_err().as_str(), "sandbox");
    assert_eq!(decide(&rules, TIME).breach, None);
}

#[test]
fn a_text_nested_too_deep_is_refused_or_runs() {
    for (open, middle, close) in [
        ("(", "1", ")"),
        ("{", "", "}"),
        ("1+", "1", ""),
        ("1^", "1", ""),
        ("'a'..", "'a'", ""),
        ("not ", "1", ""),
        ("-", "1", ""),
        ("f(", "", ")"),
        ("", "f", ".a"),
        ("", "f", "()"),
        ("function() return ", "1", " end"),
    ] {
        let text = format!("return {}{middle}{}", open.repeat(20_000), close.repeat(20_000));
        let refused = rules_from(&[("policies/p.lua", &text)]).unwrap_err();
        assert!(refused.to_string().starts_with("policies/p.lua"), "{open}{close}: {refused}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_answers(words in prop::collection::vec(word(), 0..40)) {
        let text = format!(
            "return {{ fields = {{}}, safe = 'review', decide = function(tx) {} end }}",
            words.join(" "),
        );
        if let Ok(rules) = rules_from(&[("policies/p.lua", refused::POLICY), ("defaults/p.lua", &text)]) {
            let ruling = rules.decide_by_default(&question(), SHORT);
            prop_assert_eq!(ruling.breach.is_some(), ruling.reasons == [SAFE]);
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "tx",
        ".id",
        ".amount",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "=",
        "==",
        "..",
        "+",
        "#",
        ",",
        ";",
        "'approve'",
        "1",
        "nil",
        "x",
        "local x =",
        "return",
        "if",
        "then",
        "else",
        "end",
        "while",
        "do",
        "for i = 1, 9 do",
        "repeat",
        "until",
        "function",
        "function()",
        "pcall",
        "error",
        "setmetatable",
        "string.rep",
        "select",
        "('#')",
        "('x', 1e9)",
        "unpack",
        "next",
        "tostring",
    ])
}

#[test]
fn what_c_code_would_do_without_asking_is_refused() {
    for (body, expected) in [
        ("return ('x'):rep(3e8)", "string.rep makes at most"),
        ("return string.rep('x', 65537)", "string.rep makes at most"),
        ("return string.rep('', 1e300)", "string.rep makes at most"),
        ("return string.rep('x', 0/0)", "string.rep makes at most"),
        ("return string.rep('x')", "string.rep takes a string and a count"),
        (
            "local a = string.rep('a', 65536) return string.find(a .. a, a .. 'b', 1, true)",
            "too long together",
        ),
        ("local t = {} for i = 1, 10001 do t[i] = 1 end table.sort(t)", "table.sort sorts at most"),
        ("return table.concat({}, '', 1, 1e9)", "table.concat goes through at most"),
        ("return unpack({}, 1, 1e7)", "unpack goes through at most"),
        ("return unpack({}, 0/0)", "unpack goes through at most"),
    ] {
        let breach = decide(&rules(body), TIME).breach.unwrap();
        let place = "policies/p.lua:2: ";
        assert!(breach.to_string().starts_with(place), "{body}: {breach}");
        assert!(breach.to_string().contains(expected), "{body}: {breach}");
    }
}

#[test]
fn deep_recursion_ends_in_the_safe_answer() {
    let breach = breach_of("local function f(n) return 1 + f(n + 1) end return f(1)");
    assert!(["raised", "memory", "time"].contains(&breach.as_str()), "{breach}");
    let nested = breach_of(
        "local t = {} for i = 1, 300 do t = setmetatable({}, { __index = function(_, k) \
         return t[k] end }) end local function f(s) return (s:gsub('a', f)) end return f('a')",
    );
    assert!(["raised", "memory", "time"].contains(&nested.as_str()), "{nested}");
}

#[test]
fn there_is_no_way_out_of_the_sandbox() {
    for name in [
        "os",
        "io",
        "debug",
        "package",
        "require",
        "dofile",
        "loadfile",
        "load",
        "loadstring",
        "getfenv",
        "setfenv",
        "newproxy",
        "print",
        "collectgarbage",
        "gcinfo",
        "coroutine",
        "buffer",
        "vector",
        "bit32",
        "utf8",
        "integer",
        "typeof",
        "string.dump",
        "string.pack",
        "string.split",
        "math.random",
        "math.randomseed",
        "math.noise",
        "table.move",
        "table.create",
        "table.freeze",
        "table.clear",
    ] {
        let body = format!("return {name} == nil and 'approve' or 'review'");
        assert_eq!(decide(&rules(&body), TIME).verdict, Verdict::Approve, "{name} is there");
    }
}

#[test]
fn what_is_not_there_cannot_be_called_either() {
    for call in [
        "bit32.band(1, 2)",
        "math.random()",
        "math.clamp(1, 2, 3)",
        "math.sign(1)",
        "math.round(1)",
        "math.lerp(1, 2, 3)",
        "math.isnan(1)",
        "math.isinf(1)",
        "math.isfinite(1)",
        "table.unpack({})",
        "integer.create(1)",
        "vector.create(1, 2, 3)",
        "buffer.create(8)",
        "table.create(8)",
        "typeof(1)",
        "rawlen('a')",
        "loadstring('return 1')",
    ] {
        let ruling = decide(&rules(&format!("local x = {call} return 'approve'")), TIME);
        let breach = ruling.breach.unwrap_or_else(|| panic!("{call} is there")).to_string();
        assert!(breach.starts_with("policies/p.lua:2: attempt to "), "{call}: {breach}");
    }
}

#[test]
fn nothing_shared_can_be_written_to() {
    for body in [
        "leaked = 1",
        "_G.leaked = 1",
        "rawset(_G, 'leaked', 1)",
        "setmetatable(_G, { __index = function() return 1 end })",
        "string.rep = nil",
        "math.pi = 3",
        "getmetatable('').__index = nil",
        "getmetatable('').__index.upper = string.lower",
        "rows.x = 1",
        "getmetatable(history.customer).__index = nil",
        "history.customer.count = nil",
    ] {
        let rules = rules(body);
        let histories = BTreeMap::from([("customer".to_owned(), History::default())]);
        let ruling = rules.decide_by_policy(&question(), &histories, &BTreeMap::new(), false, TIME);
        let breach = ruling.breach.unwrap();
        assert!(breach.to_string().starts_with("policies/p.lua:2: "), "{body}: {breach}");
    }
}

#[test]
fn nothing_outlives_a_call() {
    let text = "local calls, seen = 0, {}
        return { fields = {}, safe = 'decline', decide = function(tx)
            calls = calls + 1
            seen[#seen + 1] = tx.id
            string.find('a', 'a')
            return 'approve', nil, calls + #seen
        end }";
    let policy = "return { fields = {}, safe = 'review', strict = false,
        keys = function() return {} end, decide = function() return 'approve' end }";
    let rules = rules_from(&[("policies/p.lua", policy), ("defaults/p.lua", text)]).unwrap();
    for _ in 0..3 {
        assert_eq!(rules.decide_by_default(&question(), TIME).score, 2);
    }
}

#[test]
fn no_answer_depends_on_where_a_value_lies_in_memory() {
    for body in [
        "return 'approve', { tostring({}), tostring(function() end), tostring(print) }",
        "return 'approve', { string.format('%s', {}), ('%s'):format(pcall), 'nil' }",
    ] {
        let ruling = decide(&rules(body), TIME);
        assert_eq!(ruling.reasons, ["table", "function", "nil"], "{body}");
    }
    let body = "return 'approve', { tostring(setmetatable({}, { __tostring = function() return 'me' end })) }";
    assert_eq!(decide(&rules(body), TIME).reasons, ["me"]);
}

#[test]
fn a_limit_of_nothing_ends_in_the_safe_answer() {
    for time_max in [Duration::ZERO, Duration::from_nanos(1)] {
        let ruling = decide(&rules("return 'approve'"), time_max);
        assert_eq!(ruling.verdict, Verdict::Decline);
        assert_eq!(ruling.breach.unwrap().as_str(), "time");
    }
    assert_eq!(decide(&rules("return 'approve'"), Duration::MAX).breach, None);
}

#[test]
fn many_threads_share_the_rules() {
    let rules = rules("if tx.id == 'bad' then while true do end end return 'approve'");
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let rules = &rules;
            scope.spawn(move || {
                let mut question = question();
                question.request.id = if thread % 3 == 0 { "bad" } else { "good" }.to_owned();
                for _ in 0..10 {
                    let ruling = rules.decide_by_default(
                        &question,
                        Duration::from_secs(2).div_f64(if thread % 3 == 0 { 1000.0 } else { 1.0 }),
                    );
                    let expected =
                        if thread % 3 == 0 { Verdict::Decline } else { Verdict::Approve };
                    assert_eq!(ruling.verdict, expected);
                }
            });
        }
    });
}
