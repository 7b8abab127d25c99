//! What core has yet to be told, for a merchant's statement.

use std::ops::Range;

use backstop_contract::request::Money;
use backstop_contract::{Decision, Timestamp};
use serde::Deserialize;

use crate::place::{AdviceId, Key};
use crate::reading::answer_in;
use crate::threads::Shared;

/// Advices looked at before the machine is free again.
const STEP: usize = 1_024;

/// One answer that a client was given and core does not know.
#[derive(Clone, Debug, PartialEq)]
pub struct Debt {
    /// The id of the request.
    pub id: String,
    /// What the client was told.
    pub answer: Decision,
    /// What the request was about, where there was money in it.
    pub money: Option<Money>,
    /// Why core refused it; empty for one that is on its way.
    pub why: String,
}

/// As much of a request as a statement tells.
#[derive(Deserialize)]
struct Asked {
    amount: Option<u64>,
    currency: Option<String>,
}

/// The debts of a merchant in a span of time, oldest first, at most `max`. Blocks while it reads.
pub(crate) fn list(
    shared: &Shared,
    merchant: &str,
    span: Range<Timestamp>,
    max: usize,
) -> Vec<Debt> {
    let mut debts = Vec::new();
    for look in [look_at_owed, look_at_aside] {
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < max {
            let step = look(shared, after);
            let Some((last, ..)) = step.last() else { break };
            after = Some(*last);
            let read = step.into_iter().filter_map(|(_, key, why)| {
                debt(shared, &key, why, merchant).filter(|it| span.contains(&it.answer.decided_at))
            });
            found.extend(read);
        }
        debts.extend(found);
    }
    debts.sort_by_key(|it| it.answer.decided_at);
    debts.truncate(max);
    debts
}

/// Those of these ids that core does not know, in their order. Blocks while it reads.
pub(crate) fn of(shared: &Shared, merchant: &str, ids: &[String]) -> Vec<Debt> {
    let owed = |id: &String| {
        let key = Key::of(merchant, id);
        let known = shared.desk().keeper.known(&key);
        known
            .filter(|known| !known.state.is_final())
            .and_then(|_| debt(shared, &key, String::new(), merchant))
    };
    ids.iter().filter_map(owed).collect()
}

type Step = Vec<(AdviceId, Key, String)>;

fn look_at_owed(shared: &Shared, after: Option<AdviceId>) -> Step {
    let desk = shared.desk();
    let owed = desk.keeper.shipping().owed_after(after).take(STEP);
    owed.map(|it| (it.advice, it.key, String::new())).collect()
}

fn look_at_aside(shared: &Shared, after: Option<AdviceId>) -> Step {
    let desk = shared.desk();
    let aside = desk.keeper.shipping().aside_after(after).take(STEP);
    aside.map(|(advice, it)| (advice, it.key, it.why.clone())).collect()
}

fn debt(shared: &Shared, key: &Key, why: String, merchant: &str) -> Option<Debt> {
    let record = shared.read(key)?;
    let said = answer_in(&record).filter(|it| it.merchant == merchant)?;
    let answer: Decision = serde_json::from_slice(said.answer).ok()?;
    let asked: Option<Asked> = serde_json::from_slice(said.request).ok();
    let money = asked.and_then(|it| it.amount.zip(it.currency));
    let money = money.map(|(amount, currency)| Money { amount, currency });
    Some(Debt { id: answer.id.clone(), answer, money, why })
}
