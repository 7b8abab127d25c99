//! What a folder of segments says when it is read again: the index, what core is owed, how full it is.

use std::collections::{BTreeMap, BTreeSet};

use backstop_contract::{Outcome, Timestamp};

use crate::place::{AdviceId, Key, Position};
use crate::record::{Acknowledged, Answer, Decoded, Record, TierCode, padded};
use crate::register::{Known, Register, State};
use crate::scribe::shelf::Shelf;
use crate::segment::{End, NewerVersion, recover};
use crate::settings::Settings;
use crate::shipping::Shipping;

/// The three indexes, rebuilt. Segments are read in the order of their numbers.
#[derive(Debug)]
pub struct Recovery<W> {
    pub(crate) settings: Settings,
    pub(crate) register: Register<W>,
    pub(crate) shelf: Shelf,
    /// In the order in which they were read, as is what became of them.
    debts: Vec<(AdviceId, (Key, Position))>,
    settled: Vec<(AdviceId, State)>,
    refused: BTreeMap<AdviceId, String>,
    with_settled: BTreeSet<u32>,
    pub(crate) last_segment: u32,
    last_epoch: u64,
}

impl<W: Clone> Recovery<W> {
    /// Nothing read yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: *settings,
            // While debts fill the book, answers go on in memory.
            register: Register::new(settings.keys_max + settings.memory_max),
            shelf: Shelf::new(settings),
            debts: Vec::new(),
            settled: Vec::new(),
            refused: BTreeMap::new(),
            with_settled: BTreeSet::new(),
            last_segment: 0,
            last_epoch: 0,
        }
    }

    /// Reads all that is sound in the bytes of a segment, and says how it ends. Read again, once what is
    /// damaged was set aside, it is where it is now.
    pub fn read(&mut self, segment: u32, bytes: &[u8]) -> Result<End, NewerVersion> {
        self.number_taken(segment);
        self.shelf.remove(segment);
        self.shelf.add(segment, bytes.len() as u64, bytes.len() as u64, Timestamp::default());
        self.shelf.close(segment);
        let mut is_begun = false;
        recover(bytes, |at, decoded| {
            let Decoded { record, bytes, .. } = decoded;
            let position = Position {
                segment,
                offset: u32::try_from(at).unwrap_or(u32::MAX),
                length: u32::try_from(bytes.len()).unwrap_or_default(),
            };
            match record {
                Record::Opened(opening) => {
                    self.last_epoch = std::cmp::max(self.last_epoch, opening.epoch);
                    self.shelf.begin(segment, opening.at);
                }
                Record::Said(answer) => {
                    if !is_begun {
                        self.shelf.begin(segment, answer.received_at);
                        is_begun = true;
                    }
                    self.said(&answer, position);
                }
                Record::Settled(list) => {
                    self.with_settled.insert(segment);
                    self.acknowledged(list);
                }
            }
        })
    }

    /// A file has this number, whatever is in it: it is not given again.
    pub fn number_taken(&mut self, segment: u32) {
        self.last_segment = std::cmp::max(self.last_segment, segment);
    }

    /// A segment takes this much room: with what was kept free for it, or once its tail is cut.
    pub fn resize(&mut self, segment: u32, size: u64) {
        self.shelf.resize(segment, padded(usize::try_from(size).unwrap_or_default()) as u64);
    }

    /// A segment with nothing in it was removed.
    pub fn remove(&mut self, segment: u32) {
        self.shelf.remove(segment);
    }

    /// Whether a segment has nothing but its head.
    pub fn is_empty(&self, segment: u32) -> bool {
        let is_without_answers = self.shelf.volume(segment).is_none_or(|it| it.entries == 0);
        is_without_answers && !self.with_settled.contains(&segment)
    }

    /// An epoch that no advice was numbered in before, as far as anybody can tell: the wall clock stands
    /// in for epochs whose every record was lost.
    pub fn next_epoch(&self, now: Timestamp) -> u64 {
        std::cmp::max(self.last_epoch + 1, u64::try_from(now.as_millis()).unwrap_or_default())
    }

    /// Answers found so far; one that stands in two places is one.
    pub const fn entries(&self) -> usize {
        self.register.len()
    }

    /// What core is owed, by age.
    pub(crate) fn shipping(&mut self, seed: u64) -> Shipping {
        let Settings { batch_max, in_flight_max, .. } = self.settings;
        let mut shipping = Shipping::new(batch_max, in_flight_max, seed);
        // Of copies the last is the one that stays; it stands in the segment with the highest number.
        let debts = last_of_each(std::mem::take(&mut self.debts));
        let settled = last_of_each(std::mem::take(&mut self.settled));
        let mut settled = settled.into_iter().peekable();
        let mut superseded = 0;
        for (advice, (key, position)) in debts {
            while settled.next_if(|it| it.0 < advice).is_some() {}
            let state = settled.next_if(|it| it.0 == advice).map(|it| it.1);
            let known = self.register.known(&key);
            if known.and_then(|known| known.position) != Some(position) {
                // An id is told otherwise only once it was forgotten, and no id is forgotten before core
                // knows what was told, or it is counted as lost. So this segment outlived its removal, as
                // one does that the disk had not got round to when the power went; and what core made of
                // the advice stood in one that is really gone.
                superseded += u64::from(state.is_none());
                continue;
            }
            match state {
                Some(State::SetAside) => {
                    let why = self.refused.remove(&advice).unwrap_or_default();
                    self.register.settle(&key, State::SetAside);
                    shipping.set_aside(advice, key, position, why);
                    self.shelf.owe(position);
                }
                Some(state) => self.register.settle(&key, state),
                None => {
                    shipping.owe(advice, key, position);
                    self.shelf.owe(position);
                }
            }
        }
        if superseded > 0 {
            tracing::warn!(superseded, "a removed segment is back: core was told of these before");
        }
        shipping
    }

    fn said(&mut self, answer: &Answer<'_>, position: Position) {
        let Answer { key, hash, advice, received_at, verdict, tier, .. } = answer;
        let state = if *tier == TierCode::Core { State::Final } else { State::Unsettled };
        let known = Known { position: Some(position), verdict: *verdict, tier: *tier, state };
        self.register.restore(*key, hash, &known);
        self.shelf.enter(position.segment, *received_at);
        if let Some(advice) = advice {
            self.last_epoch = std::cmp::max(self.last_epoch, advice.epoch);
            self.debts.push((*advice, (*key, position)));
        }
    }

    fn acknowledged(&mut self, list: Vec<Acknowledged>) {
        for Acknowledged { advice, outcome, why } in list {
            self.settled.push((advice, State::of(&outcome)));
            if outcome == Outcome::Refused {
                self.refused.insert(advice, why);
            }
        }
    }
}

/// By age, of those with the same number the one that was read last. They are nearly in order as they come.
fn last_of_each<T>(mut list: Vec<(AdviceId, T)>) -> Vec<(AdviceId, T)> {
    list.sort_by_key(|it| it.0);
    list.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
    list
}
