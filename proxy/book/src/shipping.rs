//! The advices that core is owed: which are next, and when to try again.
//!
//! Bodies stay where they are; an advice that waits takes [`BYTES_PER_ADVICE`] bytes, so that an hour
//! without core fits in memory. The order is that of age, and one that core refuses is set aside: it never
//! stands before the next. What a message did not settle is owed as before, so that each arrives at least once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use backstop_contract::Outcome;
use backstop_contract::advice::{ADVICES_BYTES_MAX, ADVICES_MAX, Settled};
use tokio::time::Instant;

use crate::place::{AdviceId, Key, Position};

/// What one waiting advice takes.
pub const BYTES_PER_ADVICE: usize = 48;
/// The first wait after a failure is between half of this and this.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// No wait is longer.
pub const RETRY_MAX: Duration = Duration::from_secs(2);

/// What an advice takes in a message beside the two documents: names of fields, hashes in hexadecimal.
const ENVELOPE_BYTES_MAX: usize = 512;

/// What core is owed.
#[derive(Debug)]
pub struct Shipping {
    /// By age. What was settled stays as a blank until it is first, or blanks are most.
    line: VecDeque<Owed>,
    blanks: usize,
    /// None before it is due: a message that hangs for long must not be searched past each time.
    due_from: AdviceId,
    aside: BTreeMap<AdviceId, Aside>,
    under_way: HashMap<u64, Vec<AdviceId>>,
    batches: u64,
    batch_max: usize,
    in_flight_max: usize,
    failures: u32,
    resume_at: Option<Instant>,
    jitter: Jitter,
}

/// One advice that core has yet to settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Its number.
    pub advice: AdviceId,
    /// Whose answer it is.
    pub key: Key,
    /// Where it is; in memory alone where the segment is 0.
    pub position: Position,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Due,
    UnderWay,
    Blank,
}

/// One that core refused, or that can not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Whose answer it is.
    pub key: Key,
    /// Where it is.
    pub position: Position,
    /// Why.
    pub why: String,
}

/// What to send.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// These, now.
    Batch(Plan),
    /// Nothing before this instant; `None`: before something happens.
    Wait(Option<Instant>),
}

/// The advices of one message, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// To name it when it ends.
    pub batch: u64,
    /// At least one.
    pub advices: Vec<Owed>,
}

/// One that was settled, as it stood before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// As it was owed.
    pub owed: Owed,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused.
    pub why: String,
}

impl Shipping {
    /// Nothing owed. The seed makes the waits after failures differ between nodes.
    pub fn new(batch_max: usize, in_flight_max: usize, seed: u64) -> Self {
        Self {
            line: VecDeque::new(),
            blanks: 0,
            due_from: AdviceId::FIRST,
            aside: BTreeMap::new(),
            under_way: HashMap::new(),
            batches: 0,
            batch_max: batch_max.clamp(1, ADVICES_MAX),
            in_flight_max: std::cmp::max(1, in_flight_max),
            failures: 0,
            resume_at: None,
            jitter: Jitter(seed),
        }
    }

    /// Core is owed this one.
    pub fn owe(&mut self, advice: AdviceId, key: Key, position: Position) {
        let owed = Owed { advice, key, position, stage: Stage::Due };
        self.due_from = std::cmp::min(self.due_from, advice);
        match self.search(advice) {
            Err(at) if at == self.line.len() => self.line.push_back(owed),
            Err(at) => self.line.insert(at, owed),
            Ok(at) => {
                if let Some(known) = self.line.get_mut(at) {
                    known.position = position;
                }
            }
        }
    }

    /// Core refused this one, as a file or core says; or it can not be read.
    pub fn set_aside(&mut self, advice: AdviceId, key: Key, position: Position, why: String) {
        self.aside.insert(advice, Aside { key, position, why });
    }

    /// It is here now. What it was before, if it is still owed or set aside.
    pub fn moved(&mut self, advice: AdviceId, position: Position) -> Option<Position> {
        let at = self.search(advice).ok();
        let owed = at.and_then(|at| self.line.get_mut(at)).filter(|it| it.stage != Stage::Blank);
        let place = match owed {
            Some(owed) => &mut owed.position,
            None => &mut self.aside.get_mut(&advice)?.position,
        };
        Some(std::mem::replace(place, position))
    }

    /// Where it is, if it is still owed or set aside.
    pub fn position(&self, advice: AdviceId) -> Option<Position> {
        self.owed(advice).map_or_else(
            || self.aside.get(&advice).map(|it| it.position),
            |owed| Some(owed.position),
        )
    }

    /// Why it was set aside, if it was.
    pub fn why_aside(&self, advice: AdviceId) -> Option<&str> {
        self.aside.get(&advice).map(|it| it.why.as_str())
    }

    /// It is lost: neither owed nor set aside any more.
    pub fn forget(&mut self, advice: AdviceId) -> Option<Position> {
        let aside = self.aside.remove(&advice).map(|it| it.position);
        self.take(advice).map(|owed| owed.position).or(aside)
    }

    /// The next message, if one may go now.
    pub fn next(&mut self, now: Instant) -> Next {
        // After a failure one message feels the way before the others follow.
        let in_flight_max = if self.failures > 0 { 1 } else { self.in_flight_max };
        if self.under_way.len() >= in_flight_max {
            return Next::Wait(None);
        }
        if let Some(at) = self.resume_at.filter(|at| *at > now) {
            return Next::Wait((!self.is_empty()).then_some(at));
        }
        let advices = self.pick();
        if advices.is_empty() {
            return Next::Wait(None);
        }
        self.batches += 1;
        let batch = self.batches;
        self.under_way.insert(batch, advices.iter().map(|it| it.advice).collect());
        Next::Batch(Plan { batch, advices })
    }

    fn pick(&mut self) -> Vec<Owed> {
        let (mut picked, mut bytes) = (Vec::with_capacity(self.batch_max), 0);
        let from = self.line.partition_point(|it| it.advice < self.due_from);
        for owed in self.line.range_mut(from..).filter(|it| it.stage == Stage::Due) {
            bytes += owed.position.length as usize + ENVELOPE_BYTES_MAX;
            if picked.len() == self.batch_max || (bytes > ADVICES_BYTES_MAX && !picked.is_empty()) {
                break;
            }
            owed.stage = Stage::UnderWay;
            self.due_from = owed.advice;
            picked.push(*owed);
        }
        picked
    }

    /// Core has answered a message. What it settled is owed no more; the rest is owed as before, and
    /// where nothing was settled, after a wait.
    pub fn settled(&mut self, batch: u64, settled: Vec<Settled>, now: Instant) -> Vec<Cleared> {
        let Some(mut left) = self.under_way.remove(&batch) else { return Vec::new() };
        let mut cleared = Vec::with_capacity(settled.len());
        for Settled { epoch, number, outcome, why } in settled {
            let advice = AdviceId { epoch, number };
            // Core may say the same twice, or speak of what was not in the message.
            let Some(at) = left.iter().position(|it| *it == advice) else { continue };
            left.swap_remove(at);
            if let Some(owed) = self.take(advice) {
                cleared.push(Cleared { owed, outcome, why });
            }
        }
        self.due_again(&left);
        if cleared.is_empty() && !left.is_empty() {
            self.wait(now);
        } else {
            (self.failures, self.resume_at) = (0, None);
        }
        cleared
    }

    /// A message or its answer was lost: all in it is owed as before, after a wait.
    pub fn failed(&mut self, batch: u64, now: Instant) {
        if self.put_back(batch) {
            self.wait(now);
        }
    }

    /// A message was not sent: all in it is due.
    pub fn put_back(&mut self, batch: u64) -> bool {
        let left = self.under_way.remove(&batch);
        self.due_again(left.as_deref().unwrap_or_default());
        left.is_some()
    }

    /// Core may be back: there is no reason to wait any longer.
    pub fn wake(&mut self) {
        self.resume_at = None;
    }

    /// Those in a segment among the next `scan_max` after `after`, and where to go on, if not done.
    pub fn in_segment(
        &self,
        segment: u32,
        after: Option<AdviceId>,
        scan_max: usize,
    ) -> (Vec<Owed>, Option<AdviceId>) {
        let scanned = self.from(after).take(scan_max);
        let mut last = None;
        let found = scanned
            .inspect(|it| last = Some(it.advice))
            .filter(|it| it.stage != Stage::Blank && it.position.segment == segment)
            .copied()
            .collect();
        let is_done = last.is_none_or(|last| self.line.back().is_none_or(|it| it.advice <= last));
        (found, if is_done { None } else { last })
    }

    /// Those set aside after `after`, by age.
    pub fn aside_after(&self, after: Option<AdviceId>) -> impl Iterator<Item = (AdviceId, &Aside)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.aside.range((from, Bound::Unbounded)).map(|(advice, it)| (*advice, it))
    }

    /// Those owed after `after`, by age.
    pub fn owed_after(&self, after: Option<AdviceId>) -> impl Iterator<Item = Owed> {
        self.from(after).filter(|it| it.stage != Stage::Blank).copied()
    }

    /// How many are owed.
    pub fn len(&self) -> usize {
        self.line.len() - self.blanks
    }

    /// Whether none is owed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many are set aside.
    pub fn aside_len(&self) -> usize {
        self.aside.len()
    }

    /// Whether this one is owed.
    pub fn owed(&self, advice: AdviceId) -> Option<&Owed> {
        let at = self.search(advice).ok()?;
        self.line.get(at).filter(|it| it.stage != Stage::Blank)
    }

    fn from(&self, after: Option<AdviceId>) -> impl Iterator<Item = &Owed> {
        let from = after.map_or(0, |after| self.line.partition_point(|it| it.advice <= after));
        self.line.range(from..)
    }

    fn search(&self, advice: AdviceId) -> Result<usize, usize> {
        // Nearly all come in order.
        match self.line.back() {
            Some(last) if last.advice >= advice => {
                self.line.binary_search_by_key(&advice, |it| it.advice)
            }
            _ => Err(self.line.len()),
        }
    }

    fn take(&mut self, advice: AdviceId) -> Option<Owed> {
        let at = self.search(advice).ok()?;
        let owed = self.line.get_mut(at).filter(|it| it.stage != Stage::Blank)?;
        let taken = *owed;
        owed.stage = Stage::Blank;
        self.blanks += 1;
        while self.line.front().is_some_and(|it| it.stage == Stage::Blank) {
            self.line.pop_front();
            self.blanks -= 1;
        }
        if self.blanks > self.line.len() / 2 {
            self.line.retain(|it| it.stage != Stage::Blank);
            self.blanks = 0;
        }
        Some(taken)
    }

    fn due_again(&mut self, advices: &[AdviceId]) {
        for advice in advices {
            if let Ok(at) = self.search(*advice)
                && let Some(owed) = self.line.get_mut(at)
                && owed.stage == Stage::UnderWay
            {
                owed.stage = Stage::Due;
                self.due_from = std::cmp::min(self.due_from, *advice);
            }
        }
    }

    fn wait(&mut self, now: Instant) {
        let doublings = std::cmp::min(self.failures, 16);
        let longest = std::cmp::min(RETRY_MIN * 2_u32.pow(doublings), RETRY_MAX);
        self.failures += 1;
        self.resume_at = Some(now + longest.mul_f64(self.jitter.next_share().midpoint(1.0)));
    }
}

/// Splitmix64: enough to keep nodes from retrying in step, and the same from the same seed.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// From 0 to 1.
    fn next_share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
mod tests;
