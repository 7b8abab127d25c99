//! Everything that a set changes, in one statement that commits by itself: all of it or nothing, and
//! no transaction that could be left open.
//!
//! A row is put where it still has the version that was loaded. Each part says how many rows it
//! touched; where that is less than it was given, somebody else was first, and the statement divides
//! by zero: an error takes back the whole of it. So nothing depends on the order in which PostgreSQL
//! runs the parts. It asks for their counts in the order of the text, and rows are put in the order of
//! their keys, which keeps two cores from waiting for each other; that they never do is not relied on.

mod settled;

use backstop_contract::Cause;
use backstop_settings::merchants::PROBE_MERCHANT;

use super::statement::{Statement, escaped};
use crate::error::CoreError;
use crate::store::rows::NewRow;
use crate::store::{Changes, Entry, Put, PutBalance};

/// The statement that makes the changes; `None` when there are none.
pub fn statement(changes: &Changes<'_>) -> Result<Option<Statement>, CoreError> {
    let Changes { decided, history, stock, balances, ledger, .. } = changes;
    let mut parts = Parts::default();
    // Rows that many want come first: who finds them taken has done the least.
    let stock = sorted(stock, |put| (put.merchant, put.key));
    parts.add("stock_put", stock.len(), |part| put_stock(part, &stock))?;
    let balances = sorted(balances, |put| (put.merchant, put.account, put.unit));
    parts.add("balances_put", balances.len(), |part| put_balances(part, &balances))?;
    let history = sorted(history, |put| (put.merchant, put.key));
    parts.add("history_put", history.len(), |part| put_history(part, &history))?;
    let decided = sorted(decided, |(question, _)| (&question.merchant, &question.request.id));
    let decided = decided.iter().map(|(question, decided)| NewRow::new(question, decided));
    let decided = decided.collect::<Result<Vec<_>, _>>()?;
    parts.add("decided", decided.len(), |part| insert_decisions(part, &decided))?;
    // Nobody waits to be told of a probe.
    let told = decided.iter().filter(|row| row.question.merchant != PROBE_MERCHANT).count();
    parts.add("told", told, |part| {
        part.push(
            "INSERT INTO outbox (merchant, id, kind, at) \
             SELECT merchant, id, 'decided', decided_at FROM decided WHERE merchant <> ",
        );
        part.bind("text", PROBE_MERCHANT)?;
        part.push(" RETURNING 1");
        Ok(())
    })?;
    parts.add("booked", ledger.len(), |part| insert_entries(part, ledger))?;
    settled::add(&mut parts, changes)?;
    parts.finish()
}

/// The rows in the order of their keys, as they mostly are already.
fn sorted<'r, T, K: Ord>(rows: &'r [T], key: impl Fn(&'r T) -> K) -> Vec<&'r T> {
    let mut sorted: Vec<&T> = rows.iter().collect();
    sorted.sort_by_key(|row| key(row));
    sorted
}

/// The statement as far as it is written, and what must be true of it.
#[derive(Default)]
struct Parts {
    statement: Statement,
    is_begun: bool,
    expected: Vec<(&'static str, i64)>,
}

impl Parts {
    /// Adds a part that touches this many rows, or is left out.
    fn add(
        &mut self,
        name: &'static str,
        rows: usize,
        write: impl FnOnce(&mut Statement) -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        let Ok(rows @ 1..) = i64::try_from(rows) else { return Ok(()) };
        self.add_any(name, write)?;
        self.expected.push((name, rows));
        Ok(())
    }

    /// Adds a part that touches as many rows as it finds.
    fn add_any(
        &mut self,
        name: &'static str,
        write: impl FnOnce(&mut Statement) -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        self.statement.push(if self.is_begun { ", " } else { "WITH " });
        self.is_begun = true;
        self.statement.push(name);
        self.statement.push(" AS (");
        write(&mut self.statement)?;
        self.statement.push(")");
        Ok(())
    }

    fn finish(self) -> Result<Option<Statement>, CoreError> {
        let Self { mut statement, is_begun, expected } = self;
        if !is_begun {
            return Ok(None);
        }
        // Not ELSE 1 / 0: a planner may work that out before anything runs.
        statement.push(" SELECT 1 / CASE WHEN true");
        for (name, rows) in expected {
            statement.push(" AND (SELECT count(*) FROM ");
            statement.push(name);
            statement.push(") = ");
            statement.bind("bigint", rows)?;
        }
        statement.push(" THEN 1 ELSE 0 END");
        Ok(Some(statement))
    }
}

/// Writes `INSERT INTO` and the columns, each as an array of one value a row.
macro_rules! insert {
    ($part:ident, $into:literal, $rows:ident, [$($column:ident: $type:literal = $value:expr),+ $(,)?]) => {{
        $part.push(concat!("INSERT INTO ", $into, " ("));
        $part.push(&[$(stringify!($column)),+].join(", "));
        $part.push(") SELECT ");
        let mut separator = "";
        $(
            $part.push(std::mem::replace(&mut separator, ", "));
            $part.column($type, $rows.iter().map($value).collect::<Vec<_>>())?;
        )+
    }};
}

fn insert_decisions(part: &mut Statement, rows: &[NewRow<'_>]) -> Result<(), CoreError> {
    insert!(part, "decisions", rows, [
        merchant: "text[]" = |row| escaped(&row.question.merchant),
        id: "text[]" = |row| escaped(&row.question.request.id),
        request_hash: "bytea[]" = |row| row.decided.hash.as_bytes().as_slice(),
        policy: "text[]" = |row| row.question.request.policy.as_str(),
        account: "text[]" = |row| escaped(&row.question.request.account),
        amount: "bigint[]" = |row| row.amount,
        currency: "text[]" = |row| {
            row.question.request.money.as_ref().map(|money| money.currency.as_str())
        },
        event_at: "bigint[]" = |row| row.decided.at.as_millis(),
        attributes: "text[]" = |row| row.attributes.as_str(),
        decision: "text[]" = |row| row.decided.answer.decision.as_str(),
        reasons: "text[]" = |row| row.columns.reasons.as_str(),
        score: "bigint[]" = |row| row.decided.answer.score,
        decided_by: "text[]" = |row| row.decided.answer.decided_by.as_str(),
        cause: "text[]" = |row| row.decided.answer.cause.as_ref().map(Cause::as_str),
        stack: "text[]" = |row| row.decided.answer.stack.as_str(),
        policy_version: "text[]" = |row| row.decided.answer.policy_version.as_str(),
        effects: "text[]" = |row| row.columns.effects.as_str(),
        decided_at: "bigint[]" = |row| row.decided.answer.decided_at.as_millis(),
        history_keys: "text[]" = |row| row.history_keys.as_str(),
        fraud: "boolean[]" = |row| row.decided.fraud,
        moves: "text[]" = |row| row.columns.moves.as_deref(),
        cancelled_by: "text[]" = |row| row.decided.cancelled_by.as_deref().map(escaped),
        standing: "text[]" = |row| row.columns.standing,
        released_by: "text[]" = |row| row.columns.released_by,
        first_answer: "text[]" = |row| row.columns.first_answer.as_deref(),
    ]);
    part.push(" RETURNING merchant, id, decided_at");
    Ok(())
}

use insert;

/// Replaces a row whose version is the one before; `was` 0 puts version 1 where there is no row.
macro_rules! put {
    ($part:ident, $into:literal, $key:literal, $value:ident, $rows:ident, [$($columns:tt)+]) => {{
        insert!($part, $into, $rows, [$($columns)+]);
        $part.push(concat!(
            " ON CONFLICT (", $key, ") DO UPDATE SET version = excluded.version, ",
            stringify!($value), " = excluded.", stringify!($value),
            " WHERE t.version = excluded.version - 1 RETURNING 1",
        ));
        Ok(())
    }};
}

fn put_history(part: &mut Statement, rows: &[&Put<'_, [u8]>]) -> Result<(), CoreError> {
    put!(part, "history AS t", "merchant, key", row, rows, [
        merchant: "text[]" = |put| escaped(put.merchant),
        key: "text[]" = |put| escaped(put.key),
        version: "bigint[]" = |put| put.was.saturating_add(1),
        row: "bytea[]" = |put| put.value,
    ])
}

fn put_stock(part: &mut Statement, rows: &[&Put<'_, i64>]) -> Result<(), CoreError> {
    put!(part, "stock AS t", "merchant, key", remaining, rows, [
        merchant: "text[]" = |put| escaped(put.merchant),
        key: "text[]" = |put| escaped(put.key),
        version: "bigint[]" = |put| put.was.saturating_add(1),
        remaining: "bigint[]" = |put| *put.value,
    ])
}

fn put_balances(part: &mut Statement, rows: &[&PutBalance<'_>]) -> Result<(), CoreError> {
    put!(part, "balances AS t", "merchant, account, unit", balance, rows, [
        merchant: "text[]" = |put| escaped(put.merchant),
        account: "text[]" = |put| escaped(put.account),
        unit: "text[]" = |put| escaped(put.unit),
        version: "bigint[]" = |put| put.was.saturating_add(1),
        balance: "bigint[]" = |put| put.balance,
    ])
}

fn insert_entries(part: &mut Statement, entries: &[Entry<'_>]) -> Result<(), CoreError> {
    insert!(part, "ledger", entries, [
        merchant: "text[]" = |entry| escaped(entry.merchant),
        id: "text[]" = |entry| escaped(entry.id),
        debit: "text[]" = |entry| escaped(entry.debit),
        credit: "text[]" = |entry| escaped(entry.credit),
        unit: "text[]" = |entry| escaped(entry.unit),
        amount: "bigint[]" = |entry| entry.amount,
        at: "bigint[]" = |entry| entry.at.as_millis(),
    ]);
    part.push(" RETURNING 1");
    Ok(())
}
