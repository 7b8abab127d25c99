//! The statements, and how rows become what core works with. Every value is bound, none is spliced.
//!
//! A row is put where it still has the version that was loaded, so that what was changed since is told
//! by the number of rows: it is one less.

use backstop_contract::{Cause, Timestamp};
use backstop_engine::{Arrivals, History};
use sqlx::{QueryBuilder, Sqlite};

use crate::error::CoreError;
use crate::store::rows::{
    ArrivalsRow, DiscrepancyRow, NewRow, REVISED, RestatedRow, arrivals, standing_column,
};
use crate::store::settled::{PutDecision, SequenceKey};
use crate::store::{AccountKey, DecisionKey, Entry, Put, PutBalance, RowKey, Versioned};

/// Follows the rows of `wanted`. CROSS JOIN makes SQLite look each of them up and never scan the table.
pub const SELECT_DECISIONS: &str = ") \
    SELECT d.merchant, d.id, request_hash, policy, account, amount, currency, event_at, decision, \
    reasons, score, decided_by, cause, stack, policy_version, effects, decided_at, history_keys, \
    fraud, moves, cancelled_by, standing, released_by, first_answer \
    FROM wanted CROSS JOIN decisions AS d WHERE d.merchant = wanted.merchant AND d.id = wanted.name";

/// As [`SELECT_DECISIONS`]: what only people ask for.
pub const SELECT_ATTRIBUTES: &str = ") \
    SELECT d.attributes FROM wanted CROSS JOIN decisions AS d \
    WHERE d.merchant = wanted.merchant AND d.id = wanted.name";

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

/// As [`SELECT_DECISIONS`]. An epoch is named as a text, as all else is.
pub const SELECT_ARRIVALS: &str = ") \
    SELECT s.node, s.epoch, s.upto, s.above, s.version FROM wanted CROSS JOIN advice_sequences AS s \
    WHERE s.node = wanted.merchant AND s.epoch = CAST(wanted.name AS INTEGER)";

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

/// Which advices of one epoch have arrived.
#[derive(sqlx::FromRow)]
pub struct ArrivedRow {
    node: String,
    epoch: i64,
    upto: i64,
    above: String,
    version: i64,
}

impl ArrivedRow {
    /// Whose they are, and which.
    pub fn parse(self) -> Result<(SequenceKey, Versioned<Arrivals>), CoreError> {
        let key = SequenceKey { node: self.node, epoch: self.epoch.cast_unsigned() };
        let value = arrivals(self.upto, &self.above)?;
        Ok((key, Versioned { value, version: self.version }))
    }
}

/// Inserts decisions that do not exist; one that does is refused by its key.
pub fn insert_decisions(rows: &[NewRow<'_>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "INSERT INTO decisions (merchant, id, request_hash, policy, account, amount, currency, \
         event_at, attributes, decision, reasons, score, decided_by, cause, stack, policy_version, \
         effects, decided_at, history_keys, fraud, moves, cancelled_by, standing, released_by, \
         first_answer) ",
    );
    query.push_values(rows, |mut columns, row| {
        let (request, answer) = (&row.question.request, row.columns.answer);
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
            .push_bind(row.columns.reasons.as_str())
            .push_bind(answer.score)
            .push_bind(answer.decided_by.as_str())
            .push_bind(answer.cause.as_ref().map(Cause::as_str))
            .push_bind(answer.stack.as_str())
            .push_bind(answer.policy_version.as_str())
            .push_bind(row.columns.effects.as_str())
            .push_bind(answer.decided_at.as_millis())
            .push_bind(row.history_keys.as_str())
            .push_bind(row.decided.fraud)
            .push_bind(row.columns.moves.as_deref())
            .push_bind(row.decided.cancelled_by.as_deref())
            .push_bind(row.columns.standing)
            .push_bind(row.columns.released_by)
            .push_bind(row.columns.first_answer.as_deref());
    });
    query
}

/// Where a decision is still as it was loaded.
const AS_IT_WAS: &str = "FROM w WHERE decisions.merchant = w.merchant AND decisions.id = w.id \
    AND decisions.standing IS w.was_standing AND decisions.cancelled_by IS w.was_cancelled_by \
    AND decisions.fraud IS w.was_fraud";

/// Replaces what was decided.
pub fn put_restated(rows: &[RestatedRow<'_>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "WITH w (merchant, id, was_standing, was_cancelled_by, was_fraud, decision, reasons, score, decided_by, \
         cause, stack, policy_version, effects, decided_at, fraud, moves, cancelled_by, standing, \
         released_by, first_answer) AS (",
    );
    query.push_values(rows, |mut columns, RestatedRow { put, columns: row }| {
        columns
            .push_bind(put.key.merchant.as_str())
            .push_bind(put.key.id.as_str())
            .push_bind(standing_column(put.was.standing))
            .push_bind(put.was.cancelled_by)
            .push_bind(put.was.fraud)
            .push_bind(row.answer.decision.as_str())
            .push_bind(row.reasons.as_str())
            .push_bind(row.answer.score)
            .push_bind(row.answer.decided_by.as_str())
            .push_bind(row.answer.cause.as_ref().map(Cause::as_str))
            .push_bind(row.answer.stack.as_str())
            .push_bind(row.answer.policy_version.as_str())
            .push_bind(row.effects.as_str())
            .push_bind(row.answer.decided_at.as_millis())
            .push_bind(put.decided.fraud)
            .push_bind(row.moves.as_deref())
            .push_bind(put.decided.cancelled_by.as_deref())
            .push_bind(row.standing)
            .push_bind(row.released_by)
            .push_bind(row.first_answer.as_deref());
    });
    query.push(
        ") UPDATE decisions SET decision = w.decision, reasons = w.reasons, score = w.score, \
         decided_by = w.decided_by, cause = w.cause, stack = w.stack, \
         policy_version = w.policy_version, effects = w.effects, decided_at = w.decided_at, \
         fraud = w.fraud, moves = w.moves, cancelled_by = w.cancelled_by, \
         standing = w.standing, released_by = w.released_by, first_answer = w.first_answer ",
    );
    query.push(AS_IT_WAS);
    query
}

/// Puts what became known of decisions that stand as they did.
pub fn put_marked(rows: &[PutDecision<'_>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "WITH w (merchant, id, was_standing, was_cancelled_by, was_fraud, fraud, cancelled_by) AS (",
    );
    query.push_values(rows, |mut columns, put| {
        columns
            .push_bind(put.key.merchant.as_str())
            .push_bind(put.key.id.as_str())
            .push_bind(standing_column(put.was.standing))
            .push_bind(put.was.cancelled_by)
            .push_bind(put.was.fraud)
            .push_bind(put.decided.fraud)
            .push_bind(put.decided.cancelled_by.as_deref());
    });
    query.push(") UPDATE decisions SET fraud = w.fraud, cancelled_by = w.cancelled_by ");
    query.push(AS_IT_WAS);
    query
}

/// Tells others that decisions were corrected.
pub fn insert_revised(revised: &[(&DecisionKey, Timestamp)]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("INSERT INTO outbox (merchant, id, kind, at) ");
    query.push_values(revised, |mut columns, (key, at)| {
        columns.push_bind(key.merchant.as_str()).push_bind(key.id.as_str());
        columns.push_bind(REVISED).push_bind(at.as_millis());
    });
    query
}

/// Puts discrepancies on record; one that is there stays as it is.
pub fn insert_discrepancies(rows: &[DiscrepancyRow<'_>]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(
        "INSERT INTO discrepancies (merchant, id, node, epoch, number, kind, answers, amount, \
         currency, money_between, why, at) ",
    );
    query.push_values(rows, |mut columns, DiscrepancyRow { of, answers, amount }| {
        columns
            .push_bind(of.key.merchant.as_str())
            .push_bind(of.key.id.as_str())
            .push_bind(of.advice.node.as_str())
            .push_bind(of.advice.epoch.cast_signed())
            .push_bind(of.advice.number.cast_signed())
            .push_bind(of.kind.as_str())
            .push_bind(answers.as_str())
            .push_bind(*amount)
            .push_bind(of.money.as_ref().map(|money| money.currency.as_str()))
            .push_bind(of.between)
            .push_bind(of.why.as_str())
            .push_bind(of.at.as_millis());
    });
    query.push(" ON CONFLICT DO NOTHING");
    query
}

/// Puts which advices have arrived.
pub fn put_arrivals(rows: &[ArrivalsRow<'_>]) -> QueryBuilder<Sqlite> {
    let mut query =
        QueryBuilder::new("INSERT INTO advice_sequences (node, epoch, upto, above, version) ");
    query.push_values(rows, |mut columns, ArrivalsRow { put, above }| {
        columns
            .push_bind(put.key.node.as_str())
            .push_bind(put.key.epoch.cast_signed())
            .push_bind(put.arrivals.upto().cast_signed())
            .push_bind(above.as_str())
            .push_bind(put.was.saturating_add(1));
    });
    query.push(
        " ON CONFLICT (node, epoch) DO UPDATE SET upto = excluded.upto, above = excluded.above, \
         version = excluded.version WHERE version = excluded.version - 1",
    );
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
