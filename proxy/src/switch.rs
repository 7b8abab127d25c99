//! Which stack serves, who may change that, and the automatic way back.
//!
//! | module | holds |
//! |---|---|
//! | [`choice`] | which stack serves whom; what an order makes of it |
//! | [`state`], [`audit`], [`papers`] | the choice and the log of who changed it, on disk |
//! | [`evidence`], [`chance`], [`charge`] | what is counted of each stack, and what it is charged with |
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
pub mod evidence;
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
use evidence::{Counts, Evidence, Mirrored, Tally};
use papers::{Opened, Papers};
use pilot::Pilot;
use standing::{Signs, Standing};

pub use orders::{Done, Refused};
pub use routine::Routine;

/// The switch of this edge.
pub struct Switch {
    settings: settings::Switch,
    stacks: Arc<Stacks>,
    metrics: Arc<Metrics>,
    /// What each stack answered since the last look.
    tallies: [Tally; 2],
    /// Whether a tier stood in since the last probe.
    has_stood_in: AtomicBool,
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
            put_off: None,
            finding: None,
        };
        Self {
            settings,
            stacks,
            metrics,
            tallies: [Tally::default(), Tally::default()],
            has_stood_in: AtomicBool::new(false),
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
        stack.of(&self.tallies).add(counts);
        if counts.stand_ins > 0 {
            self.has_stood_in.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Whether any tier stood in since this was last asked.
    pub fn take_stood_in(&self) -> bool {
        self.has_stood_in.swap(false, Ordering::Relaxed)
    }

    /// Notes how a probe of this stack ended: well when its core decided it in time.
    pub fn probed(&self, stack: Stack, is_good: bool) {
        stack.of_mut(&mut lock(&self.watch).signs).probed(is_good, Instant::now());
    }

    /// Notes that the core of this stack wrote a probe in time that was asked then, while clients were
    /// being stood in for: what the stacks share is not what they are stood in for.
    pub fn wrote(&self, stack: Stack, asked: Instant) {
        stack.of_mut(&mut lock(&self.watch).signs).wrote(asked);
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
mod tests;
