//! Fidelity: how often a fallback says what core says, on requests that core decided.
//!
//! Fallback code that only runs in a disaster is broken when the disaster comes. So every tier puts a
//! share of those requests to its own fallback as well, and this is what is counted of it: by policy,
//! merchant and amount, in requests and in money.

mod band;
mod scores;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ask::Question;
use crate::decision::{Tier, Verdict};
use crate::fingerprint::RequestHash;

pub use band::Band;
pub use scores::Scores;

/// What cells past the most of them are counted under, for their merchant.
pub const OTHERS: &str = "others";
const MILLION: u64 = 1_000_000;

/// How it is measured. Every field has a setting of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Of a million requests that core decided, so many are put to the fallback as well.
    pub share_ppm: u64,
    /// How far back they count.
    pub window: Duration,
    /// Requests that wait to be put to it.
    pub queue_max: usize,
    /// Cells that are told apart.
    pub cells_max: usize,
}

impl Terms {
    /// Whether this request belongs to the share: at every tier the same ones, so that what the tiers
    /// measure can be compared.
    pub fn sample(&self, hash: &RequestHash) -> bool {
        let [first, second, third, fourth, ..] = *hash.as_bytes();
        let place = u64::from(u32::from_be_bytes([first, second, third, fourth]));
        (place * MILLION) >> 32 < self.share_ppm
    }
}

/// What a fallback said, next to core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// The same.
    Agree,
    /// It approves what core does not.
    FalseApprove,
    /// It does not approve what core does.
    FalseDecline,
    /// Neither approves: one declines, the other leaves it to people.
    Otherwise,
}

impl Agreement {
    /// What the fallback's verdict is next to core's.
    pub fn of(fallback: Verdict, core: Verdict) -> Self {
        match (fallback, core) {
            _ if fallback == core => Self::Agree,
            (Verdict::Approve, _) => Self::FalseApprove,
            (_, Verdict::Approve) => Self::FalseDecline,
            _ => Self::Otherwise,
        }
    }

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agree => "agree",
            Self::FalseApprove => "false_approve",
            Self::FalseDecline => "false_decline",
            Self::Otherwise => "otherwise",
        }
    }
}

/// Requests, and the money in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Requests.
    pub count: u64,
    /// Minor units of one currency.
    pub amount: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.amount = self.amount.saturating_add(other.amount);
    }

    /// The share of `whole`, in requests and in money; nothing of nothing is 0.
    pub fn share_of(self, whole: Self) -> (f64, f64) {
        let share = |part, whole| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        (share(self.count, whole.count), share(self.amount, whole.amount))
    }
}

/// How requests of one kind came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Core and the fallback say the same.
    pub agree: Sum,
    /// The fallback approves what core does not.
    pub false_approve: Sum,
    /// The fallback does not approve what core does.
    pub false_decline: Sum,
    /// One declines, the other leaves it to people.
    pub otherwise: Sum,
}

impl Counts {
    /// Counts one request.
    pub fn count(&mut self, agreement: Agreement, amount: u64) {
        let sum = match agreement {
            Agreement::Agree => &mut self.agree,
            Agreement::FalseApprove => &mut self.false_approve,
            Agreement::FalseDecline => &mut self.false_decline,
            Agreement::Otherwise => &mut self.otherwise,
        };
        sum.add(Sum { count: 1, amount });
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.agree.add(other.agree);
        self.false_approve.add(other.false_approve);
        self.false_decline.add(other.false_decline);
        self.otherwise.add(other.otherwise);
    }

    /// All that were compared.
    pub fn compared(&self) -> Sum {
        let mut all = self.agree;
        for sum in [self.false_approve, self.false_decline, self.otherwise] {
            all.add(sum);
        }
        all
    }
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// The policy that decided.
    pub policy: String,
    /// Whose they are.
    pub merchant: String,
    /// What their amounts are amounts of; empty where they have none.
    pub currency: String,
    /// How much it was about.
    pub band: Band,
}

impl Cell {
    /// The cell of a request.
    pub fn of(question: &Question) -> Self {
        let money = question.request.money.as_ref();
        Self {
            policy: question.request.policy.clone(),
            merchant: question.merchant.clone(),
            currency: money.map(|money| money.currency.clone()).unwrap_or_default(),
            band: Band::of(money),
        }
    }

    /// The cell of those of its policy that are told apart no more. Their currencies differ, so their
    /// money is not added up.
    fn others(self) -> Self {
        let (merchant, currency) = (OTHERS.to_owned(), String::new());
        Self { merchant, currency, band: Band::Any, policy: self.policy }
    }
}

/// Counts by cell, at most so many; what comes after them counts with the others of its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cells {
    cells: BTreeMap<Cell, Counts>,
    max: usize,
}

impl Cells {
    /// None yet, at most `max`, and one more for each policy.
    pub const fn new(max: usize) -> Self {
        Self { cells: BTreeMap::new(), max }
    }

    /// Counts one request.
    pub fn count(&mut self, question: &Question, agreement: Agreement) {
        let amount = question.request.money.as_ref().map_or(0, |money| money.amount);
        let mut one = Counts::default();
        one.count(agreement, amount);
        self.add(Cell::of(question), one);
    }

    /// Adds what was counted elsewhere.
    fn add(&mut self, mut cell: Cell, mut counts: Counts) {
        if self.cells.len() >= self.max && !self.cells.contains_key(&cell) {
            cell = cell.others();
            for sum in [
                &mut counts.agree,
                &mut counts.false_approve,
                &mut counts.false_decline,
                &mut counts.otherwise,
            ] {
                sum.amount = 0;
            }
        }
        self.cells.entry(cell).or_default().add(&counts);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Cell, &Counts)> {
        self.cells.iter()
    }
}

/// The same by policy and currency alone, since only what is of one currency adds up.
pub fn by_policy<'a>(
    cells: impl Iterator<Item = (&'a Cell, &'a Counts)>,
) -> BTreeMap<(&'a str, &'a str), Counts> {
    let mut policies: BTreeMap<_, Counts> = BTreeMap::new();
    for (cell, counts) in cells {
        let of = (cell.policy.as_str(), cell.currency.as_str());
        policies.entry(of).or_default().add(counts);
    }
    policies
}

/// What one tier measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Whose fallback.
    pub tier: Tier,
    /// Over so many seconds.
    pub window_s: u64,
    /// Of a million requests that core decided, so many were put to it.
    pub share_ppm: u64,
    /// Requests since its start that were to be, and were not: too many waited.
    pub dropped: u64,
    /// Cell by cell.
    pub lines: Vec<Line>,
}

/// One cell of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Which requests.
    #[serde(flatten)]
    pub cell: Cell,
    /// How they came out.
    #[serde(flatten)]
    pub counts: Counts,
}

#[cfg(test)]
mod tests;
