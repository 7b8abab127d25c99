//! The messages between api and core, and how they become what the tiers work with.
//!
//! The services that carry them are generated where they are used: the client in api, the server in
//! core. Here are only the words.

use std::collections::BTreeMap;
use std::fmt;

use crate::ask::Question;
use crate::attributes::{self, Attributes};
use crate::decision::{Cause, Decision as Answer, Effects, Tier, Verdict};
use crate::fingerprint::RequestHash;
use crate::request::{self, Request};
use crate::timestamp::Timestamp;

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/backstop.core.v1.rs"));
}

pub use generated::*;

/// The number of no call. An answer with it says that core is about to stop: what was sent is answered,
/// and further calls are for another stream. Old apis take it for the answer to a call they gave up.
pub const FAREWELL: u64 = 0;

/// Said of a recalled cancel that has something to release, where else the reason to decline it stands.
pub const RELEASED: &str = "released";

/// A message lacks what its meaning needs: it came from something that is not a Backstop tier.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the message has no valid {0}")]
pub struct Incomplete(pub &'static str);

impl fmt::Debug for Transaction {
    /// As the request it carries: without what is confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("id", &self.id)
            .field("policy", &self.policy)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

impl From<&Question> for DecideRequest {
    fn from(question: &Question) -> Self {
        Self {
            merchant: question.merchant.clone(),
            test: question.test,
            request_hash: question.hash.as_bytes().to_vec(),
            received_at: question.received_at.as_millis(),
            transaction: Some(Transaction::from(&question.request)),
        }
    }
}

impl TryFrom<DecideRequest> for Question {
    type Error = Incomplete;

    /// The question as api asked it. What only the api needs of it does not cross
    /// this wire.
    fn try_from(message: DecideRequest) -> Result<Self, Incomplete> {
        let hash = RequestHash::from_bytes(&message.request_hash);
        let transaction = message.transaction.ok_or(Incomplete("transaction"))?;
        Ok(Self {
            merchant: message.merchant,
            test: message.test,
            numeric_ids: false,
            request: transaction.try_into()?,
            hash: hash.ok_or(Incomplete("request_hash"))?,
            received_at: Timestamp::from_millis(message.received_at),
            traceparent: String::new(),
            body: bytes::Bytes::new(),
        })
    }
}

impl From<&Request> for Transaction {
    fn from(request: &Request) -> Self {
        Self {
            id: request.id.clone(),
            policy: request.policy.clone(),
            account: request.account.clone(),
            money: request
                .money
                .as_ref()
                .map(|money| Money { amount: money.amount, currency: money.currency.clone() }),
            at: request
                .at
                .as_ref()
                .map(|at| EventTime { millis: at.timestamp.as_millis(), text: at.text.clone() }),
            attributes: request
                .attributes
                .iter()
                .map(|(name, value)| (name.to_owned(), Value { kind: Some(value.into()) }))
                .collect(),
        }
    }
}

impl TryFrom<Transaction> for Request {
    type Error = Incomplete;

    fn try_from(message: Transaction) -> Result<Self, Incomplete> {
        Ok(Self {
            id: message.id,
            policy: message.policy,
            account: message.account,
            money: message
                .money
                .map(|money| request::Money { amount: money.amount, currency: money.currency }),
            at: message.at.map(|at| request::EventTime {
                timestamp: Timestamp::from_millis(at.millis),
                text: at.text,
            }),
            attributes: attributes_of(&message.attributes)?,
        })
    }
}

fn attributes_of(pairs: &BTreeMap<String, Value>) -> Result<Attributes, Incomplete> {
    let pairs = pairs.iter().map(|(name, value)| match &value.kind {
        Some(kind) => Ok((name, kind.into())),
        None => Err(Incomplete("attribute value")),
    });
    pairs.collect()
}

impl From<attributes::Value<'_>> for value::Kind {
    fn from(value: attributes::Value<'_>) -> Self {
        match value {
            attributes::Value::Text(text) => Self::Text(text.to_owned()),
            attributes::Value::Integer(integer) => Self::Integer(integer),
            attributes::Value::Number(number) => Self::Number(number),
            attributes::Value::Flag(flag) => Self::Flag(flag),
        }
    }
}

impl<'a> From<&'a value::Kind> for attributes::Value<'a> {
    fn from(kind: &'a value::Kind) -> Self {
        match kind {
            value::Kind::Text(text) => Self::Text(text),
            value::Kind::Integer(integer) => Self::Integer(*integer),
            value::Kind::Number(number) => Self::Number(*number),
            value::Kind::Flag(flag) => Self::Flag(*flag),
        }
    }
}

impl From<Answer> for Decision {
    fn from(answer: Answer) -> Self {
        Self {
            id: answer.id,
            decision: answer.decision.as_str().to_owned(),
            reasons: answer.reasons,
            score: answer.score,
            decided_by: answer.decided_by.as_str().to_owned(),
            cause: answer.cause.map(|cause| cause.as_str().to_owned()),
            r#final: answer.is_final,
            stack: answer.stack,
            policy_version: answer.policy_version,
            stock: answer.effects.stock,
            balance: answer.effects.balance,
            decided_at: answer.decided_at.as_millis(),
            replayed: answer.replayed,
        }
    }
}

impl TryFrom<Decision> for Answer {
    type Error = Incomplete;

    /// The answer as core gave it. What core committed is durable; budget and elapsed time are the
    /// asking tier's to fill in.
    fn try_from(message: Decision) -> Result<Self, Incomplete> {
        let verdict = Verdict::parse(&message.decision).ok_or(Incomplete("decision"))?;
        Ok(Self {
            reasons: message.reasons,
            score: message.score,
            cause: message.cause.map(Cause::from),
            is_final: message.r#final,
            durable: true,
            stack: message.stack,
            policy_version: message.policy_version,
            effects: Effects { stock: message.stock, balance: message.balance },
            decided_at: Timestamp::from_millis(message.decided_at),
            replayed: message.replayed,
            ..Self::by(Tier::from(message.decided_by), message.id, verdict)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request {
            id: "txn-1".into(),
            policy: "payment".into(),
            account: "customer-1".into(),
            money: Some(request::Money { amount: 5716, currency: "GBP".into() }),
            at: Some(request::EventTime { timestamp: Timestamp::from_millis(9), text: "t".into() }),
            attributes: Attributes::from_iter([
                ("a", attributes::Value::Text("x")),
                ("b", attributes::Value::Integer(-3)),
                ("c", attributes::Value::Number(0.5)),
                ("d", attributes::Value::Flag(true)),
            ]),
        };
        assert_eq!(Request::try_from(Transaction::from(&request)), Ok(request));
    }
}
