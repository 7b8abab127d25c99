//! What the settlement of advices leaves in the books, beside what decisions do.

use backstop_contract::request::Money;
use backstop_contract::{Decision, Outcome, Standing, Timestamp};
use backstop_engine::Arrivals;
use serde::{Deserialize, Serialize};

use super::{Decided, DecisionKey};

/// A decision that exists, as it is now, to put where it is still as it was loaded.
#[derive(Clone, Copy, Debug)]
pub struct PutDecision<'a> {
    pub key: &'a DecisionKey,
    pub decided: &'a Decided,
    pub was: Was<'a>,
}

/// What of a decision another writer may have changed since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Was<'a> {
    pub standing: Standing,
    pub cancelled_by: Option<&'a str>,
    pub fraud: Option<bool>,
}

/// An advice by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdviceKey {
    pub node: String,
    pub epoch: u64,
    pub number: u64,
}

/// Where the books and what a client was told did not agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Discrepancy {
    pub key: DecisionKey,
    pub advice: AdviceKey,
    /// What became of the advice.
    pub kind: Outcome,
    pub answers: Answers,
    /// Of the request.
    pub money: Option<Money>,
    /// The money between the two answers, in minor units.
    pub between: i64,
    /// What could not be moved, or why it was refused; or empty.
    pub why: String,
    /// When the client was told.
    pub at: Timestamp,
}

/// Two answers to one id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// What the client was told.
    pub told: Decision,
    /// What the books said, if anything.
    pub booked: Option<Decision>,
}

/// The advices of a node since it started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceKey {
    pub node: String,
    pub epoch: u64,
}

/// Arrivals to put where `was` is the version that was loaded, as [`super::Put`] has it.
#[derive(Clone, Copy, Debug)]
pub struct PutArrivals<'a> {
    pub key: &'a SequenceKey,
    pub arrivals: &'a Arrivals,
    pub was: i64,
}
