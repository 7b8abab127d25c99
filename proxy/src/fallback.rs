//! The edge's own answer, when api and core are late or gone.

use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Deadline, Decision, Effects, Fallback, Question, Tier, Timestamp};
use backstop_lua::Rules;

/// Decides alone, by the Lua default of the request's policy.
pub struct Alone<'a> {
    /// The defaults in force.
    pub rules: &'a Rules,
    /// The stack that was asked in vain, or would have been.
    pub stack: &'static str,
    /// The longest one default may take, whatever is left.
    pub time_max: Duration,
}

impl Fallback for Alone<'_> {
    fn decide(&self, question: &Question, cause: Cause, deadline: Deadline) -> Decision {
        // A late request still gets the default's answer and not just its safe one: the time it
        // takes is microseconds, and nobody stands in for the edge.
        let left = deadline.left(Instant::now());
        let limit = left.clamp(self.time_max / 2, self.time_max);
        let ruling = self.rules.decide_by_default(question, limit);
        if let Some(breach) = &ruling.breach {
            tracing::warn!(policy = question.request.policy, %breach, "the default broke");
        }
        Decision {
            id: question.request.id.clone(),
            decision: ruling.verdict,
            reasons: ruling.reasons,
            score: ruling.score,
            decided_by: Tier::Edge,
            cause: Some(cause),
            is_final: false,
            durable: false,
            stack: self.stack.to_owned(),
            policy_version: self.rules.version().to_owned(),
            effects: Effects::default(),
            budget_ms: 0,
            elapsed_ms: 0.0,
            decided_at: Timestamp::now(),
            replayed: false,
            server_timing: String::new(),
            calls: Vec::new(),
        }
    }
}
