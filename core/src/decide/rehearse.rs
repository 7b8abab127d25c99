//! What a request would be decided if it came now, or had not come yet, and what its policy would see. Of
//! such a set nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::wire::RELEASED;
use backstop_contract::{Question, Timestamp};
use backstop_lua::{Breach, Keys};

use super::{Outcome, Seen, Set, cancels, decision_key};
use crate::error::CoreError;
use crate::store::{Decided, DecisionKey, RowKey};

/// What there is in the books for a question, its own decision left out.
#[derive(Debug)]
pub struct Without {
    /// What its policy would see.
    pub seen: Seen,
    /// What its account holds, by unit.
    pub balances: BTreeMap<String, i64>,
    /// Of a cancel, what core would make of it: [`RELEASED`], or the reason to decline it.
    pub cancel: Option<&'static str>,
}

impl<'a> Set<'a> {
    /// As [`Self::decide`] would be had it not been asked before. The same question may have been decided a
    /// moment ago, by another stack on the same books: it is taken out of what the policy sees, or it would
    /// find its own payment in the history and its own claim gone from the stock.
    pub fn rehearse(
        &mut self,
        question: &'a Question,
        keys: &Result<Keys, Breach>,
        now: Timestamp,
        time_max: Duration,
    ) -> Result<Outcome, CoreError> {
        self.leave_out(question);
        self.decide(question, keys, now, time_max)
    }

    /// What a policy that asks for `keys` would see of the books had this question not been decided, and
    /// what core would carry its ruling out with.
    pub fn without(mut self, question: &Question, keys: &Keys) -> Without {
        self.leave_out(question);
        let seen = self.seen(&question.merchant, keys);
        let balances = self.holdings.balances(&question.merchant, &question.request.account);
        // Last of all, for it moves what it releases.
        let cancel = cancels(&question.request).map(|id| {
            self.release(question, id, Timestamp::now()).map_or_else(|why| why, |_moved| RELEASED)
        });
        Without { seen, balances, cancel }
    }

    fn leave_out(&mut self, question: &Question) {
        let key = decision_key(question);
        if let Some(decided) = self.known.remove(&key) {
            if decided.hash == question.hash {
                self.take_back(&key, &decided, question);
            } else {
                self.known.insert(key, decided);
            }
        }
    }

    /// Undoes a decision in what was loaded, as far as others have left what it moved.
    fn take_back(&mut self, key: &DecisionKey, decided: &Decided, question: &Question) {
        let Decided { answer, money, at, account, moves, fraud, .. } = decided;
        let amount = money.as_ref().map_or(0, |money| money.amount);
        for row in &decided.history_keys {
            let row = RowKey { merchant: key.merchant.clone(), key: row.clone() };
            if let Some(history) = self.history.get_mut(&row) {
                // A row joins events, and could not tell whose label goes with this one.
                history.value.label(*at, false, *fraud);
                history.value.forget(*at, amount, answer.decision);
            }
        }
        if decided.cancelled_by.is_none() {
            let _spent_since = self.holdings.release(&key.merchant, account, moves);
        }
        let Some(id) = cancels(&question.request) else { return };
        let cancelled = DecisionKey { merchant: key.merchant.clone(), id: id.to_owned() };
        let cancelled = self.known.get_mut(&cancelled);
        let is_by_this = |it: &&mut Decided| it.cancelled_by.as_deref() == Some(key.id.as_str());
        if let Some(cancelled) = cancelled.filter(is_by_this) {
            cancelled.cancelled_by = None;
            let _taken_since =
                self.holdings.apply(&key.merchant, &cancelled.account, &cancelled.moves);
        }
    }
}
