//! The bundle that is tried in the shadow: it is asked about what the live one has just decided, shown the
//! same request, history, stock and rows, and nobody hears its answer but the counters. What it would move
//! is asked, too, and moved by nobody.
//!
//! It runs on a thread of its own, after the client has its answer. What it has no time for is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use backstop_contract::{Question, Verdict};
use backstop_engine::History;
use backstop_lua::{Breach, Keys, Rules};
use backstop_process::Faults;

use crate::decide::cancels;
use crate::metrics::Metrics;

/// The most requests that wait to be asked about. Beyond, they are dropped, and counted.
const WAITING_MAX: usize = 256;
/// Stands for the verdict where there is none.
const NONE: &str = "";

/// The way to the bundle in the shadow.
pub struct Shadow {
    waiting: SyncSender<Trial>,
    metrics: Metrics,
}

/// A request that the live bundle decided.
#[derive(Debug)]
pub struct Trial {
    /// The bundle to ask.
    pub rules: Arc<Rules>,
    /// The request.
    pub question: Box<Question>,
    /// What the live one wanted to see.
    pub keys: Keys,
    /// What it saw, and said.
    pub saw: Saw,
}

/// What a policy was shown of the books: each history by the policy's own name for it, and the stock.
#[derive(Debug)]
pub struct Saw {
    /// As they were before the decision.
    pub histories: BTreeMap<String, History>,
    /// What was left.
    pub stock: BTreeMap<String, i64>,
    /// What it said then, before anything was moved.
    pub said: Verdict,
}

/// Starts the thread, which ends with the last that asks. Each call of a policy gets `time_max`.
pub fn start(metrics: &Metrics, time_max: Duration) -> Shadow {
    let (waiting, trials) = sync_channel(WAITING_MAX);
    let counted = metrics.clone();
    let run = move || run(&trials, &counted, time_max);
    if let Err(error) = std::thread::Builder::new().name("shadow".to_owned()).spawn(run) {
        tracing::error!(%error, "no bundle will be tried in the shadow");
    }
    Shadow { waiting, metrics: metrics.clone() }
}

impl Shadow {
    /// Asks, if there is room. Waits for nothing.
    pub fn ask(&self, trial: Trial) {
        if let Err(full) = self.waiting.try_send(trial) {
            let trial = match full {
                std::sync::mpsc::TrySendError::Full(trial)
                | std::sync::mpsc::TrySendError::Disconnected(trial) => trial,
            };
            self.metrics.shadowed(trial.rules.version(), "dropped", [NONE, NONE]);
        }
    }
}

fn run(trials: &Receiver<Trial>, metrics: &Metrics, time_max: Duration) {
    let (mut version, faults) = (String::new(), Faults::default());
    for trial in trials {
        if version != trial.rules.version() {
            trial.rules.version().clone_into(&mut version);
            metrics.forget_shadows();
        }
        let live = trial.saw.said.as_str();
        let (outcome, shadow) = match judge(&trial, time_max) {
            Ok(Some(it)) if it == trial.saw.said => ("agree", it.as_str()),
            Ok(Some(it)) => ("flip", it.as_str()),
            Ok(None) => ("unseen", NONE),
            Err(breach) => {
                let policy = trial.question.request.policy.as_str();
                faults.say(policy, format_args!("{version} breaks in the shadow: {breach}"));
                ("breach", NONE)
            }
        };
        metrics.shadowed(&version, outcome, [live, shadow]);
    }
}

/// What the bundle in the shadow says; none where it wants to see what was not loaded for the live one, and
/// what it did wrong where it did what no rule may.
fn judge(trial: &Trial, time_max: Duration) -> Result<Option<Verdict>, Breach> {
    let Trial { rules, question, keys, saw } = trial;
    let wanted = rules.keys(question, time_max)?;
    let shown: BTreeMap<&str, &History> = keys
        .history
        .iter()
        .filter_map(|(name, key)| Some((key.as_str(), saw.histories.get(name)?)))
        .collect();
    let history = |(name, key): (&String, &String)| {
        let history = shown.get(key.as_str())?;
        Some((name.clone(), (*history).clone()))
    };
    let stock = |key: &String| Some((key.clone(), *saw.stock.get(key)?));
    let histories: Option<BTreeMap<_, _>> = wanted.history.iter().map(history).collect();
    let stock: Option<BTreeMap<_, _>> = wanted.stock.iter().map(stock).collect();
    let (Some(histories), Some(stock)) = (histories, stock) else { return Ok(None) };
    let ruling = rules.decide_by_policy(question, &histories, &stock, false, time_max);
    if let Some(breach) = ruling.breach {
        return Err(breach);
    }
    if cancels(&question.request).is_none() {
        rules.effects(question, &wanted, ruling.verdict, time_max)?;
    }
    Ok(Some(ruling.verdict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::question;
    use backstop_lua::Bundle;

    fn trial(keys: &str, body: &str, effects: &str) -> Trial {
        let policy = format!(
            "return {{ fields = {{}}, safe = 'review', strict = false, keys = function(tx) return {keys} end, \
             {effects} decide = function(tx, history, stock) {body} end }}"
        );
        let bundle = Bundle::from_texts([("policies/payment.lua", policy.as_str())]).unwrap();
        let mut history = History::default();
        let question = question("1");
        history.record(question.at(), 1, Verdict::Approve, None);
        let mut keys = Keys::default();
        keys.history.insert("customer".to_owned(), "customer:customer-1".to_owned());
        let histories = BTreeMap::from([("customer".to_owned(), history)]);
        let saw = Saw { histories, stock: BTreeMap::new(), said: Verdict::Approve };
        let rules = Arc::new(Rules::new(bundle, 8 << 20).unwrap());
        Trial { rules, question: Box::new(question), keys, saw }
    }

    const PATIENT: Duration = Duration::from_secs(1);

    #[test]
    fn it_sees_what_the_live_one_saw_under_names_of_its_own() {
        let keys = "{ history = { whoever = 'customer:' .. tx.account } }";
        for (keys, body, expected) in [
            (
                keys,
                "return history.whoever:count('1h') == 1 and 'decline' or 'approve'",
                Some(Verdict::Decline),
            ),
            (keys, "return 'approve'", Some(Verdict::Approve)),
            ("{ history = { it = 'terminal:1' } }", "return 'approve'", None),
            ("{ stock = { 'sku:1' } }", "return 'approve'", None),
        ] {
            assert_eq!(judge(&trial(keys, body, ""), PATIENT), Ok(expected), "{keys} {body}");
        }
    }

    /// A bundle whose `effects` broke agreed in the shadow with the live one, request for request, and broke
    /// on the first of them when it was live.
    #[test]
    fn it_breaks_wherever_it_would_break_live_and_says_how() {
        let effects = |body: &str| format!("effects = function(tx, decision) {body} end,");
        for (keys, body, effects, what) in [
            ("{}", "error('no')", String::new(), "no"),
            ("7", "return 'approve'", String::new(), "keys"),
            ("{}", "return 'approve'", effects("error('not that')"), "not that"),
            (
                "{}",
                "return 'approve'",
                effects("return { take = { ['sku:1'] = 1 } }"),
                "did not name",
            ),
            ("{}", "return 'decline'", effects("error(decision)"), "decline"),
        ] {
            let breach = judge(&trial(keys, body, &effects), PATIENT).unwrap_err().to_string();
            assert!(breach.contains(what), "{keys} {body} {effects}: {breach}");
        }
        let idle = trial("{}", "return 'review'", &effects("error('a review moves nothing')"));
        assert_eq!(judge(&idle, PATIENT), Ok(Some(Verdict::Review)));
    }

    #[test]
    fn what_it_says_is_counted_and_another_bundle_begins_anew() {
        let metrics = Metrics::new().unwrap();
        let shadow = start(&metrics, PATIENT);
        for (body, series) in [
            ("return 'decline'", r#"live="approve",outcome="flip",shadow="decline""#),
            ("return 'approve'", r#"live="approve",outcome="agree",shadow="approve""#),
        ] {
            shadow.ask(trial("{}", body, ""));
            let is_there = || metrics.render().contains(series);
            let mut looks = 0;
            while !is_there() && looks < 3_000 {
                std::thread::sleep(Duration::from_millis(10));
                looks += 1;
            }
            let text = metrics.render();
            assert_eq!(text.matches("backstop_shadow_total{").count(), 1, "{text}");
            assert!(text.contains(series), "{text}");
        }
    }
}
