//! The edge's own answer, when api and core are late or gone.

use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Deadline, Decision, Fallback, Question, Tier, Timestamp, Verdict};
use backstop_lua::{Rules, Ruling};
use backstop_process::Faults;

use crate::exposure::{Caps, Exposures};
use crate::metrics::Metrics;

/// Decides alone, by the Lua default of the request's policy.
pub struct Alone<'a> {
    /// The defaults in force.
    pub rules: &'a Rules,
    /// The stack that was asked in vain, or would have been.
    pub stack: &'static str,
    /// The longest one default may take, whatever is left.
    pub time_max: Duration,
    /// What stand-ins have approved lately.
    pub exposures: &'a Exposures,
    /// What they may approve for this merchant.
    pub caps: Caps,
    /// Where a broken default is counted.
    pub metrics: &'a Metrics,
    /// Where it is said.
    pub faults: &'a Faults,
}

impl Fallback for Alone<'_> {
    fn decide(&self, question: &Question, mut cause: Cause, deadline: Deadline) -> Decision {
        let now = Instant::now();
        let money = question.request.money.as_ref();
        let Some(leave) = self.exposures.leave(&question.merchant, money, self.caps, now) else {
            return self.capped(question, cause);
        };
        // A late request still gets the default's answer and not just its safe one: the time it
        // takes is microseconds, and nobody stands in for the edge.
        let left = deadline.left(now);
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
        if ruling.verdict == Verdict::Approve {
            leave.used();
        }
        self.answer(question, ruling, cause)
    }
}

impl Alone<'_> {
    /// The api's stand-in as it may be released: beyond the caps, not as an approval. An answer that is
    /// in the books, or was given before, adds nothing to what is at stake.
    pub fn within_caps(&self, decision: Decision, question: &Question) -> Decision {
        let approves = decision.decision == Verdict::Approve;
        if !approves || !decision.is_stand_in() || decision.decided_by == Tier::Edge {
            return decision;
        }
        let money = question.request.money.as_ref();
        let leave = self.exposures.leave(&question.merchant, money, self.caps, Instant::now());
        match leave {
            Some(leave) => {
                leave.used();
                decision
            }
            None => Decision {
                calls: decision.calls,
                server_timing: decision.server_timing,
                ..self.capped(question, decision.cause.unwrap_or(Cause::Unavailable))
            },
        }
    }

    fn capped(&self, question: &Question, cause: Cause) -> Decision {
        self.metrics.capped();
        self.faults.say(
            &question.merchant,
            format_args!(
                "stand-ins have approved as much for {} as they may in a minute: \
                 stand_in_approvals_max {}, stand_in_amount_max {}",
                question.merchant, self.caps.approvals_max, self.caps.amount_max
            ),
        );
        self.answer(question, self.rules.decide_capped(question), cause)
    }

    fn answer(&self, question: &Question, ruling: Ruling, cause: Cause) -> Decision {
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
