//! Core, for one key: the row, what was moved for it, and the discrepancies on record. Every step is one
//! transaction; a core that dies before it commits is a message that was lost, one that dies after is a
//! reply that was.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Answer, Outcome, Protocol, Safety};

/// The row of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub answer: Answer,
    /// The node that told its client, and in which life, if core knows of one.
    released_by: Option<(usize, u8)>,
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
    /// Decides, or repeats what was decided, and whether that was said in core's place.
    pub fn decide(&mut self, wish: Answer, finds_the_row: bool) -> (Answer, bool) {
        match &self.row {
            Some(row) if finds_the_row || row.released_by.is_none() => {
                (row.answer, row.released_by.is_some())
            }
            _ => {
                self.put(wish, None);
                (wish, false)
            }
        }
    }

    /// Settles what a node told its client in one of its lives.
    pub fn settle(&mut self, by: (usize, u8), answer: Answer, rules: &Protocol) -> Outcome {
        self.first_advice.get_or_insert(answer);
        let Some(Row { answer: was, released_by }) = self.row.clone() else {
            self.put(answer, Some(by));
            return Outcome::Applied;
        };
        if was == answer {
            // Of one node the latest life counts, of two nodes the first.
            let released_by = match released_by {
                Some((node, life)) if node != by.0 || life > by.1 => Some((node, life)),
                _ => Some(by),
            };
            self.row = Some(Row { answer, released_by });
            return Outcome::Match;
        }
        let (another, later) = released_by
            .map_or((false, false), |(node, life)| (node != by.0, node == by.0 && life > by.1));
        let stands = another && rules.has(Safety::ReleasedStands)
            || later && rules.has(Safety::LatestOfANode);
        if stands {
            self.discrepancies.insert(answer);
            return Outcome::Conflict;
        }
        if rules.has(Safety::ReleasedStands) {
            self.discrepancies.insert(was);
        }
        if rules.has(Safety::Compensation) {
            self.put_back(was);
        }
        self.put(answer, Some(by));
        Outcome::Overridden
    }

    fn put(&mut self, answer: Answer, released_by: Option<(usize, u8)>) {
        *self.ledger.entry(answer).or_default() += 1;
        self.row = Some(Row { answer, released_by });
    }

    fn put_back(&mut self, answer: Answer) {
        *self.ledger.entry(answer).or_default() -= 1;
        self.ledger.retain(|_, net| *net != 0);
    }
}
