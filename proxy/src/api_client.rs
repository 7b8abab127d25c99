//! The apis of one stack, as the edge's next tier: whichever answers, under the caller's budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use backstop_contract::breaker::State;
use backstop_contract::link::{End, LinkSettings};
use backstop_contract::problem::MEDIA_TYPE;
use backstop_contract::{
    Budget, Cause, Decision, Link, NextTier, Problem, Question, Reply, header,
};
use backstop_process::Faults;

use crate::exchange::{Answered, Call, DECISIONS, Exchanges, Fault, REHEARSALS};
use crate::peers::Peers;

/// How long a call waits for its answer, and how long of that for a connection.
type Waits = (Duration, Duration);

/// A request that asks for no decision.
#[derive(Clone, Debug)]
pub struct Passing<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, with its query.
    pub path: &'a str,
    /// For whom; empty where that is in the body.
    pub merchant: &'a str,
    /// The body; empty where there is none.
    pub body: Bytes,
    /// The longest wait for the answer.
    pub wait: Duration,
    /// The largest answer.
    pub answer_bytes_max: usize,
}

/// The apis of one stack.
pub struct ApiClient {
    stack: &'static str,
    peers: Peers,
    exchanges: Arc<Exchanges>,
    link: Arc<Link>,
    /// Rehearsals do not write, and teach nothing about calls that do.
    rehearsals: Arc<Link>,
    faults: Faults,
}

/// The same apis, asked what they would decide. Nothing comes of it, and it has limits and a breaker of
/// its own.
pub struct Rehearsing<'a>(&'a ApiClient);

impl ApiClient {
    /// The apis of `stack`, and how the way to them is treated: once for decisions, and once for rehearsals.
    pub fn new(
        stack: &'static str,
        peers: Peers,
        exchanges: Arc<Exchanges>,
        link: LinkSettings,
    ) -> Self {
        let now = Instant::now();
        let [link, rehearsals] = [link; 2].map(|settings| Arc::new(Link::new(settings, now)));
        Self { stack, peers, exchanges, link, rehearsals, faults: Faults::default() }
    }

    /// The stack these apis belong to.
    pub const fn stack(&self) -> &'static str {
        self.stack
    }

    /// How long they are worth waiting for, and whether they are worth asking.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// What they would decide.
    pub const fn rehearsing(&self) -> Rehearsing<'_> {
        Rehearsing(self)
    }

    /// The address of each api, and whether requests go to it. Of an only one the stack's own breaker
    /// tells.
    pub fn peers_up(&self, now: Instant) -> Vec<(String, bool)> {
        let is_only_down = self.peers.is_single() && self.link.state(now) != State::Closed;
        let peers = self.peers.standings(now);
        peers.map(|(peer, is_aside)| (peer, !is_aside && !is_only_down)).collect()
    }

    /// Passes a request on that is not a decision, and waits for the whole answer.
    pub async fn pass_on(&self, passing: &Passing<'_>) -> Result<Answered, Cause> {
        let Passing { method, path, merchant, body, wait, answer_bytes_max } = passing;
        let headers = [(header::MERCHANT, *merchant)];
        let call = |waits: Waits| {
            let call = Call::new((method, path), &headers, body.clone(), waits)?;
            Ok(call.with_room(*answer_bytes_max))
        };
        // Whatever is answered: an api whose core is gone is well all the same.
        timeout(*wait, self.ask(*wait, None, call, Ok)).await.unwrap_or(Err(Cause::Deadline))
    }

    /// Asks one peer after the other, until one could be reached and its answer was read.
    async fn ask<R>(
        &self,
        wait: Duration,
        link: Option<&Arc<Link>>,
        call: impl Fn(Waits) -> http::Result<Call>,
        read: impl Fn(Answered) -> Result<R, Cause>,
    ) -> Result<R, Cause> {
        let start = Instant::now();
        let (mut turns, mut left) = (self.peers.in_turn(&self.link), wait);
        while let Some(leave) = turns.next(left) {
            let call = call((left, left / turns.sharers())).map_err(|_not_http| Cause::Error)?;
            let answer = match self.exchanges.start(leave.place(), call, link.cloned()) {
                Ok(exchange) => exchange.await,
                Err(fault) => Err(fault),
            };
            match answer {
                Ok(answered) => {
                    let read = read(answered);
                    leave.ended(if read.is_ok() { End::Good } else { End::Bad });
                    return read;
                }
                Err(Fault::Unreached) => leave.ended(End::Bad),
                Err(Fault::Failed(cause)) => {
                    leave.ended(End::Bad);
                    return Err(cause);
                }
                // That is about us, and says nothing of the peer.
                Err(Fault::Full) => {
                    leave.ended(End::Unfair);
                    return Err(Cause::Overload);
                }
            }
            left = wait.saturating_sub(start.elapsed());
        }
        Err(Cause::Unavailable)
    }

    /// A decision about this very request, or a refusal of it; anything else is an error of the api.
    fn understand(&self, answered: Answered, question: &Question) -> Result<Reply, Cause> {
        let wrong = |what: &str| {
            let status = answered.status;
            let said = format_args!("the api of {} answered {status}: {what}", self.stack);
            self.faults.say(what, said);
            Cause::Error
        };
        match answered.status {
            200 => {
                let mut decision: Decision = serde_json::from_slice(&answered.body)
                    .map_err(|_not_a_decision| wrong("the body is no decision"))?;
                if decision.id != question.request.id {
                    return Err(wrong("the decision is for another id"));
                }
                decision.replayed = answered.replayed;
                decision.server_timing = answered.server_timing;
                decision.calls =
                    answered.calls.split(", ").filter_map(|it| it.parse().ok()).collect();
                Ok(Reply::Decided(decision))
            }
            // The edge has judged the request itself. Only that its id was used before is for core to
            // know: any other refusal is a fault of the api, and no merchant's.
            422 if answered.media_type == MEDIA_TYPE => {
                match serde_json::from_slice::<Problem>(&answered.body) {
                    Ok(problem) if problem.is_id_reused() => Ok(Reply::Refused(problem)),
                    Ok(_) | Err(_) => Err(wrong("it refuses what the edge found valid")),
                }
            }
            _ => Err(wrong("the status is none of a decision")),
        }
    }
}

impl NextTier for ApiClient {
    const OPERATION: &'static str = "api.decide";

    async fn decide(&self, question: &Question, budget: Budget) -> Result<Reply, Cause> {
        let call = |waits| call_for(DECISIONS, question, waits);
        let read = |answered| self.understand(answered, question);
        self.ask(budget.length(), Some(&self.link), call, read).await
    }
}

impl Rehearsing<'_> {
    /// How long a rehearsal is worth waiting for, and whether it is worth asking for.
    pub fn way(&self) -> &Link {
        &self.0.rehearsals
    }
}

impl NextTier for Rehearsing<'_> {
    const OPERATION: &'static str = "api.rehearse";

    /// An api of a release before there were rehearsals refuses them as it does any unknown path.
    async fn decide(&self, question: &Question, budget: Budget) -> Result<Reply, Cause> {
        let Self(api) = self;
        let call = |waits| call_for(REHEARSALS, question, waits);
        let read = |answered: Answered| match answered.status {
            404 => Ok(Reply::Refused(Problem::not_found())),
            _ => api.understand(answered, question),
        };
        api.ask(budget.length(), Some(&api.rehearsals), call, read).await
    }
}

fn call_for(path: &str, question: &Question, (wait, connect_wait): Waits) -> http::Result<Call> {
    let flag = |on| if on { "true" } else { "false" };
    Call::new(
        ("POST", path),
        &[
            ("content-type", "application/json"),
            (header::MERCHANT, &question.merchant),
            (header::TEST, flag(question.test)),
            (header::NUMERIC_IDS, flag(question.numeric_ids)),
            (header::RECEIVED_AT, &question.received_at.as_millis().to_string()),
            (header::REQUEST_HASH, &question.hash.to_string()),
            (header::BUDGET, &Budget::new(wait).to_string()),
            (header::TRACEPARENT, &question.traceparent),
        ],
        question.body.clone(),
        (wait, connect_wait),
    )
}
