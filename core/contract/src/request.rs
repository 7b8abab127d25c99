//! What a merchant sends. A `Request` in hand is a valid one: only [`crate::validity`] makes them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::card;
use crate::class::Restricted;
use crate::fingerprint::HashKey;
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
    pub attributes: BTreeMap<String, Value>,
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

/// The value of an attribute. It is confidential: it prints as its type alone.
#[derive(Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// At most 1 KiB.
    Text(String),
    /// Within ±(2^53 - 1), so that every JSON reader and Lua agree on it.
    Integer(i64),
    /// Finite.
    Number(f64),
    /// True or false.
    Flag(bool),
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
            Some(Value::Text(tier)) if tier == "edge" => Some(Force::Edge),
            Some(Value::Text(tier)) if tier == "api" => Some(Force::Api),
            _ => None,
        }
    }

    /// Replaces every card number in the attributes; whether there was one.
    fn replace_cards(&mut self, key: &HashKey) -> bool {
        let mut replaced = false;
        for value in self.attributes.values_mut() {
            let clean = match value {
                Value::Text(text) => card::replace(text, key),
                Value::Integer(it) if it.unsigned_abs() >= CARD_MIN => {
                    card::replace(&it.to_string(), key)
                }
                // `4111111111111111.0` and `4.111111111111111e15` are the same card number.
                Value::Number(it) if it.abs() >= CARD_MIN as f64 => {
                    card::replace(&it.to_string(), key)
                }
                Value::Integer(_) | Value::Number(_) | Value::Flag(_) => None,
            };
            if let Some(clean) = clean {
                *value = Value::Text(clean);
                replaced = true;
            }
        }
        replaced
    }

    /// The request as a body, fields sorted.
    pub fn to_json(&self) -> Vec<u8> {
        self.write(&self.attributes)
    }

    /// The form that is hashed: fields sorted, the forced tier left out.
    pub(crate) fn canonical_json(&self) -> Vec<u8> {
        if self.attributes.contains_key(FORCE) {
            let mut attributes = self.attributes.clone();
            attributes.remove(FORCE);
            self.write(&attributes)
        } else {
            self.write(&self.attributes)
        }
    }

    fn write(&self, attributes: &BTreeMap<String, Value>) -> Vec<u8> {
        /// Fields in the order of their names; that order is part of the hash.
        #[derive(Serialize)]
        struct Body<'a> {
            account: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            amount: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<&'a str>,
            attributes: &'a BTreeMap<String, Value>,
            #[serde(skip_serializing_if = "Option::is_none")]
            currency: Option<&'a str>,
            id: &'a str,
            policy: &'a str,
        }
        let body = Body {
            account: &self.account,
            amount: self.money.as_ref().map(|money| money.amount),
            at: self.at.as_ref().map(|at| at.text.as_str()),
            attributes,
            currency: self.money.as_ref().map(|money| money.currency.as_str()),
            id: &self.id,
            policy: &self.policy,
        };
        let mut json = Vec::with_capacity(BODY_BYTES_USUAL);
        // Strings, integers and finite numbers always serialize.
        if serde_json::to_writer(&mut json, &body).is_err() {
            json.clear();
        }
        json
    }
}

impl Restricted<Received> {
    /// The request and its body, every card number replaced. The body is the client's, byte for
    /// byte, unless there was one in it.
    pub fn replace_cards(self, key: &HashKey) -> (Request, Bytes) {
        let Received { mut request, body } = self.uncover();
        let body = if request.replace_cards(key) { request.to_json().into() } else { body };
        (request, body)
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

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Text",
            Self::Integer(_) => "Integer",
            Self::Number(_) => "Number",
            Self::Flag(_) => "Flag",
        })
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
            let Value::Text(text) = &request.attributes["card"] else { panic!("{written}") };
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
