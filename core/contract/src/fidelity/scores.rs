//! What was counted lately: a window that slides in slots, so that a fallback that drifts is seen.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{Agreement, Cells, Counts, Line};
use crate::ask::Question;

/// The window slides in steps of one slot.
const SLOTS: u32 = 12;

/// Counts by cell, of the window and no longer.
#[derive(Debug)]
pub struct Scores {
    window: Duration,
    cells_max: usize,
    pub(super) slots: VecDeque<Slot>,
}

#[derive(Debug)]
pub(super) struct Slot {
    began: Instant,
    cells: Cells,
}

impl Scores {
    /// Nothing yet; at most `cells_max` cells are told apart.
    pub const fn new(window: Duration, cells_max: usize) -> Self {
        Self { window, cells_max, slots: VecDeque::new() }
    }

    /// Counts one request.
    pub fn count(&mut self, question: &Question, agreement: Agreement, now: Instant) {
        let is_fresh = |slot: &&mut Slot| now < slot.began + self.window / SLOTS;
        if let Some(slot) = self.slots.back_mut().filter(is_fresh) {
            slot.cells.count(question, agreement);
            return;
        }
        let window = self.window;
        self.slots.retain(|slot| now < slot.began + window);
        let mut cells = Cells::new(self.cells_max);
        cells.count(question, agreement);
        self.slots.push_back(Slot { began: now, cells });
    }

    /// The window up to `now`, cell by cell.
    pub fn lines(&self, now: Instant) -> Vec<Line> {
        let mut all = Cells::new(self.cells_max);
        for slot in self.slots.iter().filter(|slot| now < slot.began + self.window) {
            slot.cells.iter().for_each(|(cell, counts)| all.add(cell.clone(), *counts));
        }
        all.cells.into_iter().map(|(cell, counts)| Line { cell, counts }).collect()
    }

    /// How often the fallback of each policy agreed, from 0 to 1.
    pub fn ratios(&self, now: Instant) -> BTreeMap<String, f64> {
        let mut policies: BTreeMap<String, Counts> = BTreeMap::new();
        for Line { cell, counts } in self.lines(now) {
            policies.entry(cell.policy).or_default().add(&counts);
        }
        let ratio = |counts: Counts| counts.agree.share_of(counts.compared()).0;
        policies.into_iter().map(|(policy, counts)| (policy, ratio(counts))).collect()
    }
}
