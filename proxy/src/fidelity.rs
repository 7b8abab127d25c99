//! How often the edge's own answer is core's: the defaults are tried on what core decided.

use std::sync::Arc;
use std::time::Duration;

use backstop_contract::fidelity::Terms;
use backstop_contract::{Question, Tier};
use backstop_lua::InForce;
use backstop_process::metrics::MetricsError;
use backstop_process::{Faults, Fidelity};

use crate::metrics::Metrics;

/// What measures it.
pub type OfDefaults = Fidelity<()>;

/// Starts to measure. A default that breaks here would break in an outage, and is counted and said as then.
pub fn start(
    terms: Terms,
    rules: Arc<InForce>,
    default_time_max: Duration,
    metrics: &Arc<Metrics>,
) -> Result<OfDefaults, MetricsError> {
    let (counts, faults) = (Arc::clone(metrics), Faults::default());
    let says = move |question: &Question, (): &()| {
        let ruling = rules.load_full().live().decide_by_default(question, default_time_max);
        if let Some(breach) = &ruling.breach {
            let policy = &question.request.policy;
            counts.breach(policy, breach);
            faults.say(policy, format_args!("the default broke, on trial: {breach}"));
        }
        ruling.verdict
    };
    Fidelity::start(Tier::Edge, terms, metrics.registry(), says)
}
