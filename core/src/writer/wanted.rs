//! The rows that a set needs to see before it can be decided.

use std::collections::BTreeSet;

use backstop_contract::Question;
use backstop_lua::{Breach, Keys, Rules};

use super::{Ask, Case};
use crate::decide::{cancels, decision_key};
use crate::store::settled::SequenceKey;
use crate::store::{AccountKey, Decided, DecisionKey, Loaded, RowKey, Wanted};

/// The same without order or repetition.
#[derive(Default)]
struct Collected {
    asked: BTreeSet<DecisionKey>,
    decisions: BTreeSet<DecisionKey>,
    history: BTreeSet<RowKey>,
    stock: BTreeSet<RowKey>,
    accounts: BTreeSet<AccountKey>,
    arrivals: BTreeSet<SequenceKey>,
}

/// What the requests and their policies name themselves.
pub(super) fn by(cases: &[Case]) -> Wanted {
    let mut wanted = Collected::default();
    for case in cases {
        match &case.job.ask {
            Ask::Decide(question) => {
                wanted.asked.insert(decision_key(question));
                wanted.add(question, &case.keys, &case.rules);
            }
            // One of the rows it wants may be what is unreadable.
            Ask::Settle(advice) if case.is_unacceptable => {
                wanted.decisions.insert(decision_key(&advice.question));
            }
            Ask::Settle(advice) => {
                wanted.decisions.insert(decision_key(&advice.question));
                wanted.add(&advice.question, &case.keys, &case.rules);
            }
            Ask::Label(key, _) => drop(wanted.decisions.insert(key.clone())),
            Ask::SetStock(key, _) => drop(wanted.stock.insert(key.clone())),
            Ask::Arrived(key, _) => drop(wanted.arrivals.insert(key.clone())),
        }
    }
    wanted.into()
}

/// What the decisions that they label, cancel or settle name in turn, and was not loaded yet.
pub(super) fn by_what_was_loaded(cases: &[Case], loaded: &Loaded) -> Wanted {
    let mut wanted = Collected::default();
    for case in cases {
        match &case.job.ask {
            Ask::Decide(question) => wanted.add_moved(cancelled(question).as_ref(), loaded),
            Ask::Settle(_) if case.is_unacceptable => {}
            Ask::Settle(advice) => wanted.add_decided(&advice.question, loaded),
            Ask::Label(key, _) => wanted.add_counted(key, loaded),
            Ask::SetStock(..) | Ask::Arrived(..) => {}
        }
    }
    wanted.beyond(loaded)
}

/// What a rehearsal and its policy name themselves.
pub fn by_rehearsal(question: &Question, keys: &Result<Keys, Breach>, rules: &Rules) -> Wanted {
    let mut wanted = Collected::default();
    wanted.decisions.insert(decision_key(question));
    wanted.add(question, keys, rules);
    wanted.into()
}

/// What the decisions that it repeats or cancels name in turn, and was not loaded yet.
pub fn by_what_was_rehearsed(question: &Question, loaded: &Loaded) -> Wanted {
    let mut wanted = Collected::default();
    wanted.add_decided(question, loaded);
    wanted.beyond(loaded)
}

impl Collected {
    /// What a request and its policy name, its own id apart.
    fn add(&mut self, question: &Question, keys: &Result<Keys, Breach>, rules: &Rules) {
        let (merchant, request) = (&question.merchant, &question.request);
        if let Ok(keys) = keys {
            self.history.extend(keys.history.values().map(|key| row(merchant, key)));
            self.stock.extend(keys.stock.iter().map(|key| row(merchant, key)));
        }
        let cancelled = cancelled(question);
        if cancelled.is_some() || rules.moves(&request.policy) {
            let account = request.account.clone();
            self.accounts.insert(AccountKey { merchant: merchant.clone(), account });
        }
        self.decisions.extend(cancelled);
    }

    /// What was decided of a request before, and of the one that it cancels.
    fn add_decided(&mut self, question: &Question, loaded: &Loaded) {
        let key = decision_key(question);
        self.add_moved(Some(&key), loaded);
        self.add_counted(&key, loaded);
        self.add_moved(cancelled(question).as_ref(), loaded);
    }

    /// What a decision moved, which may come back.
    fn add_moved(&mut self, key: Option<&DecisionKey>, loaded: &Loaded) {
        let Some((key, decided)) = key.and_then(|key| loaded.decisions.get_key_value(key)) else {
            return;
        };
        let Decided { moves, account, .. } = decided;
        self.stock.extend(moves.take.keys().map(|taken| row(&key.merchant, taken)));
        if !moves.credit.is_empty() || !moves.debit.is_empty() {
            let (merchant, account) = (key.merchant.clone(), account.clone());
            self.accounts.insert(AccountKey { merchant, account });
        }
    }

    /// The history that counts a decision.
    fn add_counted(&mut self, key: &DecisionKey, loaded: &Loaded) {
        let decided = loaded.decisions.get(key);
        let counted = decided.into_iter().flat_map(|decided| &decided.history_keys);
        self.history.extend(counted.map(|row_key| row(&key.merchant, row_key)));
    }

    /// All of it that was not loaded yet.
    fn beyond(mut self, loaded: &Loaded) -> Wanted {
        self.history.retain(|key| !loaded.history.contains_key(key));
        self.stock.retain(|key| !loaded.stock.contains_key(key));
        self.accounts.retain(|key| !loaded.balances.contains_key(key));
        self.into()
    }
}

impl From<Collected> for Wanted {
    fn from(collected: Collected) -> Self {
        let Collected { asked, decisions, history, stock, accounts, arrivals } = collected;
        Self {
            asked: asked.difference(&decisions).cloned().collect(),
            decisions: decisions.into_iter().collect(),
            history: history.into_iter().collect(),
            stock: stock.into_iter().collect(),
            accounts: accounts.into_iter().collect(),
            arrivals: arrivals.into_iter().collect(),
        }
    }
}

/// The decision that a request cancels, where it is a cancel.
fn cancelled(question: &Question) -> Option<DecisionKey> {
    let id = cancels(&question.request)?.to_owned();
    Some(DecisionKey { merchant: question.merchant.clone(), id })
}

fn row(merchant: &str, key: &str) -> RowKey {
    RowKey { merchant: merchant.to_owned(), key: key.to_owned() }
}
