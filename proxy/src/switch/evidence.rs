//! What is known of each stack: what it answered to requests, what it answered to mirrored ones, and
//! what both made of the same. Counts in sliding windows; time comes in as an argument.

use std::ops::{AddAssign, SubAssign};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Stack, Tier, Verdict};
use backstop_settings::settings;

use compared::{Compared, Comparison};
use windows::Windows;

/// A window slides in steps of one slot.
pub const SLOTS: u32 = 60;
/// The fields of [`Counts`].
const FIELDS: usize = 8;

/// How a number of decisions came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them, but for those that a test key forced.
    pub decisions: u64,
    /// Stand-ins by error or unavailability.
    pub errors: u64,
    /// Stand-ins of any cause.
    pub stand_ins: u64,
    /// Stand-ins because a deadline was near, and decisions released after it.
    pub misses: u64,
    /// Stand-ins and late decisions: what the objective allows so many of.
    pub bad: u64,
    /// Core approved.
    pub approved: u64,
    /// Core declined.
    pub declined: u64,
    /// Core left it to people.
    pub reviewed: u64,
}

impl Counts {
    /// One decision; none of them when it was forced, which says nothing of a stack.
    pub fn of(
        decided_by: &Tier,
        cause: Option<&Cause>,
        is_late: bool,
        verdict: Verdict,
    ) -> Option<Self> {
        if cause == Some(&Cause::Forced) {
            return None;
        }
        let by_core = *decided_by == Tier::Core && cause.is_none();
        let is_error = matches!(cause, Some(Cause::Error | Cause::Unavailable));
        let is = |verdict_of| u64::from(by_core && verdict == verdict_of);
        Some(Self {
            decisions: 1,
            errors: is_error.into(),
            stand_ins: cause.is_some().into(),
            misses: (is_late || cause == Some(&Cause::Deadline)).into(),
            bad: (is_late || cause.is_some()).into(),
            approved: is(Verdict::Approve),
            declined: is(Verdict::Decline),
            reviewed: is(Verdict::Review),
        })
    }

    /// How many of them core decided.
    pub const fn by_core(&self) -> u64 {
        self.approved + self.declined + self.reviewed
    }

    /// What is left without these. Where both windows are of nearly one length, these may be more: their
    /// slots do not end at the same moments.
    fn without(self, other: Self) -> Self {
        let mut left = self.to_array();
        for (count, less) in left.iter_mut().zip(other.to_array()) {
            *count = count.saturating_sub(less);
        }
        Self::from_array(left)
    }

    const fn to_array(self) -> [u64; FIELDS] {
        let Self { decisions, errors, stand_ins, misses, bad, approved, declined, reviewed } = self;
        [decisions, errors, stand_ins, misses, bad, approved, declined, reviewed]
    }

    const fn from_array(array: [u64; FIELDS]) -> Self {
        let [decisions, errors, stand_ins, misses, bad, approved, declined, reviewed] = array;
        Self { decisions, errors, stand_ins, misses, bad, approved, declined, reviewed }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.errors += other.errors;
        self.stand_ins += other.stand_ins;
        self.misses += other.misses;
        self.bad += other.bad;
        self.approved += other.approved;
        self.declined += other.declined;
        self.reviewed += other.reviewed;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        self.decisions -= other.decisions;
        self.errors -= other.errors;
        self.stand_ins -= other.stand_ins;
        self.misses -= other.misses;
        self.bad -= other.bad;
        self.approved -= other.approved;
        self.declined -= other.declined;
        self.reviewed -= other.reviewed;
    }
}

/// What was counted since somebody last looked: where requests leave it, without a lock.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; FIELDS]);

impl Tally {
    /// Adds to it.
    pub fn add(&self, counts: Counts) {
        for (count, more) in self.0.iter().zip(counts.to_array()) {
            if more > 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// Takes what is there. A decision that is just being counted may come in two parts, one now and one
    /// with the next.
    pub fn take(&self) -> Counts {
        Counts::from_array(self.0.each_ref().map(|count| count.swap(0, Ordering::Relaxed)))
    }
}

/// Whole nanoseconds; centuries and more are one length.
pub fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// Which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// `window`: is it going on?
    Short,
    /// `window_long`: where that is too short to be sure.
    Long,
    /// `burn_recent`
    BurnRecent,
    /// `burn_single`
    BurnSingle,
    /// `burn_window`
    Burn,
}

impl Span {
    const ALL: [Self; 5] =
        [Self::Short, Self::Long, Self::BurnRecent, Self::BurnSingle, Self::Burn];

    /// How long it is.
    pub const fn length(self, settings: &settings::Switch) -> Duration {
        match self {
            Self::Short => settings.window,
            Self::Long => settings.window_long,
            Self::BurnRecent => settings.burn_recent,
            Self::BurnSingle => settings.burn_single,
            Self::Burn => settings.burn_window,
        }
    }
}

/// What is known of both stacks.
#[derive(Debug)]
pub struct Evidence {
    origin: Instant,
    /// How far it goes back, in nanoseconds.
    elapsed: u64,
    served: [Windows; 2],
    mirrored: [Windows; 2],
    /// What each made of requests that both decided.
    pairs: [Windows; 2],
    /// Each next to the other.
    comparisons: [Comparison; 2],
}

/// What a stack answered to a mirrored request, next to what the client was told.
#[derive(Clone, Copy, Debug)]
pub struct Mirrored {
    /// What it answered.
    pub answer: Counts,
    /// What the other stack's core had decided, where it had.
    pub served: Option<Verdict>,
    /// What this stack's core decided, where it did.
    pub verdict: Option<Verdict>,
}

impl Evidence {
    /// Nothing yet.
    pub fn new(settings: &settings::Switch, now: Instant) -> Self {
        let windows = || [Windows::new(settings), Windows::new(settings)];
        let comparisons = [Comparison::new(settings), Comparison::new(settings)];
        let (served, mirrored, pairs) = (windows(), windows(), windows());
        Self { origin: now, elapsed: 0, served, mirrored, pairs, comparisons }
    }

    /// Counts what a stack answered to requests.
    pub fn served(&mut self, stack: Stack, counts: Counts, now: Instant) {
        self.advance(now);
        stack.of_mut(&mut self.served).add(counts);
        stack.of_mut(&mut self.comparisons).own(counts);
        stack.other().of_mut(&mut self.comparisons).other(counts);
    }

    /// Counts what a stack answered to a request that the other one serves.
    pub fn mirrored(&mut self, stack: Stack, mirrored: Mirrored, now: Instant) {
        self.answered_mirrored(stack, mirrored.answer, now);
        if let (Some(served), Some(verdict)) = (mirrored.served, mirrored.verdict) {
            let decided =
                |verdict| Counts::of(&Tier::Core, None, false, verdict).unwrap_or_default();
            stack.of_mut(&mut self.pairs).add(decided(verdict));
            stack.other().of_mut(&mut self.pairs).add(decided(served));
        }
    }

    /// Counts answers to mirrored requests, of which it is not known what the other made.
    pub fn answered_mirrored(&mut self, stack: Stack, answers: Counts, now: Instant) {
        self.advance(now);
        stack.of_mut(&mut self.mirrored).add(answers);
        stack.other().of_mut(&mut self.comparisons).other(answers);
    }

    /// Counts many pairs at once: what this stack made of mirrored requests, and what the other did.
    #[cfg(test)]
    pub fn paired(&mut self, stack: Stack, own: Counts, other: Counts, now: Instant) {
        self.advance(now);
        stack.of_mut(&mut self.pairs).add(own);
        stack.other().of_mut(&mut self.pairs).add(other);
    }

    /// Lets go of what is too old.
    pub fn advance(&mut self, now: Instant) {
        let elapsed = nanos(now.saturating_duration_since(self.origin));
        if elapsed == std::mem::replace(&mut self.elapsed, elapsed) {
            return;
        }
        for both in [&mut self.served, &mut self.mirrored, &mut self.pairs] {
            for windows in both {
                windows.advance(elapsed);
            }
        }
        for comparison in &mut self.comparisons {
            comparison.advance(elapsed);
        }
    }

    /// Lets go of what is too old, and compares what both answered in the moment that ends now. To be called
    /// when all that both served up to now is counted.
    pub fn end_moment(&mut self, now: Instant) {
        self.advance(now);
        for comparison in &mut self.comparisons {
            comparison.end_moment(self.elapsed);
        }
    }

    /// What a stack answered to requests, next to all that the other answered in the same moments.
    pub fn compared(&self, stack: Stack, span: Span) -> Compared {
        stack.of(&self.comparisons).of(span)
    }

    /// What a stack answered to requests.
    pub fn of_served(&self, stack: Stack, span: Span) -> Counts {
        stack.of(&self.served).total(span)
    }

    /// What a stack answered to requests, moment by moment, the latest first.
    pub fn moments(&self, stack: Stack, span: Span) -> impl Iterator<Item = &Counts> {
        stack.of(&self.served).moments(span)
    }

    /// The same of all that it answered.
    pub fn moments_of_all(&self, stack: Stack, span: Span) -> impl Iterator<Item = Counts> {
        let mirrored = stack.of(&self.mirrored).moments(span);
        self.moments(stack, span).zip(mirrored).map(|(served, mirrored)| {
            let mut all = *served;
            all += *mirrored;
            all
        })
    }

    /// The same of what it made of requests that both stacks decided.
    pub fn moments_of_pairs(&self, stack: Stack, span: Span) -> impl Iterator<Item = &Counts> {
        stack.of(&self.pairs).moments(span)
    }

    /// Whether it goes back as far as that.
    pub fn reaches(&self, length: Duration) -> bool {
        self.elapsed >= nanos(length)
    }

    /// What it answered to mirrored ones.
    pub fn of_mirrored(&self, stack: Stack, span: Span) -> Counts {
        stack.of(&self.mirrored).total(span)
    }

    /// Both together.
    pub fn of_all(&self, stack: Stack, span: Span) -> Counts {
        let mut all = self.of_served(stack, span);
        all += self.of_mirrored(stack, span);
        all
    }

    /// What it made of requests that both stacks decided.
    pub fn of_pairs(&self, stack: Stack, span: Span) -> Counts {
        stack.of(&self.pairs).total(span)
    }

    /// What clients were told of late, but not in the last minutes: how decisions usually come out.
    pub fn usual(&self) -> Counts {
        let mut usual = Counts::default();
        for stack in Stack::ALL {
            usual += self.of_served(stack, Span::Burn).without(self.of_served(stack, Span::Long));
        }
        usual
    }
}

pub mod compared;
#[cfg(test)]
mod tests;
mod windows;
