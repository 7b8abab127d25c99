//! A core that does as it is told: real gRPC over real streams, and no database behind it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use backstop_contract::wire::{self, decide_reply::Outcome};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::connection::Connection;

#[allow(missing_docs, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/server/backstop.core.v1.rs"));
}

/// What the core does when it is asked.
#[derive(Clone)]
pub enum Manner {
    /// Decides after this long.
    Decides(Duration),
    /// Says this after this long.
    Says(Duration, tonic::Code),
    /// Answers with this instead.
    Replies(Box<wire::DecideReply>),
    /// Takes the call and dies in it, as by SIGKILL.
    Dies,
}

/// The core, alive or dead. Clones are the same one.
#[derive(Clone)]
pub struct FalseCore(Arc<Mutex<Inside>>);

struct Inside {
    manner: Manner,
    alive: bool,
    /// Takes connections, as its kernel would, and never looks at them.
    stands_still: bool,
    held: Vec<Box<dyn Send>>,
    history: Vec<wire::History>,
    record: Option<wire::Record>,
    asked: Vec<(wire::DecideRequest, u64)>,
    labels: Vec<wire::LabelRequest>,
    finds: Vec<wire::FindRequest>,
    /// How long each call of `Settle` takes, how many of them it takes before it is gone, and how many
    /// outcomes it tells of each.
    settles: (Duration, usize, usize),
    settled: Vec<wire::SettleRequest>,
    statement: wire::StatementReply,
    spans: Vec<wire::StatementRequest>,
    lookups: Vec<wire::FindManyRequest>,
    connections: JoinSet<()>,
}

impl FalseCore {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Inside {
            manner: Manner::Decides(Duration::ZERO),
            alive: true,
            stands_still: false,
            held: Vec::new(),
            history: Vec::new(),
            record: None,
            asked: Vec::new(),
            labels: Vec::new(),
            finds: Vec::new(),
            settles: (Duration::ZERO, usize::MAX, usize::MAX),
            settled: Vec::new(),
            statement: wire::StatementReply::default(),
            spans: Vec::new(),
            lookups: Vec::new(),
            connections: JoinSet::new(),
        })))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    pub fn set(&self, manner: Manner) {
        self.inside().manner = manner;
    }

    /// What its next replies show of history.
    pub fn show(&self, key: &str, row: Vec<u8>) {
        self.inside().history = vec![wire::History { key: key.into(), row }];
    }

    pub fn keep(&self, record: wire::Record) {
        self.inside().record = Some(record);
    }

    /// Each question with its timeout in microseconds.
    pub fn asked(&self) -> Vec<(wire::DecideRequest, u64)> {
        self.inside().asked.clone()
    }

    pub fn labels(&self) -> Vec<wire::LabelRequest> {
        self.inside().labels.clone()
    }

    pub fn finds(&self) -> Vec<wire::FindRequest> {
        self.inside().finds.clone()
    }

    /// Settles so slowly, so many calls, and of each so many advices at most. Later calls find it
    /// unavailable.
    pub fn settle(&self, after: Duration, calls: usize, advices: usize) {
        self.inside().settles = (after, calls, advices);
    }

    /// What it was told to settle, call by call.
    pub fn settled(&self) -> Vec<wire::SettleRequest> {
        self.inside().settled.clone()
    }

    /// What it says of any span.
    pub fn state(&self, statement: wire::StatementReply) {
        self.inside().statement = statement;
    }

    /// The spans that it was asked about.
    pub fn spans(&self) -> Vec<wire::StatementRequest> {
        self.inside().spans.clone()
    }

    /// The ids that it was asked about together.
    pub fn lookups(&self) -> Vec<wire::FindManyRequest> {
        self.inside().lookups.clone()
    }

    /// Every connection breaks, and no new one is taken.
    pub fn die(&self) {
        let mut inside = self.inside();
        inside.alive = false;
        inside.connections.abort_all();
    }

    pub fn come_back(&self) {
        self.inside().alive = true;
    }

    /// As under SIGSTOP, but for the connections that it took before.
    pub fn stand_still(&self, still: bool) {
        self.inside().stands_still = still;
    }

    /// How many connections it took while it stood still.
    pub fn held(&self) -> usize {
        self.inside().held.len()
    }

    /// The way to it through memory, so that paused time waits for nothing else.
    pub fn connection(&self, silence_max: Duration) -> Connection {
        let core = self.clone();
        Connection::over(silence_max, move || {
            let core = core.clone();
            async move {
                let (here, there) = tokio::io::duplex(64 * 1024);
                core.serve(there)?;
                Ok(here)
            }
        })
    }

    /// Listens on a real socket until the runtime ends.
    pub fn listen(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        let core = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _refused_when_dead = core.serve(stream);
            }
        });
    }

    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<()> {
        let mut inside = self.inside();
        if !inside.alive {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if inside.stands_still {
            inside.held.push(Box::new(stream));
            return Ok(());
        }
        let service = generated::core_server::CoreServer::new(self.clone());
        let served = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        inside.connections.spawn(async move {
            let _broken = served.await;
        });
        Ok(())
    }
}

impl FalseCore {
    async fn answer(&self, call: wire::DecideCall) -> Result<wire::DecideReply, Status> {
        let request = call.request.unwrap();
        let (manner, history) = {
            let mut inside = self.inside();
            inside.asked.push((request.clone(), call.timeout_micros));
            (inside.manner.clone(), inside.history.clone())
        };
        match manner {
            Manner::Decides(after) => {
                tokio::time::sleep(after).await;
                let decision = decision(&request.transaction.unwrap().id);
                Ok(wire::DecideReply { outcome: Some(Outcome::Decision(decision)), history })
            }
            Manner::Says(after, code) => {
                tokio::time::sleep(after).await;
                Err(Status::new(code, "as told"))
            }
            Manner::Replies(reply) => Ok(*reply),
            Manner::Dies => {
                self.die();
                std::future::pending().await
            }
        }
    }
}

#[tonic::async_trait]
impl generated::core_server::Core for FalseCore {
    async fn decide(
        &self,
        _: Request<wire::DecideRequest>,
    ) -> Result<Response<wire::DecideReply>, Status> {
        Err(Status::unimplemented("the api asks on a stream"))
    }

    type DecideManyStream = ReceiverStream<Result<wire::DecideAnswer, Status>>;

    async fn decide_many(
        &self,
        request: Request<Streaming<wire::DecideCall>>,
    ) -> Result<Response<Self::DecideManyStream>, Status> {
        let (answers, stream) = mpsc::channel(1024);
        let (core, mut calls) = (self.clone(), request.into_inner());
        self.inside().connections.spawn(async move {
            let mut under_way = JoinSet::new();
            while let Ok(Some(call)) = calls.message().await {
                let (core, answers) = (core.clone(), answers.clone());
                under_way.spawn(async move {
                    let number = call.number;
                    let answer = match core.answer(call).await {
                        Ok(reply) => {
                            wire::DecideAnswer { number, reply: Some(reply), ..Default::default() }
                        }
                        Err(status) => wire::DecideAnswer {
                            number,
                            code: status.code().into(),
                            message: status.message().to_owned(),
                            reply: None,
                        },
                    };
                    let _gone = answers.send(Ok(answer)).await;
                });
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn rehearse(
        &self,
        request: Request<wire::DecideRequest>,
    ) -> Result<Response<wire::DecideReply>, Status> {
        let request = Some(request.into_inner());
        let call = wire::DecideCall { request, ..wire::DecideCall::default() };
        self.answer(call).await.map(Response::new)
    }

    async fn label(
        &self,
        request: Request<wire::LabelRequest>,
    ) -> Result<Response<wire::LabelReply>, Status> {
        let mut inside = self.inside();
        inside.labels.push(request.into_inner());
        Ok(Response::new(wire::LabelReply { found: inside.record.is_some() }))
    }

    async fn find(
        &self,
        request: Request<wire::FindRequest>,
    ) -> Result<Response<wire::FindReply>, Status> {
        let mut inside = self.inside();
        inside.finds.push(request.into_inner());
        Ok(Response::new(wire::FindReply { record: inside.record.clone() }))
    }

    async fn recall(
        &self,
        _: Request<wire::RecallRequest>,
    ) -> Result<Response<wire::RecallReply>, Status> {
        Err(Status::unimplemented("recall"))
    }

    async fn stock(
        &self,
        _: Request<wire::StockRequest>,
    ) -> Result<Response<wire::StockReply>, Status> {
        Err(Status::unimplemented("stock"))
    }

    async fn balances(
        &self,
        _: Request<wire::BalancesRequest>,
    ) -> Result<Response<wire::BalancesReply>, Status> {
        Err(Status::unimplemented("balances"))
    }

    async fn settle(
        &self,
        request: Request<wire::SettleRequest>,
    ) -> Result<Response<wire::SettleReply>, Status> {
        let message = request.into_inner();
        let (after, advices) = {
            let mut inside = self.inside();
            let Some(left) = inside.settles.1.checked_sub(1) else {
                return Err(Status::unavailable("as told"));
            };
            inside.settles.1 = left;
            inside.settled.push(message.clone());
            (inside.settles.0, inside.settles.2)
        };
        tokio::time::sleep(after).await;
        let outcome = |advice: &wire::Advice| {
            let is_whole = advice.request.is_some() && advice.answer.is_some();
            let (outcome, why) = if is_whole { ("applied", "") } else { ("refused", "senseless") };
            wire::Settled {
                epoch: advice.epoch,
                number: advice.number,
                outcome: outcome.into(),
                why: why.into(),
            }
        };
        let settled = message.advices.iter().take(advices).map(outcome).collect();
        Ok(Response::new(wire::SettleReply { settled }))
    }

    async fn statement(
        &self,
        request: Request<wire::StatementRequest>,
    ) -> Result<Response<wire::StatementReply>, Status> {
        let mut inside = self.inside();
        inside.spans.push(request.into_inner());
        Ok(Response::new(inside.statement.clone()))
    }

    async fn find_many(
        &self,
        request: Request<wire::FindManyRequest>,
    ) -> Result<Response<wire::FindManyReply>, Status> {
        let mut inside = self.inside();
        inside.lookups.push(request.into_inner());
        let records = inside.record.clone().into_iter().collect();
        Ok(Response::new(wire::FindManyReply { records }))
    }
}

/// What a core in good health decides about this id.
pub fn decision(id: &str) -> wire::Decision {
    wire::Decision {
        id: id.into(),
        decision: "approve".into(),
        reasons: vec!["fine".into()],
        score: 7,
        decided_by: "core".into(),
        r#final: true,
        stack: "prod".into(),
        policy_version: "c0de".into(),
        stock: [("sku:85123A".to_owned(), 41)].into(),
        decided_at: 1_533_081_631_000,
        ..wire::Decision::default()
    }
}
