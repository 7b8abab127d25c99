//! The books looked through: at every commit that the sums are right, and at rest that they say of every
//! id what its clients were told.

use std::collections::BTreeMap;

use backstop_contract::{Outcome, Standing, Tier};
use backstop_core::store::{Decided, DecisionKey};

use super::books::Books;
use super::checker::{Released, Word};
use super::clients::{Clients, MERCHANT};
use super::world::World;

/// Nothing was made out of nothing: stock and what is taken of it are what there was, every balance is
/// what the ledger says, and the ledger what the decisions moved that stand.
pub fn sums(books: &Books) -> Result<(), String> {
    let mut taken: BTreeMap<&str, i64> = BTreeMap::new();
    let mut moved: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let stands = books.decisions.values().filter(|decided| decided.cancelled_by.is_none());
    for decided in stands {
        for (key, quantity) in &decided.moves.take {
            *taken.entry(key).or_default() += quantity.cast_signed();
        }
        let account = decided.account.as_str();
        for (unit, quantity) in &decided.moves.credit {
            *moved.entry((account, unit)).or_default() += quantity.cast_signed();
        }
        for (unit, quantity) in &decided.moves.debit {
            *moved.entry((account, unit)).or_default() -= quantity.cast_signed();
        }
    }
    let left = |key: &str| {
        books.stock.iter().find(|(row, _)| row.key == key).map_or(0, |(_, left)| left.value)
    };
    for (key, there_was) in Clients::stock() {
        let (left, taken) = (left(&key), taken.get(key.as_str()).copied().unwrap_or(0));
        if left + taken != there_was {
            return Err(format!("{key}: {left} left and {taken} taken of {there_was}"));
        }
    }
    let mut ledger: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for line in &books.ledger {
        *ledger.entry((&line.debit, &line.unit)).or_default() -= line.amount;
        *ledger.entry((&line.credit, &line.unit)).or_default() += line.amount;
    }
    if ledger.values().sum::<i64>() != 0 {
        return Err("the ledger does not sum to zero".to_owned());
    }
    for (account, units) in &books.balances {
        for (unit, balance) in units {
            let of = (account.account.as_str(), unit.as_str());
            let booked = ledger.get(&of).copied().unwrap_or(0);
            let moved = moved.get(&of).copied().unwrap_or(0);
            if booked != balance.value || moved != balance.value {
                let balance = balance.value;
                return Err(format!("{of:?}: balance {balance}, ledger {booked}, moved {moved}"));
            }
        }
    }
    Ok(())
}

impl World {
    /// When all has healed and settled, and everybody has asked once more.
    pub fn check_at_rest(&mut self) -> Result<(), String> {
        for (id, released) in &self.checker.released {
            for node in 0..self.checker.edges {
                let mut kept = released.iter().filter(|it| it.node == node && !it.is_lost);
                if let Some(last) = kept.next_back() {
                    self.is_booked(id, last)?;
                }
            }
        }
        self.no_gaps()?;
        let unsettled: u64 = (0..self.edges.len()).map(|node| self.edges[node].unsettled()).sum();
        if unsettled > 0 { Err(format!("{unsettled} are not settled")) } else { Ok(()) }
    }

    /// Every number of an advice has arrived, but for those that a crash took.
    fn no_gaps(&self) -> Result<(), String> {
        let fell = ["edge killed", "power cut"].iter().any(|what| self.counts.contains_key(what));
        for (of, arrivals) in &self.books.arrivals {
            if let Some(gap) = arrivals.value.gaps().next().filter(|_| !fell) {
                return Err(format!("{of:?}: {gap:?} never arrived"));
            }
        }
        Ok(())
    }

    /// The books say what the client was told; or, where there were two answers to one id, both are on
    /// record.
    fn is_booked(&self, id: &str, told: &Released) -> Result<(), String> {
        let key = DecisionKey { merchant: MERCHANT.to_owned(), id: id.to_owned() };
        let Some(row) = self.books.decisions.get(&key) else {
            return Err(format!("{id}: told {:?}, and core never heard of it", told.word));
        };
        if row.hash == told.hash && row.answer.decision == told.word.verdict {
            return self.is_the_same_word(id, row, told);
        }
        let is_on_record = self
            .books
            .discrepancies
            .iter()
            .any(|it| it.key == key && Word::of(&it.answers.told) == told.word);
        let is_first = row.first.as_ref().is_some_and(|first| Word::of(first) == told.word);
        if !is_on_record && !is_first {
            let (word, standing) = (Word::of(&row.answer), row.standing);
            return Err(format!(
                "{id}: told {:?}, and the books say {word:?}, {standing:?}",
                told.word
            ));
        }
        let answers = &self.checker.released[id];
        let has_two = answers.iter().any(|it| it.word != told.word || it.hash != told.hash);
        let was_killed =
            self.counts.contains_key("edge killed") || self.counts.contains_key("power cut");
        if has_two || was_killed && self.edges.len() == 1 || self.edges.len() > 1 {
            return Ok(());
        }
        Err(format!("{id}: told {:?} alone, and the books stand by another answer", told.word))
    }

    /// Also who said so and why, where nobody else said the same.
    fn is_the_same_word(&self, id: &str, row: &Decided, told: &Released) -> Result<(), String> {
        let is_same = Word::of(&row.answer) == told.word;
        let is_alone = self.checker.released[id].iter().all(|it| it.word == told.word);
        let is_another = row.standing != Standing::Decided && told.word.decided_by == Tier::Core;
        if is_same || !is_alone || is_another || self.edges.len() > 1 {
            return Ok(());
        }
        let row = Word::of(&row.answer);
        Err(format!("{id}: told {:?}, and the books say it as {row:?}", told.word))
    }

    /// How many advices were settled so.
    pub fn settled_as(&self, outcome: &Outcome) -> usize {
        self.books.discrepancies.iter().filter(|it| it.kind == *outcome).count()
    }
}
