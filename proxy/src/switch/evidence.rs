//! What is known of each stack: what it answered to requests, what it answered to mirrored ones, and
//! what both made of the same. Counts in sliding windows; time comes in as an argument.

use std::ops::{AddAssign, SubAssign};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{Cause, Stack, Tier, Verdict};
use backstop_settings::settings;

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

/// The counts of the last so many seconds.
#[derive(Debug)]
struct Window {
    /// The length of one slot, in nanoseconds.
    slot: u64,
    slots: Vec<Counts>,
    /// The number of the slot that is being filled.
    newest: u64,
    total: Counts,
}

impl Window {
    fn new(length: Duration) -> Self {
        let slot = std::cmp::max(nanos(length / SLOTS), 1);
        let slots = vec![Counts::default(); SLOTS as usize];
        Self { slot, slots, newest: 0, total: Counts::default() }
    }

    /// Lets go of what is older than the window, so many nanoseconds after its beginning.
    fn advance(&mut self, elapsed: u64) {
        let number = elapsed / self.slot;
        if number <= self.newest {
            return;
        }
        let passed = number - self.newest;
        for step in 1..=std::cmp::min(passed, u64::from(SLOTS)) {
            let index = (self.newest + step) % u64::from(SLOTS);
            if let Some(slot) = usize::try_from(index).ok().and_then(|it| self.slots.get_mut(it)) {
                self.total -= std::mem::take(slot);
            }
        }
        self.newest = number;
    }

    /// Its slots, the one that is being filled first.
    fn latest_first(&self) -> impl Iterator<Item = &Counts> {
        let newest = usize::try_from(self.newest % u64::from(SLOTS)).unwrap_or(0);
        let (older, newer) = self.slots.split_at(newest);
        let (filling, oldest) = newer.split_at(std::cmp::min(1, newer.len()));
        filling.iter().chain(older.iter().rev()).chain(oldest.iter().rev())
    }

    fn add(&mut self, counts: Counts) {
        let index = usize::try_from(self.newest % u64::from(SLOTS)).unwrap_or(0);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot += counts;
            self.total += counts;
        }
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

/// The same decisions in windows of every length.
#[derive(Debug)]
struct Windows([Window; 5]);

impl Windows {
    fn new(settings: &settings::Switch) -> Self {
        Self(Span::ALL.map(|span| Window::new(span.length(settings))))
    }

    fn total(&self, span: Span) -> Counts {
        self.0.get(span as usize).map(|window| window.total).unwrap_or_default()
    }

    /// The latest first.
    fn moments(&self, span: Span) -> impl Iterator<Item = &Counts> {
        self.0.get(span as usize).into_iter().flat_map(Window::latest_first)
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
        Self { origin: now, elapsed: 0, served: windows(), mirrored: windows(), pairs: windows() }
    }

    /// Counts what a stack answered to requests.
    pub fn served(&mut self, stack: Stack, counts: Counts, now: Instant) {
        self.advance(now);
        add(stack.of_mut(&mut self.served), counts);
    }

    /// Counts what a stack answered to a request that the other one serves.
    pub fn mirrored(&mut self, stack: Stack, mirrored: Mirrored, now: Instant) {
        self.advance(now);
        add(stack.of_mut(&mut self.mirrored), mirrored.answer);
        if let (Some(served), Some(verdict)) = (mirrored.served, mirrored.verdict) {
            let decided =
                |verdict| Counts::of(&Tier::Core, None, false, verdict).unwrap_or_default();
            add(stack.of_mut(&mut self.pairs), decided(verdict));
            add(stack.other().of_mut(&mut self.pairs), decided(served));
        }
    }

    /// Counts many answers to mirrored requests at once.
    #[cfg(test)]
    pub fn answered_mirrored(&mut self, stack: Stack, answers: Counts, now: Instant) {
        self.advance(now);
        add(stack.of_mut(&mut self.mirrored), answers);
    }

    /// Counts many pairs at once: what this stack made of mirrored requests, and what the other did.
    #[cfg(test)]
    pub fn paired(&mut self, stack: Stack, own: Counts, other: Counts, now: Instant) {
        self.advance(now);
        add(stack.of_mut(&mut self.pairs), own);
        add(stack.other().of_mut(&mut self.pairs), other);
    }

    /// Lets go of what is too old.
    pub fn advance(&mut self, now: Instant) {
        let elapsed = nanos(now.saturating_duration_since(self.origin));
        if elapsed == std::mem::replace(&mut self.elapsed, elapsed) {
            return;
        }
        for both in [&mut self.served, &mut self.mirrored, &mut self.pairs] {
            for windows in both {
                for window in &mut windows.0 {
                    window.advance(elapsed);
                }
            }
        }
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

fn add(windows: &mut Windows, counts: Counts) {
    for window in &mut windows.0 {
        window.add(counts);
    }
}

#[cfg(test)]
mod tests;
