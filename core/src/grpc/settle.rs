//! What clients were told by other tiers: advices taken in, and the statement of what became of them.

use std::collections::BTreeMap;

use backstop_contract::advice::{ADVICES_BYTES_MAX, ADVICES_MAX};
use backstop_contract::wire::{self, Settled};
use backstop_contract::{Decision, Question, Timestamp};
use tonic::Status;

use super::{Service, record_of, status_of};
use crate::decide::Outcome;
use crate::decide::settle::{Advice, UNACCEPTABLE};
use crate::error::CoreError;
use crate::store::settled::{AdviceKey, SequenceKey};
use crate::store::{DecisionKey, Records, Span};
use crate::writer::Ask;

/// The most messages of advices at once: what they hold is in memory.
pub const SETTLES_MAX: usize = 16;
/// The most ids of one look-up.
const IDS_MAX: usize = 1_024;
/// The longest name of a node.
const NODE_BYTES_MAX: usize = 128;
/// The largest message of advices, with room for their encoding.
pub const SETTLE_BYTES_MAX: usize = 2 * ADVICES_BYTES_MAX;

impl<R: Records> Service<R> {
    /// Settles advices in their order. Those that could not be are missing in the reply.
    pub(super) async fn settle_all(
        &self,
        request: wire::SettleRequest,
    ) -> Result<wire::SettleReply, Status> {
        let wire::SettleRequest { node, advices } = request;
        let is_name = node.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name || !(1..=NODE_BYTES_MAX).contains(&node.len()) {
            return Err(Status::invalid_argument("node must be 1 to 128 visible ASCII characters"));
        }
        if advices.len() > ADVICES_MAX {
            return Err(Status::invalid_argument("there must be 256 advices at most"));
        }
        let Ok(_permit) = self.settles.try_acquire() else {
            return Err(status_of(&CoreError::QueueFull));
        };
        let given = advices.len();
        let settled = self.settle_each(&node, advices).await;
        if settled.is_empty() && given > 0 {
            return Err(status_of(&CoreError::Unusable));
        }
        // Only what is known to have arrived may be told: it will not come again.
        self.note_arrivals(node, &settled).await.map_err(|error| status_of(&error))?;
        Ok(wire::SettleReply { settled })
    }

    async fn settle_each(&self, node: &str, advices: Vec<wire::Advice>) -> Vec<Settled> {
        let (mut settled, mut asked) = (Vec::with_capacity(advices.len()), Vec::new());
        for message in advices {
            let (epoch, number) = (message.epoch, message.number);
            match advice_of(node, message) {
                Some(advice) => {
                    let outcome = self.queue.ask_in_bulk(Ask::Settle(Box::new(advice))).await;
                    asked.push((epoch, number, outcome));
                }
                None => settled.push(refused(epoch, number)),
            }
        }
        for (epoch, number, outcome) in asked {
            // What failed for lack of a database is sent again.
            if let Ok(Ok(Outcome::Settled { outcome, why })) = outcome.await {
                let (outcome, why) = (outcome.as_str().to_owned(), why.to_owned());
                settled.push(Settled { epoch, number, outcome, why });
            }
        }
        settled
    }

    async fn note_arrivals(&self, node: String, settled: &[Settled]) -> Result<(), CoreError> {
        let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for Settled { epoch, number, .. } in settled {
            numbers.entry(*epoch).or_default().push(*number);
        }
        for (epoch, numbers) in numbers {
            let ask = Ask::Arrived(SequenceKey { node: node.clone(), epoch }, numbers);
            let outcome = self.queue.ask_in_bulk(ask).await;
            outcome.await.unwrap_or(Err(CoreError::Unusable))?;
        }
        Ok(())
    }

    /// What a merchant was told in a span of time.
    pub(super) async fn state(
        &self,
        request: wire::StatementRequest,
    ) -> Result<wire::StatementReply, Status> {
        let wire::StatementRequest { merchant, from, to, lines_max } = request;
        let span = Span {
            merchant,
            from: Timestamp::from_millis(from),
            to: Timestamp::from_millis(to),
            lines_max: usize::try_from(lines_max).unwrap_or(usize::MAX),
        };
        let records = self.records.clone();
        self.look_up(async move { records.statement(span).await }).await
    }

    /// The records of many decisions.
    pub(super) async fn look_up_many(
        &self,
        request: wire::FindManyRequest,
    ) -> Result<wire::FindManyReply, Status> {
        let wire::FindManyRequest { merchant, mut ids } = request;
        if ids.len() > IDS_MAX {
            return Err(Status::invalid_argument("there must be 1,024 ids at most"));
        }
        ids.sort_unstable();
        ids.dedup();
        let key = |id| DecisionKey { merchant: merchant.clone(), id };
        let (records, keys) = (self.records.clone(), ids.into_iter().map(key).collect());
        let found = self.look_up(async move { records.find_many(keys).await }).await?;
        Ok(wire::FindManyReply { records: found.into_values().map(record_of).collect() })
    }
}

/// The advice of a message; `None` where it makes no sense, and would make none the next time.
fn advice_of(node: &str, message: wire::Advice) -> Option<Advice> {
    let wire::Advice { epoch, number, request, answer } = message;
    let question = Question::try_from(request?).ok()?;
    let answer = Decision::try_from(answer?).ok()?;
    let is_its_own = answer.id == question.request.id && number > 0;
    let key = AdviceKey { node: node.to_owned(), epoch, number };
    is_its_own.then_some(Advice { key, question, answer })
}

fn refused(epoch: u64, number: u64) -> Settled {
    let outcome = backstop_contract::Outcome::Refused.as_str().to_owned();
    Settled { epoch, number, outcome, why: UNACCEPTABLE.to_owned() }
}
