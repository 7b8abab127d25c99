//! What is known of every id, in memory: who asks for it now, and what was said, written once.
//!
//! One known id takes [`BYTES_PER_KEY`] bytes. They lie in many small tables, because one large one would
//! stop every request for as long as it grows; and there are as many tables as fill well at `keys_max`.

use std::collections::{HashMap, VecDeque};

use backstop_contract::{Outcome, RequestHash, Verdict};
use bytes::Bytes;

use crate::health::Count;
use crate::place::{Key, Position};
use crate::record::TierCode;

/// What one known id takes once the book is full: an entry of 40 bytes and its control byte, in tables that
/// are between 70 and 80 percent full.
pub const BYTES_PER_KEY: usize = 58;

/// A table of 4,096 places holds 3,584; with this many on average none grows beyond it.
const KEYS_PER_TABLE: usize = 3_000;

/// Where a stand-in stands with core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Core's own answer.
    Final,
    /// Core has yet to settle it.
    Unsettled,
    /// Core refused it, or it can not be read any more.
    SetAside,
    /// [`Outcome::Applied`].
    Applied,
    /// [`Outcome::Match`].
    Matched,
    /// [`Outcome::Overridden`].
    Overridden,
    /// [`Outcome::Conflict`].
    Conflict,
    /// [`Outcome::Newer`]; its word is in the record alone.
    SettledAnew,
}

/// What is known of an answer without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it is; `None` while it is in memory alone, or once it is nowhere any more.
    pub position: Option<Position>,
    /// What it said.
    pub verdict: Verdict,
    /// Who decided.
    pub tier: TierCode,
    /// Where it stands with core.
    pub state: State,
}

/// What somebody who asks for an id learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<W> {
    /// Nothing is written down yet: a turn among those who ask.
    Turn {
        /// Its number, never given twice.
        turn: u64,
        /// Nobody asked before.
        is_first: bool,
        /// Shared by all who ask for this id now.
        waiter: W,
    },
    /// It was answered.
    Known(Known),
    /// It was asked under another hash.
    Other,
}

/// What becomes of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// It is the answer.
    First,
    /// Another was first.
    Second,
    /// It is the answer, but there is no room to remember it.
    Unremembered,
}

/// What is known of every id. `W` is what those who ask for the same id share.
#[derive(Debug)]
pub struct Register<W> {
    tables: Vec<HashMap<Key, Slot>>,
    /// One for each id that somebody asks for now: bounded by the callers.
    asking: HashMap<Key, Asking<W>>,
    /// The records that no file holds for certain, bounded by the scribe.
    memory: HashMap<Key, Bytes>,
    keys: usize,
    keys_max: usize,
    turns: u64,
    counts: [[u64; STATES.len()]; TierCode::ALL.len()],
}

#[derive(Debug)]
struct Asking<W> {
    hash: RequestHash,
    /// Whose turn it is stands first.
    turns: VecDeque<u64>,
    is_said: bool,
    waiter: W,
}

/// 24 bytes, which [`BYTES_PER_KEY`] depends on.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Segment 0: in memory alone. Length 0: nowhere any more, and to be forgotten with that segment.
    position: Position,
    /// The start of a keyed hash, which nobody can aim at.
    check: [u8; 8],
    verdict: Verdict,
    tier: TierCode,
    state: State,
}

const STATES: [&str; 4] = ["final", "unsettled", "settled", "set_aside"];
const IN_MEMORY: Position = Position { segment: 0, offset: 0, length: 0 };

impl State {
    /// The state of what core settled so.
    pub const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Applied => Self::Applied,
            Outcome::Match => Self::Matched,
            Outcome::Overridden => Self::Overridden,
            Outcome::Conflict => Self::Conflict,
            Outcome::Refused => Self::SetAside,
            Outcome::Newer(_) => Self::SettledAnew,
        }
    }

    /// What core made of it; `None` where it made nothing of it yet, or decided itself.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Final | Self::Unsettled => None,
            Self::SetAside => Some(Outcome::Refused),
            Self::Applied => Some(Outcome::Applied),
            Self::Matched => Some(Outcome::Match),
            Self::Overridden => Some(Outcome::Overridden),
            Self::Conflict => Some(Outcome::Conflict),
            Self::SettledAnew => Some(Outcome::Newer("newer".into())),
        }
    }

    /// Whether the books have it for good.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Unsettled | Self::SetAside)
    }

    const fn column(self) -> usize {
        match self {
            Self::Final => 0,
            Self::Unsettled => 1,
            Self::SetAside => 3,
            _ => 2,
        }
    }
}

impl Slot {
    fn known(&self) -> Known {
        let Self { position, verdict, tier, state, .. } = *self;
        let is_somewhere = position.segment > 0 && position.length > 0;
        Known { position: is_somewhere.then_some(position), verdict, tier, state }
    }
}

fn check(hash: &RequestHash) -> [u8; 8] {
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

impl<W: Clone> Register<W> {
    /// A register that remembers up to `keys_max` ids.
    pub fn new(keys_max: usize) -> Self {
        let tables = std::cmp::max(1, keys_max.div_ceil(KEYS_PER_TABLE));
        Self {
            tables: std::iter::repeat_with(HashMap::new).take(tables).collect(),
            asking: HashMap::new(),
            memory: HashMap::new(),
            keys: 0,
            keys_max,
            turns: 0,
            counts: Default::default(),
        }
    }

    /// Asks for an id. `waiter` makes what is shared, if nobody asks for it yet.
    pub fn ask(&mut self, key: Key, hash: &RequestHash, waiter: impl FnOnce() -> W) -> Answer<W> {
        if !self.asking.contains_key(&key) {
            match self.slot(&key) {
                Some(slot) if slot.check != check(hash) => return Answer::Other,
                Some(slot) => return Answer::Known(slot.known()),
                None => {}
            }
        }
        let asking = self.asking.entry(key).or_insert_with(|| Asking {
            hash: *hash,
            turns: VecDeque::new(),
            is_said: false,
            waiter: waiter(),
        });
        if asking.hash != *hash {
            return Answer::Other;
        }
        self.turns += 1;
        asking.turns.push_back(self.turns);
        let is_first = asking.turns.len() == 1 && !asking.is_said;
        Answer::Turn { turn: self.turns, is_first, waiter: asking.waiter.clone() }
    }

    /// Whether it is this turn's to find an answer.
    pub fn is_first(&self, key: &Key, turn: u64) -> bool {
        let asking = self.asking.get(key);
        asking.is_some_and(|it| !it.is_said && it.turns.front() == Some(&turn))
    }

    /// Gives a turn up. `Some`: those who share it should look whose turn it is now.
    pub fn leave(&mut self, key: &Key, turn: u64) -> Option<W> {
        let asking = self.asking.get_mut(key)?;
        let was_first = asking.turns.front() == Some(&turn);
        asking.turns.retain(|it| *it != turn);
        if asking.is_said {
            return None;
        }
        if asking.turns.is_empty() {
            self.asking.remove(key);
            return None;
        }
        was_first.then(|| asking.waiter.clone())
    }

    /// Proposes an answer, which is in memory alone as yet. The first for a key wins.
    pub fn propose(
        &mut self,
        key: Key,
        hash: &RequestHash,
        verdict: Verdict,
        tier: TierCode,
    ) -> Proposal {
        let asking = self.asking.get_mut(&key);
        if asking.as_ref().is_some_and(|it| it.is_said) || self.slot(&key).is_some() {
            return Proposal::Second;
        }
        if let Some(asking) = self.asking.get_mut(&key) {
            asking.is_said = true;
        }
        if self.keys >= self.keys_max {
            return Proposal::Unremembered;
        }
        let state = if tier == TierCode::Core { State::Final } else { State::Unsettled };
        self.insert(key, Slot { position: IN_MEMORY, check: check(hash), verdict, tier, state });
        Proposal::First
    }

    /// Those who asked for the key may be told now: they are nobody's turn any more.
    pub fn tell(&mut self, key: &Key) -> Option<W> {
        let asking = self.asking.get(key).filter(|it| it.is_said)?;
        let waiter = asking.waiter.clone();
        self.asking.remove(key);
        Some(waiter)
    }

    /// Enters what was found in a file. A later file knows better where it is.
    pub fn restore(&mut self, key: Key, hash: &RequestHash, known: &Known) {
        let Known { position, verdict, tier, state } = *known;
        let position = position.unwrap_or(IN_MEMORY);
        self.insert(key, Slot { position, check: check(hash), verdict, tier, state });
    }

    fn insert(&mut self, key: Key, slot: Slot) {
        self.count(slot, 1);
        match self.table(&key).and_then(|table| table.insert(key, slot)) {
            Some(earlier) => self.count(earlier, -1),
            None => self.keys += 1,
        }
    }

    /// What is known of a key.
    pub fn known(&self, key: &Key) -> Option<Known> {
        self.slot(key).map(Slot::known)
    }

    /// What those share who ask for a key that was answered and not yet told.
    pub fn telling(&self, key: &Key) -> Option<W> {
        self.asking.get(key).filter(|it| it.is_said).map(|it| it.waiter.clone())
    }

    /// The record of a key that no file holds for certain.
    pub fn in_memory(&self, key: &Key) -> Option<Bytes> {
        self.memory.get(key).cloned()
    }

    /// Keeps the record in memory.
    pub fn keep(&mut self, key: Key, record: Bytes) {
        self.memory.insert(key, record);
    }

    /// Lets go of the record in memory.
    pub fn let_go(&mut self, key: &Key) {
        self.memory.remove(key);
    }

    /// The record is here now; `None`: in memory alone.
    pub fn moved(&mut self, key: &Key, position: Option<Position>) {
        if let Some(slot) = self.table(key).and_then(|table| table.get_mut(key)) {
            slot.position = position.unwrap_or(IN_MEMORY);
        }
    }

    /// The record is nowhere any more. Its verdict stays known until `segment` is forgotten.
    pub fn lost(&mut self, key: &Key, segment: u32) {
        self.memory.remove(key);
        self.moved(key, Some(Position { segment, offset: 0, length: 0 }));
    }

    /// Core has said what it makes of the answer.
    pub fn settle(&mut self, key: &Key, state: State) {
        let Some(slot) = self.table(key).and_then(|table| table.get_mut(key)) else { return };
        let earlier = *slot;
        slot.state = state;
        let slot = *slot;
        self.count(earlier, -1);
        self.count(slot, 1);
    }

    /// Forgets every key of the segments up to this one, in `tables` of the tables from `from` on; where to
    /// go on, if not done.
    pub fn forget(&mut self, segment: u32, from: usize, tables: usize) -> Option<usize> {
        let mut counts = std::mem::take(&mut self.counts);
        for table in self.tables.iter_mut().skip(from).take(tables) {
            let before = table.len();
            table.retain(|_, slot| {
                let stays = slot.position == IN_MEMORY || slot.position.segment > segment;
                if !stays {
                    tally(&mut counts, slot, -1);
                }
                stays
            });
            self.keys -= before - table.len();
        }
        self.counts = counts;
        let next = from + tables;
        (next < self.tables.len()).then_some(next)
    }

    /// How many ids are known.
    pub const fn len(&self) -> usize {
        self.keys
    }

    /// Whether no id is known.
    pub const fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// How many answers there are of each tier and state.
    pub fn counts(&self) -> Vec<Count> {
        let rows = TierCode::ALL.into_iter().zip(&self.counts);
        rows.flat_map(|(tier, row)| {
            let decided_by = tier.label();
            let cells = STATES.into_iter().zip(row);
            cells.map(move |(state, entries)| Count { decided_by, state, entries: *entries })
        })
        .collect()
    }

    fn count(&mut self, slot: Slot, by: i64) {
        tally(&mut self.counts, &slot, by);
    }

    fn table_of(&self, key: &Key) -> usize {
        let first = key.as_bytes().first_chunk().copied().map_or(0, u32::from_le_bytes);
        first as usize % self.tables.len()
    }

    fn slot(&self, key: &Key) -> Option<&Slot> {
        self.tables.get(self.table_of(key))?.get(key)
    }

    fn table(&mut self, key: &Key) -> Option<&mut HashMap<Key, Slot>> {
        let table = self.table_of(key);
        self.tables.get_mut(table)
    }
}

fn tally(counts: &mut [[u64; STATES.len()]; TierCode::ALL.len()], slot: &Slot, by: i64) {
    let row = counts.get_mut(slot.tier as usize);
    if let Some(cell) = row.and_then(|row| row.get_mut(slot.state.column())) {
        *cell = cell.saturating_add_signed(by);
    }
}

#[cfg(test)]
mod tests;
