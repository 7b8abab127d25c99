//! Counts in windows that slide, a slot at a time.

use std::time::Duration;

use backstop_settings::settings;

use super::{Counts, SLOTS, Span, nanos};

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

/// The same decisions in windows of every length.
#[derive(Debug)]
pub(super) struct Windows([Window; 5]);

impl Windows {
    pub(super) fn new(settings: &settings::Switch) -> Self {
        Self(Span::ALL.map(|span| Window::new(span.length(settings))))
    }

    pub(super) fn advance(&mut self, elapsed: u64) {
        for window in &mut self.0 {
            window.advance(elapsed);
        }
    }

    pub(super) fn total(&self, span: Span) -> Counts {
        self.0.get(span as usize).map(|window| window.total).unwrap_or_default()
    }

    /// The latest first.
    pub(super) fn moments(&self, span: Span) -> impl Iterator<Item = &Counts> {
        self.0.get(span as usize).into_iter().flat_map(Window::latest_first)
    }

    pub(super) fn add(&mut self, counts: Counts) {
        for window in &mut self.0 {
            window.add(counts);
        }
    }
}
