//! What a merchant was told in a span of time, and what became of it: put together from rows that both
//! databases give alike.

use std::collections::BTreeMap;

use backstop_contract::wire::{Gap, Money, StatementLine, StatementReply, StatementTotal};
use backstop_contract::{Decision, Standing, Timestamp};
use backstop_engine::arrivals::Run;

use super::rows::{arrivals, read, standing};
use super::settled::Answers;
use crate::error::CoreError;

/// The most lines of one statement.
pub const LINES_MAX: usize = 10_000;
/// The most gaps of one statement.
pub const GAPS_MAX: i64 = 1_000;
/// What an advice that was refused is counted as.
const REFUSED: &str = "refused";
/// Sums are read in halves of so many bits, so that no database's 64 bits overflow.
const LOW_BITS: u32 = 32;

/// Merchant, from, to.
pub const SELECT_TOTALS: &str = "\
    SELECT standing, currency, count(*) AS count, CAST(sum(amount >> 32) AS bigint) AS high, \
    CAST(sum(amount & 4294967295) AS bigint) AS low FROM decisions \
    WHERE merchant = $1 AND decided_at >= $2 AND decided_at < $3 GROUP BY standing, currency \
    UNION ALL \
    SELECT kind, currency, count(*), CAST(sum(amount >> 32) AS bigint), \
    CAST(sum(amount & 4294967295) AS bigint) FROM discrepancies \
    WHERE merchant = $1 AND at >= $2 AND at < $3 AND kind = 'refused' GROUP BY kind, currency";
/// Merchant, from, to, how many.
pub const SELECT_LINES: &str = "\
    SELECT d.id, d.standing, d.amount, d.currency, d.decision, d.decided_by, d.cause, \
    d.first_answer, d.decided_at, x.kind, x.money_between, x.why \
    FROM decisions AS d LEFT JOIN discrepancies AS x \
    ON x.merchant = d.merchant AND x.id = d.id AND x.kind <> 'refused' \
    WHERE d.merchant = $1 AND d.decided_at >= $2 AND d.decided_at < $3 AND d.standing IS NOT NULL \
    ORDER BY d.decided_at, d.id, x.at, x.node, x.epoch, x.number LIMIT $4";
/// Merchant, from, to, how many.
pub const SELECT_REFUSED: &str = "\
    SELECT id, answers, amount, currency, money_between, why, at FROM discrepancies \
    WHERE merchant = $1 AND at >= $2 AND at < $3 AND kind = 'refused' ORDER BY at, id LIMIT $4";
/// How many.
pub const SELECT_SEQUENCES: &str = "\
    SELECT node, epoch, upto, above FROM advice_sequences WHERE above <> '[]' \
    ORDER BY node, epoch LIMIT $1";

/// Which statement is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub merchant: String,
    /// By when it was decided, as the client was told.
    pub from: Timestamp,
    /// Not included.
    pub to: Timestamp,
    /// Of everything but what was agreed; at most [`LINES_MAX`].
    pub lines_max: usize,
}

impl Span {
    /// One more than may be told, so that the last is seen to be missing.
    pub fn rows_max(&self) -> i64 {
        i64::try_from(std::cmp::min(self.lines_max, LINES_MAX) + 1).unwrap_or(i64::MAX)
    }
}

/// How many decisions stand so, and what they come to. `standing`: as in the column, or [`REFUSED`].
#[derive(sqlx::FromRow)]
pub struct TotalRow {
    standing: Option<String>,
    currency: Option<String>,
    count: i64,
    high: Option<i64>,
    low: Option<i64>,
}

impl TotalRow {
    fn parse(self) -> Result<StatementTotal, CoreError> {
        let half = |sum: Option<i64>| u128::from(sum.unwrap_or_default().cast_unsigned());
        let amount = (half(self.high) << LOW_BITS) + half(self.low);
        Ok(StatementTotal {
            kind: kind(self.standing.as_deref())?.to_owned(),
            currency: self.currency.unwrap_or_default(),
            count: self.count.cast_unsigned(),
            amount: u64::try_from(amount).unwrap_or(u64::MAX),
        })
    }
}

/// A decision that was not simply agreed, beside one of its discrepancies, if there are any.
#[derive(sqlx::FromRow)]
pub struct LineRow {
    pub(super) id: String,
    standing: Option<String>,
    amount: Option<i64>,
    currency: Option<String>,
    decision: String,
    decided_by: String,
    cause: Option<String>,
    first_answer: Option<String>,
    decided_at: i64,
    kind: Option<String>,
    money_between: Option<i64>,
    pub(super) why: Option<String>,
}

impl LineRow {
    fn parse(self) -> Result<StatementLine, CoreError> {
        let first: Option<Decision> =
            self.first_answer.map(|json| read(&json, "first_answer")).transpose()?;
        let is_of_the_standing = self.kind == self.standing;
        Ok(StatementLine {
            kind: kind(self.standing.as_deref())?.to_owned(),
            id: self.id,
            money: money(self.amount, self.currency),
            told: self.decision,
            decided_by: self.decided_by,
            cause: self.cause.unwrap_or_default(),
            decided_first: first.map_or_else(String::new, |it| it.decision.as_str().to_owned()),
            between: self.money_between.filter(|_| is_of_the_standing).unwrap_or_default(),
            why: self.why.unwrap_or_default(),
            decided_at: self.decided_at,
        })
    }
}

/// An advice that was refused.
#[derive(sqlx::FromRow)]
pub struct RefusedRow {
    pub(super) id: String,
    answers: String,
    amount: Option<i64>,
    currency: Option<String>,
    money_between: i64,
    pub(super) why: String,
    at: i64,
}

impl RefusedRow {
    fn parse(self) -> Result<StatementLine, CoreError> {
        let Answers { told, booked } = read(&self.answers, "answers")?;
        Ok(StatementLine {
            kind: REFUSED.to_owned(),
            id: self.id,
            money: money(self.amount, self.currency),
            told: told.decision.as_str().to_owned(),
            decided_by: told.decided_by.as_str().to_owned(),
            cause: told.cause.map_or_else(String::new, |cause| cause.as_str().to_owned()),
            decided_first: booked.map_or_else(String::new, |it| it.decision.as_str().to_owned()),
            between: self.money_between,
            why: self.why,
            decided_at: self.at,
        })
    }
}

/// The advices of one epoch, where some are missing.
#[derive(sqlx::FromRow)]
pub struct SequenceRow {
    node: String,
    epoch: i64,
    upto: i64,
    above: String,
}

impl SequenceRow {
    fn gaps(self) -> Result<Vec<Gap>, CoreError> {
        let gaps = arrivals(self.upto, &self.above)?;
        let (node, epoch) = (self.node, self.epoch.cast_unsigned());
        let gap = |Run(first, last)| Gap { node: node.clone(), epoch, first, last };
        Ok(gaps.gaps().map(gap).collect())
    }
}

/// All that a statement is put together from. Lines and refused ones oldest first, with one more of
/// each than may be told.
#[derive(Default)]
pub struct Rows {
    pub totals: Vec<TotalRow>,
    pub lines: Vec<LineRow>,
    pub refused: Vec<RefusedRow>,
    pub sequences: Vec<SequenceRow>,
}

impl Rows {
    /// The statement.
    pub fn parse(self, span: &Span) -> Result<StatementReply, CoreError> {
        let lines_max = std::cmp::min(span.lines_max, LINES_MAX);
        let mut truncated = self.lines.len() > lines_max || self.refused.len() > lines_max;
        let decided = self.lines.into_iter().map(LineRow::parse).collect::<Result<Vec<_>, _>>()?;
        let refused = self.refused.into_iter().map(RefusedRow::parse);
        let mut lines = one_line_each(decided);
        lines.extend(refused.collect::<Result<Vec<_>, _>>()?);
        lines.sort_by(|a, b| (a.decided_at, &a.id).cmp(&(b.decided_at, &b.id)));
        truncated |= lines.len() > lines_max;
        lines.truncate(lines_max);
        let totals = self.totals.into_iter().map(TotalRow::parse).collect::<Result<Vec<_>, _>>()?;
        let mut gaps = Vec::new();
        for row in self.sequences {
            gaps.extend(row.gaps()?);
        }
        gaps.truncate(usize::try_from(GAPS_MAX).unwrap_or(usize::MAX));
        Ok(StatementReply { totals: added_up(totals), lines, truncated, gaps })
    }
}

/// A decision has a row for each of its discrepancies, one after another.
fn one_line_each(rows: Vec<StatementLine>) -> Vec<StatementLine> {
    let mut lines: Vec<StatementLine> = Vec::with_capacity(rows.len());
    for row in rows {
        match lines.last_mut() {
            Some(line) if line.id == row.id => {
                if row.between != 0 {
                    line.between = row.between;
                }
                if !line.why.is_empty() && !row.why.is_empty() {
                    line.why.push_str("; ");
                }
                line.why.push_str(&row.why);
            }
            _ => lines.push(row),
        }
    }
    lines
}

/// One total for each kind and currency, in their order.
fn added_up(totals: Vec<StatementTotal>) -> Vec<StatementTotal> {
    let mut sums: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for StatementTotal { kind, currency, count, amount } in totals {
        let sum = sums.entry((kind, currency)).or_default();
        *sum = (sum.0.saturating_add(count), sum.1.saturating_add(amount));
    }
    let total =
        |((kind, currency), (count, amount))| StatementTotal { kind, currency, count, amount };
    sums.into_iter().map(total).collect()
}

fn money(amount: Option<i64>, currency: Option<String>) -> Option<Money> {
    Some(Money { amount: amount?.cast_unsigned(), currency: currency? })
}

/// What a statement calls it.
fn kind(word: Option<&str>) -> Result<&'static str, CoreError> {
    if word == Some(REFUSED) {
        return Ok(REFUSED);
    }
    Ok(match standing(word)? {
        Standing::Decided => "agreed",
        Standing::Match => "confirmed",
        Standing::Applied => "applied_late",
        Standing::Overridden => "corrected",
        Standing::Conflict => "conflict",
    })
}
