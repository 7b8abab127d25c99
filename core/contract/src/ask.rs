//! The heart of every tier: ask the next tier, or answer.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use crate::breaker::Pass;
use crate::budget::{Budget, Deadline};
use crate::decision::{Cause, Decision};
use crate::fingerprint::RequestHash;
use crate::ledger::{Asked, Call};
use crate::link::{End, Link};
use crate::problem::Problem;
use crate::request::Request;
use crate::timestamp::Timestamp;

/// One request to decide, with what the edge learned of it on receipt. Prints without what is
/// confidential in it.
#[derive(Clone)]
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

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("merchant", &self.merchant)
            .field("request", &self.request)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
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
    /// What is asked of whom, for the ledger and for metrics, such as `core.decide`.
    const OPERATION: &'static str;

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
    link: &Link,
) -> Reply {
    let now = Instant::now();
    let limits = link.limits(deadline.budget(), now);
    let timeout = deadline.budget_for(limits, now);
    let asked = ask(next, question, timeout, link).await;
    let numbers = Asked {
        budget: deadline.budget(),
        elapsed: deadline.elapsed(now),
        limits,
        timeout,
        took: now.elapsed(),
    };
    let call = Call::new(N::OPERATION, numbers, asked.as_ref().err());
    let mut reply =
        asked.unwrap_or_else(|cause| Reply::Decided(fallback.decide(question, cause, deadline)));
    if let Reply::Decided(decision) = &mut reply {
        decision.calls.push(call);
    }
    reply
}

/// Makes the call, if the breaker lets it, and tells the breaker how it ended.
async fn ask<N: NextTier>(
    next: &N,
    question: &Question,
    budget: Budget,
    link: &Link,
) -> Result<Reply, Cause> {
    if budget.length().is_zero() {
        return Err(Cause::Deadline);
    }
    let now = Instant::now();
    let mut leave = Leave { link, pass: link.admit(now), end: End::Unfair };
    if leave.pass.is_none() {
        return Err(Cause::Breaker);
    }
    let answer = timeout(budget.length(), next.decide(question, budget)).await;
    let answer = answer.unwrap_or(Err(Cause::Deadline));
    leave.end = match &answer {
        Ok(_) => End::Good,
        // A caller with too little time must not close the way for all others.
        Err(Cause::Deadline) if budget.length() <= link.bounds(now).min => End::Unfair,
        Err(_) => End::Bad,
    };
    answer
}

/// A leave of the breaker, given back however the call ends, even where its caller vanishes.
struct Leave<'a> {
    link: &'a Link,
    pass: Option<Pass>,
    end: End,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.link.ended(pass, self.end, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::attributes::Attributes;
    use crate::breaker::BreakerSettings;
    use crate::decision::{Effects, Tier, Verdict};
    use crate::learned::{Learning, Sample};
    use crate::link::LinkSettings;

    /// A next tier that takes its time, then says what it is told to.
    struct Next {
        takes: Duration,
        says: Result<Verdict, Cause>,
    }

    impl NextTier for Next {
        const OPERATION: &'static str = "core.decide";

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
            calls: Vec::new(),
        }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A way with a reserve of 20 ms and wide limits.
    fn link() -> Link {
        link_that(true)
    }

    fn link_that(learns_min: bool) -> Link {
        let learning = Learning {
            window: ms(30_000),
            samples_min: 50,
            prior_min: ms(0),
            prior_max: ms(10_000),
            headroom: 3.0,
            ceiling: ms(10_000),
            hysteresis: 0.1,
        };
        let breaker = BreakerSettings {
            window: ms(5000),
            calls_min: 20,
            bad_share: 0.5,
            open_min: ms(1000),
            open_max: ms(5000),
            probes: 5,
        };
        let settings =
            LinkSettings { reserve: ms(20), learns_min, floor_share: 0.5, learning, breaker };
        Link::new(settings, Instant::now())
    }

    fn question() -> Question {
        let request = Request {
            id: "txn-1".into(),
            policy: "payment".into(),
            account: "customer-1".into(),
            money: None,
            at: None,
            attributes: Attributes::default(),
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
        let start = Instant::now();
        let deadline = Deadline::after(start, Budget::new(ms(300)));
        tokio::time::sleep(ms(elapsed)).await;
        let answer = ask_over(&link(), takes, says, deadline).await;
        (answer.decided_by, answer.cause, start.elapsed().as_millis())
    }

    async fn ask_over(
        link: &Link,
        takes: u64,
        says: Result<Verdict, Cause>,
        deadline: Deadline,
    ) -> Decision {
        let next = Next { takes: ms(takes), says };
        match decide(&next, &Own, &question(), deadline, link).await {
            Reply::Decided(answer) => answer,
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

    #[tokio::test(start_paused = true)]
    async fn the_ledger_shows_the_formula_with_its_numbers() {
        let start = Instant::now();
        tokio::time::sleep(ms(30)).await;
        let deadline = Deadline::after(start, Budget::new(ms(300)));
        let answer = ask_over(&link(), 1000, Ok(Verdict::Approve), deadline).await;
        let line = answer.calls.first().unwrap().to_string();
        let expected = "core.decide 300000 30000 20000 0 10000000 250000 250000 deadline";
        assert_eq!(line, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tier_that_keeps_failing_is_left_alone_and_asked_again_later() {
        let link = link();
        let ask = async |says| {
            let deadline = Deadline::after(Instant::now(), Budget::new(ms(300)));
            ask_over(&link, 1, says, deadline).await.cause
        };
        for _ in 0..20 {
            assert_eq!(ask(Err(Cause::Unavailable)).await, Some(Cause::Unavailable));
        }
        assert_eq!(ask(Ok(Verdict::Approve)).await, Some(Cause::Breaker));
        tokio::time::sleep(ms(1000)).await;
        for _ in 0..30 {
            assert_eq!(ask(Ok(Verdict::Approve)).await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_too_little_time_does_not_close_the_way_for_others() {
        // As at the edge: calls are given less than the p80 where no more is left.
        let link = link_that(false);
        (0..100).for_each(|_| link.learn(Sample::Took(ms(50)), Instant::now()));
        tokio::time::sleep(ms(1000)).await;
        assert!(link.bounds(Instant::now()).min >= ms(50));
        for _ in 0..100 {
            let deadline = Deadline::after(Instant::now(), Budget::new(ms(25)));
            let cause = ask_over(&link, 50, Ok(Verdict::Approve), deadline).await.cause;
            assert_eq!(cause, Some(Cause::Deadline));
        }
        let deadline = Deadline::after(Instant::now(), Budget::new(ms(300)));
        assert_eq!(ask_over(&link, 50, Ok(Verdict::Approve), deadline).await.cause, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_vanishes_gives_its_leave_back() {
        let link = link();
        let deadline = || Deadline::after(Instant::now(), Budget::new(ms(300)));
        for _ in 0..20 {
            ask_over(&link, 1, Err(Cause::Error), deadline()).await;
        }
        tokio::time::sleep(ms(1000)).await;
        for _ in 0..10 {
            let call = ask_over(&link, 200, Ok(Verdict::Approve), deadline());
            assert!(timeout(ms(10), call).await.is_err(), "dropped while it waits");
        }
        let answer = ask_over(&link, 1, Ok(Verdict::Approve), deadline()).await;
        assert_eq!(answer.cause, None, "ten lost probes would leave no room for this one");
    }
}
