//! The tasks that write. Each owns its connection, so that a caller who walks away cancels nothing, and
//! decides what has queued up in one unit, so that one flush to disk carries them all.
//!
//! Each is a lane: what concerns one account goes to one of them, so that lanes seldom want the same rows.
//! They share core's one thread with the socket: to wake another for each set costs more than it decides.

mod queue;
pub mod wanted;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::learned::{Learner, Learning, Sample};
use backstop_contract::{Deadline, Timestamp, advice};
use backstop_lua::{Breach, InForce, Keys, Rules};
use backstop_process::Faults;
use backstop_settings::Core as Settings;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

pub use self::queue::{Ask, Queue};
use self::queue::{Job, Lane, Needed, Waiting};
use crate::decide::settle::UNACCEPTABLE;
use crate::decide::{Judge, Outcome, Set};
use crate::error::CoreError;
use crate::metrics::{Metrics, Place};
use crate::shadow::{Shadow, Trial};
use crate::store::{Store, Unit, Wanted};

/// What the writers work with, their stores apart.
pub struct Desk {
    /// The policies.
    pub rules: Arc<InForce>,
    /// The way to what asks the bundle that is tried.
    pub shadow: Shadow,
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
        let (lane, waiting) = Lane::new(queue_max);
        let mut writer = Writer::new(store, Arc::clone(&desk), lane.needed.clone());
        let stop = stop.clone();
        tokio::spawn(async move {
            writer.run(waiting).await;
            drop(stop);
        });
        lanes.push(lane);
    }
    (Queue { lanes: lanes.into(), metrics }, stopped)
}

struct Writer<S> {
    store: S,
    /// What the set after this one wants to see, until its rows are being read.
    ahead: Option<Wanted>,
    desk: Arc<Desk>,
    learner: Learner,
    /// What is needed, as its lane knows it.
    told: Needed,
}

/// A job on the desk, with what its policy wants to know.
struct Case {
    job: Job,
    /// Those in force when it was taken up.
    rules: Arc<Rules>,
    /// The bundle that is to be asked, too, and whose answer nobody hears.
    shadow: Option<Arc<Rules>>,
    keys: Result<Keys, Breach>,
    /// No row could hold it.
    is_unacceptable: bool,
}

/// What becomes of each case of a set, in order.
type Outcomes = Vec<Result<Outcome, CoreError>>;

impl<S: Store> Writer<S> {
    fn new(store: S, desk: Arc<Desk>, told: Needed) -> Self {
        let learner = Learner::new(desk.learning, Instant::now());
        let mut writer = Self { store, ahead: None, desk, learner, told };
        writer.time_needed();
        writer
    }

    async fn run(&mut self, mut waiting: Waiting) {
        let Settings { batch_max, settle_max, commit_interval, .. } = self.desk.settings;
        let mut next = None;
        loop {
            let (began, cases) = match next.take() {
                Some(cases) => (Instant::now(), cases),
                None => match waiting.next(batch_max, settle_max).await {
                    Some(jobs) => (Instant::now(), self.take_up(jobs)),
                    None => return,
                },
            };
            if S::READS_AHEAD && waiting.has_a_whole_set(batch_max) {
                let jobs = waiting.next(batch_max, settle_max).await;
                next = jobs.map(|jobs| self.take_up(jobs));
            }
            self.ahead = next.as_deref().map(wanted::by);
            self.serve(cases).await;
            // A commit costs the same for one as for many: what comes in meanwhile shares the next.
            if next.is_none() && waiting.may_rest(batch_max) {
                sleep_until(began + commit_interval).await;
            }
        }
    }

    fn take_up(&mut self, jobs: Vec<Job>) -> Vec<Case> {
        self.desk.metrics.taken_up(jobs.iter().filter(|job| job.ask.is_live()).count());
        let needed = self.time_needed();
        jobs.into_iter().filter_map(|job| self.desk.take_up(job, needed)).collect()
    }

    /// What four in five units take: with less time left, none is begun.
    fn time_needed(&mut self) -> Duration {
        let learned = self.learner.bounds(Instant::now()).min;
        let needed = std::cmp::max(learned, self.desk.settings.begin_min);
        self.told.set(needed);
        needed
    }

    /// Decides a set together or, where something in it spoils that, in halves, down to each alone.
    async fn serve(&mut self, cases: Vec<Case>) {
        let mut sets = vec![cases];
        while let Some(mut cases) = sets.pop() {
            match self.decide(&mut cases).await {
                Ok(outcomes) => {
                    for (case, outcome) in cases.into_iter().zip(outcomes) {
                        self.desk.end(case, outcome);
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
                Err(error) if cases.iter().any(|case| case.is_refused_for(&error)) => {
                    // An advice that no row can hold must not come again and again: that it was
                    // refused is put on record instead.
                    self.desk.faults.say("advice", format_args!("an advice is refused: {error}"));
                    for case in &mut cases {
                        case.is_unacceptable = true;
                    }
                    sets.push(cases);
                }
                Err(error) => self.fail(cases, &error),
            }
        }
    }

    /// Decides a set, and begins again where somebody else changed a row of it in the meantime. Those
    /// who are out of time by then leave the set.
    async fn decide(&mut self, cases: &mut Vec<Case>) -> Result<Outcomes, CoreError> {
        let (mut tries, mut place) = (1, Place::Queue);
        loop {
            let needed = self.time_needed();
            self.desk.dismiss_late(cases, needed, place);
            if cases.is_empty() {
                self.store.skip();
                return Ok(Vec::new());
            }
            match self.transact(cases).await {
                Err(CoreError::Conflict) if tries < self.tries_max(cases) => {
                    (tries, place) = (tries + 1, Place::Queue);
                }
                Err(CoreError::TooLate) => place = Place::Commit,
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
        let ahead = self.ahead.take();
        let ended = transact(&mut self.store, &self.desk, cases, ahead).await;
        self.learner.record(Sample::Took(began.elapsed()), Instant::now());
        self.desk.metrics.transaction(cases.len(), ended.as_ref().err());
        ended
    }

    fn fail(&self, cases: Vec<Case>, error: &CoreError) {
        let what = format_args!("{} requests failed: {error}", cases.len());
        self.desk.faults.say("requests", what);
        for case in cases {
            let outcome = match error {
                CoreError::Conflict | CoreError::Held(_) => Err(CoreError::Conflict),
                error if error.is_unusable() => Err(CoreError::Unusable),
                // Not even that could be put on record. Its node has it, and shows it.
                _ if case.is_unacceptable => {
                    Ok(Outcome::Settled { outcome: advice::Outcome::Refused, why: UNACCEPTABLE })
                }
                _ => Err(CoreError::Failed),
            };
            self.desk.reply(case.job, outcome);
        }
    }
}

impl Desk {
    /// Takes a job up, unless less time is left for it than a unit takes.
    fn take_up(&self, job: Job, needed: Duration) -> Option<Case> {
        let Some(time_max) = self.time_for(job.deadline, needed) else {
            self.dismiss(job, Place::Queue);
            return None;
        };
        let standing = self.rules.load();
        let question = match &job.ask {
            Ask::Decide(question) => Some(&**question),
            Ask::Settle(advice) => Some(&advice.question),
            Ask::Label(..) | Ask::SetStock(..) | Ask::Arrived(..) => None,
        };
        let (rules, keys) = match question {
            Some(question) => {
                let (merchant, request) = (&question.merchant, &question.request);
                let rules = standing.rules_for(merchant, &request.account, &request.policy);
                (rules, rules.keys(question, time_max))
            }
            None => (standing.live(), Ok(Keys::default())),
        };
        let shadow = standing.shadow().filter(|_| matches!(job.ask, Ask::Decide(_))).cloned();
        let rules = Arc::clone(rules);
        Some(Case { job, rules, shadow, keys, is_unacceptable: false })
    }

    /// Answers those with less time left than a unit takes, and keeps the others.
    fn dismiss_late(&self, cases: &mut Vec<Case>, needed: Duration, place: Place) {
        let is_late = |case: &mut Case| self.time_for(case.job.deadline, needed).is_none();
        for late in cases.extract_if(.., is_late) {
            self.dismiss(late.job, place);
        }
    }

    fn dismiss(&self, late: Job, place: Place) {
        self.metrics.fenced(place);
        (late.reply)(Err(CoreError::TooLate));
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
        set.judge_by(&case.rules);
        match &case.job.ask {
            Ask::Decide(question) => set.decide(question, &case.keys, Timestamp::now(), time_max),
            Ask::Label(key, fraud) => Ok(set.label(key, *fraud)),
            Ask::SetStock(key, remaining) => Ok(set.set_stock(key, *remaining)),
            Ask::Settle(advice) if case.is_unacceptable => Ok(set.set_aside(advice)),
            Ask::Settle(advice) => Ok(set.settle(advice, &case.keys, Timestamp::now())),
            Ask::Arrived(of, numbers) => Ok(set.arrive(of, numbers)),
        }
    }

    fn judge<'a>(&'a self, rules: &'a Rules) -> Judge<'a> {
        let policy_time_max = self.settings.policy_time_max;
        Judge { rules, stack: &self.stack, policy_time_max }
    }

    /// Replies, and lets the bundle that is tried have its say once the client has its answer.
    fn end(&self, case: Case, mut outcome: Result<Outcome, CoreError>) {
        let Case { job, shadow, keys, .. } = case;
        let saw = match &mut outcome {
            Ok(Outcome::Decided(fresh)) => fresh.saw.take(),
            _ => None,
        };
        let ask = self.reply(job, outcome);
        if let (Some(rules), Ok(keys), Some(saw), Ask::Decide(question)) = (shadow, keys, saw, ask)
        {
            self.shadow.ask(Trial { rules, question, keys, saw });
        }
    }

    /// Tells whoever asked. Gives back what was asked.
    fn reply(&self, job: Job, outcome: Result<Outcome, CoreError>) -> Ask {
        match &outcome {
            Ok(Outcome::Decided(fresh)) => {
                self.metrics.decided(&fresh.answer);
                if let (Some(breach), Ask::Decide(question)) = (&fresh.breach, &job.ask) {
                    let policy = question.request.policy.as_str();
                    self.metrics.breach(policy, breach);
                    let what = format_args!("the policy broke, its safe answer stands: {breach}");
                    self.faults.say(policy, what);
                }
            }
            Ok(Outcome::Settled { outcome, .. }) => self.metrics.settled(outcome),
            Err(CoreError::TooLate) => self.metrics.fenced(Place::Queue),
            _ => {}
        }
        (job.reply)(outcome);
        job.ask
    }
}

/// Loads, decides, commits, and reads for the next set meanwhile. [`CoreError::TooLate`]: before the commit,
/// somebody's time was up.
async fn transact<S: Store>(
    store: &mut S,
    desk: &Desk,
    cases: &[Case],
    ahead: Option<Wanted>,
) -> Result<Outcomes, CoreError> {
    let Some(first) = cases.first() else { return Ok(Vec::new()) };
    let mut unit = store.begin().await?;
    let mut loaded = unit.load(wanted::by(cases)).await?;
    let named = wanted::by_what_was_loaded(cases, &loaded);
    if !named.is_empty() {
        loaded.extend(unit.load(named).await?);
    }
    if let Some(ahead) = ahead {
        unit.read_ahead(ahead).await;
    }
    let mut set = Set::new(desk.judge(&first.rules), loaded);
    let outcomes: Outcomes = cases.iter().map(|case| desk.decide(&mut set, case)).collect();
    // What nobody waits for any more was answered by another tier, and should not become an answer
    // here as well. Others of the set may have seen it: they are decided again, without it.
    let is_in_time = || {
        let mut ends = cases.iter().zip(&outcomes);
        !ends.any(|(case, outcome)| matches!(outcome, Ok(Outcome::Decided(_))) && case.is_over())
    };
    #[cfg(feature = "failpoints")]
    fail::fail_point!("core.before_commit", |_| std::process::abort());
    unit.commit(&set.changes(), &is_in_time).await?;
    #[cfg(feature = "failpoints")]
    fail::fail_point!("core.after_commit", |_| std::process::abort());
    Ok(outcomes)
}

impl Case {
    fn is_over(&self) -> bool {
        self.job.deadline.is_some_and(|deadline| deadline.left(Instant::now()).is_zero())
    }

    /// Whether it is an advice that would fare no better another time.
    fn is_refused_for(&self, error: &CoreError) -> bool {
        let may_pass = matches!(error, CoreError::Conflict | CoreError::Held(_));
        matches!(self.job.ask, Ask::Settle(_)) && !may_pass && !self.is_unacceptable
    }
}

#[cfg(test)]
pub(crate) mod tests;
