//! The time limit. Luau asks at every call, return and jump back, and in every step of a pattern
//! match, whether to go on; past the limit the answer is an error, which `pcall` cannot hold: the
//! next question has the same answer.
//!
//! What counts is the time that this thread computed, not the time that passed: on a busy machine a
//! rule that was interrupted half-way is nearly done, and stopping it then would save nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
// A rule's time is spent, not waited for: a paused clock would never end an endless loop.
use std::time::Duration;
#[allow(clippy::disallowed_types)]
use std::time::Instant;

use mlua::{Lua, VmState};
use nix::time::{ClockId, clock_gettime};

use super::PRELUDE;
use crate::meter::Meter;

/// How far up the stack to look for the line to blame.
const LEVELS_MAX: usize = 16;
/// No call is under way, or no time is known.
const NEVER: u64 = u64::MAX;
/// The first look at the thread's clock comes after this part of a call's time, one in so many.
const FIRST_SHARE: u32 = 8;

/// How a call ended.
pub(crate) enum Outcome {
    /// By itself.
    InTime,
    /// It was stopped, at this line if it is known.
    RanOut { line: Option<u32> },
}

/// Stops the machine it is installed in.
pub(crate) struct Stopwatch(Arc<Dial>);

#[allow(clippy::disallowed_types)]
struct Dial {
    origin: Instant,
    /// When to look next whether the call has had its time, in nanoseconds after the origin.
    until: AtomicU64,
    /// How long the call may compute once the thread's clock was asked, in nanoseconds.
    rest: AtomicU64,
    /// How long this thread may have computed when the call has had its time, in nanoseconds since the
    /// thread began; `NEVER` until its clock was asked.
    computed_until: AtomicU64,
    ran_out: AtomicBool,
    /// Where the call was then; zero when nobody knows.
    line: AtomicU32,
    /// How long this thread had computed when the meter last looked, in nanoseconds.
    looked: AtomicU64,
    is_metered: bool,
}

impl Dial {
    fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    /// Tells the meter how full the memory is and, if it asks, which line took the time since it last looked.
    fn note(&self, lua: &Lua, meter: &Meter) {
        meter.saw(lua.used_memory());
        if !meter.notes_lines() {
            return;
        }
        let looked = self.looked.load(Ordering::Relaxed);
        let spent = computed().saturating_sub(looked);
        if let Some(line) = line_of(lua) {
            meter.spent(line, Duration::from_nanos(spent));
        }
        // What the look itself took is nobody's.
        self.looked.store(computed(), Ordering::Relaxed);
    }

    /// Reading the wall clock is cheap, so it says when to ask the thread's own, which is a system call.
    fn is_over(&self) -> bool {
        let now = self.now();
        if now < self.until.load(Ordering::Relaxed) {
            return false;
        }
        let computed = computed();
        let computed_until = match self.computed_until.load(Ordering::Relaxed) {
            NEVER => computed.saturating_add(self.rest.load(Ordering::Relaxed)),
            known => known,
        };
        self.computed_until.store(computed_until, Ordering::Relaxed);
        let left = computed_until.saturating_sub(computed);
        self.until.store(now.saturating_add(left), Ordering::Relaxed);
        left == 0
    }
}

impl Stopwatch {
    /// Lets the stopwatch interrupt this machine.
    #[allow(clippy::disallowed_types)]
    pub(crate) fn install(lua: &Lua, meter: Option<Arc<Meter>>) -> Self {
        let dial = Arc::new(Dial {
            origin: Instant::now(),
            until: AtomicU64::new(NEVER),
            rest: AtomicU64::new(0),
            computed_until: AtomicU64::new(NEVER),
            ran_out: AtomicBool::new(false),
            line: AtomicU32::new(0),
            looked: AtomicU64::new(NEVER),
            is_metered: meter.is_some(),
        });
        let asked = Arc::clone(&dial);
        lua.set_interrupt(move |lua| {
            if let Some(meter) = &meter {
                asked.note(lua, meter);
            }
            if !asked.is_over() {
                return Ok(VmState::Continue);
            }
            // The first line is the one that took the time; the rest only unwinds.
            if !asked.ran_out.swap(true, Ordering::Relaxed) {
                asked.line.store(line_of(lua).unwrap_or(0), Ordering::Relaxed);
            }
            Err(mlua::Error::runtime("out of time"))
        });
        Self(dial)
    }

    /// From now on, `time_max`. Its first share counts in full, computed or not: nearly every call ends
    /// within it, and so never asks the thread's clock, a system call of nearly the price of a small rule.
    pub(crate) fn start(&self, time_max: Duration) {
        self.0.ran_out.store(false, Ordering::Relaxed);
        if self.0.is_metered {
            self.0.looked.store(computed(), Ordering::Relaxed);
        }
        let (time_max, first) = (nanos(time_max), nanos(time_max / FIRST_SHARE));
        self.0.rest.store(time_max.saturating_sub(first), Ordering::Relaxed);
        self.0.computed_until.store(NEVER, Ordering::Relaxed);
        let until = self.0.now().saturating_add(first);
        // An endless allowance must not read as no call under way.
        self.0.until.store(std::cmp::min(until, NEVER - 1), Ordering::Relaxed);
    }

    /// Ends the call, and says whether it was in time.
    pub(crate) fn stop(&self) -> Outcome {
        self.0.until.store(NEVER, Ordering::Relaxed);
        if !self.0.ran_out.load(Ordering::Relaxed) {
            return Outcome::InTime;
        }
        let line = self.0.line.load(Ordering::Relaxed);
        Outcome::RanOut { line: (line > 0).then_some(line) }
    }
}

/// The line of the innermost function that is the rule's own.
fn line_of(lua: &Lua) -> Option<u32> {
    (0..LEVELS_MAX).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let own = frame
                .source()
                .source
                .is_some_and(|source| source.trim_start_matches('=') != PRELUDE);
            frame.current_line().filter(|_| own)
        })
        .flatten()
        .and_then(|line| u32::try_from(line).ok())
    })
}

/// How long this thread has computed; zero, which stops nothing, on a system that can not say.
fn computed() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| nanos(time.into()))
}

/// The same, as a length of time.
pub(crate) fn computed_time() -> Duration {
    Duration::from_nanos(computed())
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(NEVER)
}
