//! What must hold, looked at while it happens: one id, one answer; in time; and nothing lost that was
//! said to be durable.

use std::collections::{BTreeMap, BTreeSet};

use backstop_book::Fsync;
use backstop_contract::{Decision, RequestHash, Tier, Verdict};

use super::audit;
use super::books::Books;
use super::event::Moment;
use super::plan::Plan;

/// By policy `process`, what is older than this when the power goes was synced, if the disk was well.
const SYNCED_AFTER: Moment = 1_000_000;

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
    /// A crash took it, as it may take what was undurable, or not yet synced.
    pub is_lost: bool,
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
    /// By edge, when its disk was last unwell.
    unwell: BTreeMap<usize, Moment>,
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
            unwell: BTreeMap::new(),
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

    /// The disk of an edge does not do what it is told.
    pub fn is_unwell(&mut self, node: usize, now: Moment) {
        self.unwell.insert(node, now);
    }

    /// The edge is gone, and its clients with it. What was not durable is lost; by power cut, so is what
    /// was not synced, which may be said only of what is young.
    pub fn falls(&mut self, node: usize, by_power_cut: bool, now: Moment) {
        self.waiting.retain(|(at, _), _| *at != node);
        let was_well = self.unwell.get(&node).copied().unwrap_or(0);
        for released in self.released.values_mut().flatten().filter(|it| it.node == node) {
            let is_synced = self.fsync == Fsync::Disk
                || std::cmp::max(released.at, was_well) + SYNCED_AFTER < now;
            released.is_lost |= !released.durable || by_power_cut && !is_synced;
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
        earlier.push(Released { node, hash, at: now, word, durable, is_lost: false });
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
