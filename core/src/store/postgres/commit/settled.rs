//! What becomes of decisions after they were made: labels and releases, and what the settlement of advices adds,
//! which is answers replaced, what others are told of it, discrepancies, and which advices have arrived.

use backstop_contract::{Cause, Timestamp};

use super::{Parts, insert, sorted};
use crate::error::CoreError;
use crate::store::postgres::statement::{Statement, escaped};
use crate::store::rows::{ArrivalsRow, DiscrepancyRow, REVISED, RestatedRow, standing_column};
use crate::store::settled::PutDecision;
use crate::store::{Changes, DecisionKey};

/// Adds the parts that there are.
pub fn add(parts: &mut Parts, changes: &Changes<'_>) -> Result<(), CoreError> {
    let Changes { marked, restated, revised, discrepancies, arrivals, .. } = changes;
    let marked = sorted(marked, |put| put.key);
    parts.add("marked", marked.len(), |part| mark(part, &marked))?;
    let restated = sorted(restated, |row| row.key);
    let restated: Vec<_> = restated.into_iter().copied().map(RestatedRow::new).collect();
    parts.add("restated", restated.len(), |part| restate(part, &restated))?;
    parts.add("told_again", revised.len(), |part| insert_revised(part, revised))?;
    let arrivals: Vec<_> = arrivals.iter().copied().map(ArrivalsRow::new).collect();
    parts.add("arrived", arrivals.len(), |part| put_arrivals(part, &arrivals))?;
    if discrepancies.is_empty() {
        return Ok(());
    }
    let discrepancies = discrepancies.iter().copied().map(DiscrepancyRow::new);
    let discrepancies = discrepancies.collect::<Result<Vec<_>, _>>()?;
    parts.add_any("recorded", |part| insert_discrepancies(part, &discrepancies))
}

/// Writes columns, each as an array of one value a row, with their names.
macro_rules! columns {
    ($part:ident, $rows:ident, [$($column:ident: $type:literal = $value:expr),+ $(,)?]) => {{
        let mut separator = "";
        $(
            $part.push(std::mem::replace(&mut separator, ", "));
            $part.column($type, $rows.iter().map($value).collect::<Vec<_>>())?;
            $part.push(concat!(" AS ", stringify!($column)));
        )+
    }};
}

/// Where a decision is still as it was loaded.
const AS_IT_WAS: &str = ") AS w WHERE t.merchant = w.merchant AND t.id = w.id \
    AND t.standing IS NOT DISTINCT FROM w.was_standing \
    AND t.cancelled_by IS NOT DISTINCT FROM w.was_cancelled_by \
    AND t.fraud IS NOT DISTINCT FROM w.was_fraud RETURNING 1";

/// Puts what became known of decisions that stand as they did.
fn mark(part: &mut Statement, rows: &[&PutDecision<'_>]) -> Result<(), CoreError> {
    part.push(
        "UPDATE decisions AS t SET fraud = w.fraud, cancelled_by = w.cancelled_by FROM (SELECT ",
    );
    columns!(part, rows, [
        merchant: "text[]" = |put| escaped(&put.key.merchant),
        id: "text[]" = |put| escaped(&put.key.id),
        was_standing: "text[]" = |put| standing_column(put.was.standing),
        was_cancelled_by: "text[]" = |put| put.was.cancelled_by.map(escaped),
        was_fraud: "boolean[]" = |put| put.was.fraud,
        fraud: "boolean[]" = |put| put.decided.fraud,
        cancelled_by: "text[]" = |put| put.decided.cancelled_by.as_deref().map(escaped),
    ]);
    part.push(AS_IT_WAS);
    Ok(())
}

/// Replaces what was decided.
fn restate(part: &mut Statement, rows: &[RestatedRow<'_>]) -> Result<(), CoreError> {
    part.push(
        "UPDATE decisions AS t SET decision = w.decision, reasons = w.reasons, score = w.score, \
         decided_by = w.decided_by, cause = w.cause, stack = w.stack, \
         policy_version = w.policy_version, effects = w.effects, decided_at = w.decided_at, \
         fraud = w.fraud, moves = w.moves, cancelled_by = w.cancelled_by, \
         standing = w.standing, released_by = w.released_by, first_answer = w.first_answer \
         FROM (SELECT ",
    );
    columns!(part, rows, [
        merchant: "text[]" = |row| escaped(&row.put.key.merchant),
        id: "text[]" = |row| escaped(&row.put.key.id),
        was_standing: "text[]" = |row| standing_column(row.put.was.standing),
        was_cancelled_by: "text[]" = |row| row.put.was.cancelled_by.map(escaped),
        was_fraud: "boolean[]" = |row| row.put.was.fraud,
        decision: "text[]" = |row| row.columns.answer.decision.as_str(),
        reasons: "text[]" = |row| row.columns.reasons.as_str(),
        score: "bigint[]" = |row| row.columns.answer.score,
        decided_by: "text[]" = |row| row.columns.answer.decided_by.as_str(),
        cause: "text[]" = |row| row.columns.answer.cause.as_ref().map(Cause::as_str),
        stack: "text[]" = |row| row.columns.answer.stack.as_str(),
        policy_version: "text[]" = |row| row.columns.answer.policy_version.as_str(),
        effects: "text[]" = |row| row.columns.effects.as_str(),
        decided_at: "bigint[]" = |row| row.columns.answer.decided_at.as_millis(),
        fraud: "boolean[]" = |row| row.put.decided.fraud,
        moves: "text[]" = |row| row.columns.moves.as_deref(),
        cancelled_by: "text[]" = |row| row.put.decided.cancelled_by.as_deref().map(escaped),
        standing: "text[]" = |row| row.columns.standing,
        released_by: "text[]" = |row| row.columns.released_by,
        first_answer: "text[]" = |row| row.columns.first_answer.as_deref(),
    ]);
    part.push(AS_IT_WAS);
    Ok(())
}

fn insert_revised(
    part: &mut Statement,
    revised: &[(&DecisionKey, Timestamp)],
) -> Result<(), CoreError> {
    insert!(part, "outbox", revised, [
        merchant: "text[]" = |(key, _)| escaped(&key.merchant),
        id: "text[]" = |(key, _)| escaped(&key.id),
        kind: "text[]" = |_| REVISED,
        at: "bigint[]" = |(_, at)| at.as_millis(),
    ]);
    part.push(" RETURNING 1");
    Ok(())
}

fn insert_discrepancies(
    part: &mut Statement,
    rows: &[DiscrepancyRow<'_>],
) -> Result<(), CoreError> {
    insert!(part, "discrepancies", rows, [
        merchant: "text[]" = |row| escaped(&row.of.key.merchant),
        id: "text[]" = |row| escaped(&row.of.key.id),
        node: "text[]" = |row| row.of.advice.node.as_str(),
        epoch: "bigint[]" = |row| row.of.advice.epoch.cast_signed(),
        number: "bigint[]" = |row| row.of.advice.number.cast_signed(),
        kind: "text[]" = |row| row.of.kind.as_str(),
        answers: "text[]" = |row| row.answers.as_str(),
        amount: "bigint[]" = |row| row.amount,
        currency: "text[]" = |row| row.of.money.as_ref().map(|money| money.currency.as_str()),
        money_between: "bigint[]" = |row| row.of.between,
        why: "text[]" = |row| escaped(&row.of.why),
        at: "bigint[]" = |row| row.of.at.as_millis(),
    ]);
    part.push(" ON CONFLICT DO NOTHING RETURNING 1");
    Ok(())
}

fn put_arrivals(part: &mut Statement, rows: &[ArrivalsRow<'_>]) -> Result<(), CoreError> {
    insert!(part, "advice_sequences AS t", rows, [
        node: "text[]" = |row| row.put.key.node.as_str(),
        epoch: "bigint[]" = |row| row.put.key.epoch.cast_signed(),
        version: "bigint[]" = |row| row.put.was.saturating_add(1),
        upto: "bigint[]" = |row| row.put.arrivals.upto().cast_signed(),
        above: "text[]" = |row| row.above.as_str(),
    ]);
    part.push(
        " ON CONFLICT (node, epoch) DO UPDATE SET version = excluded.version, \
         upto = excluded.upto, above = excluded.above \
         WHERE t.version = excluded.version - 1 RETURNING 1",
    );
    Ok(())
}
