//! The statements, and how rows become what core works with. Every value is bound, none is spliced.

use std::collections::BTreeMap;

use backstop_contract::request::FORCE;
use backstop_contract::{
    Cause, Decision, Effects, Question, RequestHash, Tier, Timestamp, Verdict,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{QueryBuilder, Sqlite};

use crate::error::CoreError;
use crate::store::{Decided, DecisionKey, HistoryKey};

/// Follows the rows of `wanted`. CROSS JOIN makes SQLite look each of them up and never scan the table.
pub const SELECT_DECISIONS: &str = ") \
    SELECT d.merchant, d.id, request_hash, event_at, decision, reasons, score, decided_by, cause, \
    stack, policy_version, effects, decided_at, history_keys, fraud \
    FROM wanted CROSS JOIN decisions AS d WHERE d.merchant = wanted.merchant AND d.id = wanted.name";

/// As [`SELECT_DECISIONS`].
pub const SELECT_HISTORY: &str = ") \
    SELECT h.merchant, h.key, h.row FROM wanted CROSS JOIN history AS h \
    WHERE h.merchant = wanted.merchant AND h.key = wanted.name";

/// The columns of a decision that later requests need.
#[derive(sqlx::FromRow)]
pub struct DecisionRow {
    merchant: String,
    id: String,
    request_hash: Vec<u8>,
    event_at: i64,
    decision: String,
    reasons: String,
    score: i64,
    decided_by: String,
    cause: Option<String>,
    stack: String,
    policy_version: String,
    effects: String,
    decided_at: i64,
    history_keys: String,
    fraud: Option<bool>,
}

impl DecisionRow {
    /// The decision that the row holds.
    pub fn parse(self) -> Result<(DecisionKey, Decided), CoreError> {
        let hash = RequestHash::from_bytes(&self.request_hash);
        let verdict = Verdict::parse(&self.decision);
        let answer = Decision {
            id: self.id.clone(),
            decision: verdict.ok_or(CoreError::Decision("decision"))?,
            reasons: read(&self.reasons, "reasons")?,
            score: self.score,
            decided_by: Tier::from(self.decided_by),
            cause: self.cause.map(Cause::from),
            is_final: true,
            durable: true,
            stack: self.stack,
            policy_version: self.policy_version,
            effects: read(&self.effects, "effects")?,
            budget_ms: 0,
            elapsed_ms: 0.0,
            decided_at: Timestamp::from_millis(self.decided_at),
            replayed: false,
            server_timing: String::new(),
            calls: Vec::new(),
        };
        let decided = Decided {
            hash: hash.ok_or(CoreError::Decision("request_hash"))?,
            answer,
            at: Timestamp::from_millis(self.event_at),
            history_keys: read(&self.history_keys, "history_keys")?,
            fraud: self.fraud,
        };
        Ok((DecisionKey { merchant: self.merchant, id: self.id }, decided))
    }
}

fn read<T: DeserializeOwned>(json: &str, column: &'static str) -> Result<T, CoreError> {
    serde_json::from_str(json).map_err(|_unreadable| CoreError::Decision(column))
}

/// The encoded history of one entity.
#[derive(sqlx::FromRow)]
pub struct HistoryRow {
    /// Whose.
    pub merchant: String,
    /// Which entity.
    pub key: String,
    /// As the engine encodes it.
    pub row: Vec<u8>,
}

/// A new decision, with what does not fit a column as it is made fit.
pub struct NewRow<'a> {
    question: &'a Question,
    decided: &'a Decided,
    amount: Option<i64>,
    attributes: String,
    reasons: String,
    effects: String,
    history_keys: String,
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
        })
    }
}

fn write<T: Serialize>(value: &T) -> String {
    // Maps with string keys, strings and finite numbers always serialize.
    serde_json::to_string(value).unwrap_or_default()
}

/// Inserts decisions that do not exist; one that does is refused by its key.
pub fn insert_decisions(rows: Vec<NewRow<'_>>) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "INSERT INTO decisions (merchant, id, request_hash, policy, account, amount, currency, \
         event_at, attributes, decision, reasons, score, decided_by, cause, stack, policy_version, \
         effects, decided_at, history_keys, fraud) ",
    );
    query.push_values(rows, |mut columns, row| {
        let (request, answer) = (&row.question.request, &row.decided.answer);
        columns
            .push_bind(row.question.merchant.as_str())
            .push_bind(request.id.as_str())
            .push_bind(row.decided.hash.as_bytes().as_slice())
            .push_bind(request.policy.as_str())
            .push_bind(request.account.as_str())
            .push_bind(row.amount)
            .push_bind(request.money.as_ref().map(|money| money.currency.as_str()))
            .push_bind(row.decided.at.as_millis())
            .push_bind(row.attributes)
            .push_bind(answer.decision.as_str())
            .push_bind(row.reasons)
            .push_bind(answer.score)
            .push_bind(answer.decided_by.as_str())
            .push_bind(answer.cause.as_ref().map(Cause::as_str))
            .push_bind(answer.stack.as_str())
            .push_bind(answer.policy_version.as_str())
            .push_bind(row.effects)
            .push_bind(answer.decided_at.as_millis())
            .push_bind(row.history_keys)
            .push_bind(row.decided.fraud);
    });
    query
}

/// Inserts or replaces rows of history.
pub fn put_history(rows: &[(&HistoryKey, &[u8])]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("INSERT INTO history (merchant, key, row) ");
    query.push_values(rows, |mut columns, (key, row)| {
        columns.push_bind(key.merchant.as_str()).push_bind(key.key.as_str()).push_bind(*row);
    });
    query.push(" ON CONFLICT (merchant, key) DO UPDATE SET row = excluded.row");
    query
}

/// Sets the labels of decisions that exist.
pub fn put_labels(labels: &[(&DecisionKey, bool)]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("WITH labels (merchant, id, fraud) AS (");
    query.push_values(labels, |mut columns, (key, fraud)| {
        columns.push_bind(key.merchant.as_str()).push_bind(key.id.as_str()).push_bind(*fraud);
    });
    query.push(
        ") UPDATE decisions SET fraud = labels.fraud FROM labels \
         WHERE decisions.merchant = labels.merchant AND decisions.id = labels.id",
    );
    query
}
