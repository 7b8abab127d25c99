//! What a merchant saw against what the books say: every difference by its name.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::csv::{Cell, Table};
use super::{Record, Row, between};
use crate::decision::{Tier, Verdict};
use crate::request::Money;
use crate::timestamp::Timestamp;

/// How a row of an upload compares. An open enum, as [`Tier`] is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// We say the same, for good.
    Same,
    /// We told something else.
    Differs,
    /// We told the same, about another amount.
    AmountDiffers,
    /// The client had an answer of ours, and we have none with this id.
    UnknownHere,
    /// The client decided alone. What we have, if anything, is beside it.
    ClientAlone,
    /// We told the same, and core has yet to settle it.
    NotFinal,
    /// What a newer release calls so.
    #[serde(untagged)]
    Newer(String),
}

impl Difference {
    /// The word in JSON and in tables.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::AmountDiffers => "amount_differs",
            Self::UnknownHere => "unknown_here",
            Self::ClientAlone => "client_alone",
            Self::NotFinal => "not_final",
            Self::Newer(word) => word,
        }
    }
}

/// What one side says of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What it says was told, or decided.
    pub decision: Verdict,
    /// In minor units.
    pub amount: Option<u64>,
    /// Of the amount.
    pub currency: Option<String>,
    /// Who decided, as far as it says.
    pub decided_by: Option<Tier>,
    /// When, as far as it says.
    pub at: Option<Timestamp>,
    /// How it stands in the books; none on the client's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settlement: Option<String>,
    /// What core had decided before it learned what the client was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_first: Option<Verdict>,
}

/// One row that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub difference: Difference,
    /// Where in the upload.
    pub line: usize,
    /// The id of the request.
    pub id: String,
    /// What the client says.
    pub client: Side,
    /// What we have.
    pub books: Option<Side>,
    /// Of the money between.
    pub currency: Option<String>,
    /// Minor units between the two: above zero where the client goes by more than the books. None where
    /// the two are of different currencies.
    pub between: Option<i64>,
}

/// How many rows compare in one way, and the money between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// How they compare.
    pub difference: Difference,
    /// Of the money; none for those without.
    pub currency: Option<String>,
    /// How many.
    pub count: u64,
    /// In minor units.
    pub between: i64,
}

/// What `POST /v1/reconciliation` shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// How many were compared.
    pub rows: u64,
    /// By difference and currency.
    pub totals: Vec<Sum>,
    /// Every row but the same, in the order of the upload.
    pub findings: Vec<Finding>,
}

/// Compares an upload with the records of its ids. Of two records of one id the later counts, so what the
/// edge itself released and core has not settled goes behind what core says. What the upload does not
/// name is not looked for.
pub fn compare(rows: &[Row], records: impl IntoIterator<Item = Record>) -> Comparison {
    let records: HashMap<String, Record> =
        records.into_iter().map(|record| (record.id.clone(), record)).collect();
    let mut totals: BTreeMap<(Difference, Option<String>), (u64, i64)> = BTreeMap::new();
    let mut findings = Vec::new();
    for row in rows {
        let finding = Finding::of(row, records.get(&row.id));
        let key = (finding.difference.clone(), finding.currency.clone());
        let total = totals.entry(key).or_default();
        total.0 += 1;
        total.1 = total.1.saturating_add(finding.between.unwrap_or_default());
        if finding.difference != Difference::Same {
            findings.push(finding);
        }
    }
    let sum =
        |((difference, currency), (count, between))| Sum { difference, currency, count, between };
    let rows = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    Comparison { rows, totals: totals.into_iter().map(sum).collect(), findings }
}

impl Comparison {
    /// Whether somebody should look at it.
    pub fn is_off(&self) -> bool {
        self.findings.iter().any(Finding::is_off)
    }

    /// For machines.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and integers always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// For spreadsheets: first the totals, then the rows that are not the same; `row` says which.
    pub fn to_csv(&self) -> Vec<u8> {
        let mut table = Table::new(&COLUMNS);
        self.totals.iter().for_each(|sum| table.row(sum.cells()));
        for finding in &self.findings {
            let at = |side: &Side| side.at.map(|at| at.to_string());
            let (client, books) = (at(&finding.client), finding.books.as_ref().and_then(at));
            table.row(finding.cells(client.as_deref(), books.as_deref()));
        }
        table.into_bytes()
    }
}

impl Finding {
    fn of(row: &Row, record: Option<&Record>) -> Self {
        let (client, books) = (Side::of_row(row), record.map(Side::of_record));
        let (theirs, ours) = (row.money.clone(), record.and_then(Record::money));
        let is_same_verdict = record.is_some_and(|record| record.decision == row.decision);
        // A row without an amount has nothing to say of ours.
        let is_same_money = theirs.is_none() || theirs == ours;
        let difference = match record {
            _ if row.decided_by == Some(Tier::Client) => Difference::ClientAlone,
            None => Difference::UnknownHere,
            Some(_) if !is_same_verdict => Difference::Differs,
            Some(_) if !is_same_money => Difference::AmountDiffers,
            Some(record) if !record.is_final => Difference::NotFinal,
            Some(_) => Difference::Same,
        };
        let currency = theirs.as_ref().or(ours.as_ref()).map(|money| money.currency.clone());
        let between = money_between((row.decision, theirs), (record.map(|it| it.decision), ours));
        Self { difference, line: row.line, id: row.id.clone(), client, books, currency, between }
    }

    /// Whether somebody should look at it: everything but a client that decided alone as we did.
    pub fn is_off(&self) -> bool {
        let is_as_ours = self.books.as_ref().is_some_and(|books| {
            let is_same_money = self.client.amount.is_none()
                || (self.client.amount, &self.client.currency) == (books.amount, &books.currency);
            books.decision == self.client.decision && is_same_money
        });
        match self.difference {
            Difference::Same => false,
            Difference::ClientAlone => !is_as_ours,
            _ => true,
        }
    }
}

/// By how much the client goes beyond the books; none where that is apples and pears.
fn money_between(
    (client, theirs): (Verdict, Option<Money>),
    (books, ours): (Option<Verdict>, Option<Money>),
) -> Option<i64> {
    let (theirs, ours) = match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs.currency != ours.currency => return None,
        // Where one side says no amount, it goes by the other's.
        (None, known) | (known, None) => (known.clone(), known),
        (theirs, ours) => (theirs, ours),
    };
    // What each side has approved, on top of nothing.
    let approved = |verdict, money: Option<Money>| between(verdict, None, money.as_ref());
    let ours = books.map_or(0, |books| approved(books, ours));
    Some(approved(client, theirs).saturating_sub(ours))
}

impl Side {
    fn of_row(row: &Row) -> Self {
        Self {
            decision: row.decision,
            amount: row.money.as_ref().map(|money| money.amount),
            currency: row.money.as_ref().map(|money| money.currency.clone()),
            decided_by: row.decided_by.clone(),
            at: row.at,
            settlement: None,
            decided_first: None,
        }
    }

    fn of_record(record: &Record) -> Self {
        Self {
            decision: record.decision,
            amount: record.amount,
            currency: record.currency.clone(),
            decided_by: Some(record.decided_by.clone()),
            at: Some(record.decided_at),
            settlement: Some(record.settlement.clone()),
            decided_first: record.decided_first,
        }
    }
}

const COLUMNS: [&str; 18] = [
    "row",
    "difference",
    "count",
    "between",
    "currency",
    "line",
    "id",
    "client_decision",
    "client_amount",
    "client_currency",
    "client_decided_by",
    "client_at",
    "books_decision",
    "books_amount",
    "books_currency",
    "books_decided_by",
    "books_at",
    "books_settlement",
];

impl Sum {
    fn cells(&self) -> [Cell<'_>; 5] {
        [
            Cell::Text("total"),
            Cell::Text(self.difference.as_str()),
            Cell::Whole(self.count.into()),
            Cell::whole(self.currency.as_ref().map(|_money| self.between)),
            Cell::text(self.currency.as_deref()),
        ]
    }
}

impl Finding {
    fn cells<'a>(
        &'a self,
        client_at: Option<&'a str>,
        books_at: Option<&'a str>,
    ) -> [Cell<'a>; COLUMNS.len()] {
        let (client, books) = (&self.client, self.books.as_ref());
        let line = i128::try_from(self.line).unwrap_or_default();
        [
            Cell::Text("line"),
            Cell::Text(self.difference.as_str()),
            Cell::Whole(1),
            Cell::whole(self.between),
            Cell::text(self.currency.as_deref()),
            Cell::Whole(line),
            Cell::Text(&self.id),
            Cell::Text(client.decision.as_str()),
            Cell::whole(client.amount),
            Cell::text(client.currency.as_deref()),
            Cell::text(client.decided_by.as_ref().map(Tier::as_str)),
            Cell::text(client_at),
            Cell::text(books.map(|books| books.decision.as_str())),
            Cell::whole(books.and_then(|books| books.amount)),
            Cell::text(books.and_then(|books| books.currency.as_deref())),
            Cell::text(books.and_then(|books| books.decided_by.as_ref()).map(Tier::as_str)),
            Cell::text(books_at),
            Cell::text(books.and_then(|books| books.settlement.as_deref())),
        ]
    }
}

#[cfg(test)]
mod tests;
