//! HTTP as the edge speaks it to merchants and operators: a request read within named caps, one
//! answer written, the connection kept. The only file that knows Pingora's server.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{self, AsHeaderName};
use http::{HeaderMap, HeaderValue, Method};
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::date::get_cached_date;
use pingora::server::ShutdownWatch;
use tokio::time::timeout;

use backstop_contract::Problem;
use backstop_contract::class::Restricted;
use backstop_contract::problem::MEDIA_TYPE;

use crate::handover::{Gate, Passed, Successor, UnderWay};

/// `Date`, `Content-Type`, `Content-Length`, and the `Connection` that Pingora adds: with room for all
/// of them the map of headers is never made anew.
const HEADERS_OF_OURS: usize = 4;

/// The most a client may cost in bytes and time.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// The largest body that is looked at.
    pub body_bytes_max: usize,
    /// The largest body that is read to its end before it is refused.
    pub drain_bytes_max: usize,
    /// From the end of the headers to the end of the body; also for writing the answer.
    pub body_timeout: Duration,
    /// From the first byte to the end of the headers.
    pub header_timeout: Duration,
}

/// What the service answers with, per kind of client.
pub trait Routes: Send + Sync + 'static {
    /// The answer to one request; `None` cuts the connection.
    fn answer(&self, incoming: &mut Incoming<'_>) -> impl Future<Output = Option<Answer>> + Send;
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    media_type: &'static str,
    headers: Vec<(&'static str, HeaderValue)>,
    body: Bytes,
    /// Those of the successor, whose answer it is: they stand for all others.
    passed: Option<HeaderMap>,
}

impl Answer {
    /// An answer with a body of this type.
    pub fn new(status: u16, media_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, media_type, headers: Vec::new(), body: body.into(), passed: None }
    }

    /// The same with one more header. A value that no header can carry is left out.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    fn into_parts(self) -> pingora::Result<(Box<ResponseHeader>, Bytes)> {
        // No reader needs the case of names, and keeping it takes a second map a request.
        let names_max = self.headers.len() + HEADERS_OF_OURS;
        let mut head = ResponseHeader::build_no_case(self.status, Some(names_max))?;
        if let Some(passed) = self.passed {
            for (name, value) in &passed {
                head.append_header(name, value)?;
            }
            if self.status != 204 {
                head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
            }
            return Ok((Box::new(head), self.body));
        }
        head.insert_header(header::DATE, get_cached_date())?;
        // RFC 9110, section 8.6: no Content-Length with a 204.
        if self.status != 204 {
            head.insert_header(header::CONTENT_TYPE, self.media_type)?;
            head.insert_header(header::CONTENT_LENGTH, self.body.len())?;
        }
        for (name, value) in self.headers {
            head.insert_header(name, value)?;
        }
        Ok((Box::new(head), self.body))
    }
}

impl From<Passed> for Answer {
    fn from(Passed { status, headers, body }: Passed) -> Self {
        Self { passed: Some(headers), ..Self::new(status.as_u16(), "", body) }
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let answer = Self::new(problem.status, MEDIA_TYPE, problem.to_json());
        match (problem.status, problem.allow) {
            (_, Some(allow)) => answer.with("allow", allow),
            (401, None) => answer.with("www-authenticate", "Bearer"),
            (503, None) => answer.with("retry-after", "1"),
            _ => answer,
        }
    }
}

/// Why there is no body to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is over `body_bytes_max`.
    TooLarge,
    /// The client went away, or took longer than `body_timeout`.
    Cut,
}

/// A request whose headers are here and whose body is still to be read.
pub struct Incoming<'a> {
    session: &'a mut ServerSession,
    caps: &'a Caps,
    /// The largest body that is looked at.
    body_bytes_max: usize,
    read: usize,
    /// The client waits for `100 Continue` before it sends its body.
    expects: bool,
    gate: &'a Gate,
    /// None while its body is read: a slow one must not hold up those who wait for all to be finished.
    under_way: Option<UnderWay<'a>>,
    /// A body that came when the gate was closed: the request is the successor's.
    held: Option<Bytes>,
}

impl Incoming<'_> {
    /// The method.
    pub fn method(&self) -> &Method {
        &self.session.req_header().method
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.session.req_header().uri.path()
    }

    /// The query, if there is one.
    pub fn query(&self) -> Option<&str> {
        self.session.req_header().uri.query()
    }

    /// A header, if it is there and plain ASCII.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.session.req_header().headers.get(name)?.to_str().ok()
    }

    /// The same for a route that takes other bodies than all the rest.
    pub async fn body_within(&mut self, bytes_max: usize) -> Result<Restricted<Bytes>, BodyFault> {
        self.body_bytes_max = bytes_max;
        self.body().await
    }

    /// The whole body, within the caps. Whatever a client sends may hold a card number.
    pub async fn body(&mut self) -> Result<Restricted<Bytes>, BodyFault> {
        let declared =
            self.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
        if declared.is_some_and(|bytes| bytes > self.body_bytes_max) {
            return Err(BodyFault::TooLarge);
        }
        self.under_way = None;
        let body = self.body_in_time().await?;
        self.under_way = self.gate.enter();
        if self.under_way.is_none() {
            self.held = Some(body);
            return Err(BodyFault::Cut);
        }
        Ok(Restricted::new(body))
    }

    async fn body_in_time(&mut self) -> Result<Bytes, BodyFault> {
        let read = timeout(self.caps.body_timeout, self.read_body()).await;
        read.unwrap_or(Err(BodyFault::Cut))
    }

    async fn read_body(&mut self) -> Result<Bytes, BodyFault> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        // Nearly always: the body came with the headers.
        if self.session.is_body_done() {
            return Ok(first);
        }
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut whole = BytesMut::with_capacity(first.len() + second.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(next) = self.chunk().await? {
            whole.extend_from_slice(&next);
        }
        Ok(whole.freeze())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, BodyFault> {
        if std::mem::take(&mut self.expects) {
            self.session.write_continue_response().await.map_err(|_gone| BodyFault::Cut)?;
        }
        let chunk = self.session.read_request_body().await.map_err(|_gone| BodyFault::Cut)?;
        self.read += chunk.as_ref().map_or(0, Bytes::len);
        if self.read > self.body_bytes_max { Err(BodyFault::TooLarge) } else { Ok(chunk) }
    }

    /// Reads on to the end of the body, so that the client comes to read its answer and may use the
    /// connection again; whether the end was reached within the caps.
    async fn drain(&mut self) -> bool {
        if self.expects {
            return false;
        }
        // Nearly always: no need to set a timer for it.
        if self.session.is_body_done() {
            return true;
        }
        let declared =
            self.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
        if declared.is_some_and(|bytes| bytes > self.caps.drain_bytes_max) {
            return false;
        }
        let rest = async {
            while let Ok(chunk) = self.session.read_request_body().await {
                let Some(chunk) = chunk else { return true };
                self.read += chunk.len();
                if self.read > self.caps.drain_bytes_max {
                    return false;
                }
            }
            false
        };
        timeout(self.caps.body_timeout, rest).await.unwrap_or(false)
    }
}

/// Serves one set of routes over HTTP/1.1 and h2.
pub struct Serve<R> {
    routes: R,
    caps: Caps,
    gate: Arc<Gate>,
    successor: Option<Successor>,
}

impl<R: Routes> Serve<R> {
    /// Serves these routes within these caps, for as long as the gate is open; after that the successor
    /// does, or nobody.
    pub const fn new(routes: R, caps: Caps, gate: Arc<Gate>, successor: Option<Successor>) -> Self {
        Self { routes, caps, gate, successor }
    }

    /// Reads the rest of a head whose first byte is here, and answers the request; false when the
    /// connection is of no further use.
    async fn exchange(&self, session: &mut ServerSession, shutdown: &ShutdownWatch) -> bool {
        // Pingora limits each read, not the head as a whole (cloudflare/pingora#447).
        match timeout(self.caps.header_timeout, session.read_request()).await {
            Ok(Ok(true)) => {}
            Ok(Err(error)) if *error.etype() == ErrorType::InvalidHTTPHeader => {
                return self.write(session, Problem::bad_head().into(), false).await;
            }
            Ok(Ok(false) | Err(_)) | Err(_) => return false,
        }
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        let Some(under_way) = self.gate.enter() else { return self.pass_on(session, None).await };
        let mut incoming = self.incoming(session, &self.caps, Some(under_way));
        let answer = self.routes.answer(&mut incoming).await;
        if let Some(body) = incoming.held.take() {
            drop(incoming);
            return self.pass_on(session, Some(body)).await;
        }
        let Some(answer) = answer else { return false };
        // It is under way until it is written; but a refused body may be slow to come, too.
        let is_under_way = incoming.under_way.is_some() && incoming.session.is_body_done();
        let _under_way = is_under_way.then(|| self.gate.hold());
        let is_drained = incoming.drain().await;
        drop(incoming);
        self.write(session, answer, is_drained).await
    }

    fn incoming<'a>(
        &'a self,
        session: &'a mut ServerSession,
        caps: &'a Caps,
        under_way: Option<UnderWay<'a>>,
    ) -> Incoming<'a> {
        let expects = session.get_header(header::EXPECT).is_some() && !session.is_http2();
        let body_bytes_max = caps.body_bytes_max;
        Incoming {
            session,
            caps,
            body_bytes_max,
            read: 0,
            expects,
            gate: &self.gate,
            under_way,
            held: None,
        }
    }

    /// Has the successor answer, for the last time on this connection.
    async fn pass_on(&self, session: &mut ServerSession, body: Option<Bytes>) -> bool {
        session.set_keepalive(None);
        let body = if let Some(body) = body {
            Ok(body)
        } else {
            // It is for the successor to refuse, and for its sender to read why.
            let caps = Caps { body_bytes_max: self.caps.drain_bytes_max, ..self.caps };
            self.incoming(session, &caps, None).body_in_time().await
        };
        let (answer, is_drained) = match (body, &self.successor) {
            (Err(BodyFault::Cut), _) => return false,
            (Err(BodyFault::TooLarge), _) => {
                (Problem::too_large(self.caps.body_bytes_max).into(), false)
            }
            (Ok(_), None) => (Problem::unavailable().into(), true),
            (Ok(body), Some(successor)) => {
                match successor.pass_on(session.req_header(), body).await {
                    Some(passed) => (passed.into(), true),
                    None => return false,
                }
            }
        };
        self.write(session, answer, is_drained).await
    }

    async fn write(&self, session: &mut ServerSession, answer: Answer, is_drained: bool) -> bool {
        if !is_drained {
            session.set_keepalive(None);
        }
        let write = async {
            let (head, body) = answer.into_parts()?;
            session.write_response_header(head).await?;
            session.write_response_body(body, true).await
        };
        matches!(timeout(self.caps.body_timeout, write).await, Ok(Ok(()))) && is_drained
    }
}

#[async_trait]
impl<R: Routes> HttpServerApp for Serve<R> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let is_reusable = self.exchange(&mut session, shutdown).await;
        if !is_reusable {
            // Whatever was answered is flushed before the connection goes.
            let _ = timeout(self.caps.body_timeout, session.finish_body()).await;
            if session.is_http2() && session.response_written().is_some() {
                // Some clients lose an answer whose stream is reset while they are still sending: with
                // its window closed, this one comes to read, and ends the stream itself.
                let _ = timeout(self.caps.body_timeout, session.read_body_or_idle(true)).await;
            }
            session.shutdown().await;
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}
