//! The rows that a set needs to see before it can be decided.

use std::collections::BTreeSet;

use backstop_lua::Rules;

use super::{Ask, Case};
use crate::decide::{cancels, decision_key};
use crate::store::{AccountKey, DecisionKey, Loaded, RowKey, Wanted};

/// The same without order or repetition.
#[derive(Default)]
struct Collected {
    decisions: BTreeSet<DecisionKey>,
    history: BTreeSet<RowKey>,
    stock: BTreeSet<RowKey>,
    accounts: BTreeSet<AccountKey>,
}

/// What the requests and their policies name themselves.
pub fn by(cases: &[Case], rules: &Rules) -> Wanted {
    let mut wanted = Collected::default();
    for case in cases {
        match &case.job.ask {
            Ask::Decide(question) => {
                let (merchant, request) = (&question.merchant, &question.request);
                wanted.decisions.insert(decision_key(question));
                if let Ok(keys) = &case.keys {
                    wanted.history.extend(keys.history.values().map(|key| row(merchant, key)));
                    wanted.stock.extend(keys.stock.iter().map(|key| row(merchant, key)));
                }
                let cancelled = cancels(request).map(|id| decision(merchant, id));
                if cancelled.is_some() || rules.moves(&request.policy) {
                    wanted.accounts.insert(AccountKey {
                        merchant: merchant.clone(),
                        account: request.account.clone(),
                    });
                }
                wanted.decisions.extend(cancelled);
            }
            Ask::Label(key, _) => drop(wanted.decisions.insert(key.clone())),
            Ask::SetStock(key, _) => drop(wanted.stock.insert(key.clone())),
        }
    }
    wanted.into()
}

/// What the decisions that they label or cancel name in turn, and was not loaded yet.
pub fn by_what_was_loaded(cases: &[Case], loaded: &Loaded) -> Wanted {
    let mut wanted = Collected::default();
    for case in cases {
        match &case.job.ask {
            Ask::Decide(question) => {
                let merchant = &question.merchant;
                let cancelled = cancels(&question.request).map(|id| decision(merchant, id));
                let cancelled = cancelled.and_then(|key| loaded.decisions.get(&key));
                let taken = cancelled.into_iter().flat_map(|decided| decided.moves.take.keys());
                wanted.stock.extend(taken.map(|key| row(merchant, key)));
            }
            Ask::Label(key, _) => {
                let labelled = loaded.decisions.get(key);
                let counted = labelled.into_iter().flat_map(|decided| &decided.history_keys);
                wanted.history.extend(counted.map(|row_key| row(&key.merchant, row_key)));
            }
            Ask::SetStock(..) => {}
        }
    }
    wanted.history.retain(|key| !loaded.history.contains_key(key));
    wanted.stock.retain(|key| !loaded.stock.contains_key(key));
    wanted.into()
}

impl From<Collected> for Wanted {
    fn from(collected: Collected) -> Self {
        let Collected { decisions, history, stock, accounts } = collected;
        Self {
            decisions: decisions.into_iter().collect(),
            history: history.into_iter().collect(),
            stock: stock.into_iter().collect(),
            accounts: accounts.into_iter().collect(),
        }
    }
}

fn decision(merchant: &str, id: &str) -> DecisionKey {
    DecisionKey { merchant: merchant.to_owned(), id: id.to_owned() }
}

fn row(merchant: &str, key: &str) -> RowKey {
    RowKey { merchant: merchant.to_owned(), key: key.to_owned() }
}
