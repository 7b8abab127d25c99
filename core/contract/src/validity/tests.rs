//! Every flaw by its field, both sides of every bound, and that no problem repeats a card number.

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_millis(1_533_081_600_000); // 2018-08-01T00:00:00Z

fn judge(body: &[u8], test: bool) -> Result<Request, Problem> {
    let policies = |name: &str| ["payment", "claim"].contains(&name);
    check(body, &Terms { now: NOW, test, numeric_ids: false, policies: &policies })
}

/// A valid body with one field replaced, or left out where the text is empty.
fn body_with(name: &str, json: &str) -> String {
    let valid = [
        ("id", r#""txn-1""#),
        ("policy", r#""payment""#),
        ("account", r#""customer-596""#),
        ("amount", "5716"),
        ("currency", r#""GBP""#),
        ("attributes", r#"{"terminal":"3156","qty":6,"rate":0.5,"new":true}"#),
    ];
    let mut fields: Vec<_> = valid.iter().filter(|(field, _)| *field != name).copied().collect();
    if !json.is_empty() {
        fields.push((name, json));
    }
    let fields: Vec<_> = fields.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// The status and pointer of the refusal.
fn refusal(body: &[u8]) -> (u16, Option<String>) {
    let problem = judge(body, false).expect_err(&String::from_utf8_lossy(body));
    (problem.status, problem.pointer)
}

#[test]
fn a_valid_request_is_read_whole() {
    let request = judge(body_with("at", r#""2018-08-01T00:00:31Z""#).as_bytes(), false).unwrap();
    assert_eq!((request.id.as_str(), request.account.as_str()), ("txn-1", "customer-596"));
    assert_eq!(request.money, Some(Money { amount: 5716, currency: "GBP".into() }));
    assert_eq!(request.at.unwrap().timestamp.as_millis(), NOW.as_millis() + 31_000);
    assert_eq!(request.attributes.get("terminal"), Some(Value::Text("3156")));
    assert_eq!(request.attributes.get("qty"), Some(Value::Integer(6)));
    assert_eq!(request.attributes.get("rate"), Some(Value::Number(0.5)));
    assert_eq!(request.attributes.get("new"), Some(Value::Flag(true)));
}

#[test]
fn each_flaw_is_named_by_its_field() {
    let long = format!("\"{}\"", "é".repeat(129));
    let text_1025 = format!("{{\"a\":\"{}\"}}", "x".repeat(1025));
    let attributes_65 =
        format!("{{{}}}", (0..65).map(|n| format!("\"a{n}\":1")).collect::<Vec<_>>().join(","));
    let cases = [
        ("id", "", 400, "/id"),
        ("id", "7", 400, "/id"),
        ("id", r#""""#, 400, "/id"),
        ("id", &long, 400, "/id"),
        ("id", r#""a\nb""#, 400, "/id"),
        ("id", r#""4111111111111111""#, 422, "/id"),
        ("account", "null", 400, "/account"),
        ("account", r#""pan 4111 1111 1111 1111""#, 422, "/account"),
        ("policy", "", 400, "/policy"),
        ("policy", r#""lottery""#, 422, "/policy"),
        ("amount", "", 400, "/amount"),
        ("amount", "-1", 400, "/amount"),
        ("amount", "1.5", 400, "/amount"),
        ("amount", r#""5716""#, 400, "/amount"),
        ("amount", "9007199254740992", 400, "/amount"),
        ("amount", "99999999999999999999999", 400, "/amount"),
        ("currency", "", 400, "/currency"),
        ("currency", r#""gbp""#, 400, "/currency"),
        ("at", r#""yesterday""#, 400, "/at"),
        ("at", r#""2018-08-02T00:00:01Z""#, 422, "/at"),
        ("colour", r#""red""#, 400, "/colour"),
        ("a/b~c", "1", 400, "/a~1b~0c"),
        ("attributes", "[]", 400, "/attributes"),
        ("attributes", &attributes_65, 400, "/attributes"),
        ("attributes", &text_1025, 400, "/attributes/a"),
        ("attributes", r#"{"a":{"b":1}}"#, 400, "/attributes/a"),
        ("attributes", r#"{"a":[1]}"#, 400, "/attributes/a"),
        ("attributes", r#"{"a":null}"#, 400, "/attributes/a"),
        ("attributes", r#"{"a":9007199254740993}"#, 400, "/attributes/a"),
        ("attributes", r#"{"a":1,"a":1}"#, 400, "/attributes/a"),
        ("attributes", r#"{"":1}"#, 400, "/attributes"),
        ("attributes", r#"{"backstop_x":1}"#, 400, "/attributes/backstop_x"),
        ("attributes", r#"{"backstop_force":"edge"}"#, 400, "/attributes/backstop_force"),
    ];
    for (name, json, status, pointer) in cases {
        let body = body_with(name, json);
        assert_eq!(refusal(body.as_bytes()), (status, Some(pointer.into())), "{body}");
    }
}

#[test]
fn both_sides_of_every_bound() {
    let fits = [
        ("id", format!("\"{}\"", "é".repeat(128))),
        ("amount", "9007199254740991".into()),
        ("amount", "0".into()),
        ("at", r#""2018-08-02T00:00:00Z""#.into()),
        ("attributes", format!("{{\"a\":\"{}\"}}", "x".repeat(1024))),
        ("attributes", "{\"a\":-9007199254740991}".into()),
        ("attributes", String::new()),
    ];
    for (name, json) in fits {
        let body = body_with(name, &json);
        assert!(judge(body.as_bytes(), false).is_ok(), "{body}");
    }
}

#[test]
fn what_is_not_json_is_refused_before_its_schema_is_looked_at() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(refusal(body_with("attributes", &deep).as_bytes()).1, Some("/attributes".into()));
    let nested = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    assert_eq!(refusal(nested.as_bytes()), (400, Some("/a".into())));
    for body in [
        &b""[..],
        b"{",
        b"nonsense",
        b"[1,2]",
        b"7",
        b"\"x\"",
        b"null",
        b"\xff{}",
        b"{\"id\":\"\xff\"}",
    ] {
        assert_eq!(refusal(body), (400, None), "{body:?}");
    }
    let schema_then_syntax = br#"{"id":7,"policy":"#;
    assert_eq!(refusal(schema_then_syntax), (400, None));
    let twice = body_with("id", r#""txn-1","id":"txn-2""#);
    assert_eq!(refusal(twice.as_bytes()), (400, Some("/id".into())));
}

#[test]
fn a_test_key_may_replay_the_past_and_force_a_tier() {
    assert!(judge(body_with("at", r#""2001-01-01T00:00:00Z""#).as_bytes(), true).is_ok());
    let forced = body_with("attributes", r#"{"backstop_force":"api"}"#);
    assert!(judge(forced.as_bytes(), true).unwrap().force().is_some());
    let wrong = body_with("attributes", r#"{"backstop_force":"moon"}"#);
    assert_eq!(judge(wrong.as_bytes(), true).unwrap_err().status, 400);
}

#[test]
fn a_claim_may_come_without_money_but_not_with_half_of_it() {
    let claim = br#"{"id":"c","policy":"claim","account":"a"}"#;
    assert_eq!(judge(claim, false).unwrap().money, None);
    let half = br#"{"id":"c","policy":"claim","account":"a","amount":1}"#;
    assert_eq!(refusal(half), (400, Some("/currency".into())));
}

#[test]
fn no_problem_repeats_a_card_number() {
    let card = "4111111111111111";
    for (name, json) in [
        ("id", format!("\"{card}\"")),
        (card, "1".into()),
        ("attributes", format!("{{\"{card}\":1}}")),
        ("attributes", format!("{{\"{card}\":null}}")),
        ("amount", format!("-{card}")),
    ] {
        let problem = judge(body_with(name, &json).as_bytes(), false).unwrap_err();
        let document = String::from_utf8(problem.to_json()).unwrap();
        assert!(!document.contains(card), "{document}");
    }
}

#[test]
fn the_hash_tells_a_retry_from_another_request() {
    let key = crate::HashKey::new(&[1; 32]);
    let hash = |body: &str| key.hash(&judge(body.as_bytes(), true).unwrap());
    let one = hash(r#"{"id":"c","policy":"claim","account":"a","attributes":{"x":1,"y":2}}"#);
    for same in [
        r#" {"account":"a", "attributes":{"y":2,"x":1}, "policy":"claim","id":"c"} "#,
        r#"{"id":"\u0063","policy":"claim","account":"a","attributes":{"x":1,"y":2,"backstop_force":"edge"}}"#,
    ] {
        assert_eq!(hash(same), one, "{same}");
    }
    for other in [
        r#"{"id":"c","policy":"claim","account":"a","attributes":{"x":1,"y":3}}"#,
        r#"{"id":"c","policy":"claim","account":"b","attributes":{"x":1,"y":2}}"#,
        r#"{"id":"c","policy":"claim","account":"a","attributes":{"x":"1","y":2}}"#,
    ] {
        assert_ne!(hash(other), one, "{other}");
    }
}

/// The expected one was computed by another program: a release that hashes otherwise would take every
/// retry of the day before for a reuse of its id.
#[test]
fn the_hash_of_a_request_never_changes() {
    let attributes = r#"{"t":true, "n":-3, "b":"x\\\u000a", "backstop_force":"edge", "r":12.0}"#;
    let body = body_with("attributes", attributes)
        .replace("customer-596", "a\\\"\u{e9}")
        .replace("{\"id\"", "{\"at\":\"2018-08-01T00:00:31Z\",\"id\"");
    let request = judge(body.as_bytes(), true).unwrap();
    let hash = crate::HashKey::new(&[7; 32]).hash(&request).to_string();
    assert_eq!(hash, "82c0871ba0c839ff8cd76c5a7d4ead44faf90fbdd3002a93b8edacbf6d3937a0");
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = judge(&body, false);
    }

    #[test]
    fn what_is_valid_reads_the_same_when_written_again(
        id in "[ -~é€]{1,60}", amount in 0..=INTEGER_MAX, text in "\\PC{0,40}",
        whole in -1_000_000_i64..1_000_000, number in -1e12_f64..1e12,
    ) {
        let attributes = serde_json::json!({"t": text, "w": whole, "n": number});
        let body = serde_json::json!({"id": id, "policy": "payment", "account": "a",
            "amount": amount, "currency": "EUR", "attributes": attributes}).to_string();
        if let Ok(request) = judge(body.as_bytes(), true) {
            let again = judge(&request.to_json(), true);
            prop_assert_eq!(again.as_ref(), Ok(&request));
        }
    }
}
