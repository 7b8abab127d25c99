//! Advices on their way from edge to core: judged as the requests were that they answer, and passed on a
//! few at a time. Live decisions share the thread with this, so it gives way often.

use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use backstop_contract::advice::{ADVICES_BYTES_MAX, ADVICES_MAX, Settlement};
use backstop_contract::validity::{self, Terms};
use backstop_contract::{Advice, Advices, Budget, Deadline, Decision, Problem, Settled, wire};

use crate::tier::Tier;

/// The most messages that are worked on at a time; others wait for a place.
pub const MESSAGES_MAX: usize = 4;
/// The longest that a message is worked on. Core takes live requests first, so it may have to wait.
pub const TIME_MAX: Duration = Duration::from_secs(8);

/// So many are read before others get the thread: about as long as a few decisions take.
const READ_AT_ONCE: usize = 8;
/// An advice, but for the request that it answers.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The largest message over HTTP, where a request has at most `body_bytes_max`.
pub const fn bytes_max(body_bytes_max: usize) -> usize {
    ADVICES_BYTES_MAX + body_bytes_max + ANSWER_BYTES_MAX
}

impl Tier {
    /// Waits for a place among those who settle.
    pub async fn place_to_settle(
        &self,
        deadline: Deadline,
    ) -> Result<SemaphorePermit<'_>, Problem> {
        let place = timeout(deadline.left(Instant::now()), self.advices.acquire()).await;
        place.ok().and_then(Result::ok).ok_or_else(Problem::unavailable)
    }

    /// Settles these advices in their order, as far as core does so by the deadline. One that makes no
    /// sense keeps no other from being settled.
    pub async fn settle(&self, body: &[u8], deadline: Deadline) -> Result<Settlement, Problem> {
        let message = read(body)?;
        let mut advices = Vec::with_capacity(message.advices.len());
        for (place, advice) in message.advices.iter().enumerate() {
            advices.push(self.translate(advice));
            if place % READ_AT_ONCE == READ_AT_ONCE - 1 {
                yield_now().await;
            }
        }
        let call = wire::SettleRequest { node: message.node.into_owned(), advices };
        let budget = Budget::new(deadline.left(Instant::now()));
        let settled = self.core.settle(call, budget).await;
        let settled = settled.map_err(|_cause| Problem::unavailable())?;
        for Settled { outcome, .. } in &settled {
            self.metrics.settled(outcome);
        }
        Ok(Settlement { settled })
    }

    /// The advice as core reads it. Of one that makes no sense only its number is left: core refuses it,
    /// and sees that it has arrived.
    fn translate(&self, advice: &Advice<'_>) -> wire::Advice {
        let parts = parts(advice);
        let (request, answer) = parts.map_or_else(
            |why| {
                self.faults.say("advice", format_args!("an advice makes no sense: {why}"));
                (None, None)
            },
            |(request, answer)| (Some(request), Some(answer)),
        );
        wire::Advice { epoch: advice.epoch, number: advice.number, request, answer }
    }
}

/// What was asked and what was answered, or why that cannot be told.
fn parts(advice: &Advice<'_>) -> Result<(wire::DecideRequest, wire::Decision), String> {
    let terms = Terms {
        now: advice.received_at,
        test: advice.test,
        numeric_ids: advice.numeric_ids,
        // Core says whether it needs the policy: what is in the books already needs none.
        policies: &|_any| true,
    };
    let request = validity::check_again(advice.request.get().as_bytes(), &terms);
    let request = request.map_err(|problem| problem.detail)?;
    let answer: Option<Decision> = serde_json::from_str(advice.answer.get()).ok();
    let answer = answer.filter(|answer| answer.id == request.id);
    let answer = answer.ok_or("its answer is none to its request")?;
    let question = wire::DecideRequest {
        merchant: advice.merchant.clone().into_owned(),
        test: advice.test,
        request_hash: advice.hash.as_bytes().to_vec(),
        received_at: advice.received_at.as_millis(),
        transaction: Some((&request).into()),
    };
    Ok((question, answer.into()))
}

fn read(body: &[u8]) -> Result<Advices<'_>, Problem> {
    let message: Advices<'_> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::not_json(format!("line {line}, column {column}: these are no advices"))
    })?;
    if message.advices.len() > ADVICES_MAX {
        return Err(Problem::field("/advices", "there are over 256 advices", "send at most 256"));
    }
    Ok(message)
}
