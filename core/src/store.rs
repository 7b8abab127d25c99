//! Where decisions, history, stock and balances are kept. One set of requests is one unit: load, decide,
//! commit, all or nothing.
//!
//! A set shares a unit, so everything here takes many keys or rows at once. What is decided from the rows
//! is none of a store's business; see [`crate::decide`].
//!
//! A store may hold a lock from load to commit, or none, and then refuse at the commit what somebody else
//! changed in between ([`CoreError::Conflict`]): nothing was written, and the set begins again from what is
//! there now. That is why every row that changes carries the version it was loaded with.

pub mod postgres;
mod rows;
pub mod settled;
pub mod sqlite;
mod statement;

use std::collections::HashMap;

use backstop_contract::request::Money;
use backstop_contract::wire::StatementReply;
use backstop_contract::{Attributes, Decision, Question, RequestHash, Standing, Timestamp};
use backstop_engine::{Arrivals, History, Moves};

use self::settled::{Discrepancy, PutArrivals, PutDecision, SequenceKey};
pub use self::statement::Span;

use crate::error::CoreError;

/// What a decision is unique under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionKey {
    pub merchant: String,
    pub id: String,
}

/// What a row of history, or of stock, is unique under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    pub merchant: String,
    pub key: String,
}

/// Whose balances they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountKey {
    pub merchant: String,
    pub account: String,
}

impl DecisionKey {
    /// Its two parts, in the order of the table's key.
    pub fn words(&self) -> (&str, &str) {
        (&self.merchant, &self.id)
    }
}

impl RowKey {
    /// As [`DecisionKey::words`].
    pub fn words(&self) -> (&str, &str) {
        (&self.merchant, &self.key)
    }
}

impl AccountKey {
    /// As [`DecisionKey::words`].
    pub fn words(&self) -> (&str, &str) {
        (&self.merchant, &self.account)
    }
}

/// A row as it was loaded. Version 0: there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versioned<T> {
    pub value: T,
    pub version: i64,
}

/// A decision that was made, as far as later requests need it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// The policy that decided.
    pub policy: String,
    /// The account it was decided for.
    pub account: String,
    /// What was asked about, where it was money.
    pub money: Option<Money>,
    /// The answer, `replayed` false: core's, or what a client was told once that is known.
    pub answer: Decision,
    /// How it came to stand in the books.
    pub standing: Standing,
    /// The node that said what its client was told.
    pub released_by: Option<String>,
    /// What core had decided before it heard of that, if it had.
    pub first: Option<Box<Decision>>,
    /// The time under which history counts it.
    pub at: Timestamp,
    /// The rows of history that count it.
    pub history_keys: Vec<String>,
    /// What it moved.
    pub moves: Moves,
    /// The decision that released what it moved, if one did.
    pub cancelled_by: Option<String>,
    /// The label, once there is one.
    pub fraud: Option<bool>,
}

/// The rows that a set needs to see. Each key once.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Ids that are to be decided. Most come for the first time: a store whose commit refuses one that
    /// exists may take them for new, and look for them when it did.
    pub asked: Vec<DecisionKey>,
    pub decisions: Vec<DecisionKey>,
    pub history: Vec<RowKey>,
    pub stock: Vec<RowKey>,
    /// All balances of these accounts; an account has few units.
    pub accounts: Vec<AccountKey>,
    pub arrivals: Vec<SequenceKey>,
}

/// Those of them that exist.
#[derive(Debug, Default)]
pub struct Loaded {
    pub decisions: HashMap<DecisionKey, Decided>,
    pub history: HashMap<RowKey, Versioned<History>>,
    pub stock: HashMap<RowKey, Versioned<i64>>,
    /// By account, then by unit.
    pub balances: HashMap<AccountKey, HashMap<String, Versioned<i64>>>,
    pub arrivals: HashMap<SequenceKey, Versioned<Arrivals>>,
}

impl Wanted {
    /// Whether there is nothing to load.
    pub const fn is_empty(&self) -> bool {
        self.asked.is_empty() && !self.has_more_than_asked()
    }

    /// Whether other rows are wanted, too.
    pub const fn has_more_than_asked(&self) -> bool {
        let Self { asked: _, decisions, history, stock, accounts, arrivals } = self;
        !(decisions.is_empty()
            && history.is_empty()
            && stock.is_empty()
            && accounts.is_empty()
            && arrivals.is_empty())
    }

    /// The same, with nothing taken for new.
    #[must_use]
    pub fn with_asked_looked_for(mut self) -> Self {
        self.decisions.append(&mut self.asked);
        self
    }
}

impl Loaded {
    /// Adds what was loaded later in the same unit.
    pub fn extend(&mut self, later: Self) {
        let Self { decisions, history, stock, balances, arrivals } = later;
        self.decisions.extend(decisions);
        self.history.extend(history);
        self.stock.extend(stock);
        self.balances.extend(balances);
        self.arrivals.extend(arrivals);
    }
}

/// A row to put where `was` is the version that was loaded; 0 where there was none. The row that is put
/// has version `was + 1`.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a, T: ?Sized> {
    pub merchant: &'a str,
    pub key: &'a str,
    pub value: &'a T,
    pub was: i64,
}

/// The balance to put for one unit of an account.
#[derive(Clone, Copy, Debug)]
pub struct PutBalance<'a> {
    pub merchant: &'a str,
    pub account: &'a str,
    pub unit: &'a str,
    pub balance: i64,
    pub was: i64,
}

/// One line of the ledger: an amount from one account to another, so that the whole always sums to zero.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub merchant: &'a str,
    /// The decision that moved it.
    pub id: &'a str,
    pub debit: &'a str,
    pub credit: &'a str,
    pub unit: &'a str,
    /// More than zero.
    pub amount: i64,
    /// When that was decided.
    pub at: Timestamp,
}

/// What one unit changes. Each key once, in the order of keys, so that two cores take row locks alike.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// New decisions, each with its row in the outbox unless it is a probe. One that exists is a conflict.
    pub decided: Vec<(&'a Question, &'a Decided)>,
    /// Decisions that were labelled or released, and stand as they did.
    pub marked: Vec<PutDecision<'a>>,
    /// Decisions that stand otherwise now; none of them is above.
    pub restated: Vec<PutDecision<'a>>,
    /// Those of them of which others are to be told.
    pub revised: Vec<(&'a DecisionKey, Timestamp)>,
    /// Rows of history as they are now, encoded.
    pub history: Vec<Put<'a, [u8]>>,
    /// Stock as it is now. Never below zero.
    pub stock: Vec<Put<'a, i64>>,
    /// Balances as they are now.
    pub balances: Vec<PutBalance<'a>>,
    /// New lines of the ledger.
    pub ledger: Vec<Entry<'a>>,
    /// What is put on record, once for each advice.
    pub discrepancies: Vec<&'a Discrepancy>,
    /// Which advices have arrived.
    pub arrivals: Vec<PutArrivals<'a>>,
}

/// Asked last, with nothing durable yet. Where it says no, nothing will be.
pub type Fence<'a> = dyn Fn() -> bool + Sync + 'a;

/// The one writer of a database.
pub trait Store {
    /// What one set of requests loads and commits; dropped without a commit, it leaves nothing.
    type Unit<'a>: Unit + Send
    where
        Self: 'a;

    /// Whether a unit can read for the next one ([`Unit::read_ahead`]).
    const READS_AHEAD: bool = false;

    /// Begins a unit.
    fn begin(&mut self) -> impl Future<Output = Result<Self::Unit<'_>, CoreError>> + Send;

    /// Lets go of a connection that failed; the next unit begins on a new one.
    fn forget(&mut self);

    /// The next unit is not the one that was read for: that came to nothing.
    fn skip(&mut self) {}
}

/// All of it happens, or nothing.
pub trait Unit {
    /// Those of the rows that exist. May be asked again, for rows that the first ones name.
    fn load(&mut self, wanted: Wanted) -> impl Future<Output = Result<Loaded, CoreError>> + Send;

    /// Begins to read what the next unit will load, while this one is decided and committed. What this one
    /// changes is not taken from there.
    fn read_ahead(&mut self, _wanted: Wanted) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Writes it, durably, unless `is_in_time` says no at the last moment: [`CoreError::TooLate`].
    fn commit(
        self,
        changes: &Changes<'_>,
        is_in_time: &Fence<'_>,
    ) -> impl Future<Output = Result<(), CoreError>> + Send;
}

/// Reads beside the writer, and never waits for it.
pub trait Records: Clone + Send + Sync + 'static {
    /// Those of the decisions that were made. Each key once.
    fn find_many(
        &self,
        keys: Vec<DecisionKey>,
    ) -> impl Future<Output = Result<HashMap<DecisionKey, Decided>, CoreError>> + Send;

    /// The decision, if it was made.
    fn find(
        &self,
        key: DecisionKey,
    ) -> impl Future<Output = Result<Option<Decided>, CoreError>> + Send {
        async move { Ok(self.find_many(vec![key.clone()]).await?.remove(&key)) }
    }

    /// The attributes of the request that was decided, if it was.
    fn attributes(
        &self,
        key: DecisionKey,
    ) -> impl Future<Output = Result<Option<Attributes>, CoreError>> + Send;

    /// Those of the rows that exist, each as it is when it is read.
    fn load(&self, wanted: Wanted) -> impl Future<Output = Result<Loaded, CoreError>> + Send;

    /// What a merchant was told in a span of time, and what became of it.
    fn statement(&self, of: Span)
    -> impl Future<Output = Result<StatementReply, CoreError>> + Send;

    /// What is left in stock, if there is such a stock.
    fn stock(&self, key: RowKey) -> impl Future<Output = Result<Option<i64>, CoreError>> + Send;

    /// The balances of an account, by unit, in the order of units; none when it never had one.
    fn balances(
        &self,
        key: AccountKey,
    ) -> impl Future<Output = Result<Vec<(String, i64)>, CoreError>> + Send;
}

#[cfg(test)]
pub(crate) mod tests;
