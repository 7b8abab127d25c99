//! Core, for one key: the row, what was moved for it, and the discrepancies on record. Every step is one
//! transaction; a core that dies before it commits is a message that was lost, one that dies after is a
//! reply that was.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Answer, Outcome, Protocol, Safety};

/// The row of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub answer: Answer,
    /// A node has said that its client was told so.
    is_released: bool,
}

/// What is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Core {
    pub row: Option<Row>,
    /// What is moved, net, by the answer that moved it.
    pub ledger: BTreeMap<Answer, i8>,
    /// Answers that a client may have been told and that are not the row's, on record.
    pub discrepancies: BTreeSet<Answer>,
    /// What the first advice said: it is not replaced in silence.
    pub first_advice: Option<Answer>,
}

impl Core {
    /// Decides, or repeats what was decided. Either is final: nobody ships it.
    pub fn decide(&mut self, wish: Answer, finds_the_row: bool) -> Answer {
        match &self.row {
            Some(row) if finds_the_row || !row.is_released => row.answer,
            _ => {
                self.put(wish, false);
                wish
            }
        }
    }

    /// Settles what a node told its client. Of two answers that clients were told the first that arrives
    /// stands, whoever told them.
    pub fn settle(&mut self, answer: Answer, rules: &Protocol) -> Outcome {
        self.first_advice.get_or_insert(answer);
        let Some(row) = &mut self.row else {
            self.put(answer, true);
            return Outcome::Applied;
        };
        let was = row.answer;
        if was == answer {
            row.is_released = true;
            return Outcome::Match;
        }
        if row.is_released && rules.has(Safety::ReleasedStands) {
            self.discrepancies.insert(answer);
            return Outcome::Conflict;
        }
        if rules.has(Safety::ReleasedStands) {
            self.discrepancies.insert(was);
        }
        if rules.has(Safety::Compensation) {
            self.put_back(was);
        }
        self.put(answer, true);
        Outcome::Overridden
    }

    fn put(&mut self, answer: Answer, is_released: bool) {
        *self.ledger.entry(answer).or_default() += 1;
        self.row = Some(Row { answer, is_released });
    }

    fn put_back(&mut self, answer: Answer) {
        *self.ledger.entry(answer).or_default() -= 1;
        self.ledger.retain(|_, net| *net != 0);
    }
}
