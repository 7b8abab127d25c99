//! What a merchant sends. A `Request` in hand is a valid one: only [`crate::validity`] makes them.

use std::fmt;

use bytes::Bytes;

use crate::attributes::{Attributes, Value};
use crate::card;
use crate::class::Restricted;
use crate::fingerprint::HashKey;
use crate::json::{is_plain, write_plain, write_scalar, write_text};
use crate::timestamp::Timestamp;
use crate::validity::Received;

/// The attribute by which a test key forces a tier. No policy sees it, and it is no part of the hash.
pub const FORCE: &str = "backstop_force";

/// The smallest number of 13 digits, which is the shortest card number.
const CARD_MIN: u64 = 1_000_000_000_000;

/// Room for nearly every body: one that grows while it is written is copied three times.
const BODY_BYTES_USUAL: usize = 1024;

/// One transaction to decide. Its account and attributes are confidential: it prints without them.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// The idempotency key, scoped to the merchant: 1 to 128 characters.
    pub id: String,
    /// Which policy decides.
    pub policy: String,
    /// The business key: history, ledger and sharding hang on it.
    pub account: String,
    /// In minor units of `currency`; absent only where [`crate::validity`] says that it may be.
    pub money: Option<Money>,
    /// When the event happened, if the client said so.
    pub at: Option<EventTime>,
    /// Flat, at most 64.
    pub attributes: Attributes,
}

/// An amount and what it is an amount of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    /// Minor units: pence, cents; 0 to 2^53 - 1.
    pub amount: u64,
    /// ISO 4217, three capital letters.
    pub currency: String,
}

/// An event time and the text it was sent as, which is part of the request's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// The instant it names.
    pub timestamp: Timestamp,
    /// As the client wrote it.
    pub text: String,
}

/// A tier that a test key asks for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// The edge decides, without asking the api.
    Edge,
    /// The api decides, without asking core.
    Api,
}

impl Request {
    /// The tier that the request forces, if any.
    pub fn force(&self) -> Option<Force> {
        match self.attributes.get(FORCE) {
            Some(Value::Text("edge")) => Some(Force::Edge),
            Some(Value::Text("api")) => Some(Force::Api),
            _ => None,
        }
    }

    /// The attributes with every card number replaced; `None` when there was none.
    fn without_cards(&self, key: &HashKey) -> Option<Attributes> {
        if !self.attributes.iter().any(|(_, value)| without_card(value, key).is_some()) {
            return None;
        }
        let clean =
            self.attributes.iter().map(|(name, value)| (name, value, without_card(value, key)));
        // Made anew: no card number stays behind in the text of the old ones.
        let mut attributes = Attributes::default();
        for (name, value, clean) in clean {
            if let Some(free) = attributes.vacant(name) {
                free.insert(clean.as_deref().map_or(value, Value::Text));
            }
        }
        Some(attributes)
    }

    /// The request as a body, fields sorted.
    pub fn to_json(&self) -> Vec<u8> {
        self.write(|_name| true)
    }

    /// The form that is hashed: fields sorted, the forced tier left out.
    pub(crate) fn canonical_json(&self) -> Vec<u8> {
        self.write(|name| name != FORCE)
    }

    /// Fields in the order of their names; that order is part of the hash.
    fn write(&self, is_shown: impl Fn(&str) -> bool) -> Vec<u8> {
        let mut json = Vec::with_capacity(BODY_BYTES_USUAL);
        let text = |json: &mut Vec<u8>, name: &str, text: &str| {
            json.extend_from_slice(name.as_bytes());
            write_text(json, text);
        };
        text(&mut json, "{\"account\":", &self.account);
        if let Some(money) = &self.money {
            json.extend_from_slice(b",\"amount\":");
            write_scalar(&mut json, &money.amount);
        }
        if let Some(at) = &self.at {
            text(&mut json, ",\"at\":", &at.text);
        }
        json.extend_from_slice(b",\"attributes\":{");
        let plain = is_plain(self.attributes.all_text());
        let write_text = if plain { write_plain } else { write_text };
        let shown = self.attributes.iter().filter(|(name, _)| is_shown(name));
        for (place, (name, value)) in shown.enumerate() {
            if place > 0 {
                json.push(b',');
            }
            write_text(&mut json, name);
            json.push(b':');
            match value {
                Value::Text(text) => write_text(&mut json, text),
                Value::Integer(integer) => write_scalar(&mut json, &integer),
                Value::Number(number) => write_scalar(&mut json, &number),
                Value::Flag(flag) => write_scalar(&mut json, &flag),
            }
        }
        json.push(b'}');
        if let Some(money) = &self.money {
            text(&mut json, ",\"currency\":", &money.currency);
        }
        text(&mut json, ",\"id\":", &self.id);
        text(&mut json, ",\"policy\":", &self.policy);
        json.push(b'}');
        json
    }
}

/// The text that takes the place of a value with a card number in it.
fn without_card(value: Value<'_>, key: &HashKey) -> Option<String> {
    match value {
        Value::Text(text) => card::replace(text, key),
        Value::Integer(it) if it.unsigned_abs() >= CARD_MIN => card::replace(&it.to_string(), key),
        // `4111111111111111.0` and `4.111111111111111e15` are the same card number.
        Value::Number(it) if it.abs() >= CARD_MIN as f64 => card::replace(&it.to_string(), key),
        Value::Integer(_) | Value::Number(_) | Value::Flag(_) => None,
    }
}

impl Restricted<Received> {
    /// The request and its body, every card number replaced. The body is the client's, byte for
    /// byte, unless there was one in it.
    pub fn replace_cards(self, key: &HashKey) -> (Request, Bytes) {
        let Received { mut request, body } = self.uncover();
        match request.without_cards(key) {
            None => (request, body),
            Some(clean) => {
                request.attributes = clean;
                let body = request.to_json().into();
                (request, body)
            }
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .field("policy", &self.policy)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validity::{Terms, receive};

    fn received(body: &str) -> Restricted<Received> {
        let now = Timestamp::from_millis(0);
        let terms = Terms { now, test: false, numeric_ids: false, policies: &|_| true };
        receive(Restricted::new(Bytes::from(body.to_owned())), &terms).unwrap_or_else(|problem| {
            panic!("{problem:?}");
        })
    }

    fn claim(attributes: &str) -> String {
        format!(r#"{{"policy":"claim", "id":"c", "account":"a", "attributes":{attributes}}}"#)
    }

    #[test]
    fn a_card_number_is_replaced_however_json_may_write_it() {
        let key = HashKey::new(&[7; 32]);
        for written in [
            r#""4111111111111111""#,
            r#""4111 1111 1111 1111""#,
            r#""4111-1111-1111-1111""#,
            r#""\u0034111111111111111""#,
            r#""paid by 4111111111111111, thanks""#,
            "4111111111111111",
            "-4111111111111111",
            "4111111111111111.0",
            "4.111111111111111e15",
        ] {
            let (request, body) =
                received(&claim(&format!("{{\"card\":{written}}}"))).replace_cards(&key);
            let Some(Value::Text(text)) = request.attributes.get("card") else {
                panic!("{written}")
            };
            assert!(text.contains("card:411111:1111:"), "{written} became {text}");
            assert_eq!(body, request.to_json(), "{written}");
        }
    }

    #[test]
    fn a_body_without_a_card_number_goes_on_byte_for_byte() {
        let key = HashKey::new(&[7; 32]);
        for harmless in [
            r#"{"b": "x" , "a":1}"#,
            r#"{"share":0.4111111111111111}"#,
            r#"{"n":4111111111111112}"#,
        ] {
            let sent = claim(harmless);
            let (_, body) = received(&sent).replace_cards(&key);
            assert_eq!(body, sent.as_bytes());
        }
    }

    #[test]
    fn neither_account_nor_attributes_are_printed() {
        let body =
            claim(r#"{"street":"Elm", "floor":77, "rate":88.5}"#).replace("\"a\"", "\"acc-99\"");
        let (request, _) = received(&body).replace_cards(&HashKey::new(&[7; 32]));
        let shown = format!("{request:?}");
        assert_eq!(shown, r#"Request { id: "c", policy: "claim", attributes: 3, .. }"#);
        let message = format!(
            "{:?}",
            crate::wire::DecideRequest {
                transaction: Some((&request).into()),
                ..Default::default()
            }
        );
        let values = format!("{:?}", request.attributes);
        for confidential in ["Elm", "77", "88.5", "acc-99"] {
            assert!(!message.contains(confidential), "{message}");
            assert!(!values.contains(confidential), "{values}");
        }
    }
}
