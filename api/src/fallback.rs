//! The api's own answer: core's policy, with the history last seen.
//!
//! What stands in is not recorded in that history: core does so when it settles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Deadline, Decision, Fallback, Question, Tier, Timestamp, Verdict};
use backstop_engine::History;
use backstop_lua::{Breach, InForce, Rules, Ruling, Standing};
use backstop_process::Faults;
use backstop_process::metrics::Counter;

use crate::seen::{Known, Seen};

/// Decides by policy in core's stead. It neither waits nor fails.
pub struct StandIn {
    rules: Arc<InForce>,
    seen: Arc<Seen>,
    stack: String,
    policy_time_max: Duration,
    breaches: Counter,
    faults: Faults,
}

/// The same for one request.
pub struct ByStanding<'a> {
    stand_in: &'a StandIn,
    standing: Arc<Standing>,
}

impl StandIn {
    /// Stands in for the core of `stack`. Its policy gets `policy_time_max`, and never more than what
    /// is left of the request's budget; what it may not do is counted in `breaches`.
    pub fn new(
        rules: Arc<InForce>,
        seen: Arc<Seen>,
        stack: String,
        policy_time_max: Duration,
        breaches: Counter,
    ) -> Self {
        Self { rules, seen, stack, policy_time_max, breaches, faults: Faults::default() }
    }

    /// The one that decides by what stood when the request was taken, whatever is published meanwhile.
    pub const fn by(&self, standing: Arc<Standing>) -> ByStanding<'_> {
        ByStanding { stand_in: self, standing }
    }

    /// What it would have answered when only this was known of history.
    pub fn would_say(&self, question: &Question, known: &Known) -> Verdict {
        let history = |key: &str| self.seen.history_from(known, &question.merchant, key);
        let standing = self.rules.load_full();
        let rules = rules_for(&standing, question);
        let ruling = ruling(rules, question, || self.policy_time_max, history);
        if let Some(breach) = &ruling.breach {
            self.broke(question, breach);
        }
        ruling.verdict
    }

    fn broke(&self, question: &Question, breach: &Breach) {
        let labels = [question.request.policy.as_str(), breach.as_str()];
        self.breaches.with_label_values(&labels).inc();
        self.faults.say(
            &question.request.policy,
            format_args!("the policy broke, its safe answer stands: {breach}"),
        );
    }

    /// How long one call of the policy may compute: what is left, but for a late request too enough for
    /// a sound policy, which takes microseconds; a sound one must not be taken for a broken one.
    fn slice(&self, deadline: Deadline) -> Duration {
        let left = deadline.left(Instant::now());
        left.clamp(self.policy_time_max / 2, self.policy_time_max)
    }
}

impl Fallback for ByStanding<'_> {
    fn decide(&self, question: &Question, mut cause: Cause, deadline: Deadline) -> Decision {
        let Self { stand_in, standing } = self;
        let history = |key: &str| stand_in.seen.history(&question.merchant, key);
        let rules = rules_for(standing, question);
        let ruling = ruling(rules, question, || stand_in.slice(deadline), history);
        if let Some(breach) = &ruling.breach {
            // A broken policy is worse news than whatever kept core from answering.
            cause = Cause::Error;
            stand_in.broke(question, breach);
        }
        let bare = Decision::by(Tier::Api, question.request.id.clone(), ruling.verdict);
        Decision {
            reasons: ruling.reasons,
            score: ruling.score,
            cause: Some(cause),
            stack: stand_in.stack.clone(),
            policy_version: rules.version().to_owned(),
            decided_at: Timestamp::now(),
            ..bare
        }
    }
}

fn rules_for<'a>(standing: &'a Standing, question: &Question) -> &'a Rules {
    let (merchant, request) = (&question.merchant, &question.request);
    standing.rules_for(merchant, &request.account, &request.policy)
}

/// What the policy says with this history, each call of it within a slice of the time.
fn ruling(
    rules: &Rules,
    question: &Question,
    slice: impl Fn() -> Duration,
    history: impl Fn(&str) -> History,
) -> Ruling {
    let keys = match rules.keys(question, slice()) {
        Ok(keys) => keys,
        Err(breach) => return rules.safe_answer(question, true, breach),
    };
    let seen = |(name, key): (String, String)| (name, history(&key));
    let histories = keys.history.into_iter().map(seen).collect();
    // Stock moves with every decision: what was seen of it is no guide.
    let stock = BTreeMap::new();
    rules.decide_by_policy(question, &histories, &stock, true, slice())
}
