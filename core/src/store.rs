//! Where decisions and history are kept. One decision is one transaction: load, decide, write, commit.
//!
//! A set of requests shares a transaction, so everything here takes many keys or rows at once. What is
//! decided from the rows is none of a store's business; see [`crate::decide`].

pub mod sqlite;

use std::collections::HashMap;

use backstop_contract::{Decision, Question, RequestHash, Timestamp};
use backstop_engine::History;

use crate::error::CoreError;

/// What a decision is unique under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionKey {
    pub merchant: String,
    pub id: String,
}

/// What a row of history is unique under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HistoryKey {
    pub merchant: String,
    pub key: String,
}

/// A decision that was made, as far as later requests need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// The answer, `replayed` false.
    pub answer: Decision,
    /// The time under which history counts it.
    pub at: Timestamp,
    /// The rows of history that count it.
    pub history_keys: Vec<String>,
    /// The label, once there is one.
    pub fraud: Option<bool>,
}

/// What one transaction changes.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// New decisions. That one exists already is an error: they were loaded in the same transaction.
    pub decided: Vec<(&'a Question, &'a Decided)>,
    /// New labels of decisions that exist.
    pub labels: Vec<(&'a DecisionKey, bool)>,
    /// Rows of history as they are now, encoded.
    pub history: Vec<(&'a HistoryKey, &'a [u8])>,
}

/// The one writer of a database.
pub trait Store {
    /// The open transaction; dropped without a commit, it leaves nothing.
    type Transaction<'a>: Transaction
    where
        Self: 'a;

    /// Begins a transaction that holds the right to write from the start.
    async fn begin(&mut self) -> Result<Self::Transaction<'_>, CoreError>;

    /// Lets go of a connection that failed; the next transaction begins on a new one.
    fn forget(&mut self);
}

/// One unit of work: all of it happens, or nothing.
pub trait Transaction {
    /// Those of the decisions that exist.
    async fn decisions(
        &mut self,
        keys: &[DecisionKey],
    ) -> Result<HashMap<DecisionKey, Decided>, CoreError>;

    /// Those rows of history that exist.
    async fn history(
        &mut self,
        keys: &[HistoryKey],
    ) -> Result<HashMap<HistoryKey, History>, CoreError>;

    /// Writes, visible to nobody yet.
    async fn write(&mut self, changes: &Changes<'_>) -> Result<(), CoreError>;

    /// Makes it so, durably.
    async fn commit(self) -> Result<(), CoreError>;
}

/// Reads decisions beside the writer, and never waits for it.
pub trait Records: Clone + Send + Sync + 'static {
    /// The decision, if it was made.
    fn find(
        &self,
        key: DecisionKey,
    ) -> impl Future<Output = Result<Option<Decided>, CoreError>> + Send;
}

#[cfg(test)]
mod tests;
