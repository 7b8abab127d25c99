//! A decision as the books have it, and the books as they would be without it: so that another rule can be
//! asked about what has been decided, and does not find the request in its own history.

use std::collections::BTreeMap;

use backstop_contract::{Attributes, Deadline, Question, Request};
use backstop_engine::History;
use backstop_lua::Keys;

use super::Rehearsals;
use crate::error::CoreError;
use crate::store::{Decided, DecisionKey, Records};

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
}

impl<R: Records> Rehearsals<R> {
    /// The decision, if it was made, and what a policy that asks for `keys` would see without it.
    pub async fn recall(
        &self,
        key: DecisionKey,
        keys: Keys,
        deadline: Option<Deadline>,
    ) -> Result<Option<Recalled>, CoreError> {
        let rehearsals = self.clone();
        let recalled = async move { rehearsals.recall_to_the_end(key, keys).await };
        self.in_a_place(deadline, recalled).await
    }

    async fn recall_to_the_end(
        &self,
        key: DecisionKey,
        keys: Keys,
    ) -> Result<Option<Recalled>, CoreError> {
        let Some(decided) = self.records.find(key.clone()).await? else { return Ok(None) };
        let attributes = self.records.attributes(key.clone()).await?.unwrap_or_default();
        let question = question(key, &decided, attributes);
        let standing = self.rules.load_full();
        let keys = Ok(keys);
        let set = self.load(&question, &keys, standing.live()).await?;
        let (histories, stock) = keys.map(|keys| set.without(&question, &keys)).unwrap_or_default();
        Ok(Some(Recalled { question, decided, histories, stock }))
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
