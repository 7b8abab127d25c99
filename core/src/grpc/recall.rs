//! Decisions recalled, for the people who write the rules.

use backstop_contract::request::EventTime;
use backstop_contract::{Deadline, wire};
use backstop_lua::Keys;
use tonic::Status;

use super::{Service, record_of, status_of};
use crate::error::CoreError;
use crate::rehearsals::Recalled;
use crate::store::{DecisionKey, Records};

/// The most keys of one call; no policy asks for as many.
const KEYS_MAX: usize = 128;

impl<R: Records> Service<R> {
    /// A decision, and the books as they would be without it.
    pub(super) async fn recall_one(
        &self,
        request: wire::RecallRequest,
        deadline: Option<Deadline>,
    ) -> Result<wire::RecallReply, Status> {
        let wire::RecallRequest { merchant, id, history, stock } = request;
        if history.len() + stock.len() > KEYS_MAX {
            return Err(Status::invalid_argument(format!("there must be {KEYS_MAX} keys at most")));
        }
        let history = history.into_iter().map(|key| (key.clone(), key)).collect();
        let keys = Keys { history, stock, ..Keys::default() };
        let recalled = self.recalls.recall(DecisionKey { merchant, id }, keys, deadline).await;
        let recalled = recalled.map_err(|error| {
            // Who comes in a crowd, or late, is told so; nothing is wrong with core.
            if !matches!(error, CoreError::QueueFull | CoreError::TooLate) {
                tracing::error!(%error, "a decision could not be recalled");
            }
            status_of(&error)
        })?;
        Ok(wire::RecallReply { recalled: recalled.map(recalled_of) })
    }
}

fn recalled_of(recalled: Recalled) -> wire::Recalled {
    let Recalled { mut question, decided, histories, stock, balances, cancel } = recalled;
    let at = question.at();
    question.request.at = Some(EventTime { timestamp: at, text: at.to_string() });
    let row = |(key, history): (String, backstop_engine::History)| wire::History {
        key,
        row: history.encode(),
    };
    wire::Recalled {
        transaction: Some(wire::Transaction::from(&question.request)),
        request_hash: decided.hash.as_bytes().to_vec(),
        record: Some(record_of(decided)),
        history: histories.into_iter().map(row).collect(),
        stock,
        balance: balances,
        cancel: cancel.unwrap_or_default().to_owned(),
    }
}
