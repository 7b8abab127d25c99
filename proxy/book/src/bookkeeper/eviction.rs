//! How a segment goes: what core is owed in it is copied forward, its keys are forgotten, and only then is
//! it removed. In small steps, because answers wait meanwhile.

use backstop_contract::Outcome;
use bytes::Bytes;

use super::Bookkeeper;
use crate::now::Now;
use crate::place::{AdviceId, Key, Position};
use crate::record::{Acknowledged, Record, decode};
use crate::scribe::Action;

/// Advices looked at in one step.
const SCAN_MAX: usize = 4_096;
/// Records read in one step.
const READ_MAX: usize = 64;
/// Copies that wait to be synced before more are read.
const CARRYING_MAX: usize = 256;
/// Tables of the register in one step: some 40,000 keys.
const TABLES: usize = 16;

/// How far it is.
#[derive(Debug)]
pub(super) enum Eviction {
    /// No segment has to go.
    Idle,
    /// What is owed in it is copied.
    Carrying(Carrying),
    /// Its keys are forgotten.
    Forgetting { segment: u32, from: usize },
    /// It is being removed.
    Deleting { segment: u32 },
}

#[derive(Debug)]
pub(super) struct Carrying {
    segment: u32,
    scan: Scan,
    /// Found, and not read yet.
    found: Vec<(AdviceId, Key, Position)>,
    /// Being read.
    reading: Vec<(AdviceId, Key, Position)>,
}

#[derive(Clone, Copy, Debug)]
enum Scan {
    Aside(Option<AdviceId>),
    Owed(Option<AdviceId>),
    Done,
}

impl<W: Clone> Bookkeeper<W> {
    /// Whether another step may follow at once.
    pub(super) fn evicts_on(&self) -> bool {
        let carrying = self.scribe.carrying();
        match &self.eviction {
            Eviction::Idle | Eviction::Deleting { .. } => false,
            Eviction::Forgetting { .. } => true,
            Eviction::Carrying(it) if !it.reading.is_empty() => false,
            Eviction::Carrying(it) if it.found.is_empty() && matches!(it.scan, Scan::Done) => {
                carrying == 0
            }
            Eviction::Carrying(_) => carrying <= CARRYING_MAX,
        }
    }

    /// The next step.
    pub(super) fn evict(&mut self, now: Now) -> Option<Action> {
        match std::mem::replace(&mut self.eviction, Eviction::Idle) {
            Eviction::Idle => {
                let segment = self.scribe.to_go(now.wall)?;
                let scan = Scan::Aside(None);
                let carrying = Carrying { segment, scan, found: Vec::new(), reading: Vec::new() };
                self.eviction = Eviction::Carrying(carrying);
                None
            }
            Eviction::Carrying(carrying) => self.look_further(carrying),
            Eviction::Forgetting { segment, from } => {
                let next = self.register.forget(segment, from, TABLES);
                self.eviction = match next {
                    Some(from) => Eviction::Forgetting { segment, from },
                    None => Eviction::Deleting { segment },
                };
                next.is_none().then_some(Action::Delete { segment })
            }
            deleting @ Eviction::Deleting { .. } => {
                self.eviction = deleting;
                None
            }
        }
    }

    fn look_further(&mut self, mut carrying: Carrying) -> Option<Action> {
        let mut action = None;
        if !carrying.reading.is_empty() || self.scribe.carrying() > CARRYING_MAX {
            // What is read or copied comes first.
        } else if !carrying.found.is_empty() {
            let count = std::cmp::min(carrying.found.len(), READ_MAX);
            carrying.reading = carrying.found.drain(..count).collect();
            let positions = carrying.reading.iter().map(|it| it.2).collect();
            action = Some(Action::Read { positions });
        } else {
            match carrying.scan {
                Scan::Aside(after) => self.scan_aside(&mut carrying, after),
                Scan::Owed(after) => self.scan_owed(&mut carrying, after),
                Scan::Done if self.scribe.carrying() == 0 => {
                    let segment = carrying.segment;
                    self.eviction = Eviction::Forgetting { segment, from: 0 };
                    return None;
                }
                Scan::Done => {}
            }
        }
        self.eviction = Eviction::Carrying(carrying);
        action
    }

    fn scan_aside(&self, carrying: &mut Carrying, after: Option<AdviceId>) {
        let mut last = None;
        for (advice, aside) in self.shipping.aside_after(after).take(SCAN_MAX) {
            last = Some(advice);
            if aside.position.segment == carrying.segment {
                carrying.found.push((advice, aside.key, aside.position));
            }
        }
        carrying.scan = if last.is_some() { Scan::Aside(last) } else { Scan::Owed(None) };
    }

    fn scan_owed(&self, carrying: &mut Carrying, after: Option<AdviceId>) {
        let (found, next) = self.shipping.in_segment(carrying.segment, after, SCAN_MAX);
        carrying.found.extend(found.into_iter().map(|it| (it.advice, it.key, it.position)));
        carrying.scan = next.map_or(Scan::Done, |last| Scan::Owed(Some(last)));
    }

    /// What was to be copied was read.
    pub(super) fn carry(&mut self, records: Vec<Option<Bytes>>, now: Now) {
        let Eviction::Carrying(carrying) = &mut self.eviction else { return };
        let reading = std::mem::take(&mut carrying.reading);
        let mut refused = Vec::new();
        for ((advice, key, position), record) in reading.into_iter().zip(records) {
            // It may have been settled meanwhile.
            if self.shipping.position(advice) != Some(position) {
                continue;
            }
            let why_aside = self.shipping.why_aside(advice).map(str::to_owned);
            let received_at = record.as_ref().and_then(received_at);
            let age_max = self.settings.age_max;
            match (record, received_at) {
                (Some(_), Some(at))
                    if why_aside.is_some() && at < now.wall && now.wall.distance(at) > age_max =>
                {
                    self.let_go_of(advice, &key, position, "core refused it long ago");
                }
                (Some(record), Some(at)) => {
                    self.register.keep(key, record.clone());
                    self.scribe.carry(key, advice, record, at);
                    let outcome = Outcome::Refused;
                    refused.extend(why_aside.map(|why| Acknowledged { advice, outcome, why }));
                }
                _ => self.let_go_of(advice, &key, position, "its record can not be read any more"),
            }
        }
        if !refused.is_empty() {
            self.scribe.settle(refused);
        }
    }

    fn let_go_of(&mut self, advice: AdviceId, key: &Key, position: Position, why: &str) {
        self.shipping.forget(advice);
        self.scribe.shelf_mut().clear(position);
        self.register.lost(key, position.segment);
        self.forgotten(true, why);
    }

    /// A segment was removed.
    pub(super) fn deleted(&mut self, segment: u32) {
        if matches!(self.eviction, Eviction::Deleting { segment: going } if going == segment) {
            self.eviction = Eviction::Idle;
            self.scribe.shelf_mut().remove(segment);
        }
    }
}

fn received_at(record: &Bytes) -> Option<backstop_contract::Timestamp> {
    match decode(record).ok()?.record {
        Record::Said(answer) => Some(answer.received_at),
        Record::Opened(_) | Record::Settled(_) => None,
    }
}
