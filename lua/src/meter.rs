//! What a call took and what it asked, for the author who wants to know. Production has none: it costs a
//! look at the clock and the memory in every loop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_engine::History;

/// The most questions to history that are noted of one call.
const ASKED_MAX: usize = 256;

/// Notes what the calls of some rules take. Its rules serve one thread at a time.
#[derive(Debug, Default)]
pub struct Meter {
    peak: AtomicUsize,
    notes: Mutex<Notes>,
    /// Whether time is also noted line by line, which makes a call several times as slow.
    by_line: bool,
}

#[derive(Debug, Default)]
struct Notes {
    price: Price,
    lines: BTreeMap<u32, Duration>,
    asked: Vec<Asked>,
    names: BTreeMap<usize, String>,
}

/// What one call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// What it computed.
    pub time: Duration,
    /// What it had in memory at most, beyond what lay there before, as seen at every call, return and jump
    /// back.
    pub bytes: usize,
}

/// One question to a history, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The name of the history, such as `customer`.
    pub of: String,
    /// How long before the request's time what it asks for begins.
    pub reach: Duration,
    /// As the rule could have written it, such as `history.customer:count("1h")`.
    pub question: String,
    /// What it heard.
    pub answer: String,
}

impl Meter {
    /// One that also notes which lines the time goes to.
    pub fn by_line() -> Self {
        Self { by_line: true, ..Self::default() }
    }

    /// What the last call took.
    pub fn price(&self) -> Price {
        self.notes().price
    }

    /// What the calls since then asked of history.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.notes().asked)
    }

    /// The line that took the most time since then, and its share of all of it.
    pub fn take_slowest(&self) -> Option<(u32, f64)> {
        let lines = std::mem::take(&mut self.notes().lines);
        let all: Duration = lines.values().sum();
        let (line, most) = lines.into_iter().max_by_key(|(_, time)| *time)?;
        (!all.is_zero()).then(|| (line, most.as_secs_f64() / all.as_secs_f64()))
    }

    pub(crate) const fn notes_lines(&self) -> bool {
        self.by_line
    }

    pub(crate) fn begin(&self, bytes: usize) {
        self.peak.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn saw(&self, bytes: usize) {
        self.peak.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(crate) fn spent(&self, line: u32, time: Duration) {
        *self.notes().lines.entry(line).or_default() += time;
    }

    pub(crate) fn end(&self, time: Duration, bytes_before: usize, bytes: usize) {
        self.saw(bytes);
        let bytes = self.peak.load(Ordering::Relaxed).saturating_sub(bytes_before);
        self.notes().price = Price { time, bytes };
    }

    /// That a history goes by this name in the call to come.
    pub(crate) fn names(&self, history: &History, name: &str) {
        self.notes().names.insert(place_of(history), name.to_owned());
    }

    pub(crate) fn asked(&self, history: &History, reach: Duration, call: &str, answer: String) {
        let mut notes = self.notes();
        if notes.asked.len() < ASKED_MAX {
            let of = notes.names.get(&place_of(history)).map_or("?", String::as_str).to_owned();
            let question = format!("history.{of}:{call}");
            notes.asked.push(Asked { of, reach, question, answer });
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        // Each note is whole even if its thread then panics.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A history is told from another by where it lies; it stays there for the length of a call.
fn place_of(history: &History) -> usize {
    std::ptr::from_ref(history).addr()
}
