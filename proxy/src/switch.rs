//! Which stack serves, who may change that, and the automatic way back.
//!
//! | module | holds |
//! |---|---|
//! | [`choice`] | which stack serves whom; what an order makes of it |
//! | [`state`], [`audit`], [`papers`] | the choice and the log of who changed it, on disk |
//! | [`evidence`], [`chance`], [`charge`], [`mix`] | what is counted of each stack, and what it is charged with |
//! | [`doubt`] | whether more is to be counted |
//! | [`standing`] | whether a stack could take over |
//! | [`pilot`] | what the edge does by itself |
//! | [`status`] | what operators see of all that |
//!
//! An order is written down, then it holds, then it is answered; so a crash leaves the old choice or the
//! new one. Requests read the choice without a lock and leave what they saw in counters: neither a disk
//! nor an order ever holds one up.

pub mod audit;
pub mod chance;
pub mod charge;
pub mod choice;
pub mod doubt;
pub mod evidence;
pub mod mix;
mod orders;
pub mod papers;
pub mod pilot;
mod routine;
pub mod standing;
pub mod state;
pub mod status;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Decision, Stack, Timestamp};
use backstop_settings::audit::Record;
use backstop_settings::{Layout, settings};

use crate::metrics::Metrics;
use crate::stacks::Stacks;
use doubt::{Doubt, Doubter};
use evidence::{Counts, Evidence, Mirrored, Tally, nanos};
use papers::{Opened, Papers};
use pilot::Pilot;
use standing::{Signs, Standing};

pub use orders::{Done, Refused};
pub use routine::Routine;

/// More time than any request has.
const NOBODY_STOOD_IN: u64 = u64::MAX;

/// The switch of this edge.
pub struct Switch {
    settings: settings::Switch,
    stacks: Arc<Stacks>,
    metrics: Arc<Metrics>,
    /// What each stack answered since the last look.
    tallies: [Tally; 2],
    /// Where the clock of `bad_at` begins.
    origin: Instant,
    /// When each stack last answered badly, in nanoseconds; 0 while it never did.
    bad_at: [AtomicU64; 2],
    /// For the probes of each stack: the least time, in nanoseconds, of the requests for which a tier stood
    /// in since the last of them.
    stood_in: [AtomicU64; 2],
    /// Of a hundred requests, so many are mirrored now.
    mirror_percent: AtomicU64,
    watch: Mutex<Watch>,
    papers: Arc<tokio::sync::Mutex<Papers>>,
    /// Lines on their way to the log.
    lines: Arc<Mutex<Vec<Record>>>,
    /// One order after the other.
    turn: tokio::sync::Mutex<()>,
    /// The last one that was given, to a choice that came to hold or not.
    generation: AtomicU64,
    /// Whether the choice that holds is the one on disk.
    is_written: AtomicBool,
    /// Whether a successor gives the orders now.
    is_closed: AtomicBool,
    history: Mutex<VecDeque<Record>>,
}

/// What is known of both stacks.
struct Watch {
    evidence: Evidence,
    signs: [Signs; 2],
    pilot: Pilot,
    doubter: Doubter,
    /// Why more is mirrored than usual, if it is.
    doubt: Option<Doubt>,
    /// The choice whose end was put off, and was said to be.
    put_off: Option<u64>,
    /// What the pilot last found.
    finding: Option<String>,
}

/// How long a request took, and how long it might have.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// What it took.
    pub elapsed: Duration,
    /// What it was given.
    pub budget: Duration,
    /// What its merchant is usually given.
    pub ceiling: Duration,
}

impl Switch {
    /// Reads which stack serves, and sets `stacks` to it. To be called before a request is taken, and
    /// after a predecessor in this directory has closed its own.
    pub fn open(
        layout: &Layout,
        settings: settings::Switch,
        stacks: Arc<Stacks>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (papers, Opened { choice, latest }) = Papers::open(layout, &settings, Timestamp::now());
        let generation = AtomicU64::new(choice.generation);
        tracing::info!(active = %choice.course.active, choice.generation, "which stack serves");
        stacks.set(Arc::new(choice));
        let now = Instant::now();
        let watch = Watch {
            evidence: Evidence::new(&settings, now),
            signs: [Signs::default(); 2],
            pilot: Pilot::new(settings.clone()),
            doubter: Doubter::new(settings.clone()),
            doubt: None,
            put_off: None,
            finding: None,
        };
        let mirror_percent = AtomicU64::new(settings.mirror_percent);
        Self {
            settings,
            stacks,
            metrics,
            tallies: [Tally::default(), Tally::default()],
            origin: now,
            bad_at: [AtomicU64::new(0), AtomicU64::new(0)],
            stood_in: [AtomicU64::new(NOBODY_STOOD_IN), AtomicU64::new(NOBODY_STOOD_IN)],
            mirror_percent,
            watch: Mutex::new(watch),
            papers: Arc::new(tokio::sync::Mutex::new(papers)),
            lines: Arc::default(),
            turn: tokio::sync::Mutex::default(),
            generation,
            is_written: AtomicBool::new(true),
            is_closed: AtomicBool::new(false),
            history: Mutex::new(latest.into()),
        }
    }

    /// Notes what this stack answered; whether that says anything of it. Repeated and forced answers do
    /// not, nor does a request that was given far less time than its merchant's are.
    pub fn saw(&self, stack: Stack, decision: &Decision, timing: Timing) -> bool {
        let fair = timing.ceiling.mul_f64(self.settings.fair_percent as f64 / 100.0);
        if decision.replayed || timing.budget < fair {
            return false;
        }
        let is_late = timing.elapsed > timing.budget;
        let Decision { decided_by, cause, decision, .. } = decision;
        let Some(counts) = Counts::of(decided_by, cause.as_ref(), is_late, *decision) else {
            return false;
        };
        if counts.bad > 0 {
            let now = nanos(self.origin.elapsed());
            stack.of(&self.bad_at).fetch_max(now, Ordering::Relaxed);
        }
        if counts.stand_ins > 0 {
            for least in &self.stood_in {
                least.fetch_min(nanos(timing.budget), Ordering::Relaxed);
            }
        }
        stack.of(&self.tallies).add(counts);
        true
    }

    /// Whether any tier stood in since this was last asked for the probes of this stack: the least time
    /// that such a request had.
    pub fn take_stood_in(&self, stack: Stack) -> Option<Duration> {
        let least = stack.of(&self.stood_in).swap(NOBODY_STOOD_IN, Ordering::Relaxed);
        (least != NOBODY_STOOD_IN).then(|| Duration::from_nanos(least))
    }

    /// When this stack last answered badly.
    fn bad_at(&self, stack: Stack) -> Option<Instant> {
        let elapsed = stack.of(&self.bad_at).load(Ordering::Relaxed);
        (elapsed > 0).then(|| self.origin + Duration::from_nanos(elapsed))
    }

    /// Notes how a probe of this stack ended: well when its core decided it in time.
    pub fn probed(&self, stack: Stack, is_good: bool) {
        stack.of_mut(&mut lock(&self.watch).signs).probed(is_good, Instant::now());
    }

    /// Notes that the core of this stack wrote a probe that was asked then, while clients were being stood
    /// in for and in the time that they had: what the stacks share is not what they are stood in for.
    pub fn wrote(&self, stack: Stack, asked: Instant) {
        let fresh_for = self.settings.fresh_for;
        stack.of_mut(&mut lock(&self.watch).signs).wrote(asked, fresh_for);
    }

    /// Notes that it wrote one meanwhile, but too late for those clients.
    pub fn wrote_late(&self, stack: Stack) {
        stack.of_mut(&mut lock(&self.watch).signs).writes = 0;
    }

    /// Notes whether the release of this stack knows rehearsals.
    pub fn rehearses(&self, stack: Stack, it_does: bool) {
        stack.of_mut(&mut lock(&self.watch).signs).refuses_rehearsals = !it_does;
    }

    /// What was last seen of this stack.
    #[cfg(test)]
    pub fn signs(&self, stack: Stack) -> Signs {
        *stack.of(&lock(&self.watch).signs)
    }

    /// Of a hundred requests, so many are to be mirrored now.
    pub fn mirror_percent(&self) -> u64 {
        self.mirror_percent.load(Ordering::Relaxed)
    }

    /// Notes what this stack answered to a request that the other one serves.
    pub fn mirrored(&self, stack: Stack, mirrored: Mirrored) {
        let (mut watch, now) = (lock(&self.watch), Instant::now());
        if mirrored.verdict.is_some() {
            stack.of_mut(&mut watch.signs).mirrored_at = Some(now);
        }
        watch.evidence.mirrored(stack, mirrored, now);
    }

    /// Takes no more orders and writes nothing any more, so that a successor may. Requests go where they
    /// went.
    pub async fn close(&self) {
        let _no_order_is_under_way = self.turn.lock().await;
        self.is_closed.store(true, Ordering::Release);
        self.write_lines().await;
        if self.on_disk(Papers::close).await.is_err() {
            tracing::warn!("the disk takes no more of the audit log");
        }
    }

    /// Whether a successor gives the orders now.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// How both stand.
    fn standings(&self, signs: &[Signs; 2], now: Instant) -> [Standing; 2] {
        Stack::ALL.map(|stack| Standing {
            signs: *stack.of(signs),
            breaker: self.stacks.of(stack).link().state(now),
        })
    }
}

/// What is behind the locks is whole after a panic, too: each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
