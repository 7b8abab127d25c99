//! The socket: gRPC for the api, and HTTP/1 `GET /metrics` beside it. The only file that knows tonic.

mod calls;
mod recall;
mod settle;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use backstop_contract::{Budget, Deadline, Question, stock, wire};
use backstop_engine::effects::LEVEL_MAX;
use backstop_lua::InForce;
use backstop_process::Socket;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use self::calls::Calls;
use crate::decide::Outcome;
use crate::error::CoreError;
use crate::metrics::Metrics;
use crate::rehearsals::{Recalls, Rehearsals};
use crate::store::{AccountKey, Decided, DecisionKey, Records, RowKey};
use crate::writer::{Ask, Queue};

pub use settle::SETTLES_MAX;

#[allow(missing_docs, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/backstop.core.v1.rs"));
}

use generated::core_server::{Core, CoreServer};

/// The largest message that is read. The largest are advices.
const MESSAGE_BYTES_MAX: usize = settle::SETTLE_BYTES_MAX;
/// The most connections: the api has few, and whoever reads metrics another.
const CONNECTIONS_MAX: usize = 64;
/// What a stream of calls may be ahead of us, in bytes.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// After a failure to accept, such as too many open files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// The most lookups at once.
pub const LOOKUPS_MAX: usize = 64;

/// What the methods work with.
pub struct Service<R> {
    /// The way to the writer.
    pub queue: Queue,
    /// The way to what was decided.
    pub records: R,
    /// The way to what would be.
    pub rehearsals: Rehearsals<R>,
    /// The way to what was decided, and what there would be without it.
    pub recalls: Recalls<R>,
    /// To know the policies by name.
    pub rules: Arc<InForce>,
    /// What is counted.
    pub metrics: Metrics,
    /// The most calls that wait.
    pub calls_max: usize,
    /// Ends when core is to stop: streams of calls would go on for ever.
    pub stopping: watch::Receiver<()>,
    /// One permit for each lookup under way, [`LOOKUPS_MAX`] in all.
    pub lookups: Arc<Semaphore>,
    /// One permit for each message of advices under way, [`SETTLES_MAX`] in all.
    pub settles: Semaphore,
}

/// Serves until `stop` resolves, then ends what is under way.
///
/// A call may be as many as the queue is long: one that waited in the caller for its turn would
/// arrive with a `grpc-timeout` that is no longer true.
pub async fn serve<R: Records>(
    listener: UnixListener,
    service: Service<R>,
    stopping: watch::Sender<()>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let calls_max = service.calls_max;
    let router = TowerToHyperService::new(router(service));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http2()
        .max_concurrent_streams(u32::try_from(calls_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let (graceful, connections) =
        (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, permit) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &connections) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                    continue;
                }
            },
        };
        let connection = server.serve_connection(TokioIo::new(stream), router.clone());
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection broke");
            }
            drop(permit);
        });
    }
    drop((listener, stopping));
    graceful.shutdown().await;
}

fn router<R: Records>(service: Service<R>) -> axum::Router {
    let (metrics, rules) = (service.metrics.clone(), Arc::clone(&service.rules));
    let show = move || async move {
        metrics.show_rules(&rules.load());
        ([(CONTENT_TYPE, backstop_process::metrics::CONTENT_TYPE)], metrics.render())
    };
    let core = CoreServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(core).into_axum_router().route("/metrics", get(show))
}

/// A connection, once there is room for one.
async fn accept(
    listener: &UnixListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(Socket, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _peer) = listener.accept().await?;
    Ok((stream.try_into()?, permit))
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
        let question = question_of(request.into_inner(), &self.rules)?;
        let outcome = self.queue.ask(Ask::Decide(Box::new(question)), deadline).await;
        self.metrics.answered(received.elapsed());
        reply_of(outcome.map_err(|error| status_of(&error))?).map(Response::new)
    }

    type DecideManyStream = ReceiverStream<Result<wire::DecideAnswer, Status>>;

    async fn decide_many(
        &self,
        request: Request<Streaming<wire::DecideCall>>,
    ) -> Result<Response<Self::DecideManyStream>, Status> {
        let (answers, stream) = mpsc::channel(self.calls_max);
        let calls = Calls {
            queue: self.queue.clone(),
            rules: Arc::clone(&self.rules),
            metrics: self.metrics.clone(),
            answers,
            stopping: self.stopping.clone(),
        };
        tokio::spawn(calls.serve(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn rehearse(
        &self,
        request: Request<wire::DecideRequest>,
    ) -> Result<Response<wire::DecideReply>, Status> {
        let deadline = deadline_of(&request, Instant::now())?;
        let question = question_of(request.into_inner(), &self.rules)?;
        let outcome = self.rehearsals.rehearse(question, deadline).await;
        self.metrics.rehearsed(outcome.is_ok());
        reply_of(outcome.map_err(|error| status_of(&error))?).map(Response::new)
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
        let wire::FindRequest { merchant, id } = request.into_inner();
        let records = self.records.clone();
        let found =
            self.look_up(async move { records.find(DecisionKey { merchant, id }).await }).await?;
        Ok(Response::new(wire::FindReply { record: found.map(record_of) }))
    }

    async fn recall(
        &self,
        request: Request<wire::RecallRequest>,
    ) -> Result<Response<wire::RecallReply>, Status> {
        let deadline = deadline_of(&request, Instant::now())?;
        self.recall_one(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn stock(
        &self,
        request: Request<wire::StockRequest>,
    ) -> Result<Response<wire::StockReply>, Status> {
        let deadline = deadline_of(&request, Instant::now())?;
        let wire::StockRequest { merchant, key, remaining } = request.into_inner();
        let key = RowKey { merchant, key };
        let Some(remaining) = remaining else {
            let records = self.records.clone();
            let remaining = self.look_up(async move { records.stock(key).await }).await?;
            return Ok(Response::new(wire::StockReply { remaining }));
        };
        if !(0..=LEVEL_MAX).contains(&remaining) {
            return Err(Status::invalid_argument("remaining must be from 0 to 2^53 - 1"));
        }
        if !(1..=stock::KEY_BYTES_MAX).contains(&key.key.len()) {
            return Err(Status::invalid_argument("key must have 1 to 2048 bytes"));
        }
        match self.queue.ask(Ask::SetStock(key, remaining), deadline).await {
            Ok(Outcome::StockSet) => {
                Ok(Response::new(wire::StockReply { remaining: Some(remaining) }))
            }
            Ok(_) => Err(status_of(&CoreError::Failed)),
            Err(error) => Err(status_of(&error)),
        }
    }

    async fn balances(
        &self,
        request: Request<wire::BalancesRequest>,
    ) -> Result<Response<wire::BalancesReply>, Status> {
        let wire::BalancesRequest { merchant, account } = request.into_inner();
        let (records, key) = (self.records.clone(), AccountKey { merchant, account });
        let balances = self.look_up(async move { records.balances(key).await }).await?;
        let found = !balances.is_empty();
        let balance = balances.into_iter().collect();
        Ok(Response::new(wire::BalancesReply { balance, found }))
    }

    async fn settle(
        &self,
        request: Request<wire::SettleRequest>,
    ) -> Result<Response<wire::SettleReply>, Status> {
        self.settle_all(request.into_inner()).await.map(Response::new)
    }

    async fn statement(
        &self,
        request: Request<wire::StatementRequest>,
    ) -> Result<Response<wire::StatementReply>, Status> {
        self.state(request.into_inner()).await.map(Response::new)
    }

    async fn find_many(
        &self,
        request: Request<wire::FindManyRequest>,
    ) -> Result<Response<wire::FindManyReply>, Status> {
        self.look_up_many(request.into_inner()).await.map(Response::new)
    }
}

impl<R: Records> Service<R> {
    /// Reads beside the writers. A statement is never dropped halfway: a caller who walks away leaves
    /// it a task of its own.
    async fn look_up<T: Send + 'static>(
        &self,
        read: impl Future<Output = Result<T, CoreError>> + Send + 'static,
    ) -> Result<T, Status> {
        let Ok(permit) = Arc::clone(&self.lookups).try_acquire_owned() else {
            return Err(status_of(&CoreError::QueueFull));
        };
        let reading = tokio::spawn(async move {
            let found = read.await;
            drop(permit);
            found
        });
        reading.await.unwrap_or(Err(CoreError::Failed)).map_err(|error| {
            tracing::error!(%error, "a record could not be read");
            status_of(&error)
        })
    }
}

/// The question of a message, if core can decide it.
fn question_of(message: wire::DecideRequest, rules: &InForce) -> Result<Question, Status> {
    let question = Question::try_from(message);
    let question = question.map_err(|error| Status::invalid_argument(error.to_string()))?;
    if rules.load().has_policy(&question.request.policy) {
        Ok(question)
    } else {
        Err(Status::invalid_argument("no policy has this name"))
    }
}

/// What a caller gets that asked for a decision.
fn reply_of(outcome: Outcome) -> Result<wire::DecideReply, Status> {
    let (outcome, history) = match outcome {
        Outcome::Decided(fresh) => {
            (wire::decide_reply::Outcome::Decision(fresh.answer.into()), fresh.history)
        }
        Outcome::Replayed(answer) => {
            (wire::decide_reply::Outcome::Decision(answer.into()), Vec::new())
        }
        Outcome::IdReused => (wire::decide_reply::Outcome::IdReused(wire::IdReused {}), Vec::new()),
        Outcome::Labelled { .. }
        | Outcome::StockSet
        | Outcome::Settled { .. }
        | Outcome::Arrived => return Err(status_of(&CoreError::Failed)),
    };
    let history = history.into_iter().map(|(key, row)| wire::History { key, row }).collect();
    Ok(wire::DecideReply { outcome: Some(outcome), history })
}

/// When the caller gives up, by its `grpc-timeout`; `None` where it waits for ever.
fn deadline_of<T>(request: &Request<T>, received: Instant) -> Result<Option<Deadline>, Status> {
    let Some(timeout) = request.metadata().get("grpc-timeout") else { return Ok(None) };
    let budget = timeout.to_str().ok().and_then(Budget::from_grpc_timeout);
    let unreadable = || Status::invalid_argument("grpc-timeout must be digits and a unit");
    Ok(Some(Deadline::after(received, budget.ok_or_else(unreadable)?)))
}

fn record_of(decided: Decided) -> wire::Record {
    let first = decided.first.map(|first| first.decision.as_str().to_owned());
    let money = decided.money.map(|it| wire::Money { amount: it.amount, currency: it.currency });
    wire::Record {
        decision: Some(decided.answer.into()),
        settlement: decided.standing.as_str().to_owned(),
        fraud: decided.fraud,
        money,
        decided_first: first.unwrap_or_default(),
    }
}

/// What a caller learns of a failure: enough to answer for it, and nothing of what is inside.
fn status_of(error: &CoreError) -> Status {
    match error {
        CoreError::TooLate => Status::deadline_exceeded(error.to_string()),
        CoreError::QueueFull | CoreError::Conflict => Status::resource_exhausted(error.to_string()),
        unusable if matches!(unusable, CoreError::Unusable) || unusable.is_unusable() => {
            Status::unavailable(CoreError::Unusable.to_string())
        }
        _ => Status::internal(CoreError::Failed.to_string()),
    }
}

#[cfg(test)]
mod tests;
