//! One edge and its book, for one key: what it said, what of that is on disk, what it still has to ship.

use super::model::{Answer, Disk, Protocol, Released, Safety};

/// An answer that was said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Said {
    pub answer: Answer,
    pub stands_in: bool,
    pub settled: bool,
}

/// A proxy. Killed, it keeps its book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edge {
    /// Grows at every start.
    pub life: u8,
    /// On disk.
    pub book: Option<Said>,
    /// In memory: the same, unless the disk did not take it.
    pub said: Option<Said>,
    /// A client waits for the answer.
    pub is_waited_for: bool,
    /// Said, and not yet on its way to the disk.
    is_unwritten: bool,
    /// Knows that what it said is to be shipped.
    ships: bool,
}

impl Edge {
    /// A client asks; whether core is to be asked in turn. Duplicates wait for the same answer.
    pub fn ask(&mut self) -> bool {
        let is_first = self.said.is_none() && !self.is_waited_for;
        self.is_waited_for = true;
        is_first
    }

    pub const fn is_asking(&self) -> bool {
        self.is_waited_for && self.said.is_none()
    }

    /// Says this, unless something was said.
    pub fn say(
        &mut self,
        answer: Answer,
        stands_in: bool,
        disk: Disk,
        rules: &Protocol,
    ) -> Option<()> {
        if self.said.is_some() && rules.has(Safety::FirstProposal) {
            return None;
        }
        let said = Said { answer, stands_in, settled: false };
        self.ships = stands_in;
        self.said = Some(said.clone());
        if disk == Disk::Takes {
            if rules.has(Safety::BookBeforeRelease) {
                self.book = Some(said);
            } else {
                self.is_unwritten = true;
            }
        }
        Some(())
    }

    /// The append that was put off.
    pub fn append(&mut self) -> Option<()> {
        std::mem::take(&mut self.is_unwritten).then_some(())?;
        self.book.clone_from(&self.said);
        Some(())
    }

    /// The first byte of the answer leaves.
    pub fn release(&mut self, node: usize) -> Option<Released> {
        let answer = self.said.as_ref()?.answer;
        std::mem::take(&mut self.is_waited_for).then_some(())?;
        let durable = self.book.is_some() || self.is_unwritten;
        Some(Released { node, life: self.life, answer, durable })
    }

    /// The answer that core has yet to be told.
    pub fn to_ship(&self) -> Option<Answer> {
        let said = self.said.as_ref()?;
        (self.ships && !said.settled).then_some(said.answer)
    }

    /// Core has said what became of it.
    pub fn settle(&mut self) -> Option<()> {
        self.said.as_mut()?.settled = true;
        if let Some(written) = &mut self.book {
            written.settled = true;
        }
        Some(())
    }

    /// Begins again from what is on disk; what it was doing is gone.
    pub fn restart(&mut self, ships: bool) {
        let Self { life, book, .. } = std::mem::take(self);
        let owes = book.as_ref().is_some_and(|said| said.stands_in && !said.settled);
        *self = Self {
            life: life.saturating_add(1),
            said: book.clone(),
            book,
            ships: ships && owes,
            ..Self::default()
        };
    }

    /// Nobody waits for it, and it has nothing more to ship or to write.
    pub fn is_quiet(&self) -> bool {
        !self.is_waited_for && !self.is_unwritten && self.to_ship().is_none()
    }
}
