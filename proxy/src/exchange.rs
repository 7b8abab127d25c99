//! One HTTP/1.1 exchange with an api over a pooled connection. Each is a task of its own: its waiter
//! may walk away, which cancels nothing, so that connections survive and true latencies are learned.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use backstop_contract::learned::Sample;
use backstop_contract::{Cause, Link, header};
use backstop_settings::Token;

use crate::line::Line;
use crate::place::Place;

/// The largest answer of an api that is read, unless its call has room for more; a decision has about
/// 600 bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How often an exchange starts again because a pooled connection turned out to be closed. The
/// request carries its idempotency key, so it may.
const RETRIES_MAX: usize = 2;

/// Where decisions are asked for.
pub const DECISIONS: &str = "/v1/decisions";
/// Where it is asked what would be decided.
pub const REHEARSALS: &str = "/v1/rehearsals";

/// What all exchanges share: the pool, and the bounds on them.
pub struct Exchanges {
    in_flight: Arc<Semaphore>,
    time_max: Duration,
    late: mpsc::Sender<LateAnswer>,
    /// The value of `Authorization` for an api on another host.
    bearer: Option<HeaderValue>,
}

/// A decision of an api that nobody waited for any more.
#[derive(Debug)]
pub struct LateAnswer {
    /// Whose request it was.
    pub merchant: String,
    /// The answer, complete.
    pub body: Bytes,
}

/// An HTTP request to an api.
pub struct Call {
    head: Parts,
    body: Bytes,
    /// How long its caller waits for the answer.
    wait: Duration,
    /// How long of that it waits for a connection.
    connect_wait: Duration,
    /// The largest answer that is read.
    answer_bytes_max: usize,
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

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// As many exchanges are under way as may be.
    Full,
    /// No connection could be had: the request may as well go to another.
    Unreached,
    /// It broke off, took too long, or was answered in something that is not HTTP.
    Failed(Cause),
}

impl Call {
    /// A request with these headers, whose answer is waited for as long as `wait`, and its connection
    /// as long as `connect_wait`.
    pub fn new(
        (method, path): (&str, &str),
        headers: &[(&'static str, &str)],
        body: Bytes,
        (wait, connect_wait): (Duration, Duration),
    ) -> http::Result<Self> {
        let (mut head, ()) = Request::builder().method(method).uri(path).body(())?.into_parts();
        head.headers.reserve(headers.len() + 2);
        head.headers.insert(HOST, HeaderValue::from_static("api"));
        for (name, value) in headers {
            head.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        Ok(Self { head, body, wait, connect_wait, answer_bytes_max: ANSWER_BYTES_MAX })
    }

    /// The same, with room for an answer as large as this.
    #[must_use]
    pub const fn with_room(mut self, answer_bytes_max: usize) -> Self {
        self.answer_bytes_max = answer_bytes_max;
        self
    }
}

impl Exchanges {
    /// At most `in_flight_max` exchanges at once. One that nobody waits for any more is cut after
    /// `time_max`; a decision that comes before that goes to `late`, where there is room. An api on
    /// another host is told the `token` of the hop.
    pub fn new(
        in_flight_max: usize,
        time_max: Duration,
        token: Option<&Token>,
        late: mpsc::Sender<LateAnswer>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(in_flight_max));
        let bearer = token.and_then(|token| {
            let mut value = HeaderValue::from_str(token.bearer().expose()).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Self { in_flight, time_max, late, bearer }
    }

    /// Starts an exchange, and returns what waits for it: dropping the waiter cancels nothing, and
    /// `link` learns what the exchange really took.
    pub fn start(
        self: &Arc<Self>,
        place: &Arc<Place>,
        call: Call,
        link: Option<Arc<Link>>,
    ) -> Result<impl Future<Output = Result<Answered, Fault>> + Send + use<>, Fault> {
        let permit = self.in_flight.clone().try_acquire_owned().map_err(|_full| Fault::Full)?;
        let (done, wait) = oneshot::channel();
        let (exchanges, place) = (self.clone(), place.clone());
        tokio::spawn(async move {
            let start = Instant::now();
            // Never cut while somebody still waits.
            let time_max = std::cmp::max(exchanges.time_max, call.wait);
            let answered = timeout(time_max, exchanges.exchange(&place, &call)).await;
            drop(permit);
            if let (Some(link), Some(sample)) = (link, sample(&answered, start, time_max)) {
                link.learn(sample, Instant::now());
            }
            let answered = answered.unwrap_or(Err(Fault::Failed(Cause::Deadline)));
            // Nobody may be waiting any more: that is what the deadline is for.
            if let Err(Ok(answered)) = done.send(answered) {
                exchanges.came_late(&call, answered);
            }
        });
        Ok(async move { wait.await.unwrap_or(Err(Fault::Failed(Cause::Error))) })
    }

    /// A decision that comes too late still says what core made of the request.
    fn came_late(&self, call: &Call, answered: Answered) {
        let merchant = call.head.headers.get(header::MERCHANT);
        let merchant = merchant.and_then(|value| value.to_str().ok());
        let is_decision = answered.status == 200 && call.head.uri.path() == DECISIONS;
        if let Some(merchant) = merchant.filter(|_| is_decision) {
            let late = LateAnswer { merchant: merchant.to_owned(), body: answered.body };
            // It is a hint: what core has decided, settlement finds out.
            let _full = self.late.try_send(late);
        }
    }

    async fn exchange(&self, place: &Place, call: &Call) -> Result<Answered, Fault> {
        let mut retries = 0;
        loop {
            let Some(mut line) = connect(place, call).await else {
                place.missed();
                return Err(Fault::Unreached);
            };
            match line.send(self.request(place, call)).await {
                Ok(response) => {
                    return finish(response, call.answer_bytes_max, line, place).await;
                }
                // The api closed this connection while it lay idle.
                Err(_) if line.is_used() && retries < RETRIES_MAX => retries += 1,
                Err(error) => return Err(Fault::Failed(failed(place, &error))),
            }
        }
    }

    fn request(&self, place: &Place, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::from_parts(call.head.clone(), Full::new(call.body.clone()));
        if let Some(bearer) = self.bearer.as_ref().filter(|_| place.is_remote()) {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        request
    }
}

async fn connect(place: &Place, call: &Call) -> Option<Line> {
    let connected = timeout(call.connect_wait, place.connect()).await;
    let connected = connected.unwrap_or_else(|elapsed| Err(elapsed.into()));
    connected.inspect_err(|error| tracing::debug!(%place, %error, "no connection to the api")).ok()
}

/// Reads the answer and gives the connection back.
async fn finish(
    response: Response<Incoming>,
    bytes_max: usize,
    line: Line,
    place: &Place,
) -> Result<Answered, Fault> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
        tracing::debug!(%place, %error, "the api's answer can not be read");
        let broke_off = error.is::<hyper::Error>();
        Fault::Failed(if broke_off { Cause::Unavailable } else { Cause::Error })
    })?;
    place.put_back(line);
    Ok(answered(head.status.as_u16(), &head.headers, body.to_bytes()))
}

/// What an exchange says of how long such calls take; one that failed says nothing.
fn sample<E>(
    answered: &Result<Result<Answered, Fault>, E>,
    start: Instant,
    time_max: Duration,
) -> Option<Sample> {
    match answered {
        Ok(Ok(_)) => Some(Sample::Took(start.elapsed())),
        Ok(Err(_failed)) => None,
        Err(_given_up) => Some(Sample::AtLeast(time_max)),
    }
}

/// Hung up on, or answered in something that is not HTTP.
fn failed(place: &Place, error: &hyper::Error) -> Cause {
    tracing::debug!(%place, %error, "the api did not answer");
    if error.is_parse() { Cause::Error } else { Cause::Unavailable }
}

fn answered(status: u16, headers: &HeaderMap, body: Bytes) -> Answered {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    Answered {
        status,
        media_type: text(CONTENT_TYPE.as_str()),
        calls: text(header::CALLS),
        replayed: text(header::REPLAYED) == "true",
        server_timing: text(header::SERVER_TIMING),
        body,
    }
}
