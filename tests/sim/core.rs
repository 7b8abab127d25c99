//! A core: the real `Set` decides and settles, over the books in memory. What a unit loads it may find
//! changed when it commits, and core or database may die just before or just after that.

use std::collections::VecDeque;
use std::rc::Rc;

use backstop_contract::advice::Settlement;
use backstop_contract::{self as contract, Question, Settled, Standing};
use backstop_core::decide::{Judge, Outcome, Set};
use backstop_core::store::Loaded;

use super::books::Write;
use super::clock::wall;
use super::event::{Alarm, Call, Fault, Letter, Message, Moment, Place};
use super::parcel::Parcel;
use super::plan::{Plan, Safety};
use super::rules::{RULE_TIME_MAX, RULES};
use super::world::World;

/// The most requests of one unit.
const SET_MAX: usize = 8;
/// From load to commit, usually.
const COMMIT: u64 = 1_500;
/// How often, in a thousand commits, something dies at it.
const CRASH: u64 = 15;

pub struct Core {
    stack: String,
    pub is_up: bool,
    pub life: u32,
    live: VecDeque<Job>,
    bulk: VecDeque<Job>,
    under_way: Option<Unit>,
}

/// One message to core.
struct Job {
    by: Place,
    call: Call,
    ask: Ask,
}

enum Ask {
    Decide { question: Rc<Question>, deadline: Moment },
    Settle(Rc<Parcel>),
}

struct Unit {
    jobs: Vec<Job>,
    write: Write,
    replies: Vec<Message>,
}

impl Core {
    pub fn new(stack: usize) -> Self {
        Self {
            stack: stack.to_string(),
            is_up: true,
            life: 0,
            live: VecDeque::new(),
            bulk: VecDeque::new(),
            under_way: None,
        }
    }

    pub fn kill(&mut self) {
        self.is_up = false;
        self.live.clear();
        self.bulk.clear();
        self.under_way = None;
    }

    pub fn restart(&mut self) {
        self.is_up = true;
        self.life += 1;
    }
}

impl World {
    pub fn core_hears(&mut self, stack: usize, letter: Letter) {
        let Letter { from: by, call, message, .. } = letter;
        let core = &mut self.cores[stack];
        match message {
            Message::Decide { question, budget } => {
                let deadline = self.now + budget;
                core.live.push_back(Job { by, call, ask: Ask::Decide { question, deadline } });
            }
            Message::Settle { advices } => {
                let ask = Ask::Settle(Rc::new(Parcel::open(&advices)));
                core.bulk.push_back(Job { by, call, ask });
            }
            _ => return,
        }
        self.wake(Place::Core(stack), 50, Alarm::Begin);
    }

    pub fn core_wakes(&mut self, stack: usize, alarm: Alarm) {
        match alarm {
            Alarm::Begin => self.core_begins(stack),
            Alarm::Commit => self.core_commits(stack),
            _ => {}
        }
    }

    /// Takes up what has queued, live requests first, and decides it.
    fn core_begins(&mut self, stack: usize) {
        let core = &mut self.cores[stack];
        if core.under_way.is_some() {
            return;
        }
        let line = if core.live.is_empty() { &mut core.bulk } else { &mut core.live };
        let jobs: Vec<Job> = line.drain(..std::cmp::min(line.len(), SET_MAX)).collect();
        self.core_takes_up(stack, jobs);
    }

    fn core_takes_up(&mut self, stack: usize, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        if !self.is_database_up {
            return self.core_fails(stack, &jobs);
        }
        let (write, replies) = self.core_decides(stack, &jobs);
        self.cores[stack].under_way = Some(Unit { jobs, write, replies });
        let takes = self.dice.wait(COMMIT);
        self.wake(Place::Core(stack), takes, Alarm::Commit);
    }

    /// What the unit writes, and what it says once that is written.
    fn core_decides(&self, stack: usize, jobs: &[Job]) -> (Write, Vec<Message>) {
        let loaded = without_fences(self.books.load_all(), jobs, &self.plan);
        let stack = &self.cores[stack].stack;
        let judge = Judge { rules: &RULES, stack, policy_time_max: RULE_TIME_MAX };
        let mut set = Set::new(judge, loaded);
        let now = wall(self.now);
        let replies = jobs.iter().map(|job| match &job.ask {
            Ask::Decide { question, .. } => {
                let keys = RULES.keys(question, RULE_TIME_MAX);
                match set.decide(question, &keys, now, RULE_TIME_MAX) {
                    Ok(Outcome::Decided(fresh)) => Message::Decided(Box::new(fresh.answer)),
                    Ok(Outcome::Replayed(answer)) => Message::Decided(Box::new(answer)),
                    Ok(Outcome::IdReused) => Message::Refused,
                    other => panic!("a decision became {other:?}"),
                }
            }
            Ask::Settle(parcel) => {
                for (of, numbers) in &parcel.numbers {
                    set.arrive(of, numbers);
                }
                let settled = parcel.advices.iter().map(|advice| {
                    let keys = RULES.keys(&advice.question, RULE_TIME_MAX);
                    match set.settle(advice, &keys, now) {
                        Outcome::Settled { outcome, why } => Settled {
                            epoch: advice.key.epoch,
                            number: advice.key.number,
                            outcome,
                            why: why.to_owned(),
                        },
                        other => panic!("an advice became {other:?}"),
                    }
                });
                Message::Settled(Rc::new(Settlement { settled: settled.collect() }))
            }
        });
        let replies = replies.collect();
        let mut write = Write::from(&set.changes());
        if !self.plan.has(Safety::ReleasedStands) {
            write.discrepancies.clear();
        }
        (write, replies)
    }

    fn core_fails(&mut self, stack: usize, jobs: &[Job]) {
        for job in jobs {
            self.send(Place::Core(stack), job.by, job.call, Message::Failed);
        }
        self.wake(Place::Core(stack), 50, Alarm::Begin);
    }

    fn core_commits(&mut self, stack: usize) {
        let Some(unit) = self.cores[stack].under_way.take() else { return };
        let Unit { mut jobs, write, replies } = unit;
        if !self.is_database_up {
            self.core_fails(stack, &jobs);
            return;
        }
        // The fence: what nobody waits for any more is not decided here as well.
        let is_late = |job: &mut Job| matches!(&job.ask, Ask::Decide { deadline, .. } if *deadline <= self.now);
        let late: Vec<Job> = jobs.extract_if(.., is_late).collect();
        if !late.is_empty() {
            self.count("fenced");
            self.core_fails(stack, &late);
            self.core_takes_up(stack, jobs);
            return;
        }
        let crash = (!self.is_healed && self.dice.permille(CRASH)).then(|| self.dice.below(4));
        if crash == Some(0) {
            self.count("core killed before a commit");
            return self.strike(Fault::Kill(Place::Core(stack)));
        }
        if crash == Some(1) {
            self.count("database lost before a commit");
            self.core_fails(stack, &jobs);
            return;
        }
        let strictly =
            self.plan.has(Safety::DecideFindsTheRow) && self.plan.has(Safety::ReleasedStands);
        if self.books.commit(write, strictly).is_err() {
            self.count("conflicts of two cores");
            self.core_takes_up(stack, jobs);
            return;
        }
        if crash == Some(2) {
            self.count("core killed after a commit");
            return self.strike(Fault::Kill(Place::Core(stack)));
        }
        if crash == Some(3) {
            self.count("database lost after a commit");
            self.core_fails(stack, &jobs);
            return;
        }
        for (job, reply) in jobs.iter().zip(replies) {
            if let Message::Settled(settlement) = &reply {
                settlement.settled.iter().for_each(|it| self.count(counted(&it.outcome)));
            }
            self.send(Place::Core(stack), job.by, job.call, reply);
        }
        self.wake(Place::Core(stack), 50, Alarm::Begin);
    }
}

const fn counted(outcome: &contract::Outcome) -> &'static str {
    match outcome {
        contract::Outcome::Applied => "advices applied",
        contract::Outcome::Match => "advices that match",
        contract::Outcome::Overridden => "advices that override",
        contract::Outcome::Conflict => "advices in conflict",
        contract::Outcome::Refused => "advices refused",
        contract::Outcome::Newer(_) => "advices settled anew",
    }
}

/// What was loaded, as a core sees it that lacks one of its fences.
fn without_fences(mut loaded: Loaded, jobs: &[Job], plan: &Plan) -> Loaded {
    let settles = jobs.iter().any(|job| matches!(job.ask, Ask::Settle(_)));
    if !settles && !plan.has(Safety::DecideFindsTheRow) {
        loaded.decisions.retain(|_, decided| decided.standing == Standing::Decided);
    }
    if settles && !plan.has(Safety::ReleasedStands) {
        for decided in loaded.decisions.values_mut() {
            decided.standing = Standing::Decided;
            decided.released_by = None;
        }
    }
    loaded
}
