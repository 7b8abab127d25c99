//! What must hold, looked at while it happens: one id, one answer; in time; and nothing lost that was
//! said to be durable.

use std::collections::{BTreeMap, BTreeSet};

use backstop_book::Fsync;
use backstop_contract::{Decision, RequestHash, Tier, Verdict};

use super::audit;
use super::books::Books;
use super::event::Moment;
use super::plan::Plan;

/// By policy `process`, what an edge has had for longer than this is synced, while it lives and its disk is
/// well. Where it was killed before, its next life begins anew with it. Most of it is the second after which
/// a book tries a disk again that failed.
const SYNCED_AFTER: Moment = 1_500_000;

/// The part of an answer that may not change any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    pub verdict: Verdict,
    pub decided_by: Tier,
    reasons: Vec<String>,
    score: i64,
    cause: Option<String>,
    stack: String,
    policy_version: String,
}

impl Word {
    pub fn of(answer: &Decision) -> Self {
        Self {
            verdict: answer.decision,
            decided_by: answer.decided_by.clone(),
            reasons: answer.reasons.clone(),
            score: answer.score,
            cause: answer.cause.as_ref().map(|cause| cause.as_str().to_owned()),
            stack: answer.stack.clone(),
            policy_version: answer.policy_version.clone(),
        }
    }
}

/// An answer that left an edge.
#[derive(Clone, Debug)]
pub struct Released {
    pub node: usize,
    pub hash: RequestHash,
    pub at: Moment,
    pub word: Word,
    pub durable: bool,
    sync: Sync,
    /// A crash took it, as it may take what was undurable, or not yet synced.
    pub is_lost: bool,
}

/// Whether a power cut may take an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// It may.
    Awaited,
    /// It may not.
    Done,
    /// It always may: the sync failed, in a life that did not have the record in memory.
    Failed,
}

/// What was seen.
pub struct Checker {
    pub edges: usize,
    fsync: Fsync,
    /// Who waits at which edge, until when.
    waiting: BTreeMap<(usize, u64), Moment>,
    /// By id, what left.
    pub released: BTreeMap<String, Vec<Released>>,
    /// Under which hashes an id was asked for.
    asked: BTreeMap<String, BTreeSet<[u8; 32]>>,
    /// By edge, since when it lives and its disk is well; none where that is not so.
    well_since: BTreeMap<usize, Moment>,
    commits: u64,
    /// Answers that a small book forgot, for core knows them.
    pub forgotten: u64,
    /// Answers that differ from an earlier one that a crash took.
    pub differs_after_loss: u64,
}

impl Checker {
    pub fn new(plan: &Plan) -> Self {
        Self {
            edges: plan.edges,
            fsync: plan.fsync,
            waiting: BTreeMap::new(),
            released: BTreeMap::new(),
            asked: BTreeMap::new(),
            well_since: BTreeMap::new(),
            commits: 0,
            forgotten: 0,
            differs_after_loss: 0,
        }
    }

    /// A request has come to an edge, which owes an answer by then.
    pub fn comes(&mut self, node: usize, ask: u64, id: &str, hash: RequestHash, until: Moment) {
        self.waiting.insert((node, ask), until);
        self.asked.entry(id.to_owned()).or_default().insert(*hash.as_bytes());
    }

    /// Whether an edge lives, and its disk does what it is told.
    pub fn fares(&mut self, node: usize, is_well: bool, now: Moment) {
        if is_well {
            self.well_since.entry(node).or_insert(now);
        } else {
            self.note_synced(node, now);
            self.well_since.remove(&node);
        }
    }

    /// What an earlier life left could not be synced.
    pub fn doubts(&mut self, node: usize) {
        let released = self.released.values_mut().flatten();
        for it in released.filter(|it| it.node == node && it.sync == Sync::Awaited) {
            it.sync = Sync::Failed;
        }
    }

    /// The edge is gone, and its clients with it. What was not durable is lost; by power cut, so is what
    /// was not synced.
    pub fn falls(&mut self, node: usize, by_power_cut: bool, now: Moment) {
        self.waiting.retain(|(at, _), _| *at != node);
        self.note_synced(node, now);
        for released in self.released.values_mut().flatten().filter(|it| it.node == node) {
            let is_cut = by_power_cut && released.sync != Sync::Done;
            released.is_lost |= !released.durable || is_cut;
        }
    }

    /// What has had the time to be synced is.
    fn note_synced(&mut self, node: usize, now: Moment) {
        let Some(well_since) = self.well_since.get(&node).copied() else { return };
        for released in self.released.values_mut().flatten().filter(|it| it.node == node) {
            let is_old = std::cmp::max(released.at, well_since) + SYNCED_AFTER < now;
            if is_old && released.sync == Sync::Awaited {
                released.sync = Sync::Done;
            }
        }
    }

    /// An edge does not know an id any more: a small book forgets, but nothing that core does not know.
    pub fn forgets(
        &mut self,
        node: usize,
        id: &str,
        booked: Option<Verdict>,
    ) -> Result<(), String> {
        let released = self.released.get_mut(id).into_iter().flatten();
        for it in released.filter(|it| it.node == node && !it.is_lost) {
            if booked.is_none() {
                return Err(format!(
                    "{id} is forgotten, was told {:?}, core does not know it",
                    it.word
                ));
            }
            it.is_lost = true;
            self.forgotten += 1;
        }
        Ok(())
    }

    /// An answer leaves.
    pub fn leaves(
        &mut self,
        (node, ask): (usize, u64),
        hash: RequestHash,
        answer: &Decision,
        now: Moment,
    ) -> Result<(), String> {
        self.in_time(node, ask, &answer.id, now)?;
        let word = Word::of(answer);
        let earlier = self.released.entry(answer.id.clone()).or_default();
        for it in earlier.iter().filter(|it| it.node == node) {
            let is_same = it.word == word && it.hash == hash;
            if !is_same && !it.is_lost {
                return Err(format!(
                    "one id, two answers: {} was {:?} at {}, durable: {}, and is {word:?} at {now}",
                    answer.id, it.word, it.at, it.durable
                ));
            }
            self.differs_after_loss += u64::from(!is_same);
        }
        let durable = answer.durable;
        let is_synced = durable && self.fsync == Fsync::Disk;
        let sync = if is_synced { Sync::Done } else { Sync::Awaited };
        earlier.push(Released { node, hash, at: now, word, durable, sync, is_lost: false });
        Ok(())
    }

    /// A refusal leaves: only where the id was asked for with another body.
    pub fn refuses(
        &mut self,
        (node, ask): (usize, u64),
        id: &str,
        now: Moment,
    ) -> Result<(), String> {
        self.in_time(node, ask, id, now)?;
        let bodies = self.asked.get(id).map_or(0, BTreeSet::len);
        if bodies < 2 { Err(format!("{id} is refused, and had one body only")) } else { Ok(()) }
    }

    fn in_time(&mut self, node: usize, ask: u64, id: &str, now: Moment) -> Result<(), String> {
        match self.waiting.remove(&(node, ask)) {
            Some(until) if now <= until => Ok(()),
            Some(until) => Err(format!("{id} is answered at {now}, {} late", now - until)),
            None => Err(format!("{id} is answered at {now}, and nobody asked")),
        }
    }

    /// After every event.
    pub fn look(&mut self, books: &Books, now: Moment) -> Result<(), String> {
        if let Some(((node, ask), until)) = self.waiting.iter().find(|(_, until)| **until < now) {
            return Err(format!(
                "ask {ask} at edge {node} has no answer, and was owed one by {until}"
            ));
        }
        if self.commits != books.commits {
            self.commits = books.commits;
            audit::sums(books)?;
        }
        Ok(())
    }
}
