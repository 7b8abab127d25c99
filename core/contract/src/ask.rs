//! The heart of every tier: ask the next tier, or answer.

use std::future::Future;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::budget::{Budget, Deadline, Limits};
use crate::decision::{Cause, Decision};
use crate::fingerprint::RequestHash;
use crate::problem::Problem;
use crate::request::Request;
use crate::timestamp::Timestamp;

/// One request to decide, with what the edge learned of it on receipt.
#[derive(Clone, Debug)]
pub struct Question {
    /// The merchant that asks; ids, history and stock are scoped to it.
    pub merchant: String,
    /// Asked with a test key.
    pub test: bool,
    /// The merchant's ids are plain numbers, which may look like card numbers.
    pub numeric_ids: bool,
    /// What is asked.
    pub request: Request,
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// The wall clock when the edge had the whole request.
    pub received_at: Timestamp,
    /// W3C trace context, passed on as it is.
    pub traceparent: String,
    /// The request as it goes to the next tier over HTTP, card numbers replaced.
    pub body: Bytes,
}

impl Question {
    /// When the event happened: as the client says, else when the edge received it.
    pub fn at(&self) -> Timestamp {
        self.request.at.as_ref().map_or(self.received_at, |at| at.timestamp)
    }
}

/// What asking ends in: a decision, or a reason why the client must change its request first.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The answer.
    Decided(Decision),
    /// No decision is possible for this request, whoever is asked.
    Refused(Problem),
}

/// The next tier.
pub trait NextTier: Sync {
    /// Asks for a decision within `budget`. The future only waits: the exchange is a task of its own,
    /// and dropping the waiter at the deadline cancels nothing.
    fn decide(
        &self,
        question: &Question,
        budget: Budget,
    ) -> impl Future<Output = Result<Reply, Cause>> + Send;
}

/// This tier's own answer. It does not wait, and it has no way to fail.
pub trait Fallback: Sync {
    /// Decides alone because of `cause`, and tries to be done by `deadline`.
    fn decide(&self, question: &Question, cause: Cause, deadline: Deadline) -> Decision;
}

/// Asks the next tier, and answers here when it cannot.
///
/// The time we wait is the time we give, so the tiers need not agree on a clock. After a timeout the
/// next tier may yet decide otherwise: settlement resolves that, not this request.
pub async fn decide<N: NextTier, F: Fallback>(
    next: &N,
    fallback: &F,
    question: &Question,
    deadline: Deadline,
    limits: Limits,
) -> Reply {
    let budget = deadline.budget_for(limits, Instant::now());
    let cause = match timeout(budget.length(), next.decide(question, budget)).await {
        Ok(Ok(reply)) => return reply,
        Ok(Err(cause)) => cause,
        Err(_elapsed) => Cause::Deadline,
    };
    Reply::Decided(fallback.decide(question, cause, deadline))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::decision::{Effects, Tier, Verdict};

    /// A next tier that takes its time, then says what it is told to.
    struct Next {
        takes: Duration,
        says: Result<Verdict, Cause>,
    }

    impl NextTier for Next {
        async fn decide(&self, _: &Question, _: Budget) -> Result<Reply, Cause> {
            tokio::time::sleep(self.takes).await;
            self.says.clone().map(|verdict| Reply::Decided(answer(verdict, Tier::Core, None)))
        }
    }

    /// Declines, whatever the cause.
    struct Own;

    impl Fallback for Own {
        fn decide(&self, _: &Question, cause: Cause, _: Deadline) -> Decision {
            answer(Verdict::Decline, Tier::Edge, Some(cause))
        }
    }

    fn answer(decision: Verdict, decided_by: Tier, cause: Option<Cause>) -> Decision {
        Decision {
            id: "txn-1".into(),
            decision,
            reasons: Vec::new(),
            score: 0,
            is_final: cause.is_none(),
            decided_by,
            cause,
            durable: true,
            stack: "prod".into(),
            policy_version: "v".into(),
            effects: Effects::default(),
            budget_ms: 300,
            elapsed_ms: 0.0,
            decided_at: Timestamp::default(),
            replayed: false,
            server_timing: String::new(),
        }
    }

    fn question() -> Question {
        let request = Request {
            id: "txn-1".into(),
            policy: "payment".into(),
            account: "customer-1".into(),
            money: None,
            at: None,
            attributes: BTreeMap::new(),
        };
        let hash = crate::HashKey::new(&[0; 32]).hash(&request);
        let (received_at, body) = (Timestamp::from_millis(7), Bytes::from(request.to_json()));
        let (merchant, traceparent) = ("demo".into(), String::new());
        Question {
            merchant,
            test: false,
            numeric_ids: false,
            request,
            hash,
            received_at,
            traceparent,
            body,
        }
    }

    /// Who answered, why, and after how long, with a budget of 300 ms and a reserve of 20.
    async fn ask(
        takes: u64,
        says: Result<Verdict, Cause>,
        elapsed: u64,
    ) -> (Tier, Option<Cause>, u128) {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let deadline = Deadline::after(start, Budget::new(ms(300)));
        let limits = Limits::new(ms(20), ms(0), ms(10_000)).unwrap();
        tokio::time::sleep(ms(elapsed)).await;
        let next = Next { takes: ms(takes), says };
        match decide(&next, &Own, &question(), deadline, limits).await {
            Reply::Decided(answer) => {
                (answer.decided_by, answer.cause, start.elapsed().as_millis())
            }
            Reply::Refused(problem) => panic!("refused: {problem:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tier_in_time_is_believed() {
        assert_eq!(ask(279, Ok(Verdict::Approve), 0).await, (Tier::Core, None, 279));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_tier_is_answered_for_on_time() {
        let late = Some(Cause::Deadline);
        assert_eq!(ask(281, Ok(Verdict::Approve), 0).await, (Tier::Edge, late.clone(), 280));
        assert_eq!(ask(281, Ok(Verdict::Approve), 100).await, (Tier::Edge, late, 280));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tier_that_fails_is_answered_for_at_once_with_its_own_cause() {
        for cause in [Cause::Unavailable, Cause::Error, Cause::Overload, Cause::Breaker] {
            assert_eq!(ask(3, Err(cause.clone()), 0).await, (Tier::Edge, Some(cause), 3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_too_late_is_answered_at_once() {
        assert_eq!(
            ask(1, Ok(Verdict::Approve), 400).await,
            (Tier::Edge, Some(Cause::Deadline), 400)
        );
    }
}
