//! What a folder of segments says when it is read again: the index, what core is owed, how full it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    debts: Vec<(AdviceId, Key, Position)>,
    settled: HashMap<AdviceId, State>,
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
            settled: HashMap::new(),
            refused: BTreeMap::new(),
            with_settled: BTreeSet::new(),
            last_segment: 0,
            last_epoch: 0,
        }
    }

    /// Reads all that is sound in the bytes of a segment, and says how it ends.
    pub fn read(&mut self, segment: u32, bytes: &[u8]) -> Result<End, NewerVersion> {
        self.number_taken(segment);
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

    /// A segment takes this much room once its tail is cut.
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
        let mut debts = std::mem::take(&mut self.debts);
        // Of copies the last is the one that stays; it stands in the segment with the highest number.
        debts.sort_unstable();
        let mut debts = debts.into_iter().peekable();
        while let Some((advice, key, position)) = debts.next() {
            if debts.peek().is_some_and(|next| next.0 == advice) {
                continue;
            }
            match self.settled.get(&advice) {
                Some(State::SetAside) => {
                    let why = self.refused.remove(&advice).unwrap_or_default();
                    self.register.settle(&key, State::SetAside);
                    shipping.set_aside(advice, key, position, why);
                    self.shelf.owe(position);
                }
                Some(state) => self.register.settle(&key, *state),
                None => {
                    shipping.owe(advice, key, position);
                    self.shelf.owe(position);
                }
            }
        }
        self.settled = HashMap::new();
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
            self.debts.push((*advice, *key, position));
        }
    }

    fn acknowledged(&mut self, list: Vec<Acknowledged>) {
        for Acknowledged { advice, outcome, why } in list {
            self.settled.insert(advice, State::of(&outcome));
            if outcome == Outcome::Refused {
                self.refused.insert(advice, why);
            }
        }
    }
}
