//! A decision as the books have it, and the books as they would be without it: so that another rule can be
//! asked about what has been decided, and does not find the request in its own history.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstop_contract::{Attributes, Deadline, Question, Request};
use backstop_engine::History;
use backstop_lua::Keys;
use tokio::sync::Semaphore;

use super::{Rehearsals, in_a_place};
use crate::decide::Without;
use crate::error::CoreError;
use crate::store::{AccountKey, Decided, DecisionKey, Records};
use crate::writer::wanted;

/// The most recalls at once: people ask, and a few. Whoever comes then waits as a rehearsal does.
pub const RECALLS_MAX: usize = 2;

/// What was decided, and what a policy would see now had it not been.
#[derive(Debug)]
pub struct Recalled {
    /// The request, as far as the books keep it.
    pub question: Question,
    /// What became of it.
    pub decided: Decided,
    /// The histories that were asked for, by their names.
    pub histories: BTreeMap<String, History>,
    /// What is left of the stock that was asked for.
    pub stock: BTreeMap<String, i64>,
    /// What its account holds, by unit.
    pub balances: BTreeMap<String, i64>,
    /// Of a cancel, what core would make of it.
    pub cancel: Option<&'static str>,
}

/// Where decisions are recalled: in places of their own, so that a crowd of authors keeps no probe from
/// seeing that core is well, and a crowd of probes no author from an answer.
#[derive(Clone)]
pub struct Recalls<R> {
    rehearsals: Rehearsals<R>,
    /// One permit for each under way, [`RECALLS_MAX`] in all.
    places: Arc<Semaphore>,
}

impl<R: Records> Recalls<R> {
    /// Beside the rehearsals of the same books.
    pub fn beside(rehearsals: &Rehearsals<R>) -> Self {
        let places = Arc::new(Semaphore::new(RECALLS_MAX));
        Self { rehearsals: rehearsals.clone(), places }
    }

    /// As [`Rehearsals::recall`], once there is a place.
    pub async fn recall(
        &self,
        key: DecisionKey,
        keys: Keys,
        deadline: Option<Deadline>,
    ) -> Result<Option<Recalled>, CoreError> {
        let rehearsals = self.rehearsals.clone();
        let recalled = async move { rehearsals.recall(key, keys, deadline).await };
        in_a_place(&self.places, deadline, recalled).await
    }
}

impl<R: Records> Rehearsals<R> {
    /// The decision, if it was made, and what a policy that asks for `keys` would see without it. Who calls
    /// this bounds how many do at once.
    pub async fn recall(
        &self,
        key: DecisionKey,
        keys: Keys,
        deadline: Option<Deadline>,
    ) -> Result<Option<Recalled>, CoreError> {
        let Some(decided) = self.records.find(key.clone()).await? else { return Ok(None) };
        let attributes = self.records.attributes(key.clone()).await?.unwrap_or_default();
        let question = question(key, &decided, attributes);
        let standing = self.rules.load_full();
        self.time_for(deadline)?;
        let named = Ok(keys.clone());
        let mut wanted = wanted::by_rehearsal(&question, &named, standing.live());
        // A draft may move what the live rule does not.
        let merchant = question.merchant.clone();
        let account = AccountKey { merchant, account: question.request.account.clone() };
        if !wanted.accounts.contains(&account) {
            wanted.accounts.push(account);
        }
        let set = self.load(&question, wanted, standing.live()).await?;
        let Without { seen, balances, cancel } = set.without(&question, &keys);
        let (histories, stock) = seen;
        Ok(Some(Recalled { question, decided, histories, stock, balances, cancel }))
    }
}

/// The question that was decided. Its time is the one that history counts it under: the books do not say
/// whether the client sent it.
fn question(key: DecisionKey, decided: &Decided, attributes: Attributes) -> Question {
    Question {
        merchant: key.merchant,
        test: false,
        numeric_ids: false,
        request: Request {
            id: key.id,
            policy: decided.policy.clone(),
            account: decided.account.clone(),
            money: decided.money.clone(),
            at: None,
            attributes,
        },
        hash: decided.hash,
        received_at: decided.at,
        traceparent: String::new(),
        body: String::new().into(),
    }
}

#[cfg(test)]
mod tests;
