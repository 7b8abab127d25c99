//! What comes of a call, in words that no longer know of Lua.

use std::collections::BTreeMap;

use backstop_contract::Verdict;

use crate::breach::Breach;
use crate::shape::Shape;

/// The reason given when a policy that is strict would have approved in core's place.
pub const STRICT: &str = "strict";
/// The reason given with a safe answer.
pub const SAFE: &str = "safe_answer";
/// The reason given when stand-ins have approved as much as they may.
pub const CAPPED: &str = "stand_in_cap";
/// The reason given by an edge that has no default for the policy.
pub const NO_DEFAULT: &str = "no_default";

/// An answer. There always is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// Whether the transaction may go through.
    pub verdict: Verdict,
    /// Why, in the rule's own words.
    pub reasons: Vec<String>,
    /// The rule's score; its scale is the rule's own.
    pub score: i64,
    /// What the rule did wrong; the verdict is then the safe one.
    pub breach: Option<Breach>,
}

/// What a policy wants to know before it decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The key of each history, by the name that the policy reads it under.
    pub history: BTreeMap<String, String>,
    /// Whom the request is with, for the histories that count their counterparties, by the same name.
    pub counterparties: BTreeMap<String, String>,
    /// The stock it wants to see.
    pub stock: Vec<String>,
}

impl Ruling {
    /// What the rule said, or the safe answer of its file.
    pub(crate) fn of(said: Result<Self, Breach>, shape: &Shape) -> Self {
        said.unwrap_or_else(|breach| Self {
            breach: Some(breach),
            ..Self::without_rule(shape.safe, SAFE)
        })
    }

    /// An answer that no rule gave.
    pub(crate) fn without_rule(verdict: Verdict, reason: &str) -> Self {
        Self { verdict, reasons: vec![reason.to_owned()], score: 0, breach: None }
    }

    /// The safe answer of a file, when no stand-in may approve any more.
    pub(crate) fn capped(safe: Verdict) -> Self {
        let verdict = if safe == Verdict::Approve { Verdict::Review } else { safe };
        Self::without_rule(verdict, CAPPED)
    }

    /// This answer when nobody but core may approve: not an approval.
    pub(crate) fn never_approving(mut self, safe: Verdict) -> Self {
        if self.verdict == Verdict::Approve {
            self.verdict = if safe == Verdict::Approve { Verdict::Review } else { safe };
            self.reasons.push(STRICT.to_owned());
        }
        self
    }
}
