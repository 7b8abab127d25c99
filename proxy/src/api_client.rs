//! The api, as the edge's next tier: pooled HTTP/1.1 over its Unix socket, under the caller's budget.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::ErrorType;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use backstop_contract::learned::Sample;
use backstop_contract::problem::MEDIA_TYPE;
use backstop_contract::{
    Budget, Cause, Decision, Link, NextTier, Problem, Question, Reply, header,
};

/// The largest answer of an api that is read; a decision has about 600 bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How often an exchange starts again because a pooled connection turned out to be closed. The
/// request carries its idempotency key, so it may.
const RETRIES_MAX: usize = 2;

/// What all exchanges share: the pool, and the bounds on them.
pub struct Exchanges {
    connector: Connector,
    in_flight: Arc<Semaphore>,
    time_max: Duration,
    idle_timeout: Duration,
}

impl Exchanges {
    /// Exchanges over `connector`, at most `in_flight_max` at once, each cut after `time_max`.
    pub fn new(
        connector: Connector,
        in_flight_max: usize,
        time_max: Duration,
        idle_timeout: Duration,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(in_flight_max));
        Self { connector, in_flight, time_max, idle_timeout }
    }
}

/// One stack's api.
#[derive(Clone)]
pub struct ApiClient {
    stack: &'static str,
    peer: Arc<HttpPeer>,
    exchanges: Arc<Exchanges>,
    link: Arc<Link>,
}

/// An HTTP request to the api.
struct Call {
    head: Box<RequestHeader>,
    body: Bytes,
}

/// What the api answered, whole.
#[derive(Debug)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub media_type: String,
    /// What the api asked of core, one entry a call.
    pub calls: String,
    /// Whether the api repeats an earlier answer.
    pub replayed: bool,
    /// What the tiers behind spent, as in the header of that name.
    pub server_timing: String,
    /// The body, complete.
    pub body: Bytes,
}

/// The api's socket can not be one: its path is too long.
#[derive(Debug, thiserror::Error)]
#[error("the socket path {path} is too long; choose a shorter --dir")]
pub struct BadSocket {
    path: String,
}

impl ApiClient {
    /// The api of `stack` at the Unix socket `path`.
    pub fn new(
        stack: &'static str,
        path: &str,
        exchanges: Arc<Exchanges>,
        link: Link,
    ) -> Result<Self, BadSocket> {
        let mut peer = HttpPeer::new_uds(path, false, String::new())
            .map_err(|_too_long| BadSocket { path: path.to_owned() })?;
        peer.options.idle_timeout = Some(exchanges.idle_timeout);
        Ok(Self { stack, peer: Arc::new(peer), exchanges, link: Arc::new(link) })
    }

    /// The stack this api belongs to.
    pub const fn stack(&self) -> &'static str {
        self.stack
    }

    /// How long this api is worth waiting for, and whether it is worth asking.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Passes a request on that is not a decision, and waits for the whole answer.
    pub async fn pass_on(
        &self,
        method: &str,
        path: &str,
        merchant: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Answered, Cause> {
        let head = request_head(method, path, &body, &[(header::MERCHANT, merchant)]);
        let call = Call { head: head.map_err(|_not_http| Cause::Error)?, body };
        timeout(wait, self.start(call, None)?).await.unwrap_or(Err(Cause::Deadline))
    }

    /// Starts an exchange as a task of its own, and returns what waits for it: dropping the waiter
    /// cancels nothing, so the connection survives, and `link` learns what the exchange really took.
    fn start(
        &self,
        call: Call,
        link: Option<Arc<Link>>,
    ) -> Result<impl Future<Output = Result<Answered, Cause>> + Send + use<>, Cause> {
        let permit = self.exchanges.in_flight.clone().try_acquire_owned();
        let permit = permit.map_err(|_full| Cause::Overload)?;
        let (done, wait) = oneshot::channel();
        let client = self.clone();
        tokio::spawn(async move {
            let (start, time_max) = (Instant::now(), client.exchanges.time_max);
            let answered = timeout(time_max, client.exchange(&call)).await;
            drop(permit);
            if let (Some(link), Some(sample)) = (link, sample(&answered, start, time_max)) {
                link.learn(sample, Instant::now());
            }
            // Nobody may be waiting any more: that is what the deadline is for.
            let _ = done.send(answered.unwrap_or(Err(Cause::Deadline)));
        });
        Ok(async move { wait.await.unwrap_or(Err(Cause::Error)) })
    }

    async fn exchange(&self, call: &Call) -> Result<Answered, Cause> {
        let mut retries = 0;
        loop {
            let connected = self.exchanges.connector.get_http_session(self.peer.as_ref()).await;
            let (mut session, reused) = connected.map_err(|error| self.failed(&error))?;
            match send(&mut session, call).await {
                Ok(()) => return self.finish(session).await,
                // The api closed this connection while it lay in the pool.
                Err(_) if reused && retries < RETRIES_MAX => retries += 1,
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Reads the answer and gives the connection back.
    async fn finish(&self, mut session: HttpSession) -> Result<Answered, Cause> {
        let answered = receive(&mut session).await.map_err(|fault| {
            tracing::debug!(stack = self.stack, ?fault, "the api's answer can not be read");
            match fault {
                ReceiveFault::BrokeOff => Cause::Unavailable,
                ReceiveFault::NoHead | ReceiveFault::TooLarge => Cause::Error,
            }
        })?;
        let idle = Some(self.exchanges.idle_timeout);
        self.exchanges.connector.release_http_session(session, self.peer.as_ref(), idle).await;
        Ok(answered)
    }

    /// Not reached, hung up on, or answered in something that is not HTTP.
    fn failed(&self, error: &pingora::Error) -> Cause {
        tracing::debug!(stack = self.stack, %error, "the api did not answer");
        match error.etype() {
            ErrorType::InvalidHTTPHeader | ErrorType::H1Error => Cause::Error,
            _ => Cause::Unavailable,
        }
    }
}

/// What an exchange says of how long such calls take; one that failed says nothing.
fn sample<E>(
    answered: &Result<Result<Answered, Cause>, E>,
    start: Instant,
    time_max: Duration,
) -> Option<Sample> {
    match answered {
        Ok(Ok(_)) => Some(Sample::Took(start.elapsed())),
        Ok(Err(_failed)) => None,
        Err(_given_up) => Some(Sample::AtLeast(time_max)),
    }
}

impl NextTier for ApiClient {
    const OPERATION: &'static str = "api.decide";

    async fn decide(&self, question: &Question, budget: Budget) -> Result<Reply, Cause> {
        let call = call_for(question, budget).map_err(|_not_http| Cause::Error)?;
        let answered = self.start(call, Some(self.link.clone()))?.await?;
        understand(answered, question)
    }
}

fn call_for(question: &Question, budget: Budget) -> pingora::Result<Call> {
    let flag = |on| if on { "true" } else { "false" };
    let head = request_head(
        "POST",
        "/v1/decisions",
        &question.body,
        &[
            ("content-type", "application/json"),
            (header::MERCHANT, &question.merchant),
            (header::TEST, flag(question.test)),
            (header::NUMERIC_IDS, flag(question.numeric_ids)),
            (header::RECEIVED_AT, &question.received_at.as_millis().to_string()),
            (header::REQUEST_HASH, &question.hash.to_string()),
            (header::BUDGET, &budget.to_string()),
            (header::TRACEPARENT, &question.traceparent),
        ],
    )?;
    Ok(Call { head, body: question.body.clone() })
}

fn request_head(
    method: &str,
    path: &str,
    body: &Bytes,
    headers: &[(&'static str, &str)],
) -> pingora::Result<Box<RequestHeader>> {
    let mut head = RequestHeader::build(method, path.as_bytes(), Some(headers.len() + 2))?;
    head.insert_header("host", "api")?;
    head.insert_header("content-length", body.len())?;
    for (name, value) in headers {
        head.insert_header(*name, *value)?;
    }
    Ok(Box::new(head))
}

/// Sends the request and reads the head of the answer: what fails here may be tried again.
async fn send(session: &mut HttpSession, call: &Call) -> pingora::Result<()> {
    session.write_request_header(call.head.clone()).await?;
    session.write_request_body(call.body.clone(), true).await?;
    session.finish_request_body().await?;
    session.read_response_header().await
}

/// Why an answer that began could not be read to its end.
#[derive(Debug)]
enum ReceiveFault {
    NoHead,
    BrokeOff,
    TooLarge,
}

async fn receive(session: &mut HttpSession) -> Result<Answered, ReceiveFault> {
    let head = session.response_header().ok_or(ReceiveFault::NoHead)?;
    let text = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut answered = Answered {
        status: head.status.as_u16(),
        media_type: text("content-type"),
        calls: text(header::CALLS),
        replayed: text(header::REPLAYED) == "true",
        server_timing: text(header::SERVER_TIMING),
        body: Bytes::new(),
    };
    let mut body = BytesMut::new();
    while let Some(part) = session.read_response_body().await.map_err(|_| ReceiveFault::BrokeOff)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(ReceiveFault::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    answered.body = body.freeze();
    Ok(answered)
}

/// A decision about this very request, or a refusal of it; anything else is an error of the api.
fn understand(answered: Answered, question: &Question) -> Result<Reply, Cause> {
    let wrong = |what: &str| {
        tracing::warn!(status = answered.status, what, "the api did not answer with a decision");
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
            decision.calls = answered.calls.split(", ").filter_map(|it| it.parse().ok()).collect();
            Ok(Reply::Decided(decision))
        }
        // The edge has judged the request itself. Only that its id was used before is for core to know:
        // any other refusal is a fault of the api, and no merchant's.
        422 if answered.media_type == MEDIA_TYPE => {
            match serde_json::from_slice::<Problem>(&answered.body) {
                Ok(problem) if problem.is_id_reused() => Ok(Reply::Refused(problem)),
                Ok(_) | Err(_) => Err(wrong("it refuses what the edge found valid")),
            }
        }
        _ => Err(wrong("the status is none of a decision")),
    }
}
