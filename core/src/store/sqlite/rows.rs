//! The statements, and how rows become what core works with. Every value is bound, none is spliced.
//!
//! A row is put where it still has the version that was loaded, so that what was changed since is told
//! by the number of rows: it is one less.

use backstop_contract::Cause;
use backstop_engine::History;
use sqlx::{QueryBuilder, Sqlite};

use crate::error::CoreError;
use crate::store::rows::NewRow;
use crate::store::{AccountKey, DecisionKey, Entry, Put, PutBalance, RowKey, Versioned};

/// Follows the rows of `wanted`. CROSS JOIN makes SQLite look each of them up and never scan the table.
pub const SELECT_DECISIONS: &str = ") \
    SELECT d.merchant, d.id, request_hash, policy, account, event_at, decision, reasons, score, \
    decided_by, cause, stack, policy_version, effects, decided_at, history_keys, fraud, moves, \
    cancelled_by \
    FROM wanted CROSS JOIN decisions AS d WHERE d.merchant = wanted.merchant AND d.id = wanted.name";

/// As [`SELECT_DECISIONS`].
pub const SELECT_HISTORY: &str = ") \
    SELECT h.merchant, h.key, h.row, h.version FROM wanted CROSS JOIN history AS h \
    WHERE h.merchant = wanted.merchant AND h.key = wanted.name";

/// As [`SELECT_DECISIONS`].
pub const SELECT_STOCK: &str = ") \
    SELECT s.merchant, s.key, s.remaining, s.version FROM wanted CROSS JOIN stock AS s \
    WHERE s.merchant = wanted.merchant AND s.key = wanted.name";

/// As [`SELECT_DECISIONS`]: every unit of each account.
pub const SELECT_BALANCES: &str = ") \
    SELECT b.merchant, b.account, b.unit, b.balance, b.version \
    FROM wanted CROSS JOIN balances AS b \
    WHERE b.merchant = wanted.merchant AND b.account = wanted.name ORDER BY b.unit";

/// The encoded history of one entity.
#[derive(sqlx::FromRow)]
pub struct HistoryRow {
    merchant: String,
    key: String,
    row: Vec<u8>,
    version: i64,
}

impl HistoryRow {
    /// The history that the row holds.
    pub fn parse(self) -> Result<(RowKey, Versioned<History>), CoreError> {
        let Self { merchant, key, row, version } = self;
        let value = History::decode(&row).map_err(CoreError::History)?;
        Ok((RowKey { merchant, key }, Versioned { value, version }))
    }
}

/// What is left of one stock.
#[derive(sqlx::FromRow)]
pub struct StockRow {
    merchant: String,
    key: String,
    remaining: i64,
    version: i64,
}

impl StockRow {
    /// What is left.
    pub fn parse(self) -> (RowKey, Versioned<i64>) {
        let Self { merchant, key, remaining, version } = self;
        (RowKey { merchant, key }, Versioned { value: remaining, version })
    }
}

/// The balance of one unit in one account.
#[derive(sqlx::FromRow)]
pub struct BalanceRow {
    merchant: String,
    account: String,
    unit: String,
    balance: i64,
    version: i64,
}

impl BalanceRow {
    /// Whose balance it is, of which unit.
    pub fn parse(self) -> (AccountKey, String, Versioned<i64>) {
        let Self { merchant, account, unit, balance, version } = self;
        (AccountKey { merchant, account }, unit, Versioned { value: balance, version })
    }
}

/// Inserts decisions that do not exist; one that does is refused by its key.
pub fn insert_decisions(rows: &[NewRow<'_>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "INSERT INTO decisions (merchant, id, request_hash, policy, account, amount, currency, \
         event_at, attributes, decision, reasons, score, decided_by, cause, stack, policy_version, \
         effects, decided_at, history_keys, fraud, moves, cancelled_by) ",
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
            .push_bind(row.attributes.as_str())
            .push_bind(answer.decision.as_str())
            .push_bind(row.reasons.as_str())
            .push_bind(answer.score)
            .push_bind(answer.decided_by.as_str())
            .push_bind(answer.cause.as_ref().map(Cause::as_str))
            .push_bind(answer.stack.as_str())
            .push_bind(answer.policy_version.as_str())
            .push_bind(row.effects.as_str())
            .push_bind(answer.decided_at.as_millis())
            .push_bind(row.history_keys.as_str())
            .push_bind(row.decided.fraud)
            .push_bind(row.moves.as_deref())
            .push_bind(row.decided.cancelled_by.as_deref());
    });
    query
}

/// Puts rows of history.
pub fn put_history(rows: &[Put<'_, [u8]>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("INSERT INTO history (merchant, key, row, version) ");
    query.push_values(rows, |mut columns, put| {
        columns.push_bind(put.merchant).push_bind(put.key).push_bind(put.value);
        columns.push_bind(put.was.saturating_add(1));
    });
    query.push(
        " ON CONFLICT (merchant, key) DO UPDATE SET row = excluded.row, version = excluded.version \
         WHERE version = excluded.version - 1",
    );
    query
}

/// Puts what is left of stock.
pub fn put_stock(rows: &[Put<'_, i64>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("INSERT INTO stock (merchant, key, remaining, version) ");
    query.push_values(rows, |mut columns, put| {
        columns.push_bind(put.merchant).push_bind(put.key).push_bind(*put.value);
        columns.push_bind(put.was.saturating_add(1));
    });
    query.push(
        " ON CONFLICT (merchant, key) DO UPDATE SET remaining = excluded.remaining, \
         version = excluded.version WHERE version = excluded.version - 1",
    );
    query
}

/// Puts balances.
pub fn put_balances(rows: &[PutBalance<'_>]) -> QueryBuilder<Sqlite> {
    let mut query =
        QueryBuilder::new("INSERT INTO balances (merchant, account, unit, balance, version) ");
    query.push_values(rows, |mut columns, put| {
        columns.push_bind(put.merchant).push_bind(put.account).push_bind(put.unit);
        columns.push_bind(put.balance).push_bind(put.was.saturating_add(1));
    });
    query.push(
        " ON CONFLICT (merchant, account, unit) DO UPDATE SET balance = excluded.balance, \
         version = excluded.version WHERE version = excluded.version - 1",
    );
    query
}

/// Appends lines to the ledger.
pub fn insert_entries(entries: &[Entry<'_>]) -> QueryBuilder<Sqlite> {
    let mut query =
        QueryBuilder::new("INSERT INTO ledger (merchant, id, debit, credit, unit, amount, at) ");
    query.push_values(entries, |mut columns, entry| {
        columns.push_bind(entry.merchant).push_bind(entry.id);
        columns.push_bind(entry.debit).push_bind(entry.credit).push_bind(entry.unit);
        columns.push_bind(entry.amount).push_bind(entry.at.as_millis());
    });
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

/// Marks decisions whose moves are released; one that is marked already stays as it is.
pub fn put_cancelled(cancelled: &[(&DecisionKey, &str)]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("WITH cancels (merchant, id, cancel) AS (");
    query.push_values(cancelled, |mut columns, (key, cancel)| {
        columns.push_bind(key.merchant.as_str()).push_bind(key.id.as_str()).push_bind(*cancel);
    });
    query.push(
        ") UPDATE decisions SET cancelled_by = cancels.cancel FROM cancels \
         WHERE decisions.merchant = cancels.merchant AND decisions.id = cancels.id \
         AND cancelled_by IS NULL",
    );
    query
}
