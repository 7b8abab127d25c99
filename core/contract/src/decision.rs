//! What a merchant gets: one shape, whoever decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ledger::Call;
use crate::timestamp::Timestamp;

/// Whether the transaction may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It may.
    Approve,
    /// It may not.
    Decline,
    /// The merchant's people decide; nothing moves until they do.
    Review,
}

impl Verdict {
    /// The word on the wire, in metrics and in Lua.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Decline => "decline",
            Self::Review => "review",
        }
    }

    /// Reads that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Approve, Self::Decline, Self::Review].into_iter().find(|v| v.as_str() == text)
    }
}

/// Who decided. An open enum: a newer release may name a tier that this one does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The transaction itself.
    Core,
    /// The api, standing in for core.
    Api,
    /// The edge, standing in for both.
    Edge,
    /// The merchant's own client, which had to decide alone.
    Client,
    /// A tier named by a newer release.
    #[serde(untagged)]
    Newer(String),
}

impl Tier {
    /// The word on the wire and in metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Core => "core",
            Self::Api => "api",
            Self::Edge => "edge",
            Self::Client => "client",
            Self::Newer(name) => name,
        }
    }

    /// The same from a closed set, for metrics: nobody else decides how many series there are.
    pub fn label(&self) -> &str {
        if matches!(self, Self::Newer(_)) { "newer" } else { self.as_str() }
    }
}

impl From<String> for Tier {
    fn from(word: String) -> Self {
        match word.as_str() {
            "core" => Self::Core,
            "api" => Self::Api,
            "edge" => Self::Edge,
            "client" => Self::Client,
            _ => Self::Newer(word),
        }
    }
}

/// Why a tier stood in for the next one. An open enum, as [`Tier`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The next tier did not answer in time, or said it could not.
    Deadline,
    /// The next tier could not be reached, or hung up.
    Unavailable,
    /// The circuit breaker is open: the next tier was not asked.
    Breaker,
    /// A queue on the way is full.
    Overload,
    /// The next tier answered something that is not a decision, or its policy failed.
    Error,
    /// A test key asked for this tier with `backstop_force`.
    Forced,
    /// A cause named by a newer release.
    #[serde(untagged)]
    Newer(String),
}

impl Cause {
    /// The word on the wire and in metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Deadline => "deadline",
            Self::Unavailable => "unavailable",
            Self::Breaker => "breaker",
            Self::Overload => "overload",
            Self::Error => "error",
            Self::Forced => "forced",
            Self::Newer(name) => name,
        }
    }

    /// The same from a closed set, for metrics: nobody else decides how many series there are.
    pub fn label(&self) -> &str {
        if matches!(self, Self::Newer(_)) { "newer" } else { self.as_str() }
    }
}

impl From<String> for Cause {
    fn from(word: String) -> Self {
        match word.as_str() {
            "deadline" => Self::Deadline,
            "unavailable" => Self::Unavailable,
            "breaker" => Self::Breaker,
            "overload" => Self::Overload,
            "error" => Self::Error,
            "forced" => Self::Forced,
            _ => Self::Newer(word),
        }
    }
}

/// What a decision left behind: stock and balances by key, after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Effects {
    /// Units left of each stock key that the decision moved.
    pub stock: BTreeMap<String, i64>,
    /// Balance of each ledger account that the decision moved.
    pub balance: BTreeMap<String, i64>,
}

/// The answer to one request, in the shape that every tier gives and every client sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The id of the request it answers.
    pub id: String,
    /// Whether the transaction may go through.
    pub decision: Verdict,
    /// Why, in the policy's own words; a machine may match on them.
    pub reasons: Vec<String>,
    /// The policy's score; its scale is the policy's own.
    pub score: i64,
    /// Who decided.
    pub decided_by: Tier,
    /// Why that tier stood in; `None` when core decided.
    pub cause: Option<Cause>,
    /// False for a stand-in until it is settled.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether the answer was in a durable record before it left.
    pub durable: bool,
    /// The stack that served.
    pub stack: String,
    /// The content hash of the bundle that decided.
    pub policy_version: String,
    /// What moved.
    pub effects: Effects,
    /// The budget in force, in milliseconds.
    pub budget_ms: u64,
    /// From the last byte of the request to the first of the answer, in milliseconds.
    pub elapsed_ms: f64,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Whether this repeats an earlier answer; crosses the wire as `Idempotency-Replayed`.
    #[serde(skip)]
    pub replayed: bool,
    /// What the tiers behind spent, one entry a tier; crosses the wire as `Server-Timing`.
    #[serde(skip)]
    pub server_timing: String,
    /// What each tier on the way asked of the next, the innermost first.
    #[serde(skip)]
    pub calls: Vec<Call>,
}

impl Decision {
    /// Whether another tier answered for core, which has yet to be told.
    pub fn is_stand_in(&self) -> bool {
        self.decided_by != Tier::Core && !self.is_final
    }

    /// The bare answer of a tier, final and durable where that is core. Whoever makes it adds its reasons,
    /// whoever sends it on the budget and the time it took.
    pub fn by(decided_by: Tier, id: String, decision: Verdict) -> Self {
        let is_by_core = decided_by == Tier::Core;
        Self {
            id,
            decision,
            reasons: Vec::new(),
            score: 0,
            decided_by,
            cause: None,
            is_final: is_by_core,
            durable: is_by_core,
            stack: String::new(),
            policy_version: String::new(),
            effects: Effects::default(),
            budget_ms: 0,
            elapsed_ms: 0.0,
            decided_at: Timestamp::default(),
            replayed: false,
            server_timing: String::new(),
            calls: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_or_cause_of_a_newer_release_passes_through() {
        let cause: Cause = serde_json::from_str("\"moonlight\"").unwrap();
        assert_eq!(serde_json::to_string(&cause).unwrap(), "\"moonlight\"");
        assert_eq!(serde_json::from_str::<Cause>("\"deadline\"").unwrap(), Cause::Deadline);
        assert_eq!(serde_json::from_str::<Tier>("\"phone\"").unwrap().as_str(), "phone");
    }
}
