//! The records that wait to be written, by what may be forgotten of them.

use std::collections::VecDeque;

use backstop_contract::Timestamp;
use bytes::Bytes;

use crate::place::{AdviceId, Key};

/// Acknowledgements that wait at most. One that is forgotten costs a message to core after a restart.
const SETTLED_MAX: usize = 4_096;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Core's own answer: core knows it too.
    Core(Key),
    /// A stand-in, which core is owed.
    Debt(Key, AdviceId),
    /// The same, copied from a segment that goes.
    Carried(Key, AdviceId),
    /// What core made of advices.
    Settled,
}

/// One record on its way to a file.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is about.
    pub subject: Subject,
    /// Its bytes, which never change, whatever file they end in.
    pub record: Bytes,
    /// When the request came.
    pub at: Timestamp,
    /// Nobody waits to be told any more.
    pub is_told: bool,
}

/// What waits. Not in the order of arrival: what matters most is written first and forgotten last.
#[derive(Debug, Default)]
pub struct Queue {
    /// Carried and settled: these make room.
    notes: VecDeque<Line>,
    debts: VecDeque<Line>,
    core: VecDeque<Line>,
}

impl Subject {
    /// The key of an answer.
    pub const fn key(&self) -> Option<Key> {
        match self {
            Self::Core(key) | Self::Debt(key, _) | Self::Carried(key, _) => Some(*key),
            Self::Settled => None,
        }
    }

    /// The number of a stand-in.
    pub const fn advice(&self) -> Option<AdviceId> {
        match self {
            Self::Debt(_, advice) | Self::Carried(_, advice) => Some(*advice),
            Self::Core(_) | Self::Settled => None,
        }
    }

    /// A new answer, that somebody was or will be told.
    pub const fn is_answer(&self) -> bool {
        matches!(self, Self::Core(_) | Self::Debt(..))
    }
}

impl Queue {
    fn of(&mut self, subject: Subject) -> &mut VecDeque<Line> {
        match subject {
            Subject::Core(_) => &mut self.core,
            Subject::Debt(..) => &mut self.debts,
            Subject::Carried(..) | Subject::Settled => &mut self.notes,
        }
    }

    /// Last of its kind.
    pub fn push(&mut self, line: Line) {
        let is_settled = line.subject == Subject::Settled;
        self.of(line.subject).push_back(line);
        if is_settled && self.notes.len() > SETTLED_MAX {
            let oldest = self.notes.iter().position(|it| it.subject == Subject::Settled);
            oldest.and_then(|at| self.notes.remove(at));
        }
    }

    /// Before all others of its kind: it was in a file that is not trusted any more.
    pub fn push_back_in(&mut self, lines: impl DoubleEndedIterator<Item = Line>) {
        for line in lines.rev() {
            self.of(line.subject).push_front(line);
        }
    }

    /// The next to be written.
    pub fn next(&self) -> Option<&Line> {
        self.notes.front().or_else(|| self.debts.front()).or_else(|| self.core.front())
    }

    /// Takes the next.
    pub fn pop(&mut self) -> Option<Line> {
        self.notes.pop_front().or_else(|| self.debts.pop_front()).or_else(|| self.core.pop_front())
    }

    /// The one to forget, where there are too many answers: core's own before what core is owed.
    pub fn forget(&mut self) -> Option<Line> {
        self.core.pop_front().or_else(|| self.debts.pop_front())
    }

    /// Everything in it.
    pub fn lines(&mut self) -> impl Iterator<Item = &mut Line> {
        self.notes.iter_mut().chain(&mut self.debts).chain(&mut self.core)
    }

    /// How many answers wait.
    pub fn answers(&self) -> usize {
        self.debts.len() + self.core.len()
    }

    /// How many wait that make room.
    pub fn notes(&self) -> usize {
        self.notes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.next().is_none()
    }
}
