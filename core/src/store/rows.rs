//! A decision as a row, as both databases keep it: what does not fit a column is JSON.

use std::collections::BTreeMap;

use backstop_contract::request::{FORCE, Money};
use backstop_contract::{
    Attributes, Cause, Decision, Effects, Question, RequestHash, Standing, Tier, Timestamp, Value,
    Verdict,
};
use backstop_engine::arrivals::Run;
use backstop_engine::{Arrivals, Moves};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::settled::{Discrepancy, PutArrivals, PutDecision};
use super::{Decided, DecisionKey};
use crate::error::CoreError;

/// What the outbox calls a decision that was corrected to what its client had been told.
pub const REVISED: &str = "decision.revised";

/// The columns of a decision that later requests need.
#[derive(sqlx::FromRow)]
pub struct DecisionRow {
    pub(super) merchant: String,
    pub(super) id: String,
    pub(super) request_hash: Vec<u8>,
    pub(super) policy: String,
    pub(super) account: String,
    pub(super) amount: Option<i64>,
    pub(super) currency: Option<String>,
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
    pub(super) standing: Option<String>,
    pub(super) released_by: Option<String>,
    pub(super) first_answer: Option<String>,
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
            money: money(self.amount, self.currency)?,
            answer,
            standing: standing(self.standing.as_deref())?,
            released_by: self.released_by,
            first: self.first_answer.map(|it| read(&it, "first_answer")).transpose()?,
            at: Timestamp::from_millis(self.event_at),
            history_keys: read(&self.history_keys, "history_keys")?,
            moves: self.moves.map_or_else(|| Ok(Moves::default()), |it| read(&it, "moves"))?,
            cancelled_by: self.cancelled_by,
            fraud: self.fraud,
        };
        Ok((DecisionKey { merchant: self.merchant, id: self.id }, decided))
    }
}

/// How a decision stands; no word means that core decided it.
pub fn standing(word: Option<&str>) -> Result<Standing, CoreError> {
    let standing = word.map_or(Some(Standing::Decided), Standing::parse);
    standing.ok_or(CoreError::Decision("standing"))
}

fn money(amount: Option<i64>, currency: Option<String>) -> Result<Option<Money>, CoreError> {
    let (Some(amount), Some(currency)) = (amount, currency) else { return Ok(None) };
    let amount = u64::try_from(amount).map_err(|_negative| CoreError::Decision("amount"))?;
    Ok(Some(Money { amount, currency }))
}

/// The value of an attribute as JSON has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Flag(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// The attributes that a row holds.
pub fn attributes(json: &str) -> Result<Attributes, CoreError> {
    let kept: BTreeMap<String, Kept> = read(json, "attributes")?;
    let pairs = kept.iter().map(|(name, value)| {
        let value = match value {
            Kept::Flag(flag) => Value::Flag(*flag),
            Kept::Integer(integer) => Value::Integer(*integer),
            Kept::Number(number) => Value::Number(*number),
            Kept::Text(text) => Value::Text(text),
        };
        (name, value)
    });
    Ok(pairs.collect())
}

/// What a column of JSON holds.
pub fn read<T: DeserializeOwned>(json: &str, column: &'static str) -> Result<T, CoreError> {
    serde_json::from_str(json).map_err(|_unreadable| CoreError::Decision(column))
}

/// The part of a decision that a settlement replaces, with what does not fit a column as it is made fit.
pub struct AnswerColumns<'a> {
    pub(super) answer: &'a Decision,
    pub(super) reasons: String,
    pub(super) effects: String,
    pub(super) moves: Option<String>,
    pub(super) standing: Option<&'static str>,
    pub(super) released_by: Option<&'a str>,
    pub(super) first_answer: Option<String>,
}

impl<'a> AnswerColumns<'a> {
    fn new(decided: &'a Decided) -> Self {
        Self {
            answer: &decided.answer,
            reasons: write(&decided.answer.reasons),
            effects: write::<Effects>(&decided.answer.effects),
            moves: (!decided.moves.is_empty()).then(|| write(&decided.moves)),
            standing: standing_column(decided.standing),
            released_by: decided.released_by.as_deref(),
            first_answer: decided.first.as_deref().map(write),
        }
    }
}

/// As the older release writes it, where it means the same.
pub fn standing_column(standing: Standing) -> Option<&'static str> {
    (standing != Standing::Decided).then_some(standing.as_str())
}

/// A new decision.
pub struct NewRow<'a> {
    pub(super) question: &'a Question,
    pub(super) decided: &'a Decided,
    pub(super) amount: Option<i64>,
    pub(super) attributes: String,
    pub(super) history_keys: String,
    pub(super) columns: AnswerColumns<'a>,
}

impl<'a> NewRow<'a> {
    /// The row; only an amount over 2^63 - 1 has none.
    pub fn new(question: &'a Question, decided: &'a Decided) -> Result<Self, CoreError> {
        let request = &question.request;
        let attributes: BTreeMap<_, _> =
            request.attributes.iter().filter(|(name, _)| *name != FORCE).collect();
        Ok(Self {
            question,
            decided,
            amount: amount(request.money.as_ref())?,
            attributes: write(&attributes),
            history_keys: write(&decided.history_keys),
            columns: AnswerColumns::new(decided),
        })
    }
}

fn amount(money: Option<&Money>) -> Result<Option<i64>, CoreError> {
    let amount = money.map(|money| i64::try_from(money.amount));
    amount.transpose().map_err(|_too_large| CoreError::Number)
}

/// A decision that stands otherwise now.
pub struct RestatedRow<'a> {
    pub(super) put: PutDecision<'a>,
    pub(super) columns: AnswerColumns<'a>,
}

impl<'a> RestatedRow<'a> {
    /// The row.
    pub fn new(put: PutDecision<'a>) -> Self {
        Self { put, columns: AnswerColumns::new(put.decided) }
    }
}

/// A discrepancy.
pub struct DiscrepancyRow<'a> {
    pub(super) of: &'a Discrepancy,
    pub(super) answers: String,
    pub(super) amount: Option<i64>,
}

impl<'a> DiscrepancyRow<'a> {
    /// The row; only an amount over 2^63 - 1 has none.
    pub fn new(of: &'a Discrepancy) -> Result<Self, CoreError> {
        Ok(Self { of, answers: write(&of.answers), amount: amount(of.money.as_ref())? })
    }
}

/// Which advices have arrived. Numbers are 64 bits wide, which the signed columns keep bit by bit.
pub struct ArrivalsRow<'a> {
    pub(super) put: PutArrivals<'a>,
    pub(super) above: String,
}

impl<'a> ArrivalsRow<'a> {
    /// The row.
    pub fn new(put: PutArrivals<'a>) -> Self {
        Self { put, above: write(&put.arrivals.above()) }
    }
}

/// The arrivals that a row holds.
pub fn arrivals(upto: i64, above: &str) -> Result<Arrivals, CoreError> {
    let above: Vec<Run> = read(above, "advice_sequences.above")?;
    let arrivals = Arrivals::new(upto.cast_unsigned(), above);
    arrivals.ok_or(CoreError::Decision("advice_sequences.above"))
}

fn write<T: Serialize + ?Sized>(value: &T) -> String {
    // Maps with string keys, strings and finite numbers always serialize.
    serde_json::to_string(value).unwrap_or_default()
}
