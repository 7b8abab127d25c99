//! The edge's own answer, when api and core are late or gone.

use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Deadline, Decision, Fallback, Question, Tier, Timestamp};
use backstop_lua::Rules;
use backstop_process::Faults;

use crate::metrics::Metrics;

/// Decides alone, by the Lua default of the request's policy.
pub struct Alone<'a> {
    /// The defaults in force.
    pub rules: &'a Rules,
    /// The stack that was asked in vain, or would have been.
    pub stack: &'static str,
    /// The longest one default may take, whatever is left.
    pub time_max: Duration,
    /// Where a broken default is counted.
    pub metrics: &'a Metrics,
    /// Where it is said.
    pub faults: &'a Faults,
}

impl Fallback for Alone<'_> {
    fn decide(&self, question: &Question, mut cause: Cause, deadline: Deadline) -> Decision {
        // A late request still gets the default's answer and not just its safe one: the time it
        // takes is microseconds, and nobody stands in for the edge.
        let left = deadline.left(Instant::now());
        let limit = left.clamp(self.time_max / 2, self.time_max);
        let ruling = self.rules.decide_by_default(question, limit);
        if let Some(breach) = &ruling.breach {
            // A broken default is worse news than whatever kept the api from answering.
            cause = Cause::Error;
            let policy = &question.request.policy;
            self.metrics.breach(policy, breach);
            self.faults
                .say(policy, format_args!("the default broke, its safe answer stands: {breach}"));
        }
        let bare = Decision::by(Tier::Edge, question.request.id.clone(), ruling.verdict);
        Decision {
            reasons: ruling.reasons,
            score: ruling.score,
            cause: Some(cause),
            stack: self.stack.to_owned(),
            policy_version: self.rules.version().to_owned(),
            decided_at: Timestamp::now(),
            ..bare
        }
    }
}
