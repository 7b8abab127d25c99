//! The api's own answer: core's policy, with the history last seen.
//!
//! What stands in is not recorded in that history: core does so when it settles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Deadline, Decision, Fallback, Question, Tier, Timestamp};
use backstop_lua::{Breach, Rules, Ruling};
use backstop_process::Faults;
use backstop_process::metrics::Counter;

use crate::seen::Seen;

/// Decides by policy in core's stead. It neither waits nor fails.
pub struct StandIn {
    rules: Arc<Rules>,
    seen: Arc<Seen>,
    stack: String,
    policy_time_max: Duration,
    breaches: Counter,
    faults: Faults,
}

impl StandIn {
    /// Stands in for the core of `stack`. Its policy gets `policy_time_max`, and never more than what
    /// is left of the request's budget; what it may not do is counted in `breaches`.
    pub fn new(
        rules: Arc<Rules>,
        seen: Arc<Seen>,
        stack: String,
        policy_time_max: Duration,
        breaches: Counter,
    ) -> Self {
        Self { rules, seen, stack, policy_time_max, breaches, faults: Faults::default() }
    }

    fn rule(&self, question: &Question, deadline: Deadline) -> Result<Ruling, Breach> {
        let keys = self.rules.keys(question, self.slice(deadline))?;
        let seen = |(name, key): (String, String)| {
            let history = self.seen.history(&question.merchant, &key);
            (name, history)
        };
        let histories = keys.history.into_iter().map(seen).collect();
        // Stock moves with every decision: what was seen of it is no guide.
        let stock = BTreeMap::new();
        let slice = self.slice(deadline);
        Ok(self.rules.decide_by_policy(question, &histories, &stock, true, slice))
    }

    /// How long one call of the policy may compute: what is left, but for a late request too enough for
    /// a sound policy, which takes microseconds; a sound one must not be taken for a broken one.
    fn slice(&self, deadline: Deadline) -> Duration {
        let left = deadline.left(Instant::now());
        left.clamp(self.policy_time_max / 2, self.policy_time_max)
    }
}

impl Fallback for StandIn {
    fn decide(&self, question: &Question, mut cause: Cause, deadline: Deadline) -> Decision {
        let ruling = self.rule(question, deadline);
        let ruling = ruling.unwrap_or_else(|breach| self.rules.safe_answer(question, true, breach));
        if let Some(breach) = &ruling.breach {
            // A broken policy is worse news than whatever kept core from answering.
            cause = Cause::Error;
            let labels = [question.request.policy.as_str(), breach.as_str()];
            self.breaches.with_label_values(&labels).inc();
            self.faults.say(
                &question.request.policy,
                format_args!("the policy broke, its safe answer stands: {breach}"),
            );
        }
        let bare = Decision::by(Tier::Api, question.request.id.clone(), ruling.verdict);
        Decision {
            reasons: ruling.reasons,
            score: ruling.score,
            cause: Some(cause),
            stack: self.stack.clone(),
            policy_version: self.rules.version().to_owned(),
            decided_at: Timestamp::now(),
            ..bare
        }
    }
}
