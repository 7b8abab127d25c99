//! What a merchant was told in a span of time, and what became of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::csv::{Cell, Table};
use super::record::verdict_or_none;
use super::{Record, Span, between};
use crate::decision::{Cause, Decision, Tier, Verdict};
use crate::request::Money;
use crate::timestamp::Timestamp;
use crate::wire::{self, Incomplete};

/// The most lines of one statement; its totals count all there are.
pub const LINES_MAX: usize = 10_000;

/// What became of an answer. An open enum, as [`Tier`] is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Core decided, and that is what the client was told.
    Agreed,
    /// Another tier stood in, and core had decided the same.
    Confirmed,
    /// Another tier stood in, and core heard of the request by its advice.
    AppliedLate,
    /// Core had decided otherwise; the books were corrected to what the client was told.
    Corrected,
    /// Clients were told two things. Both are on record.
    Conflict,
    /// Core can not accept what the client was told.
    Refused,
    /// The client was told, and core has yet to hear of it.
    NeverArrived,
    /// What a newer release calls so.
    #[serde(untagged)]
    Newer(String),
}

impl Kind {
    /// The word on the wire and in tables.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Agreed => "agreed",
            Self::Confirmed => "confirmed",
            Self::AppliedLate => "applied_late",
            Self::Corrected => "corrected",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::NeverArrived => "never_arrived",
            Self::Newer(word) => word,
        }
    }

    /// Whether somebody should look at what is counted so.
    pub const fn is_off(&self) -> bool {
        !matches!(self, Self::Agreed | Self::Confirmed | Self::AppliedLate)
    }
}

impl From<String> for Kind {
    fn from(word: String) -> Self {
        let all = [
            Self::Agreed,
            Self::Confirmed,
            Self::AppliedLate,
            Self::Corrected,
            Self::Conflict,
            Self::Refused,
            Self::NeverArrived,
        ];
        all.into_iter().find(|kind| kind.as_str() == word).unwrap_or(Self::Newer(word))
    }
}

/// How many answers of one kind there are, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// What became of them.
    pub kind: Kind,
    /// Of the amount; none for those without money.
    pub currency: Option<String>,
    /// How many.
    pub count: u64,
    /// In minor units.
    pub amount: u64,
}

/// One answer, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What became of it.
    pub kind: Kind,
    /// The id of its request.
    pub id: String,
    /// What the client was told.
    pub told: Verdict,
    /// Who told it so.
    pub decided_by: Tier,
    /// Why that tier stood in.
    pub cause: Option<Cause>,
    /// What the books had said first, where that is something else or all they say.
    pub decided_first: Option<Verdict>,
    /// In minor units.
    pub amount: Option<u64>,
    /// Of the amount.
    pub currency: Option<String>,
    /// Minor units between the two: above zero where the client was told approve against the books.
    pub between: i64,
    /// When it was decided.
    pub at: Timestamp,
    /// What could not be moved, or why it was refused; else empty.
    pub why: String,
}

impl Line {
    /// An answer that core has yet to hear of; with a `why`, one that core refused and that was set aside.
    pub fn unsettled(answer: &Decision, money: Option<&Money>, why: impl Into<String>) -> Self {
        let why = why.into();
        Self {
            kind: if why.is_empty() { Kind::NeverArrived } else { Kind::Refused },
            id: answer.id.clone(),
            told: answer.decision,
            decided_by: answer.decided_by.clone(),
            cause: answer.cause.clone(),
            decided_first: None,
            amount: money.map(|money| money.amount),
            currency: money.map(|money| money.currency.clone()),
            between: between(answer.decision, None, money),
            at: answer.decided_at,
            why,
        }
    }
}

/// Advices that a node numbered and core never saw. Nobody knows whose they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The node.
    pub node: String,
    /// Of the node.
    pub epoch: u64,
    /// The first that is missing.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What `GET /v1/reconciliation` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Whose.
    pub merchant: String,
    /// From this moment on.
    pub from: Timestamp,
    /// Up to, and without, this one.
    pub to: Timestamp,
    /// By kind and currency.
    pub totals: Vec<Total>,
    /// Everything but what was agreed, oldest first; at most [`LINES_MAX`].
    pub lines: Vec<Line>,
    /// There are more lines than these.
    pub truncated: bool,
    /// Of all merchants.
    pub gaps: Vec<Gap>,
}

impl Statement {
    /// Of what core says.
    pub fn new(
        merchant: String,
        span: Span,
        reply: wire::StatementReply,
    ) -> Result<Self, Incomplete> {
        let lines: Result<Vec<Line>, _> = reply.lines.into_iter().map(Line::try_from).collect();
        Ok(Self {
            merchant,
            from: span.from(),
            to: span.to(),
            totals: reply.totals.into_iter().map(Total::from).collect(),
            lines: lines?,
            truncated: reply.truncated,
            gaps: reply.gaps.into_iter().map(Gap::from).collect(),
        })
    }

    /// Adds what only the edge knows: answers that are not settled. `records` are what core said of
    /// their ids after it made this statement: one that has arrived meanwhile is left to core, and one
    /// that core decided by itself is no longer counted as agreed.
    pub fn add(&mut self, unsettled: Vec<Line>, records: &[Record]) {
        let told: HashSet<String> = self.lines.iter().map(|line| line.id.clone()).collect();
        let records: HashMap<&str, &Record> =
            records.iter().map(|record| (record.id.as_str(), record)).collect();
        let mut totals = Totals::of(std::mem::take(&mut self.totals));
        for mut line in unsettled {
            let record = records.get(line.id.as_str());
            if told.contains(&line.id) || record.is_some_and(|record| record.is_settled()) {
                continue;
            }
            if let Some(record) = record {
                line.decided_first = Some(record.decision);
                line.between = between(line.told, line.decided_first, record.money().as_ref());
                if self.from <= record.decided_at && record.decided_at < self.to {
                    totals.take(&Kind::Agreed, record.currency.as_ref(), record.amount);
                }
            }
            totals.put(&line);
            self.lines.push(line);
        }
        self.totals = totals.into_sorted();
        self.lines.sort_by_key(|line| line.at);
        self.truncated |= self.lines.len() > LINES_MAX;
        self.lines.truncate(LINES_MAX);
    }

    /// Whether somebody should look at it.
    pub fn is_off(&self) -> bool {
        let is_unmoved = |line: &Line| !line.why.is_empty();
        !self.gaps.is_empty()
            || self.totals.iter().any(|total| total.count > 0 && total.kind.is_off())
            || self.lines.iter().any(is_unmoved)
    }

    /// For machines.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and integers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// For spreadsheets: first the totals, then the lines, then the gaps; `row` says which.
    pub fn to_csv(&self) -> Vec<u8> {
        let mut table = Table::new(&COLUMNS);
        self.totals.iter().for_each(|total| table.row(total.cells()));
        self.lines.iter().for_each(|line| table.row(line.cells(&line.at.to_string())));
        let mut note = |row, count, why: &str| {
            let why = Cell::Text(why);
            table.row([Cell::Text(row), Cell::None, count, Cell::None, Cell::None, why]);
        };
        if self.truncated {
            note("truncated", Cell::None, "there are more lines; ask for a shorter span");
        }
        for Gap { node, epoch, first, last } in &self.gaps {
            let count = i128::from(*last) - i128::from(*first) + 1;
            let why = format!("advices {first} to {last} of epoch {epoch} of node {node}");
            note("gap", Cell::Whole(count), &why);
        }
        table.into_bytes()
    }
}

const COLUMNS: [&str; 13] = [
    "row",
    "kind",
    "count",
    "amount",
    "currency",
    "why",
    "between",
    "id",
    "told",
    "decided_by",
    "cause",
    "decided_first",
    "at",
];

impl Total {
    fn cells(&self) -> [Cell<'_>; 5] {
        [
            Cell::Text("total"),
            Cell::Text(self.kind.as_str()),
            Cell::Whole(self.count.into()),
            Cell::whole(self.currency.as_ref().map(|_money| self.amount)),
            Cell::text(self.currency.as_deref()),
        ]
    }
}

impl Line {
    fn cells<'a>(&'a self, at: &'a str) -> [Cell<'a>; COLUMNS.len()] {
        [
            Cell::Text("line"),
            Cell::Text(self.kind.as_str()),
            Cell::Whole(1),
            Cell::whole(self.amount),
            Cell::text(self.currency.as_deref()),
            Cell::Text(&self.why),
            Cell::Whole(self.between.into()),
            Cell::Text(&self.id),
            Cell::Text(self.told.as_str()),
            Cell::Text(self.decided_by.as_str()),
            Cell::text(self.cause.as_ref().map(Cause::as_str)),
            Cell::text(self.decided_first.map(Verdict::as_str)),
            Cell::Text(at),
        ]
    }
}

/// Totals by kind and currency, in that order.
struct Totals(BTreeMap<(Kind, Option<String>), (u64, u64)>);

impl Totals {
    fn of(totals: Vec<Total>) -> Self {
        let key = |total: Total| ((total.kind, total.currency), (total.count, total.amount));
        Self(totals.into_iter().map(key).collect())
    }

    fn put(&mut self, line: &Line) {
        let total = self.0.entry((line.kind.clone(), line.currency.clone())).or_default();
        total.0 = total.0.saturating_add(1);
        total.1 = total.1.saturating_add(line.amount.unwrap_or_default());
    }

    fn take(&mut self, kind: &Kind, currency: Option<&String>, amount: Option<u64>) {
        if let Some(total) = self.0.get_mut(&(kind.clone(), currency.cloned())) {
            total.0 = total.0.saturating_sub(1);
            total.1 = total.1.saturating_sub(amount.unwrap_or_default());
        }
    }

    fn into_sorted(self) -> Vec<Total> {
        let total = |((kind, currency), (count, amount))| Total { kind, currency, count, amount };
        self.0.into_iter().map(total).collect()
    }
}

impl From<wire::StatementTotal> for Total {
    fn from(total: wire::StatementTotal) -> Self {
        let wire::StatementTotal { kind, currency, count, amount } = total;
        let currency = Some(currency).filter(|code| !code.is_empty());
        Self { kind: kind.into(), currency, count, amount }
    }
}

impl From<wire::Gap> for Gap {
    fn from(gap: wire::Gap) -> Self {
        Self { node: gap.node, epoch: gap.epoch, first: gap.first, last: gap.last }
    }
}

impl TryFrom<wire::StatementLine> for Line {
    type Error = Incomplete;

    fn try_from(line: wire::StatementLine) -> Result<Self, Incomplete> {
        let (amount, currency) = line.money.map(|money| (money.amount, money.currency)).unzip();
        Ok(Self {
            kind: line.kind.into(),
            id: line.id,
            told: Verdict::parse(&line.told).ok_or(Incomplete("told"))?,
            decided_by: line.decided_by.into(),
            cause: Some(line.cause).filter(|word| !word.is_empty()).map(Cause::from),
            decided_first: verdict_or_none(&line.decided_first)?,
            amount,
            currency,
            between: line.between,
            at: Timestamp::from_millis(line.decided_at),
            why: line.why,
        })
    }
}

#[cfg(test)]
mod tests;
