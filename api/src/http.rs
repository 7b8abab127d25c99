//! The api over HTTP/1.1 on its Unix socket, and on an address for edges on other hosts. The only file that knows axum.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::{Listener, ListenerExt as _};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body_util::LengthLimitError;
use tokio::net::unix::SocketAddr;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;

use backstop_contract::label::Label;
use backstop_contract::reconciliation::{IDS_BYTES_MAX, Ids, Inquiry};
use backstop_contract::stock::Stock;
use backstop_contract::{Deadline, Decision, Problem, Reply, Timestamp, header, problem};
use backstop_process::Socket;
use backstop_settings::Token;

use crate::hop::{self, Hop};
use crate::settle;
use crate::tier::{Answer, Tier};

/// The seconds after which a record may be asked for again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The longest that a statement, or the records of an upload, may take.
const RECONCILE_TIME_MAX: Duration = Duration::from_secs(20);

type Shared = State<Arc<Tier>>;
/// The id in a path, percent-decoded; an error when it is not UTF-8 then.
type Id = Result<Path<String>, PathRejection>;

/// The Unix socket of an api.
pub struct Door(pub UnixListener);

impl Listener for Door {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.0).await;
            match stream.try_into() {
                Ok(stream) => return (stream, peer),
                Err(error) => tracing::warn!(%error, "a connection could not be served"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves until `stop` resolves, and then what is under way to its end.
pub async fn serve<L: Listener<Addr: Debug>>(
    listener: L,
    routes: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, routes).with_graceful_shutdown(stop).await
}

/// The same on the network, for those who show the token; strangers are refused before anything of
/// theirs is looked at.
pub async fn serve_network(
    listener: TcpListener,
    token: Token,
    routes: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let token = Arc::new(token);
    let routes = routes.layer(from_fn(move |request: Request, next: Next| {
        let token = token.clone();
        async move {
            if token.is_shown_by(hop::authorization(request.headers())) {
                next.run(request).await
            } else {
                refused(&Problem::unauthorized())
            }
        }
    }));
    let listener = listener.tap_io(|stream| {
        // Without it an answer may wait for an acknowledgement; with it refused, it is only late.
        let _ = stream.set_nodelay(true);
    });
    serve(listener, routes, stop).await
}

/// Every route of the api.
pub fn routes(tier: Arc<Tier>) -> Router {
    let wrong = |allow| move || async move { refused(&Problem::method_not_allowed(allow)) };
    Router::new()
        .route("/v1/decisions", post(decide).fallback(wrong("POST")))
        .route("/v1/rehearsals", post(rehearse).fallback(wrong("POST")))
        .route("/v1/decisions/{id}", get(find).fallback(wrong("GET")))
        .route("/v1/decisions/{id}/label", post(label).fallback(wrong("POST")))
        .route("/v1/accounts/{account}/balance", get(balance).fallback(wrong("GET")))
        .route("/v1/reconciliation", get(statement).fallback(wrong("GET")))
        .route("/v1/records", post(records).fallback(wrong("POST")))
        .route("/v1/advices", post(advices).fallback(wrong("POST")))
        .route("/admin/stock/{key}", get(stock).put(set_stock).fallback(wrong("GET, PUT")))
        .route("/admin/fidelity", get(fidelity).fallback(wrong("GET")))
        .route("/metrics", get(metrics).fallback(wrong("GET")))
        .route("/healthz", get(|| async { "ok\n" }).fallback(wrong("GET")))
        .fallback(|| async { refused(&Problem::not_found()) })
        .with_state(tier)
}

async fn decide(State(tier): Shared, request: Request) -> Response {
    let received = Instant::now();
    match asked(request, tier.settings.body_bytes_max).await {
        Ok((hop, body)) => answered(&tier.decide(hop, body, received).await),
        Err(problem) => refused(&problem),
    }
}

async fn rehearse(State(tier): Shared, request: Request) -> Response {
    let received = Instant::now();
    match asked(request, tier.settings.body_bytes_max).await {
        Ok((hop, body)) => answered(&tier.rehearse(hop, body, received).await),
        Err(problem) => refused(&problem),
    }
}

/// What the edge asks, complete.
async fn asked(request: Request, bytes_max: usize) -> Result<(Hop, Bytes), Problem> {
    let (head, body) = request.into_parts();
    let hop = Hop::read(&head.headers)?;
    Ok((hop, read(body, bytes_max).await?))
}

async fn find(State(tier): Shared, id: Id, headers: HeaderMap) -> Response {
    let asked = async {
        let merchant = hop::merchant(&headers)?;
        let budget = hop::budget_within(&headers, tier.settings.call_time_max)?;
        let Path(id) = id.map_err(|_not_utf_8| Problem::unknown_id())?;
        tier.find(merchant, id, budget).await
    };
    match asked.await {
        Ok(record) => json(serde_json::to_vec(&record)),
        Err(problem) => refused(&problem),
    }
}

async fn label(State(tier): Shared, id: Id, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let asked = async {
        let merchant = hop::merchant(&head.headers)?;
        let budget = hop::budget_within(&head.headers, tier.settings.call_time_max)?;
        let label = Label::read(&read(body, tier.settings.body_bytes_max).await?)?;
        let Path(id) = id.map_err(|_not_utf_8| Problem::unknown_id())?;
        tier.label(merchant, id, label, budget).await
    };
    match asked.await {
        Ok(()) => respond(StatusCode::NO_CONTENT, Body::empty()),
        Err(problem) => refused(&problem),
    }
}

async fn balance(State(tier): Shared, account: Id, headers: HeaderMap) -> Response {
    let asked = async {
        let merchant = hop::merchant(&headers)?;
        let budget = hop::budget_within(&headers, tier.settings.call_time_max)?;
        let Path(account) = account.map_err(|_not_utf_8| Problem::unknown_account())?;
        tier.balance(merchant, account, budget).await
    };
    match asked.await {
        Ok(balance) => json(serde_json::to_vec(&balance)),
        Err(problem) => refused(&problem),
    }
}

async fn statement(State(tier): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let asked = async {
        let merchant = hop::merchant(&headers)?;
        let budget = hop::budget_within(&headers, RECONCILE_TIME_MAX)?;
        let Inquiry { span, .. } = Inquiry::read(uri.query(), None, Timestamp::now())?;
        tier.statement(merchant, span, budget).await
    };
    match asked.await {
        Ok(statement) => json(serde_json::to_vec(&statement)),
        Err(problem) => refused(&problem),
    }
}

async fn records(State(tier): Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let asked = async {
        let merchant = hop::merchant(&head.headers)?;
        let budget = hop::budget_within(&head.headers, RECONCILE_TIME_MAX)?;
        let ids = Ids::read(&read(body, IDS_BYTES_MAX).await?)?;
        tier.records(merchant, ids, budget).await
    };
    match asked.await {
        Ok(records) => json(serde_json::to_vec(&records)),
        Err(problem) => refused(&problem),
    }
}

async fn advices(State(tier): Shared, request: Request) -> Response {
    let received = Instant::now();
    let (head, body) = request.into_parts();
    let asked = async {
        let budget = hop::budget_within(&head.headers, settle::TIME_MAX)?;
        let deadline = Deadline::after(received, budget);
        // Before the body: what waits for its turn takes no memory.
        let _place = tier.place_to_settle(deadline).await?;
        let body = read(body, settle::bytes_max(tier.settings.body_bytes_max)).await?;
        tier.settle(&body, deadline).await
    };
    match asked.await {
        Ok(settlement) => json(serde_json::to_vec(&settlement)),
        Err(problem) => refused(&problem),
    }
}

async fn stock(State(tier): Shared, key: Id, headers: HeaderMap) -> Response {
    answer_stock(&tier, key, &headers, None).await
}

async fn set_stock(State(tier): Shared, key: Id, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = read(body, tier.settings.body_bytes_max).await;
    match body.and_then(|body| Stock::read(&body)) {
        Ok(stock) => answer_stock(&tier, key, &head.headers, Some(stock)).await,
        Err(problem) => refused(&problem),
    }
}

async fn answer_stock(tier: &Tier, key: Id, headers: &HeaderMap, set: Option<Stock>) -> Response {
    let asked = async {
        let merchant = hop::merchant(headers)?;
        let budget = hop::budget_within(headers, tier.settings.call_time_max)?;
        let Path(key) = key.map_err(|_not_utf_8| Problem::unknown_stock())?;
        tier.stock(merchant, key, set, budget).await
    };
    match asked.await {
        Ok(stock) => json(serde_json::to_vec(&stock)),
        Err(problem) => refused(&problem),
    }
}

async fn fidelity(State(tier): Shared) -> Response {
    json(serde_json::to_vec(&tier.fidelity.report()))
}

async fn metrics(State(tier): Shared) -> Response {
    let mut response = respond(StatusCode::OK, Body::from(tier.render_metrics()));
    let text = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(http::header::CONTENT_TYPE, text);
    response
}

/// The whole body, or why it is refused.
async fn read(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    to_bytes(body, bytes_max).await.map_err(|error| {
        let too_large = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<LengthLimitError>);
        if too_large {
            Problem::too_large(bytes_max)
        } else {
            Problem::not_json("the body ended before its time")
        }
    })
}

fn answered(answer: &Answer) -> Response {
    let mut response = match &answer.reply {
        Reply::Decided(decision) => decided(decision),
        Reply::Refused(problem) => refused(problem),
    };
    insert(&mut response, header::SERVER_TIMING, &answer.timing);
    insert(&mut response, header::CALLS, &answer.calls);
    if !answer.traceparent.is_empty() {
        insert(&mut response, header::TRACEPARENT, &answer.traceparent);
    }
    response
}

fn decided(decision: &Decision) -> Response {
    let mut response = json(serde_json::to_vec(decision));
    insert(&mut response, header::DECIDED_BY, decision.decided_by.as_str());
    if decision.replayed {
        insert(&mut response, header::REPLAYED, "true");
    }
    response
}

fn refused(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = respond(status, Body::from(problem.to_json()));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    if let Some(allow) = problem.allow {
        headers.insert(http::header::ALLOW, HeaderValue::from_static(allow));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(http::header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

fn json(written: serde_json::Result<Vec<u8>>) -> Response {
    match written {
        Ok(bytes) => {
            let mut response = respond(StatusCode::OK, Body::from(bytes));
            response.headers_mut().insert(http::header::CONTENT_TYPE, JSON);
            response
        }
        // Strings, integers and finite numbers always serialize.
        Err(_never) => respond(StatusCode::INTERNAL_SERVER_ERROR, Body::empty()),
    }
}

fn respond(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn insert(response: &mut Response, name: &'static str, value: &str) {
    // What came in as a header goes out as one; our own words are ASCII.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}
