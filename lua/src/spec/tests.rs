//! Tests of tests.

use super::*;
use crate::bundle::Bundle;

fn run_text(text: &str) -> Result<Vec<Outcome>, Breach> {
    let rules = Arc::new(Rules::new(Bundle::shipped(), 8 << 20).unwrap());
    let slices = Slices { policy: Duration::from_secs(1), default: Duration::from_secs(1) };
    let dir = tempfile::tempdir().unwrap();
    let cases = r#"[{ "name": "small", "request": { "amount": 5 }, "expect": { "decision": "approve" } },
                    { "name": "large", "request": { "amount": 22001 }, "expect": { "decision": "review" } }]"#;
    std::fs::write(dir.path().join("cases.json"), cases).unwrap();
    run(&rules, slices, dir.path(), "tests/payment.lua", text)
}

/// The names of the tests, and the lines and messages of those that failed.
fn said(text: &str) -> Vec<String> {
    let told = run_text(text).unwrap().into_iter().map(|outcome| match outcome.failure {
        None => outcome.name,
        Some(failure) => {
            format!("{} !{} {}", outcome.name, failure.line.unwrap_or(0), failure.message)
        }
    });
    told.collect()
}

#[test]
fn tests_ask_policy_and_default_and_say_where_they_fail() {
    let text = r#"describe("payment", function()
  it("approves what is ordinary", function()
    local answer = ask { request = { amount = 500 } }
    expect(answer.decision):is("approve")
    expect(answer.moves):is({ take = {}, credit = {}, debit = {} })
    expect(answer.keys.history):is({ customer = "customer:customer-1" })
  end)
  it("knows the customer", function()
    local answer = ask {
      request = { amount = 5000 },
      history = { customer = { { ago = "20d", amount = 1000, times = 12 } } },
    }
    expect(answer):matches({ decision = "decline", reasons = { "amount_unusual" } })
    expect(answer.reasons):has("spending_spree")
  end)
  it("breaks", function() local x = nil; return x.y end)
  describe("default", function()
    it("declines", function() expect(ask_default({ request = { amount = 22001 } }).decision):is("decline") end)
  end)
  each(fixtures("cases.json"), function(case) expect(ask(case)):matches(case.expect) end)
end)"#;
    let told = said(text);
    let expected = [
        "payment: approves what is ordinary",
        "payment: knows the customer !14 expected one with \"spending_spree\", got { \"amount_unusual\" }",
        "payment: breaks !16 attempt to index nil with 'y'",
        "payment: default: declines",
        "payment: small",
        "payment: large !20 expected decision = \"review\", got \"decline\" in { ",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}, not {expected}");
    }
}

#[test]
fn what_is_no_test_is_said_with_its_line() {
    for (text, expected) in [
        ("describe('a', function(", "tests/payment.lua:1: "),
        ("local x = nil\nx.y = 1", "tests/payment.lua:2: attempt to index nil"),
    ] {
        let breach = run_text(text).unwrap_err().to_string();
        assert!(breach.starts_with(expected), "{breach}");
    }
    for (body, expected) in [
        ("ask({ request = { amount = -1 } })", "the request is not valid: /amount"),
        ("ask({ request = { policy = 'nobody' } })", "there is no policy \"nobody\""),
        ("ask({ history = { customer = { { amount = 1 } } } })", "without ago"),
        ("fixtures('../secret')", "write that of a file in tests/"),
        ("fixtures('absent.json')", "No such file"),
        ("print('x')", "attempt to call a nil value"),
        ("local t = {} t.t = t ask(t)", "tables deep"),
    ] {
        let told = said(&format!("it('x', function() {body} end)"));
        assert!(told.len() == 1 && told.concat().contains(expected), "{body}: {told:?}");
    }
}

#[test]
fn the_shipped_rules_pass_the_tests_that_lie_beside_them() {
    let rules = Arc::new(Rules::new(Bundle::shipped(), 8 << 20).unwrap());
    let slices = Slices { policy: Duration::from_secs(1), default: Duration::from_secs(1) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    for name in rules.bundle().policies() {
        let file = format!("{FOLDER}/{name}.lua");
        let text = std::fs::read_to_string(folder.join(format!("{name}.lua"))).unwrap();
        let outcomes = run(&rules, slices, &folder, &file, &text).unwrap();
        assert!(outcomes.len() > 3, "{file}");
        let failed: Vec<_> = outcomes.iter().filter(|it| it.failure.is_some()).collect();
        assert!(failed.is_empty(), "{file}: {failed:#?}");
    }
}
