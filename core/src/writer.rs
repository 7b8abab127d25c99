//! The one task that writes. It owns the connection, so that a caller who walks away cancels nothing,
//! and it decides what has queued up in one transaction, so that one flush to disk carries them all.
//!
//! It has a thread of its own: policies run on it, and they compute.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::learned::{Learner, Learning, Sample};
use backstop_contract::{Deadline, Question, Timestamp};
use backstop_lua::{Breach, Keys, Rules};
use backstop_process::Faults;
use backstop_settings::Core as Settings;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::decide::{Outcome, Set, decision_key};
use crate::error::CoreError;
use crate::metrics::Metrics;
use crate::store::{Decided, DecisionKey, HistoryKey, Store, Transaction};

/// What is asked of the writer.
#[derive(Debug)]
pub enum Ask {
    /// Decide this.
    Decide(Box<Question>),
    /// Label this decision: a fraud, or not.
    Label(DecisionKey, bool),
}

/// The way to the writer. Clones share it; when the last is gone, the writer ends what it has and stops.
#[derive(Clone)]
pub struct Queue {
    jobs: mpsc::Sender<Job>,
}

struct Job {
    ask: Ask,
    deadline: Option<Deadline>,
    reply: oneshot::Sender<Result<Outcome, CoreError>>,
}

impl Queue {
    /// Waits for the outcome, which is in the books when this returns. It may be there, too, when the
    /// future is dropped or the database is out of reach: a retry finds out.
    pub async fn ask(&self, ask: Ask, deadline: Option<Deadline>) -> Result<Outcome, CoreError> {
        let (reply, outcome) = oneshot::channel();
        match self.jobs.try_send(Job { ask, deadline, reply }) {
            Ok(()) => outcome.await.unwrap_or(Err(CoreError::Unusable)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(CoreError::QueueFull),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CoreError::Unusable),
        }
    }
}

/// What the writer works with, its store apart.
pub struct Desk {
    /// The policies.
    pub rules: Arc<Rules>,
    /// The stack it decides for.
    pub stack: String,
    /// Its limits.
    pub settings: Settings,
    /// How it learns what a transaction takes.
    pub learning: Learning,
    /// What it counts.
    pub metrics: Metrics,
    /// What the log repeats at most once a second.
    pub faults: Faults,
}

/// Starts the writer on its own thread. The receiver hears nothing until the writer has stopped.
pub fn start<S: Store + Send + 'static>(
    store: S,
    desk: Desk,
) -> Result<(Queue, oneshot::Receiver<()>), CoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(CoreError::Thread)?;
    let (jobs, waiting) = mpsc::channel(desk.settings.queue_max);
    let (stop, stopped) = oneshot::channel();
    let work = move || {
        let learner = Learner::new(desk.learning, Instant::now());
        runtime.block_on(Writer { store, desk, learner }.run(waiting));
        // Nobody need be waiting for the end.
        let _nobody_waits = stop.send(());
    };
    let thread = std::thread::Builder::new().name("writer".to_owned());
    thread.spawn(work).map_err(CoreError::Thread)?;
    Ok((Queue { jobs }, stopped))
}

struct Writer<S> {
    store: S,
    desk: Desk,
    learner: Learner,
}

/// A job on the desk, with what its policy wants to know.
struct Case {
    job: Job,
    keys: Result<Keys, Breach>,
}

impl<S: Store> Writer<S> {
    async fn run(&mut self, mut waiting: mpsc::Receiver<Job>) {
        let batch_max = self.desk.settings.batch_max;
        let mut jobs = Vec::with_capacity(batch_max);
        while waiting.recv_many(&mut jobs, batch_max).await > 0 {
            self.desk.metrics.waiting(waiting.len());
            // What four in five transactions take: with less time left, none is begun.
            let takes = self.learner.bounds(Instant::now()).min;
            let cases = jobs.drain(..).filter_map(|job| self.desk.begin(job, takes)).collect();
            self.serve(cases).await;
        }
    }

    /// Decides a set together or, where one of it spoils that, each alone.
    async fn serve(&mut self, cases: Vec<Case>) {
        if cases.is_empty() {
            return;
        }
        match self.transact(&cases).await {
            Ok(outcomes) => {
                for (case, outcome) in cases.into_iter().zip(outcomes) {
                    self.desk.reply(case.job, outcome);
                }
            }
            Err(error) if cases.len() > 1 && !error.is_unusable() => {
                tracing::warn!(%error, requests = cases.len(), "a set failed; each is tried alone");
                for case in cases {
                    Box::pin(self.serve(vec![case])).await;
                }
            }
            Err(error) => self.fail(cases, &error),
        }
    }

    /// One transaction. `Err`: it did not happen, or nobody knows.
    async fn transact(
        &mut self,
        cases: &[Case],
    ) -> Result<Vec<Result<Outcome, CoreError>>, CoreError> {
        let began = Instant::now();
        let outcomes = transact(&mut self.store, &self.desk, cases).await;
        self.learner.record(Sample::Took(began.elapsed()), Instant::now());
        self.desk.metrics.transaction(cases.len(), outcomes.is_ok());
        outcomes
    }

    fn fail(&mut self, cases: Vec<Case>, error: &CoreError) {
        tracing::error!(%error, requests = cases.len(), "requests failed");
        let unusable = error.is_unusable();
        if unusable {
            self.store.forget();
        }
        for case in cases {
            let error = if unusable { CoreError::Unusable } else { CoreError::Failed };
            self.desk.reply(case.job, Err(error));
        }
    }
}

impl Desk {
    /// Takes a job up, unless less time is left for it than a transaction takes.
    fn begin(&self, job: Job, takes: Duration) -> Option<Case> {
        let needed = std::cmp::max(takes, self.settings.begin_min);
        let Some(time_max) = self.time_for(job.deadline, needed) else {
            self.reply(job, Err(CoreError::TooLate));
            return None;
        };
        let keys = match &job.ask {
            Ask::Decide(question) => self.rules.keys(question, time_max),
            Ask::Label(..) => Ok(Keys::default()),
        };
        Some(Case { job, keys })
    }

    /// How long a policy may run for a request with this deadline; `None` when less is left than needed.
    fn time_for(&self, deadline: Option<Deadline>, needed: Duration) -> Option<Duration> {
        let Some(deadline) = deadline else { return Some(self.settings.policy_time_max) };
        let left = deadline.left(Instant::now());
        (left >= needed).then(|| std::cmp::min(left, self.settings.policy_time_max))
    }

    fn decide<'a>(&self, set: &mut Set<'a>, case: &'a Case) -> Result<Outcome, CoreError> {
        // Those before it in the set took their time, and so did the lock.
        let time_max = self.time_for(case.job.deadline, self.settings.begin_min);
        let time_max = time_max.ok_or(CoreError::TooLate)?;
        Ok(match &case.job.ask {
            Ask::Decide(question) => set.decide(question, &case.keys, Timestamp::now(), time_max),
            Ask::Label(key, fraud) => set.label(key, *fraud),
        })
    }

    fn reply(&self, job: Job, outcome: Result<Outcome, CoreError>) {
        if let Ok(Outcome::Decided(fresh)) = &outcome {
            self.metrics.decided(&fresh.answer);
            if let (Some(breach), Ask::Decide(question)) = (&fresh.breach, &job.ask) {
                let policy = question.request.policy.as_str();
                self.metrics.breach(policy, breach);
                let what = format_args!("the policy broke, its safe answer stands: {breach}");
                self.faults.say(policy, what);
            }
        }
        // The caller may have walked away; the outcome stands.
        let _walked_away = job.reply.send(outcome);
    }
}

async fn transact<S: Store>(
    store: &mut S,
    desk: &Desk,
    cases: &[Case],
) -> Result<Vec<Result<Outcome, CoreError>>, CoreError> {
    let mut transaction = store.begin().await?;
    let known = transaction.decisions(&decision_keys(cases)).await?;
    let history = transaction.history(&history_keys(cases, &known)).await?;
    let mut set = Set::new(&desk.rules, &desk.stack, known, history);
    let outcomes = cases.iter().map(|case| desk.decide(&mut set, case)).collect();
    transaction.write(&set.changes()).await?;
    transaction.commit().await?;
    Ok(outcomes)
}

/// The decisions that the set may repeat or label.
fn decision_keys(cases: &[Case]) -> Vec<DecisionKey> {
    let keys: BTreeSet<_> = cases.iter().map(Case::decision_key).collect();
    keys.into_iter().collect()
}

/// The history that new decisions read and count in, and that labels change.
fn history_keys(cases: &[Case], known: &HashMap<DecisionKey, Decided>) -> Vec<HistoryKey> {
    let mut keys = BTreeSet::new();
    for case in cases {
        let decision = case.decision_key();
        let named: Vec<&String> = match (&case.job.ask, known.get(&decision)) {
            (Ask::Decide(_), None) => {
                case.keys.iter().flat_map(|keys| keys.history.values()).collect()
            }
            (Ask::Label(..), Some(decided)) => decided.history_keys.iter().collect(),
            (Ask::Decide(_), Some(_)) | (Ask::Label(..), None) => Vec::new(),
        };
        let merchant = decision.merchant;
        let row = |key: &String| HistoryKey { merchant: merchant.clone(), key: key.clone() };
        keys.extend(named.into_iter().map(row));
    }
    keys.into_iter().collect()
}

impl Case {
    fn decision_key(&self) -> DecisionKey {
        match &self.job.ask {
            Ask::Decide(question) => decision_key(question),
            Ask::Label(key, _) => key.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
