//! A place among those who ask for one id at a time.

use std::fmt;
use std::sync::Arc;

use backstop_contract::{Deadline, Decision};
use tokio::time::{Instant, timeout};

use super::Said;
use crate::entry::Entry;
use crate::place::Key;
use crate::register::Proposal;
use crate::slot::Slot;
use crate::threads::Shared;

/// A place among those who ask for one id at a time. Dropped without a word it passes on to the next.
pub struct Turn {
    shared: Arc<Shared>,
    key: Key,
    number: u64,
    slot: Arc<Slot>,
}

impl Turn {
    pub(super) const fn new(shared: Arc<Shared>, key: Key, number: u64, slot: Arc<Slot>) -> Self {
        Self { shared, key, number, slot }
    }

    /// Nobody asked for this id before, or those who did are gone; and nothing was said for it yet.
    pub fn is_first(&self) -> bool {
        self.shared.desk().keeper.is_first(&self.key, self.number)
    }

    /// Waits until this is the first turn, which it may never be; at once where it is.
    pub async fn becomes_first(&self) {
        self.slot.until(|| self.is_first().then_some(())).await;
    }

    /// What somebody says for this id, once it is written down or can not be.
    pub async fn heard(&self) -> Said {
        let (answer, durable) = self.slot.until(|| self.slot.heard()).await;
        replayed(answer, durable)
    }

    /// Proposes an answer; the first proposal for an id wins, and is what comes back. Waits for it to be
    /// written down, until the deadline at most: later it goes out undurable. From its first poll on,
    /// dropping the future cancels nothing.
    pub async fn say(&self, entry: Entry, deadline: Deadline) -> Said {
        let is_first = self.propose(&entry);
        let told = self.slot.until(|| self.slot.durable());
        let told = timeout(deadline.left(Instant::now()), told).await;
        let durable = told.unwrap_or_else(|_late| {
            self.shared.desk().keeper.released_early(&self.key);
            self.shared.ship.notify_waiters();
            false
        });
        match self.slot.answer() {
            Some(answer) if !is_first => replayed(answer, durable),
            _ => Said { answer: standing(entry.answer, durable), is_first },
        }
    }

    /// Whether it is the answer.
    fn propose(&self, entry: &Entry) -> bool {
        // A decision is text and numbers: it is JSON whatever happens.
        let json = serde_json::to_vec(&entry.answer).unwrap_or_default();
        let mut desk = self.shared.desk();
        let is_first = desk.keeper.say(self.key, entry, &json) != Proposal::Second;
        if is_first {
            self.slot.said(entry.answer.clone());
        }
        self.shared.hand_back(desk);
        is_first
    }
}

fn replayed(answer: &Decision, durable: bool) -> Said {
    let answer = Decision { replayed: true, ..standing(answer.clone(), durable) };
    Said { answer, is_first: false }
}

/// As it stands when it is told: a stand-in is settled later.
fn standing(answer: Decision, durable: bool) -> Decision {
    Decision { durable, is_final: !answer.is_stand_in(), ..answer }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.slot.durable().is_some() {
            return;
        }
        let others = self.shared.desk().keeper.leave(&self.key, self.number);
        if let Some(slot) = others {
            slot.stir();
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("key", &self.key)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
