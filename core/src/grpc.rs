//! The socket: gRPC for the api, and HTTP/1 `GET /metrics` beside it. The only file that knows tonic.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use backstop_contract::{Budget, Deadline, Question, wire};
use backstop_lua::Rules;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::decide::Outcome;
use crate::error::CoreError;
use crate::metrics::Metrics;
use crate::store::{Decided, DecisionKey, Records};
use crate::writer::{Ask, Queue};

#[allow(missing_docs, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/backstop.core.v1.rs"));
}

use generated::core_server::{Core, CoreServer};

/// The largest message that is read: a request of the largest body, with room for its encoding.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The most records that are looked up at once.
pub const FINDS_MAX: usize = 64;

/// What the methods work with.
pub struct Service<R> {
    /// The way to the writer.
    pub queue: Queue,
    /// The way to what was decided.
    pub records: R,
    /// To know the policies by name.
    pub rules: Arc<Rules>,
    /// What is counted.
    pub metrics: Metrics,
    /// One permit for each record that is being looked up, [`FINDS_MAX`] in all.
    pub finds: Arc<Semaphore>,
}

/// Serves until `stop` resolves, then ends what is under way.
pub async fn serve<R: Records>(
    listener: UnixListener,
    service: Service<R>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let metrics = service.metrics.clone();
    let show = move || async move {
        ([(CONTENT_TYPE, backstop_process::metrics::CONTENT_TYPE)], metrics.render())
    };
    let core = CoreServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let router = Routes::new(core).into_axum_router().route("/metrics", get(show));
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

/// Listens on a Unix socket that only this user can reach; a stale one makes room.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(socket),
    }
}

#[tonic::async_trait]
impl<R: Records> Core for Service<R> {
    async fn decide(
        &self,
        request: Request<wire::DecideRequest>,
    ) -> Result<Response<wire::DecideReply>, Status> {
        let received = Instant::now();
        let deadline = deadline_of(&request, received)?;
        let question = Question::try_from(request.into_inner());
        let question = question.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !self.rules.has_policy(&question.request.policy) {
            return Err(Status::invalid_argument("no policy has this name"));
        }
        let outcome = self.queue.ask(Ask::Decide(Box::new(question)), deadline).await;
        self.metrics.answered(received.elapsed());
        let (outcome, history) = match outcome.map_err(|error| status_of(&error))? {
            Outcome::Decided(fresh) => {
                (wire::decide_reply::Outcome::Decision(fresh.answer.into()), fresh.history)
            }
            Outcome::Replayed(answer) => {
                (wire::decide_reply::Outcome::Decision(answer.into()), Vec::new())
            }
            Outcome::IdReused => {
                (wire::decide_reply::Outcome::IdReused(wire::IdReused {}), Vec::new())
            }
            Outcome::Labelled { .. } => return Err(status_of(&CoreError::Failed)),
        };
        let history = history.into_iter().map(|(key, row)| wire::History { key, row }).collect();
        Ok(Response::new(wire::DecideReply { outcome: Some(outcome), history }))
    }

    async fn label(
        &self,
        request: Request<wire::LabelRequest>,
    ) -> Result<Response<wire::LabelReply>, Status> {
        let deadline = deadline_of(&request, Instant::now())?;
        let wire::LabelRequest { merchant, id, fraud } = request.into_inner();
        let ask = Ask::Label(DecisionKey { merchant, id }, fraud);
        match self.queue.ask(ask, deadline).await {
            Ok(Outcome::Labelled { found }) => Ok(Response::new(wire::LabelReply { found })),
            Ok(_) => Err(status_of(&CoreError::Failed)),
            Err(error) => Err(status_of(&error)),
        }
    }

    async fn find(
        &self,
        request: Request<wire::FindRequest>,
    ) -> Result<Response<wire::FindReply>, Status> {
        let Ok(permit) = Arc::clone(&self.finds).try_acquire_owned() else {
            return Err(status_of(&CoreError::QueueFull));
        };
        let wire::FindRequest { merchant, id } = request.into_inner();
        let records = self.records.clone();
        // A statement is never dropped halfway: a caller who walks away leaves it a task of its own.
        let lookup = tokio::spawn(async move {
            let found = records.find(DecisionKey { merchant, id }).await;
            drop(permit);
            found
        });
        let found = lookup.await.unwrap_or(Err(CoreError::Failed));
        let found = found.map_err(|error| {
            tracing::error!(%error, "a record could not be read");
            status_of(&error)
        })?;
        Ok(Response::new(wire::FindReply { record: found.map(record_of) }))
    }
}

/// When the caller gives up, by its `grpc-timeout`; `None` where it waits for ever.
fn deadline_of<T>(request: &Request<T>, received: Instant) -> Result<Option<Deadline>, Status> {
    let Some(timeout) = request.metadata().get("grpc-timeout") else { return Ok(None) };
    let budget = timeout.to_str().ok().and_then(Budget::from_grpc_timeout);
    let unreadable = || Status::invalid_argument("grpc-timeout must be digits and a unit");
    Ok(Some(Deadline::after(received, budget.ok_or_else(unreadable)?)))
}

fn record_of(decided: Decided) -> wire::Record {
    wire::Record {
        decision: Some(decided.answer.into()),
        settlement: "decided".to_owned(),
        fraud: decided.fraud,
    }
}

/// What a caller learns of a failure: enough to answer for it, and nothing of what is inside.
fn status_of(error: &CoreError) -> Status {
    match error {
        CoreError::TooLate => Status::deadline_exceeded(error.to_string()),
        CoreError::QueueFull => Status::resource_exhausted(error.to_string()),
        unusable if matches!(unusable, CoreError::Unusable) || unusable.is_unusable() => {
            Status::unavailable(CoreError::Unusable.to_string())
        }
        _ => Status::internal(CoreError::Failed.to_string()),
    }
}

#[cfg(test)]
mod tests;
