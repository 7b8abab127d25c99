//! The book as one machine: register, scribe and shipping, and what each has to tell the others.
//!
//! It does no I/O and reads no clock. [`Bookkeeper::act`] says what is to be done to the disk,
//! [`Bookkeeper::done`] takes how it went, and [`Bookkeeper::take_told`] names whom to wake. After a crash
//! [`Recovery`] reads what the disk has, and a new one goes on from there.

use std::collections::HashMap;

use backstop_contract::advice::{Settled, Settlement};
use backstop_contract::{Outcome, RequestHash, Timestamp};
use bytes::Bytes;
use tokio::time::Instant;

use crate::entry::Entry;
use crate::health::Health;
use crate::now::Now;
use crate::place::{AdviceId, Key, Position};
use crate::record::{Acknowledged, Answer as Written, TierCode, WHY_BYTES_MAX, cut};
use crate::recovery::Recovery;
use crate::register::{Answer, Known, Proposal, Register, State};
use crate::scribe::queue::Subject;
use crate::scribe::{Action, Done, Notice, Scribe};
use crate::settings::{Fsync, Settings};
use crate::shipping::{Cleared, Next, Owed, Shipping};

mod eviction;

use eviction::Eviction;

/// The book as one machine. `W` is what those who ask for the same id share.
#[derive(Debug)]
pub struct Bookkeeper<W> {
    settings: Settings,
    register: Register<W>,
    scribe: Scribe,
    shipping: Shipping,
    eviction: Eviction,
    told: Vec<(W, bool)>,
    /// Stand-ins that nobody was told yet. Core hears of none before its client: until then a crash may
    /// leave the id to another answer.
    untold: HashMap<Key, AdviceId>,
    totals: Totals,
}

/// Where the record of an answer is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Here.
    Memory(Bytes),
    /// In a file.
    Disk(Position),
    /// Nowhere any more.
    Nowhere,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    undurable: u64,
    forgotten: u64,
    forgotten_debts: u64,
}

impl<W: Clone> Bookkeeper<W> {
    /// Goes on with what was read. `epoch` is from [`Recovery::next_epoch`]; the seed is for the waits
    /// of shipping.
    pub fn new(mut recovery: Recovery<W>, node: [u8; 16], epoch: u64, seed: u64) -> Self {
        let shipping = recovery.shipping(seed);
        let Recovery { settings, register, shelf, last_segment, .. } = recovery;
        Self {
            scribe: Scribe::new(&settings, node, epoch, shelf, last_segment),
            settings,
            register,
            shipping,
            eviction: Eviction::Idle,
            told: Vec::new(),
            untold: HashMap::new(),
            totals: Totals::default(),
        }
    }

    /// Asks for an id; see [`Register::ask`].
    pub fn ask(&mut self, key: Key, hash: &RequestHash, waiter: impl FnOnce() -> W) -> Answer<W> {
        self.register.ask(key, hash, waiter)
    }

    /// Whether it is this turn's to find an answer.
    pub fn is_first(&self, key: &Key, turn: u64) -> bool {
        self.register.is_first(key, turn)
    }

    /// Gives a turn up; `Some`: those to look whose turn it is now.
    pub fn leave(&mut self, key: &Key, turn: u64) -> Option<W> {
        self.register.leave(key, turn)
    }

    /// What those share who wait for an answer that was said and not told yet.
    pub fn telling(&self, key: &Key) -> Option<W> {
        self.register.telling(key)
    }

    /// Proposes an answer, with its JSON. The first for a key wins, and is told once it is written down
    /// or can not be.
    pub fn say(&mut self, key: Key, entry: &Entry, json: &[u8]) -> Proposal {
        let (verdict, tier) = (entry.answer.decision, TierCode::of(&entry.answer.decided_by));
        let proposal = self.register.propose(key, &entry.hash, verdict, tier);
        let is_stand_in = entry.answer.is_stand_in();
        match proposal {
            Proposal::Second => return proposal,
            Proposal::Unremembered => {
                self.forgotten(is_stand_in, "there is no room for another id");
                self.tell(&key, false);
                return proposal;
            }
            Proposal::First => {}
        }
        let answer = Written {
            key,
            hash: entry.hash,
            advice: None,
            received_at: entry.received_at,
            verdict,
            tier,
            test: entry.test,
            numeric_ids: entry.numeric_ids,
            merchant: &entry.merchant,
            answer: json,
            request: if is_stand_in { &entry.request } else { &[] },
        };
        if let Some((record, subject)) = self.scribe.say(&answer, is_stand_in) {
            if let Some(advice) = subject.advice() {
                self.untold.insert(key, advice);
            }
            self.register.keep(key, record);
        } else {
            self.register.lost(&key, self.scribe.shelf().last());
            self.forgotten(is_stand_in, "it is longer than a record may be");
            self.tell(&key, false);
        }
        self.heed();
        proposal
    }

    /// What is to be done to the disk now.
    pub fn act(&mut self, now: Now) -> Vec<Action> {
        let mut actions = self.scribe.act(now);
        actions.extend(self.evict(now));
        self.heed();
        actions
    }

    /// An action ended.
    pub fn done(&mut self, done: Done, now: Now) {
        match done {
            Done::Wrote(result) => self.scribe.wrote(result, now),
            Done::Synced(segment, result) => self.scribe.synced(segment, result, now),
            Done::Created(segment, result) => self.scribe.created(segment, result, now),
            Done::Deleted(segment) => self.deleted(segment),
            Done::Read(records) => self.carry(records, now),
        }
        self.heed();
    }

    /// When there is something to do, if nothing happens before.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        if self.evicts_on() { Some(now) } else { self.scribe.next_due() }
    }

    /// Whom to wake since the last call, and whether what they hear is durable.
    pub fn take_told(&mut self) -> Vec<(W, bool)> {
        std::mem::take(&mut self.told)
    }

    /// What is known of a key without reading it.
    pub fn known(&self, key: &Key) -> Option<Known> {
        self.register.known(key)
    }

    /// Where the record of a key is.
    pub fn source(&self, key: &Key) -> Source {
        match (self.register.in_memory(key), self.register.known(key)) {
            (Some(record), _) => Source::Memory(record),
            (None, Some(Known { position: Some(position), .. })) => Source::Disk(position),
            (None, _) => Source::Nowhere,
        }
    }

    /// Whether the answer of a key is durable now, by the policy.
    pub fn is_durable(&self, key: &Key) -> bool {
        let position = self.register.known(key).and_then(|known| known.position);
        let is_synced = self.register.in_memory(key).is_none();
        match self.settings.fsync {
            Fsync::Process => position.is_some(),
            Fsync::Disk => {
                is_synced && position.is_some_and(|it| !self.scribe.is_doubted(it.segment))
            }
        }
    }

    /// The next message to core, if one may go now.
    pub fn next_batch(&mut self, now: Instant) -> Next {
        self.shipping.next(now)
    }

    /// Core has answered a message.
    pub fn settled(&mut self, batch: u64, settlement: &Settlement, now: Instant) {
        let settled = settlement
            .settled
            .iter()
            .map(|it| Settled { why: cut(&it.why, WHY_BYTES_MAX).to_owned(), ..it.clone() });
        let cleared = self.shipping.settled(batch, settled.collect(), now);
        if cleared.is_empty() {
            return;
        }
        let list = cleared.iter().map(|it| Acknowledged {
            advice: it.owed.advice,
            outcome: it.outcome.clone(),
            why: it.why.clone(),
        });
        self.scribe.settle(list.collect());
        for Cleared { owed, outcome, why } in cleared {
            self.register.settle(&owed.key, State::of(&outcome));
            if outcome == Outcome::Refused {
                tracing::error!(advice = ?owed.advice, why, "core refused an advice: set aside");
                self.shipping.set_aside(owed.advice, owed.key, owed.position, why);
            } else {
                self.scribe.shelf_mut().clear(owed.position);
            }
        }
    }

    /// A message or its answer was lost.
    pub fn failed(&mut self, batch: u64, now: Instant) {
        self.shipping.failed(batch, now);
    }

    /// A message was not sent.
    pub fn put_back(&mut self, batch: u64) {
        self.shipping.put_back(batch);
    }

    /// Core may be back.
    pub fn wake(&mut self) {
        self.shipping.wake();
    }

    /// The record of an advice can not be read: it is set aside until the next start.
    pub fn unreadable(&mut self, owed: &Owed) {
        if let Some(position) = self.shipping.forget(owed.advice) {
            let why = "its record can not be read any more".to_owned();
            tracing::error!(advice = ?owed.advice, ?position, why, "an advice is set aside");
            self.register.settle(&owed.key, State::SetAside);
            self.shipping.set_aside(owed.advice, owed.key, position, why);
        }
    }

    /// What core is owed.
    pub const fn shipping(&self) -> &Shipping {
        &self.shipping
    }

    /// The files.
    pub const fn scribe(&self) -> &Scribe {
        &self.scribe
    }

    /// An answer goes out before it is known to be written down.
    pub fn released_early(&mut self, key: &Key) {
        self.totals.undurable += 1;
        self.owe(key);
    }

    /// From now on, what is there is written and synced without delay.
    pub const fn close(&mut self) {
        self.scribe.close();
    }

    /// How the book fares. What only the folder knows is left at zero.
    pub fn health(&self, now: Timestamp) -> Health {
        let trouble = self.scribe.trouble();
        let totals = self.scribe.shelf().totals();
        let oldest = self.scribe.shelf().oldest();
        Health {
            trusted: trouble.is_none(),
            since: trouble.map(|it| it.since),
            why: trouble.map(|it| it.why.clone()).unwrap_or_default(),
            entries: totals.entries,
            keys: self.register.len() as u64,
            bytes: totals.size,
            unsettled: (self.shipping.len() + self.untold.len()) as u64,
            set_aside: self.shipping.aside_len() as u64,
            undurable: self.scribe.waiting() as u64,
            undurable_total: self.totals.undurable,
            forgotten_debts_total: self.totals.forgotten_debts,
            forgotten_total: self.totals.forgotten,
            horizon: oldest.map(|oldest| now.distance(oldest)).unwrap_or_default(),
            corrupt_files: 0,
            counts: self.register.counts(),
        }
    }

    /// Takes what the scribe has to say into the indexes.
    fn heed(&mut self) {
        for notice in self.scribe.take_notices() {
            match notice {
                Notice::Written(subject, position) => self.is_at(subject, position),
                Notice::Told(key, durable) => self.tell(&key, durable),
                Notice::Safe(subject) => {
                    if let Some(key) = subject.key() {
                        self.register.let_go(&key);
                    }
                }
                Notice::Adrift(subject) => self.is_adrift(subject),
                Notice::Forgotten(subject) => self.is_lost(subject),
            }
        }
    }

    fn is_at(&mut self, subject: Subject, position: Position) {
        if let Some(key) = subject.key() {
            self.register.moved(&key, Some(position));
        }
        self.owed_at(subject, position);
    }

    fn is_adrift(&mut self, subject: Subject) {
        let Some(key) = subject.key() else { return };
        self.register.moved(&key, None);
        let record = self.register.in_memory(&key);
        self.owed_at(subject, Position::in_memory(record.map_or(0, |it| length(&it))));
    }

    fn owed_at(&mut self, subject: Subject, position: Position) {
        let advice = subject.advice();
        if let Some(earlier) = advice.and_then(|it| self.shipping.moved(it, position)) {
            self.scribe.shelf_mut().clear(earlier);
            self.scribe.shelf_mut().owe(position);
        }
    }

    fn is_lost(&mut self, subject: Subject) {
        let Some(key) = subject.key() else { return };
        self.register.lost(&key, std::cmp::max(1, self.scribe.shelf().last()));
        let owed = subject.advice().and_then(|it| self.shipping.forget(it));
        let is_debt = self.untold.remove(&key).is_some() || owed.is_some();
        self.forgotten(is_debt, "the disk takes nothing, and the memory for it is full");
    }

    fn forgotten(&mut self, is_debt: bool, why: &str) {
        if is_debt {
            self.totals.forgotten_debts += 1;
            tracing::error!(why, "an answer that core was to be told of is lost");
        } else {
            self.totals.forgotten += 1;
        }
    }

    fn tell(&mut self, key: &Key, durable: bool) {
        self.totals.undurable += u64::from(!durable);
        self.told.extend(self.register.tell(key).map(|waiter| (waiter, durable)));
        self.owe(key);
    }

    /// The client of a stand-in is told: now core is to be.
    fn owe(&mut self, key: &Key) {
        let Some(advice) = self.untold.remove(key) else { return };
        if let Some(position) = self.register.known(key).and_then(|known| known.position) {
            self.shipping.owe(advice, *key, position);
            self.scribe.shelf_mut().owe(position);
        } else {
            let record = self.register.in_memory(key);
            let length = record.map_or(0, |record| length(&record));
            self.shipping.owe(advice, *key, Position::in_memory(length));
        }
    }
}

fn length(record: &Bytes) -> u32 {
    u32::try_from(record.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
