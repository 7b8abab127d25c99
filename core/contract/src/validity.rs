//! The one function that says whether a request is valid, and what would be right when it is not.
//!
//! Edge and api both call it, so the same bad request gets the same problem document whoever is
//! alive. Syntax is judged before the schema, and the schema before meaning: 400 before 422.
//!
//! The edge gets bodies from clients and [`receive`]s them, still restricted; the api gets what the
//! edge has taken the card numbers out of, and [`check`]s it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use bytes::Bytes;

use crate::card;
use crate::class::Restricted;
use crate::json::{Json, parse};
use crate::problem::Problem;
use crate::request::{EventTime, FORCE, Money, Request, Value};
use crate::timestamp::Timestamp;

/// The most characters in an `id`, an `account` or the name of an attribute.
pub const NAME_CHARS_MAX: usize = 128;
/// The most attributes in a request.
pub const ATTRIBUTES_MAX: usize = 64;
/// The most bytes in the text of an attribute.
pub const TEXT_BYTES_MAX: usize = 1024;
/// The largest whole number that every JSON reader, and Lua, holds exactly (RFC 8259, section 6).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;
/// How far an event time may be from now, but for test keys.
pub const EVENT_TIME_OFF_MAX: Duration = Duration::from_hours(24);
/// The policies whose requests may come without an amount.
const MONEY_OPTIONAL: [&str; 1] = ["claim"];
/// Names of attributes that begin so are the service's own.
const RESERVED: &str = "backstop_";

const FIELDS: &str = "the fields are id, policy, account, amount, currency, at and attributes";

/// What a request is judged against, besides itself.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// When the edge had the whole request.
    pub now: Timestamp,
    /// Asked with a test key: the event time may lie anywhere, and a tier may be forced.
    pub test: bool,
    /// The merchant declared that its ids are plain numbers, which may look like card numbers.
    pub numeric_ids: bool,
    /// Whether a policy of this name exists.
    pub policies: &'a dyn Fn(&str) -> bool,
}

/// A valid request and the body it was read from, before card numbers were taken out of both.
pub struct Received {
    pub(crate) request: Request,
    pub(crate) body: Bytes,
}

/// As [`check`], for a body as a client sent it. What comes of it is restricted until its card
/// numbers are replaced.
pub fn receive(
    body: Restricted<Bytes>,
    terms: &Terms<'_>,
) -> Result<Restricted<Received>, Problem> {
    let body = body.uncover();
    let request = check(&body, terms)?;
    Ok(Restricted::new(Received { request, body }))
}

/// Reads a body as a request, or says what must change first. Names the first fault in the order
/// syntax, schema, meaning.
pub fn check(body: &[u8], terms: &Terms<'_>) -> Result<Request, Problem> {
    check_within(body, terms, TEXT_BYTES_MAX)
}

/// The same for a body that the edge has found valid and then taken the card numbers out of: what
/// replaces one is longer, by less than three times.
pub fn check_again(body: &[u8], terms: &Terms<'_>) -> Result<Request, Problem> {
    check_within(body, terms, 3 * TEXT_BYTES_MAX)
}

fn check_within(body: &[u8], terms: &Terms<'_>, text_bytes_max: usize) -> Result<Request, Problem> {
    let request = Draft::read(parse(body)?, text_bytes_max)?.finish()?;
    check_meaning(&request, terms)?;
    Ok(request)
}

/// The checks whose failure is a 422, and what only test keys may do.
fn check_meaning(request: &Request, terms: &Terms<'_>) -> Result<(), Problem> {
    if request.attributes.contains_key(FORCE) {
        if !terms.test {
            let detail = "only test keys may force a tier";
            return Err(field(
                &attribute_pointer(FORCE),
                detail,
                "leave it out, or use a test key",
            ));
        }
        if request.force().is_none() {
            let remedy = "send \"edge\" or \"api\", or leave it out";
            return Err(field(&attribute_pointer(FORCE), "there is no tier to force so", remedy));
        }
    }
    if !(terms.policies)(&request.policy) {
        return Err(Problem::unknown_policy());
    }
    for (pointer, name) in [("/id", &request.id), ("/account", &request.account)] {
        if !terms.numeric_ids && card::contains(name) {
            return Err(Problem::card_number(pointer));
        }
    }
    if request.attributes.keys().any(|name| card::contains(name)) {
        return Err(Problem::card_number("/attributes"));
    }
    match &request.at {
        Some(at) if !terms.test && at.timestamp.distance(terms.now) > EVENT_TIME_OFF_MAX => {
            Err(Problem::time_out_of_range())
        }
        _ => Ok(()),
    }
}

fn field(pointer: &str, detail: impl Into<String>, remedy: &'static str) -> Problem {
    Problem::field(pointer, detail, remedy)
}

/// The fields read so far.
#[derive(Default)]
struct Draft {
    id: Option<String>,
    policy: Option<String>,
    account: Option<String>,
    amount: Option<u64>,
    currency: Option<String>,
    at: Option<EventTime>,
    attributes: Option<BTreeMap<String, Value>>,
}

impl Draft {
    /// Reads the fields of a body in their order, up to the first that is wrong.
    fn read(body: Json, text_bytes_max: usize) -> Result<Self, Problem> {
        let Json::Object(fields) = body else {
            return Err(Problem::not_json(format!("the body is {}, not an object", body.noun())));
        };
        let mut draft = Self::default();
        for (name, value) in fields {
            draft.take(&name, value, text_bytes_max)?;
        }
        Ok(draft)
    }

    /// The request, once every field was read; what is missing is named here.
    fn finish(self) -> Result<Request, Problem> {
        let missing = |name: &str, remedy| {
            field(&format!("/{name}"), format!("the field {name} is missing"), remedy)
        };
        let id = self.id.ok_or_else(|| missing("id", "send a string of 1 to 128 characters"))?;
        let policy =
            self.policy.ok_or_else(|| missing("policy", "name the policy, such as payment"))?;
        let account = self
            .account
            .ok_or_else(|| missing("account", "send a string of 1 to 128 characters"))?;
        let money = match (self.amount, self.currency) {
            (Some(amount), Some(currency)) => Some(Money { amount, currency }),
            (None, None) if MONEY_OPTIONAL.contains(&policy.as_str()) => None,
            (None, _) => {
                return Err(missing("amount", "send whole minor units, such as 5716 for 57.16"));
            }
            (Some(_), None) => {
                return Err(missing("currency", "send the ISO 4217 code, such as GBP"));
            }
        };
        let attributes = self.attributes.unwrap_or_default();
        Ok(Request { id, policy, account, money, at: self.at, attributes })
    }

    /// Takes one top-level field.
    fn take(&mut self, name: &str, value: Json, text_bytes_max: usize) -> Result<(), Problem> {
        match name {
            "id" => put(&mut self.id, "/id", text_of("/id", value, NAME_CHARS_MAX)?),
            "policy" => {
                put(&mut self.policy, "/policy", text_of("/policy", value, NAME_CHARS_MAX)?)
            }
            "account" => {
                put(&mut self.account, "/account", text_of("/account", value, NAME_CHARS_MAX)?)
            }
            "amount" => put(&mut self.amount, "/amount", amount_of(&value)?),
            "currency" => put(&mut self.currency, "/currency", currency_of(value)?),
            "at" => put(&mut self.at, "/at", event_time_of(value)?),
            "attributes" => {
                let attributes = attributes_of(value, text_bytes_max)?;
                put(&mut self.attributes, "/attributes", attributes)
            }
            _ => Err(unknown_field(name)),
        }
    }
}

fn unknown_field(name: &str) -> Problem {
    let shown = shown(name);
    field(&pointer("", &shown), format!("the field {shown} is not known"), FIELDS)
}

/// A name as it may be shown: bounded, and without what could be a card number.
fn shown(name: &str) -> String {
    if card::contains(name) { "(a card number)".into() } else { name.chars().take(64).collect() }
}

/// A JSON pointer to `name` within `parent`, escaped as RFC 6901 has it.
fn pointer(parent: &str, name: &str) -> String {
    format!("{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn attribute_pointer(name: &str) -> String {
    pointer("/attributes", &shown(name))
}

fn put<T>(slot: &mut Option<T>, pointer: &str, value: T) -> Result<(), Problem> {
    if slot.replace(value).is_some() {
        return Err(field(pointer, "the field is given twice", "give each field once"));
    }
    Ok(())
}

/// Counting characters costs; the number of bytes bounds it for almost every name.
fn is_longer(text: &str, chars_max: usize) -> bool {
    text.len() > chars_max && text.chars().count() > chars_max
}

fn text_of(pointer: &str, value: Json, chars_max: usize) -> Result<String, Problem> {
    let remedy = "send a string of 1 to 128 characters, none of them a control character";
    let text = match value {
        Json::Text(text) => text,
        other => return Err(field(pointer, format!("it is {}", other.noun()), remedy)),
    };
    if text.is_empty() {
        Err(field(pointer, "it is empty", remedy))
    } else if is_longer(&text, chars_max) {
        Err(field(pointer, format!("it has over {chars_max} characters"), remedy))
    } else if text.chars().any(char::is_control) {
        Err(field(pointer, "it holds a control character", remedy))
    } else {
        Ok(text)
    }
}

fn amount_of(value: &Json) -> Result<u64, Problem> {
    let remedy = "send whole minor units from 0 to 9007199254740991, such as 5716 for 57.16";
    match value {
        Json::Whole(whole) => match u64::try_from(*whole) {
            Ok(amount) if amount <= INTEGER_MAX => Ok(amount),
            Ok(_beyond) => Err(field("/amount", "it is over 9007199254740991", remedy)),
            Err(_negative) => Err(field("/amount", "it is out of range", remedy)),
        },
        other => Err(field("/amount", format!("it is {}", other.noun()), remedy)),
    }
}

fn currency_of(value: Json) -> Result<String, Problem> {
    let remedy = "send the ISO 4217 code, three capital letters, such as GBP";
    match value {
        Json::Text(code) if code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()) => {
            Ok(code)
        }
        Json::Text(_) => Err(field("/currency", "it is not three capital letters", remedy)),
        other => Err(field("/currency", format!("it is {}", other.noun()), remedy)),
    }
}

fn event_time_of(value: Json) -> Result<EventTime, Problem> {
    let remedy = "send RFC 3339 with an offset, such as 2018-08-01T00:00:31Z, from 1970 on";
    match value {
        Json::Text(text) => match Timestamp::parse(&text) {
            Some(timestamp) => Ok(EventTime { timestamp, text }),
            None => Err(field("/at", "it is not an RFC 3339 time", remedy)),
        },
        other => Err(field("/at", format!("it is {}", other.noun()), remedy)),
    }
}

fn attribute_of(name: &str, value: Json, text_bytes_max: usize) -> Result<Value, Problem> {
    let at = || attribute_pointer(name);
    let remedy = "send a string, a number, true or false; attributes are flat";
    match value {
        Json::Text(text) if text.len() <= text_bytes_max => Ok(Value::Text(text)),
        Json::Text(_) => Err(field(&at(), "it has over 1024 bytes", "send at most 1024 bytes")),
        Json::Whole(whole) if whole.unsigned_abs() <= u128::from(INTEGER_MAX) => {
            Ok(i64::try_from(whole).map_or(Value::Integer(0), Value::Integer))
        }
        Json::Whole(_) => {
            let remedy = "send whole numbers within 9007199254740991 of zero, or a string";
            Err(field(&at(), "it is a whole number out of range", remedy))
        }
        Json::Number(number) => Ok(Value::Number(number)),
        Json::Flag(flag) => Ok(Value::Flag(flag)),
        other => Err(field(&at(), format!("it is {}", other.noun()), remedy)),
    }
}

fn attributes_of(value: Json, text_bytes_max: usize) -> Result<BTreeMap<String, Value>, Problem> {
    let Json::Object(pairs) = value else {
        let remedy = "send an object of names and values, or leave it out";
        return Err(field("/attributes", format!("it is {}", value.noun()), remedy));
    };
    if pairs.len() > ATTRIBUTES_MAX {
        return Err(field("/attributes", "there are over 64 attributes", "send at most 64"));
    }
    let mut attributes = BTreeMap::new();
    for (name, value) in pairs {
        if name.is_empty() || is_longer(&name, NAME_CHARS_MAX) {
            let detail = "the name of an attribute is empty or over 128 characters";
            return Err(field("/attributes", detail, "name each with 1 to 128 characters"));
        }
        if name.starts_with(RESERVED) && name != FORCE {
            let remedy = "choose a name that does not begin with backstop_";
            return Err(field(&attribute_pointer(&name), "the name is reserved", remedy));
        }
        match attributes.entry(name) {
            Entry::Vacant(free) => {
                let value = attribute_of(free.key(), value, text_bytes_max)?;
                free.insert(value);
            }
            Entry::Occupied(taken) => {
                let detail = "the attribute is given twice";
                return Err(field(&attribute_pointer(taken.key()), detail, "give each name once"));
            }
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests {
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
        let mut fields: Vec<_> =
            valid.iter().filter(|(field, _)| *field != name).copied().collect();
        if !json.is_empty() {
            fields.push((name, json));
        }
        let fields: Vec<_> =
            fields.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
        format!("{{{}}}", fields.join(","))
    }

    /// The status and pointer of the refusal.
    fn refusal(body: &[u8]) -> (u16, Option<String>) {
        let problem = judge(body, false).expect_err(&String::from_utf8_lossy(body));
        (problem.status, problem.pointer)
    }

    #[test]
    fn a_valid_request_is_read_whole() {
        let request =
            judge(body_with("at", r#""2018-08-01T00:00:31Z""#).as_bytes(), false).unwrap();
        assert_eq!((request.id.as_str(), request.account.as_str()), ("txn-1", "customer-596"));
        assert_eq!(request.money, Some(Money { amount: 5716, currency: "GBP".into() }));
        assert_eq!(request.at.unwrap().timestamp.as_millis(), NOW.as_millis() + 31_000);
        assert_eq!(request.attributes["terminal"], Value::Text("3156".into()));
        assert_eq!(request.attributes["qty"], Value::Integer(6));
        assert_eq!(request.attributes["rate"], Value::Number(0.5));
        assert_eq!(request.attributes["new"], Value::Flag(true));
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
        assert_eq!(
            refusal(body_with("attributes", &deep).as_bytes()).1,
            Some("/attributes".into())
        );
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
}
