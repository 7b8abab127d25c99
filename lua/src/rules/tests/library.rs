//! The standard library and rule rows: what they give, and that nothing hostile gets more out of them.

use super::*;

const ROWS: [(&str, &str); 4] = [
    ("rows/blocked.json", r#"["customer-1", 3156]"#),
    ("rows/limits.csv", "currency,limit,hard\nGBP,22000,true\nJPY,3000000.5,\n\"a,b\",007,no\n"),
    ("rows/one.csv", "key,value\nx,7\n"),
    ("rows/map.json", r#"{ "a": 1, "b": { "value": "two", "more": null } }"#),
];

fn with_rows(body: &str) -> Result<Rules, BundleError> {
    let policy = refused::POLICY.replace(
        "decide = function() return 'approve' end",
        &format!("decide = function(tx, history, stock, rows)\n{body}\nend"),
    );
    let mut texts = vec![("policies/p.lua", policy.as_str())];
    texts.extend(ROWS);
    rules_from(&texts)
}

/// What an expression comes to, as text.
fn value_of(expression: &str) -> Result<String, String> {
    let rules = with_rows(&format!("return 'approve', {{ tostring({expression}) }}")).unwrap();
    let ruling = decide(&rules, TIME);
    match ruling.breach {
        None => Ok(ruling.reasons.concat()),
        Some(breach) => Err(breach.to_string()),
    }
}

#[test]
fn each_function_gives_what_it_promises() {
    for (expression, expected) in [
        ("money.minor('57.16', 'GBP')", "5716"),
        ("money.minor('57', 'GBP')", "5700"),
        ("money.minor('57', 'JPY')", "57"),
        ("money.minor('1.5', 'BHD')", "1500"),
        ("money.text(5716, 'GBP')", "57.16"),
        ("money.text(5, 'GBP')", "0.05"),
        ("money.text(5, 'JPY')", "5"),
        ("money.share(1000, 12.5)", "125"),
        ("money.share(3, 50)", "2"),
        ("money.share(9007199254740991, 100)", "9007199254740991"),
        ("time.hour(1533124800000)", "12"),
        ("time.hour(1533124800000, '+02:30')", "14"),
        ("time.minute(1533124800000, '+02:30')", "30"),
        ("time.weekday(1533124800000)", "3"),
        ("time.weekday(1533124800000, '+12:00')", "4"),
        ("time.date(1533124800000, '-12:30')", "2018-07-31"),
        ("time.date(0)", "1970-01-01"),
        ("regex.matches('abc', 'b')", "true"),
        ("regex.matches('abc', '^b')", "false"),
        ("regex.matches(nil, 'b')", "false"),
        ("regex.matches('é', '^..$')", "true"),
        ("(regex.find('card:411111:1111', '^card:([0-9]{6}):([0-9]+)'))", "411111"),
        ("select(2, regex.find('card:411111:1111', '^card:([0-9]{6}):([0-9]+)'))", "1111"),
        ("regex.find('abc', 'b.')", "bc"),
        ("regex.find('abc', 'x')", "nil"),
        ("hash.percent('a', 100)", "true"),
        ("hash.percent('a', 0)", "false"),
        ("hash.share('a') == hash.share('a')", "true"),
        ("hash.share('a', 'one') == hash.share('a', 'two')", "false"),
        // A sample that anybody relies on: it may never change.
        ("string.format('%.12f', hash.share('customer-1'))", "0.926085960583"),
        ("reasons.new():add('a', 5):add('a', 5):add('b').score", "5"),
        ("reasons.new():add('a', 5):has('a')", "true"),
        ("reasons.new():add('a', 50):decide(100, 50)", "review"),
        ("reasons.new():add('a', 50):decide(100)", "approve"),
        ("reasons.new():add('a', 50):decide(50)", "decline"),
        ("select(3, reasons.new():add('a', 50):decide(50))", "50"),
        ("rows.blocked:has('customer-1')", "true"),
        ("rows.blocked:has(3156)", "true"),
        ("rows.blocked:has(nil)", "false"),
        ("rows.blocked:count()", "2"),
        ("rows.limits:get('GBP', 'limit')", "22000"),
        ("rows.limits:get('GBP', 'hard')", "true"),
        ("rows.limits:get('JPY', 'hard')", "nil"),
        ("rows.limits:get('a,b', 'limit')", "007"),
        ("rows.limits:get('USD', 'limit')", "nil"),
        ("rows.one:get('x')", "7"),
        ("rows.map:get('a', 'value')", "1"),
        ("rows.map:get('b', 'value')", "two"),
        ("rows.unknown", "nil"),
    ] {
        let said = value_of(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(said, expected, "{expression}");
    }
}

#[test]
fn what_makes_no_sense_is_said_with_its_line_and_what_to_write() {
    for (expression, wrong) in [
        ("money.minor(57.16, 'GBP')", "write it in quotes"),
        ("money.minor('57.165', 'GBP')", "at most 2 decimals"),
        ("money.minor('-1', 'GBP')", "at most 2 decimals"),
        ("money.minor('1', 'gbp')", "three capital letters"),
        ("money.minor('99999999999999999', 'GBP')", "is no amount"),
        ("money.text(0.5, 'GBP')", "whole minor units"),
        ("money.share(1, 0 / 0)", "from 0 to 1000"),
        ("time.hour(0 / 0)", "milliseconds since 1970"),
        ("time.hour(1e300)", "milliseconds since 1970"),
        ("time.hour(0, 'Europe/Berlin')", "write such as \"+02:00\""),
        ("regex.matches('a', '(')", "the pattern is wrong: unclosed group"),
        ("regex.matches('a', '(a)\\\\1')", "backreferences are not supported"),
        ("regex.matches('a', '(a{99}){99}')", "is too large"),
        (
            "regex.matches('a', string.rep('(', 200) .. string.rep(')', 200))",
            "the pattern is wrong",
        ),
        ("regex.matches('a', string.rep('a', 513))", "over 512 bytes"),
        ("regex.matches(string.rep('a', 4097), 'a')", "over 4096 bytes"),
        ("hash.percent('a', 101)", "from 0 to 100"),
        ("hash.share(string.rep('a', 4097))", "over 4096 bytes"),
        ("reasons.new():add(7)", "write a short word"),
        ("reasons.new():decide()", "the score from which to decline"),
        ("rows.limits:get('GBP')", "limit, hard"),
        ("rows.limits:get('GBP', 'lmit')", "limit, hard"),
        ("rows.limits:has({})", "give a text or a number"),
    ] {
        let said = value_of(expression).unwrap_err();
        assert!(said.starts_with("policies/p.lua:7: "), "{expression}: {said}");
        assert!(said.contains(wrong), "{expression}: {said}");
    }
}

#[test]
fn rows_that_are_wrong_are_refused_with_their_file() {
    for (file, text, wrong) in [
        ("rows/a.csv", "", "begin with a line"),
        ("rows/a.csv", "key\na\na\n", "\"a\" is there twice"),
        ("rows/a.csv", "key,value\na\n", "as many fields as the first"),
        ("rows/a.json", "{", "is no JSON"),
        ("rows/a.json", "7", "write a list of keys"),
        ("rows/a.json", "[[1]]", "write a list of keys"),
        ("rows/a.json", r#"{"a": [1]}"#, "write a list of keys"),
        ("rows/a.json", r#"{"a": 1e300}"#, "no rule holds exactly"),
    ] {
        let error = rules_from(&[("policies/p.lua", refused::POLICY), (file, text)]).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with(file) && said.contains(wrong), "{text}: {said}");
    }
}

#[test]
fn rows_are_part_of_the_version() {
    let version = |text| {
        let texts = [("policies/p.lua", refused::POLICY), ("rows/a.csv", text)];
        rules_from(&texts).unwrap().version().to_owned()
    };
    assert_ne!(version("key\na\n"), version("key\nb\n"));
}

#[test]
fn a_pattern_that_is_meant_to_hang_ends_in_a_moment() {
    let texts = ["string.rep('a', 4096)", "string.rep('ab', 2048)", "string.rep('0a', 2048)"];
    for pattern in [
        "([ab]*a[ab]{11}){8}c",
        "[ab]*a[ab]{60}c",
        "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x",
        "((a|b|ab)*){20}c",
        "(x+x+)+y",
        "(?i)([a-z]+[a-z0-9]*){30}!",
    ] {
        for text in texts {
            let said = value_of(&format!("regex.find({text}, '{pattern}')"));
            assert_eq!(said, Ok("nil".to_owned()), "{pattern}");
        }
    }
    let many = "for i = 1, 1e9 do regex.matches('a', 'a{' .. i % 99 .. '}b') end";
    let breach = decide(&rules(many), Duration::from_millis(20)).breach.unwrap();
    assert_eq!(breach.as_str(), "time");
}

#[test]
fn no_rule_can_change_the_library_or_the_rows_for_another() {
    for body in [
        "money.minor = nil",
        "reasons.new = nil",
        "rows.blocked = nil",
        "rawset(rows, 'blocked', 1)",
        "reasons.new().add = 1 setmetatable(reasons.new(), {})",
        "getmetatable(reasons.new()).__index.add = nil",
        "getmetatable(rows.blocked).__index = nil",
        "rows.blocked.has = nil",
    ] {
        let breach = decide(&with_rows(body).unwrap(), TIME).breach;
        assert!(breach.is_some(), "{body}");
    }
}
