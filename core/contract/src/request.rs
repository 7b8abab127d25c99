//! What a merchant sends. A `Request` in hand is a valid one: only [`crate::validity`] makes them.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::card;
use crate::fingerprint::HashKey;
use crate::timestamp::Timestamp;

/// The attribute by which a test key forces a tier. No policy sees it, and it is no part of the hash.
pub const FORCE: &str = "backstop_force";

/// One transaction to decide.
#[derive(Clone, Debug, PartialEq)]
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

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    pub fn replace_cards(&mut self, key: &HashKey) -> bool {
        let mut replaced = false;
        for value in self.attributes.values_mut() {
            let clean = match value {
                Value::Text(text) => card::replace(text, key),
                Value::Integer(number) => card::replace(&number.to_string(), key),
                Value::Number(_) | Value::Flag(_) => None,
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
        // Strings, integers and finite numbers always serialize.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}
