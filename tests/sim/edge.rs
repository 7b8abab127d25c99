//! An edge: the real bookkeeper over a disk, and what of its process outlives nothing. How it answers is
//! in [`super::answers`].

use std::collections::BTreeMap;

use backstop_book::bookkeeper::{Bookkeeper, Source};
use backstop_book::record::{Record, decode};
use backstop_book::recovery::Recovery;
use backstop_book::scribe::{Action, Done};
use backstop_book::segment::{End, sound};
use backstop_book::shipping::{Next, Owed, Plan as Batch};
use backstop_book::{Fsync, Settings};
use backstop_contract::advice::{Advice, Advices, Settlement};
use backstop_contract::{Outcome, Settled};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::answers::{Asks, Slot};
use super::disk::Disk;
use super::event::{Alarm, Call, Message, Moment, Place};
use super::plan::{Plan, Safety};
use super::world::{STACKS, World};

/// A message of advices that is not answered by then has failed.
const SETTLE_TIME_MAX: Moment = 10_000_000;
/// How late an append is that nobody waits for.
const LATE_APPEND: u64 = 30_000;

pub struct Edge {
    pub node: usize,
    pub life: u32,
    pub disk: Disk,
    settings: Settings,
    /// `None` while it is down.
    pub book: Option<Bookkeeper<Slot>>,
    pub asks: Asks,
    /// Messages to core under way.
    batches: BTreeMap<Call, u64>,
    /// When the book wakes next.
    wakes_at: Option<Moment>,
    power_was_cut: bool,
    /// The last segment of an earlier life.
    found: u32,
}

impl Edge {
    pub fn new(node: usize, plan: &Plan) -> Self {
        let fsync = if plan.has(Safety::SyncAwaited) { plan.fsync } else { Fsync::Process };
        let settings = Settings {
            fsync,
            segment_bytes: plan.segment_bytes,
            bytes_max: if plan.is_small { 8 * plan.segment_bytes } else { 1 << 22 },
            batch_max: 8,
            ..Settings::default()
        };
        Self {
            node,
            life: 0,
            disk: Disk::default(),
            settings,
            book: None,
            asks: Asks::default(),
            batches: BTreeMap::new(),
            wakes_at: None,
            power_was_cut: false,
            found: 0,
        }
    }

    pub const fn is_up(&self) -> bool {
        self.book.is_some()
    }

    /// Whether what it says now will be synced soon.
    pub fn is_well(&self) -> bool {
        self.is_up() && !self.disk.is_unwell()
    }

    pub fn book(&mut self) -> &mut Bookkeeper<Slot> {
        self.book.as_mut().expect("only who is up is asked")
    }

    /// What core has yet to settle.
    pub fn unsettled(&self) -> u64 {
        self.book.as_ref().map_or(0, |book| book.shipping().len() as u64)
    }

    pub fn name(&self) -> String {
        format!("node-{}", self.node)
    }

    /// The record that this is written in, wherever it is.
    pub fn read(&self, source: &Source) -> Option<Bytes> {
        match source {
            Source::Memory(record) => Some(record.clone()),
            Source::Disk(position) => self.disk.read(*position),
            Source::Nowhere => None,
        }
    }

    /// The body of a message: `Advices` as JSON.
    fn to_json(&self, owed: &[Owed]) -> Result<Vec<u8>, String> {
        let book = self.book.as_ref().expect("it is up");
        let read = |owed: &Owed| {
            let record = self.read(&book.source(&owed.key));
            record.ok_or_else(|| format!("{:?} is owed, and nowhere", owed.advice))
        };
        let records = owed.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let advices = owed.iter().zip(&records).map(|(owed, record)| advice(owed, record));
        let advices = advices.collect::<Result<Vec<_>, _>>()?;
        let advices = Advices { node: self.name().into(), advices };
        Ok(serde_json::to_vec(&advices).unwrap())
    }
}

fn advice<'a>(owed: &Owed, record: &'a [u8]) -> Result<Advice<'a>, String> {
    match decode(record).map(|decoded| decoded.record) {
        Ok(Record::Said(said)) if said.advice == Some(owed.advice) => Ok(Advice {
            epoch: owed.advice.epoch,
            number: owed.advice.number,
            merchant: said.merchant.into(),
            test: said.test,
            numeric_ids: said.numeric_ids,
            received_at: said.received_at,
            hash: said.hash,
            request: raw(said.request),
            answer: raw(said.answer),
        }),
        other => Err(format!("{:?} is owed, and its key has {other:?}", owed.advice)),
    }
}

fn raw(json: &[u8]) -> &RawValue {
    serde_json::from_slice(json).expect("the book keeps JSON as it was")
}

impl World {
    /// A start: from what the disk has.
    pub fn start_edge(&mut self, node: usize) -> Result<(), String> {
        self.clock.step(&mut self.dice);
        let now = self.clock.now(self.now).wall;
        let (seed, edge) = (self.dice.below(u64::MAX), &mut self.edges[node]);
        let (mut recovery, mut found) = (Recovery::new(&edge.settings), Vec::new());
        let segments: Vec<_> =
            edge.disk.segments().map(|(it, bytes)| (it, bytes.to_vec())).collect();
        for (segment, bytes) in segments {
            let mut end = recovery.read(segment, &bytes).expect("there is one version");
            found.push(format!("{segment} of {} bytes, {end:?}", bytes.len()));
            if let End::Corrupt { at, .. } = end {
                if !edge.power_was_cut {
                    return Err(format!(
                        "segment {segment} is corrupt at {at} without a power cut"
                    ));
                }
                // It is set aside, and what was readable in it takes its place.
                let sound = sound(&bytes);
                end = recovery.read(segment, &sound).expect("there is one version");
                edge.disk.replace(segment, sound);
            }
            let (End::Clean { at } | End::Torn { at, .. } | End::Corrupt { at, .. }) = end;
            if recovery.is_empty(segment) {
                recovery.remove(segment);
                edge.disk.remove(segment);
            } else {
                recovery.resize(segment, at as u64);
                edge.disk.cut(segment, at);
            }
        }
        edge.found = edge.disk.segments().map(|(segment, _)| segment).max().unwrap_or(0);
        if !self.plan.has(Safety::SyncAfterRestart) {
            edge.disk.unsynced_until = edge.found;
        }
        let (epoch, entries) = (recovery.next_epoch(now), recovery.entries());
        edge.life += 1;
        edge.wakes_at = None;
        let mut name = [0; 16];
        name[0] = u8::try_from(node).unwrap();
        edge.book = Some(Bookkeeper::new(recovery, name, epoch, seed));
        self.trace(|| format!("edge {node} starts, epoch {epoch}, {entries} answers in {found:?}"));
        if !self.plan.has(Safety::ShipAfterRestart) {
            self.forget_debts(node);
        }
        self.edge_acts(node)
    }

    /// It goes down: killed, or with the power.
    pub fn kill_edge(&mut self, node: usize, by_power_cut: bool) {
        let edge = &mut self.edges[node];
        if by_power_cut {
            edge.power_was_cut = true;
            edge.disk.lose_power(&mut self.dice);
        } else {
            edge.disk.kill(&mut self.dice);
        }
        if edge.book.take().is_none() && !by_power_cut {
            return;
        }
        edge.asks = Asks::default();
        edge.batches.clear();
        self.checker.falls(node, by_power_cut, self.now);
    }

    /// What a book would do that takes no debts out of its files.
    fn forget_debts(&mut self, node: usize) {
        let now = self.clock.instant(self.now);
        let book = self.edges[node].book();
        while let Next::Batch(batch) = book.next_batch(now) {
            let settled = batch.advices.iter().map(|it| Settled {
                epoch: it.advice.epoch,
                number: it.advice.number,
                outcome: Outcome::Match,
                why: String::new(),
            });
            let settlement = Settlement { settled: settled.collect() };
            book.settled(batch.batch, &settlement, now);
        }
    }

    /// Everything that the book wants done now.
    pub fn edge_acts(&mut self, node: usize) -> Result<(), String> {
        let now = self.clock.now(self.now);
        for action in self.edges[node].book().act(now) {
            let is_write = matches!(action, Action::Write { .. });
            let (operation, mut takes) = self.edges[node].disk.begin(action, &mut self.dice);
            if is_write && !self.plan.has(Safety::BookBeforeRelease) {
                takes += LATE_APPEND;
            }
            self.wake(Place::Edge(node), takes, Alarm::Disk(operation));
        }
        for (slot, durable) in self.edges[node].book().take_told() {
            self.told(node, slot, durable)?;
        }
        let mut due = self.edges[node].book().next_due(now.instant);
        loop {
            match self.edges[node].book().next_batch(now.instant) {
                Next::Batch(batch) => self.ship(node, &batch)?,
                Next::Wait(until) => {
                    due = due.into_iter().chain(until).min();
                    break;
                }
            }
        }
        if let Some(due) = due {
            let wait = self.clock.until(due, self.now);
            let edge = &mut self.edges[node];
            let at = self.now + wait;
            if edge.wakes_at.is_none_or(|earlier| earlier <= self.now || at < earlier) {
                edge.wakes_at = Some(at);
                self.wake(Place::Edge(node), wait, Alarm::Book);
            }
        }
        Ok(())
    }

    /// Sends a message of advices to either stack: they have the same books.
    fn ship(&mut self, node: usize, batch: &Batch) -> Result<(), String> {
        let advices = Bytes::from(self.edges[node].to_json(&batch.advices)?);
        let call = self.new_call();
        self.edges[node].batches.insert(call, batch.batch);
        let stack = usize::try_from(self.dice.below(STACKS as u64)).unwrap();
        let api = Place::Api(stack);
        self.send(Place::Edge(node), api, call, Message::Settle { advices });
        self.wake(Place::Edge(node), SETTLE_TIME_MAX, Alarm::Timeout(call));
        Ok(())
    }

    /// A message of advices has come to an end, if this call is one.
    pub fn shipped(&mut self, node: usize, call: Call, settlement: Option<&Settlement>) -> bool {
        let now = self.clock.instant(self.now);
        let edge = &mut self.edges[node];
        let Some(batch) = edge.batches.remove(&call) else { return false };
        match settlement {
            Some(settlement) => edge.book().settled(batch, settlement, now),
            None => edge.book().failed(batch, now),
        }
        true
    }

    pub fn edge_wakes(&mut self, node: usize, alarm: Alarm) -> Result<(), String> {
        match alarm {
            Alarm::Disk(operation) => {
                let edge = &mut self.edges[node];
                if let Some(done) = edge.disk.end(operation, &mut self.dice) {
                    if matches!(done, Done::Synced(segment, Err(_)) if segment <= edge.found) {
                        self.checker.doubts(node);
                    }
                    edge.book().done(done, self.clock.now(self.now));
                }
            }
            Alarm::Timeout(call) => {
                if !self.shipped(node, call, None) {
                    self.time_is_up(node, call)?;
                }
            }
            Alarm::Deadline(ask) => self.deadline(node, ask)?,
            Alarm::Book | Alarm::Begin | Alarm::Commit => {}
        }
        self.edge_acts(node)
    }
}
