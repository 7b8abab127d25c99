//! What becomes of an advice, by what is known of its key: a table, and nothing is stored here.
//!
//! The answer that a client was given wins over what core decided; between two answers that clients were
//! given, the first that arrived stands and the other is put on record. Asked again, each says the same.

use backstop_contract::{Outcome, RequestHash, Standing, Verdict};

/// What the books hold under the key of an advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// How the decision came to stand there.
    pub standing: Standing,
    /// The answer: what a client was told, once a node has said so.
    pub verdict: Verdict,
    /// The node that said so first.
    pub released_by: Option<&'a str>,
    /// What core had decided before it heard of that.
    pub decided_first: Option<Verdict>,
}

/// What a node says that it released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advised<'a> {
    /// As in [`Known`].
    pub hash: RequestHash,
    /// What the client was told.
    pub verdict: Verdict,
    /// Who told it.
    pub node: &'a str,
}

/// What has to be done for an advice, all of it in one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put the answer in the books, with what it moves.
    Apply,
    /// Replace core's answer by the same one, as the client has it. Nothing moves.
    Confirm,
    /// Undo what core's answer moved, replace it, and move what the client's answer moves.
    Correct,
    /// Nothing: it has been done.
    Repeat(Standing),
    /// Put it on record beside the one that stands.
    Clash,
    /// Put it on record: it answers another request.
    Refuse,
}

impl Step {
    /// What the node is told.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Apply | Self::Repeat(Standing::Applied) => Outcome::Applied,
            Self::Confirm | Self::Repeat(Standing::Match | Standing::Decided) => Outcome::Match,
            Self::Correct | Self::Repeat(Standing::Overridden) => Outcome::Overridden,
            Self::Clash | Self::Repeat(Standing::Conflict) => Outcome::Conflict,
            Self::Refuse => Outcome::Refused,
        }
    }
}

/// What has to be done for an advice. `known`: what is in the books under its key, if anything.
pub fn step(known: Option<Known<'_>>, advised: Advised<'_>) -> Step {
    let Some(known) = known else { return Step::Apply };
    if known.hash != advised.hash {
        return Step::Refuse;
    }
    let agrees = known.verdict == advised.verdict;
    match (known.standing.is_released(), agrees) {
        (false, true) => Step::Confirm,
        (false, false) => Step::Correct,
        (true, false) => Step::Clash,
        (true, true) if known.released_by == Some(advised.node) => Step::Repeat(known.settled_as()),
        // Another node told its client the same: what it says is true already.
        (true, true) => Step::Repeat(Standing::Match),
    }
}

impl Known<'_> {
    /// How the first advice was settled, which a conflict since then hides.
    fn settled_as(self) -> Standing {
        match (self.standing, self.decided_first) {
            (Standing::Conflict, None) => Standing::Applied,
            (Standing::Conflict, Some(first)) if first == self.verdict => Standing::Match,
            (Standing::Conflict, Some(_)) => Standing::Overridden,
            (standing, _) => standing,
        }
    }
}

/// The money between what a client was told and what the books say without that, in minor units: above
/// zero where only the client saw an approval, below where only the books did.
pub fn between(told: Verdict, booked: Verdict, amount: u64) -> i64 {
    let approved = |verdict| i64::from(verdict == Verdict::Approve);
    let amount = i64::try_from(amount).unwrap_or(i64::MAX);
    amount.saturating_mul(approved(told) - approved(booked))
}

#[cfg(test)]
mod tests;
