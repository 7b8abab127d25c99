//! The tasks that write. Each owns its connection, so that a caller who walks away cancels nothing, and
//! decides what has queued up in one unit, so that one flush to disk carries them all.
//!
//! Each is a lane: what concerns one account goes to one of them, so that lanes seldom want the same rows.
//! They share core's one thread with the socket: to wake another for each set costs more than it decides.

mod wanted;

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::learned::{Learner, Learning, Sample};
use backstop_contract::{Deadline, Question, Timestamp};
use backstop_lua::{Breach, Keys, Rules};
use backstop_process::Faults;
use backstop_settings::Core as Settings;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::decide::{Judge, Outcome, Set};
use crate::error::CoreError;
use crate::metrics::Metrics;
use crate::store::{DecisionKey, RowKey, Store, Unit};

/// What is asked of a writer.
#[derive(Debug)]
pub enum Ask {
    /// Decide this.
    Decide(Box<Question>),
    /// Label this decision: a fraud, or not.
    Label(DecisionKey, bool),
    /// Set what is left of this stock.
    SetStock(RowKey, i64),
}

impl Ask {
    /// The merchant, and what of it most of the rows belong to.
    fn concerns(&self) -> (&str, &str) {
        match self {
            Self::Decide(question) => (&question.merchant, &question.request.account),
            Self::Label(key, _) => key.words(),
            Self::SetStock(key, _) => key.words(),
        }
    }
}

/// The way to the writers. Clones share it; when the last is gone, they end what they have and stop.
#[derive(Clone)]
pub struct Queue {
    lanes: Arc<[mpsc::Sender<Job>]>,
    metrics: Metrics,
}

struct Job {
    ask: Ask,
    deadline: Option<Deadline>,
    reply: Reply,
}

/// Takes the outcome to whoever asked.
type Reply = Box<dyn FnOnce(Result<Outcome, CoreError>) + Send + Sync>;

impl Queue {
    /// Waits for the outcome, which is in the books when this returns. It may be there, too, when the
    /// future is dropped or the database is out of reach: a retry finds out.
    pub async fn ask(&self, ask: Ask, deadline: Option<Deadline>) -> Result<Outcome, CoreError> {
        let (reply, outcome) = oneshot::channel();
        self.put(ask, deadline, |it| {
            // The caller may have walked away; the outcome stands.
            let _walked_away = reply.send(it);
        });
        outcome.await.unwrap_or(Err(CoreError::Unusable))
    }

    /// The same for a caller that does not wait: `reply` is called with the outcome.
    pub fn put(
        &self,
        ask: Ask,
        deadline: Option<Deadline>,
        reply: impl FnOnce(Result<Outcome, CoreError>) + Send + Sync + 'static,
    ) {
        let Some(lane) = self.lane(&ask) else { return reply(Err(CoreError::Unusable)) };
        self.metrics.queued();
        let job = Job { ask, deadline, reply: Box::new(reply) };
        let (refused, error) = match lane.try_send(job) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(job)) => (job, CoreError::QueueFull),
            Err(mpsc::error::TrySendError::Closed(job)) => (job, CoreError::Unusable),
        };
        self.metrics.taken_up(1);
        (refused.reply)(Err(error));
    }

    fn lane(&self, ask: &Ask) -> Option<&mpsc::Sender<Job>> {
        let mut hasher = DefaultHasher::new();
        ask.concerns().hash(&mut hasher);
        let lanes = u64::try_from(self.lanes.len()).ok()?;
        let place = hasher.finish().checked_rem(lanes)?;
        self.lanes.get(usize::try_from(place).ok()?)
    }
}

/// What the writers work with, their stores apart.
pub struct Desk {
    /// The policies.
    pub rules: Arc<Rules>,
    /// The stack it decides for.
    pub stack: String,
    /// Its limits.
    pub settings: Settings,
    /// How it learns what a unit takes.
    pub learning: Learning,
    /// What it counts.
    pub metrics: Metrics,
    /// What the log repeats at most once a second.
    pub faults: Faults,
}

/// Starts a writer for each store. The receiver ends when all of them have stopped.
pub fn start<S: Store + Send + 'static>(
    stores: Vec<S>,
    desk: Desk,
) -> (Queue, mpsc::Receiver<Infallible>) {
    let (metrics, desk) = (desk.metrics.clone(), Arc::new(desk));
    let (stop, stopped) = mpsc::channel(1);
    let queue_max = desk.settings.queue_max.div_ceil(std::cmp::max(stores.len(), 1));
    let mut lanes = Vec::with_capacity(stores.len());
    for store in stores {
        let (jobs, waiting) = mpsc::channel(queue_max);
        let (desk, stop) = (Arc::clone(&desk), stop.clone());
        tokio::spawn(async move {
            let learner = Learner::new(desk.learning, Instant::now());
            Writer { store, desk, learner }.run(waiting).await;
            drop(stop);
        });
        lanes.push(jobs);
    }
    (Queue { lanes: lanes.into(), metrics }, stopped)
}

struct Writer<S> {
    store: S,
    desk: Arc<Desk>,
    learner: Learner,
}

/// A job on the desk, with what its policy wants to know.
struct Case {
    job: Job,
    keys: Result<Keys, Breach>,
}

/// What becomes of each case of a set, in order.
type Outcomes = Vec<Result<Outcome, CoreError>>;

impl<S: Store> Writer<S> {
    async fn run(&mut self, mut waiting: mpsc::Receiver<Job>) {
        let batch_max = self.desk.settings.batch_max;
        let mut jobs = Vec::with_capacity(batch_max);
        while waiting.recv_many(&mut jobs, batch_max).await > 0 {
            self.desk.metrics.taken_up(jobs.len());
            let needed = self.time_needed();
            let began = Instant::now();
            let cases = jobs.drain(..).filter_map(|job| self.desk.take_up(job, needed)).collect();
            self.serve(cases).await;
            // A commit costs the same for one as for many: what comes in meanwhile shares the next.
            if waiting.len() < batch_max && !waiting.is_closed() {
                sleep_until(began + self.desk.settings.commit_interval).await;
            }
        }
    }

    /// What four in five units take: with less time left, none is begun.
    fn time_needed(&mut self) -> Duration {
        std::cmp::max(self.learner.bounds(Instant::now()).min, self.desk.settings.begin_min)
    }

    /// Decides a set together or, where something in it spoils that, in halves, down to each alone.
    async fn serve(&mut self, cases: Vec<Case>) {
        let mut sets = vec![cases];
        while let Some(mut cases) = sets.pop() {
            match self.decide(&mut cases).await {
                Ok(outcomes) => {
                    for (case, outcome) in cases.into_iter().zip(outcomes) {
                        self.desk.reply(case.job, outcome);
                    }
                }
                Err(error) if error.is_unusable() => {
                    self.store.forget();
                    cases.extend(sets.drain(..).rev().flatten());
                    self.fail(cases, &error);
                }
                Err(error) if cases.len() > 1 => {
                    let what =
                        format_args!("a set of {} failed, it is halved: {error}", cases.len());
                    self.desk.faults.say("set", what);
                    let later = cases.split_off(cases.len() / 2);
                    sets.extend([later, cases]);
                }
                Err(error) => self.fail(cases, &error),
            }
        }
    }

    /// Decides a set, and begins again where somebody else changed a row of it in the meantime. Those
    /// who are out of time by then leave the set.
    async fn decide(&mut self, cases: &mut Vec<Case>) -> Result<Outcomes, CoreError> {
        let mut tries = 1;
        loop {
            let needed = self.time_needed();
            self.desk.dismiss_late(cases, needed);
            if cases.is_empty() {
                return Ok(Vec::new());
            }
            match self.transact(cases).await {
                Err(CoreError::Conflict) if tries < self.tries_max(cases) => tries += 1,
                Err(CoreError::TooLate) => {}
                ended => return ended,
            }
        }
    }

    /// A request that is alone tries on until its deadline: whoever it loses to got through.
    fn tries_max(&self, cases: &[Case]) -> u32 {
        match cases {
            [alone] if alone.job.deadline.is_some() => u32::MAX,
            _ => self.desk.settings.conflict_tries_max,
        }
    }

    /// One unit. `Err`: it did not happen, or nobody knows.
    async fn transact(&mut self, cases: &[Case]) -> Result<Outcomes, CoreError> {
        let began = Instant::now();
        let ended = transact(&mut self.store, &self.desk, cases).await;
        self.learner.record(Sample::Took(began.elapsed()), Instant::now());
        self.desk.metrics.transaction(cases.len(), ended.as_ref().err());
        ended
    }

    fn fail(&self, cases: Vec<Case>, error: &CoreError) {
        let what = format_args!("{} requests failed: {error}", cases.len());
        self.desk.faults.say("requests", what);
        for case in cases {
            let error = match error {
                CoreError::Conflict | CoreError::Held(_) => CoreError::Conflict,
                error if error.is_unusable() => CoreError::Unusable,
                _ => CoreError::Failed,
            };
            self.desk.reply(case.job, Err(error));
        }
    }
}

impl Desk {
    /// Takes a job up, unless less time is left for it than a unit takes.
    fn take_up(&self, job: Job, needed: Duration) -> Option<Case> {
        let Some(time_max) = self.time_for(job.deadline, needed) else {
            self.reply(job, Err(CoreError::TooLate));
            return None;
        };
        let keys = match &job.ask {
            Ask::Decide(question) => self.rules.keys(question, time_max),
            Ask::Label(..) | Ask::SetStock(..) => Ok(Keys::default()),
        };
        Some(Case { job, keys })
    }

    /// Answers those with less time left than a unit takes, and keeps the others.
    fn dismiss_late(&self, cases: &mut Vec<Case>, needed: Duration) {
        let is_late = |case: &mut Case| self.time_for(case.job.deadline, needed).is_none();
        for late in cases.extract_if(.., is_late) {
            self.reply(late.job, Err(CoreError::TooLate));
        }
    }

    /// How long a policy may run for a request with this deadline; `None` when less is left than needed.
    fn time_for(&self, deadline: Option<Deadline>, needed: Duration) -> Option<Duration> {
        let Some(deadline) = deadline else { return Some(self.settings.policy_time_max) };
        let left = deadline.left(Instant::now());
        let is_enough = left >= needed && !left.is_zero();
        is_enough.then(|| std::cmp::min(left, self.settings.policy_time_max))
    }

    fn decide<'a>(&self, set: &mut Set<'a>, case: &'a Case) -> Result<Outcome, CoreError> {
        // Those before it in the set took their time, and so did the lock.
        let time_max = self.time_for(case.job.deadline, self.settings.begin_min);
        let time_max = time_max.ok_or(CoreError::TooLate)?;
        match &case.job.ask {
            Ask::Decide(question) => set.decide(question, &case.keys, Timestamp::now(), time_max),
            Ask::Label(key, fraud) => Ok(set.label(key, *fraud)),
            Ask::SetStock(key, remaining) => Ok(set.set_stock(key, *remaining)),
        }
    }

    fn judge(&self) -> Judge<'_> {
        let policy_time_max = self.settings.policy_time_max;
        Judge { rules: &self.rules, stack: &self.stack, policy_time_max }
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
        (job.reply)(outcome);
    }
}

/// Loads, decides, commits. [`CoreError::TooLate`]: before the commit, somebody's time was up.
async fn transact<S: Store>(
    store: &mut S,
    desk: &Desk,
    cases: &[Case],
) -> Result<Outcomes, CoreError> {
    let mut unit = store.begin().await?;
    let mut loaded = unit.load(&wanted::by(cases, &desk.rules)).await?;
    let named = wanted::by_what_was_loaded(cases, &loaded);
    if !named.is_empty() {
        loaded.extend(unit.load(&named).await?);
    }
    let mut set = Set::new(desk.judge(), loaded);
    let outcomes: Outcomes = cases.iter().map(|case| desk.decide(&mut set, case)).collect();
    // What nobody waits for any more was answered by another tier, and should not become an answer
    // here as well. Others of the set may have seen it: they are decided again, without it.
    let mut ends = cases.iter().zip(&outcomes);
    if ends.any(|(case, outcome)| matches!(outcome, Ok(Outcome::Decided(_))) && case.is_over()) {
        return Err(CoreError::TooLate);
    }
    unit.commit(&set.changes()).await?;
    Ok(outcomes)
}

impl Case {
    fn is_over(&self) -> bool {
        self.job.deadline.is_some_and(|deadline| deadline.left(Instant::now()).is_zero())
    }
}

#[cfg(test)]
pub(crate) mod tests;
