//! A decision as a row, as both databases keep it: what does not fit a column is JSON.

use std::collections::BTreeMap;

use backstop_contract::request::FORCE;
use backstop_contract::{
    Cause, Decision, Effects, Question, RequestHash, Tier, Timestamp, Verdict,
};
use backstop_engine::Moves;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CoreError;
use crate::store::{Decided, DecisionKey};

/// The columns of a decision that later requests need.
#[derive(sqlx::FromRow)]
pub struct DecisionRow {
    pub(super) merchant: String,
    pub(super) id: String,
    pub(super) request_hash: Vec<u8>,
    pub(super) policy: String,
    pub(super) account: String,
    pub(super) event_at: i64,
    pub(super) decision: String,
    pub(super) reasons: String,
    pub(super) score: i64,
    pub(super) decided_by: String,
    pub(super) cause: Option<String>,
    pub(super) stack: String,
    pub(super) policy_version: String,
    pub(super) effects: String,
    pub(super) decided_at: i64,
    pub(super) history_keys: String,
    pub(super) fraud: Option<bool>,
    pub(super) moves: Option<String>,
    pub(super) cancelled_by: Option<String>,
}

impl DecisionRow {
    /// The decision that the row holds.
    pub fn parse(self) -> Result<(DecisionKey, Decided), CoreError> {
        let hash = RequestHash::from_bytes(&self.request_hash);
        let verdict = Verdict::parse(&self.decision).ok_or(CoreError::Decision("decision"))?;
        let answer = Decision {
            reasons: read(&self.reasons, "reasons")?,
            score: self.score,
            cause: self.cause.map(Cause::from),
            is_final: true,
            durable: true,
            stack: self.stack,
            policy_version: self.policy_version,
            effects: read(&self.effects, "effects")?,
            decided_at: Timestamp::from_millis(self.decided_at),
            ..Decision::by(Tier::from(self.decided_by), self.id.clone(), verdict)
        };
        let decided = Decided {
            hash: hash.ok_or(CoreError::Decision("request_hash"))?,
            policy: self.policy,
            account: self.account,
            answer,
            at: Timestamp::from_millis(self.event_at),
            history_keys: read(&self.history_keys, "history_keys")?,
            moves: self.moves.map_or_else(|| Ok(Moves::default()), |it| read(&it, "moves"))?,
            cancelled_by: self.cancelled_by,
            fraud: self.fraud,
        };
        Ok((DecisionKey { merchant: self.merchant, id: self.id }, decided))
    }
}

fn read<T: DeserializeOwned>(json: &str, column: &'static str) -> Result<T, CoreError> {
    serde_json::from_str(json).map_err(|_unreadable| CoreError::Decision(column))
}

/// A new decision, with what does not fit a column as it is made fit.
pub struct NewRow<'a> {
    pub(super) question: &'a Question,
    pub(super) decided: &'a Decided,
    pub(super) amount: Option<i64>,
    pub(super) attributes: String,
    pub(super) reasons: String,
    pub(super) effects: String,
    pub(super) history_keys: String,
    pub(super) moves: Option<String>,
}

impl<'a> NewRow<'a> {
    /// The row; only an amount over 2^63 - 1 has none.
    pub fn new(question: &'a Question, decided: &'a Decided) -> Result<Self, CoreError> {
        let request = &question.request;
        let amount = request.money.as_ref().map(|money| i64::try_from(money.amount));
        let attributes: BTreeMap<_, _> =
            request.attributes.iter().filter(|(name, _)| *name != FORCE).collect();
        Ok(Self {
            question,
            decided,
            amount: amount.transpose().map_err(|_too_large| CoreError::Number)?,
            attributes: write(&attributes),
            reasons: write(&decided.answer.reasons),
            effects: write::<Effects>(&decided.answer.effects),
            history_keys: write(&decided.history_keys),
            moves: (!decided.moves.is_empty()).then(|| write(&decided.moves)),
        })
    }
}

fn write<T: Serialize>(value: &T) -> String {
    // Maps with string keys, strings and finite numbers always serialize.
    serde_json::to_string(value).unwrap_or_default()
}
