//! Core, as the next tier: gRPC over its Unix socket.
//!
//! Decisions share one stream ([`calls`]); what is asked seldom is a call of its own. Whoever waits may walk
//! away: the exchange goes on to its own cap, so that the connection survives and a late reply still
//! teaches us its history.

mod calls;
mod rehearsing;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Response, Status};

use backstop_contract::learned::Sample;
use backstop_contract::link::LinkSettings;
use backstop_contract::reconciliation::{ANSWER_BYTES_MAX, Record, Span, Statement};
use backstop_contract::wire::{self, Incomplete, decide_reply::Outcome};
use backstop_contract::{
    Budget, Cause, Decision, Link, NextTier, Problem, Question, Reply, Settled,
};
use backstop_process::{Faults, Fidelity};
use backstop_settings::merchants::PROBE_MERCHANT;

use self::calls::{Answered, Calls};
pub use self::rehearsing::Rehearsing;
use crate::connection::Connection;
use crate::seen::{Known, Seen};

#[allow(missing_docs, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/client/backstop.core.v1.rs"));
}

type Stub = generated::core_client::CoreClient<Connection>;

/// The client of one core. It reconnects by itself, and a core that is gone is known to be at once.
pub struct CoreClient {
    stub: Stub,
    decisions: Calls,
    places: Arc<Semaphore>,
    calls_max: usize,
    call_time_max: Duration,
    link: Arc<Link>,
    /// Rehearsals do not write, and teach nothing about calls that do.
    rehearsals: Arc<Link>,
    seen: Arc<Seen>,
    fidelity: Arc<Fidelity<Known>>,
    faults: Arc<Faults>,
}

impl CoreClient {
    /// Has at most `calls_max` exchanges under way, none for longer than `call_time_max`, and keeps
    /// in `seen` what replies tell of history. Each kind of call has a way of its own. A share of what
    /// core decides goes to `fidelity`.
    pub fn new(
        connection: Connection,
        calls_max: usize,
        call_time_max: Duration,
        seen: Arc<Seen>,
        link: LinkSettings,
        fidelity: Arc<Fidelity<Known>>,
    ) -> Self {
        // The authority names no host: the socket is the address.
        let stub = Stub::with_origin(connection, http::Uri::from_static("http://core"))
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        let (places, faults) = (Arc::new(Semaphore::new(calls_max)), Arc::new(Faults::default()));
        let now = Instant::now();
        let [link, rehearsals] = [link; 2].map(|settings| Arc::new(Link::new(settings, now)));
        let room = (Arc::clone(&places), calls_max);
        let learns = (Arc::clone(&link), Arc::clone(&seen));
        let decisions = Calls::new(stub.clone(), room, call_time_max, learns.0, learns.1);
        Self {
            stub,
            decisions,
            places,
            calls_max,
            call_time_max,
            link,
            rehearsals,
            seen,
            fidelity,
            faults,
        }
    }

    /// How long core is worth waiting for, and whether it is worth asking.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The same core, asked only what it would decide.
    pub const fn rehearsing(&self) -> Rehearsing<'_> {
        Rehearsing::of(self)
    }

    /// How many exchanges are under way.
    pub fn calls_in_flight(&self) -> usize {
        self.calls_max.saturating_sub(self.places.available_permits())
    }

    /// The record of a decision, if there is one; the cause when core did not say within `budget`.
    pub async fn find(
        &self,
        message: wire::FindRequest,
        budget: Budget,
    ) -> Result<Option<(Decision, wire::Record)>, Cause> {
        let request = within(budget, message);
        let find = |mut stub: Stub| async move { stub.find(request).await };
        let reply: wire::FindReply = self.ask_within(budget, find).await?;
        let Some(mut record) = reply.record else { return Ok(None) };
        let decision = record.decision.take().ok_or(Incomplete("decision"));
        let decision = decision.and_then(Decision::try_from);
        let found = decision.map(|decision| Some((decision, record)));
        found.map_err(|incomplete| self.senseless(&incomplete))
    }

    /// Puts a label on a decision; whether there is such a decision.
    pub async fn label(&self, message: wire::LabelRequest, budget: Budget) -> Result<bool, Cause> {
        let request = within(budget, message);
        let label = |mut stub: Stub| async move { stub.label(request).await };
        Ok(self.ask_within(budget, label).await?.found)
    }

    /// What is left of a stock, once it is set where that is asked for; `None` when there is none.
    pub async fn stock(
        &self,
        message: wire::StockRequest,
        budget: Budget,
    ) -> Result<Option<i64>, Cause> {
        let request = within(budget, message);
        let stock = |mut stub: Stub| async move { stub.stock(request).await };
        Ok(self.ask_within(budget, stock).await?.remaining)
    }

    /// The balances of an account by unit; `None` when it never had one.
    pub async fn balances(
        &self,
        message: wire::BalancesRequest,
        budget: Budget,
    ) -> Result<Option<BTreeMap<String, i64>>, Cause> {
        let request = within(budget, message);
        let balances = |mut stub: Stub| async move { stub.balances(request).await };
        let reply: wire::BalancesReply = self.ask_within(budget, balances).await?;
        Ok(reply.found.then_some(reply.balance))
    }

    /// Settles advices; what became of those that core could say it of.
    pub async fn settle(
        &self,
        message: wire::SettleRequest,
        budget: Budget,
    ) -> Result<Vec<Settled>, Cause> {
        let request = within(budget, message);
        let settle = |mut stub: Stub| async move { stub.settle(request).await };
        let reply: wire::SettleReply = self.ask_within(budget, settle).await?;
        let outcome = |wire::Settled { epoch, number, outcome, why }| Settled {
            epoch,
            number,
            outcome: outcome.into(),
            why,
        };
        Ok(reply.settled.into_iter().map(outcome).collect())
    }

    /// What a merchant was told in a span of time, and what became of it.
    pub async fn statement(
        &self,
        merchant: String,
        span: Span,
        lines_max: u32,
        budget: Budget,
    ) -> Result<Statement, Cause> {
        let message = wire::StatementRequest {
            merchant: merchant.clone(),
            from: span.from().as_millis(),
            to: span.to().as_millis(),
            lines_max,
        };
        let request = within(budget, message);
        let statement = |mut stub: Stub| async move { stub.statement(request).await };
        let reply = self.ask_within(budget, statement).await?;
        Statement::new(merchant, span, reply).map_err(|incomplete| self.senseless(&incomplete))
    }

    /// The records of those of many decisions that there are.
    pub async fn find_many(
        &self,
        message: wire::FindManyRequest,
        budget: Budget,
    ) -> Result<Vec<Record>, Cause> {
        let request = within(budget, message);
        let find = |mut stub: Stub| async move { stub.find_many(request).await };
        let reply: wire::FindManyReply = self.ask_within(budget, find).await?;
        let records: Result<_, _> = reply.records.into_iter().map(Record::try_from).collect();
        records.map_err(|incomplete| self.senseless(&incomplete))
    }

    async fn ask_within<R, F>(
        &self,
        budget: Budget,
        call: impl FnOnce(Stub) -> F,
    ) -> Result<R, Cause>
    where
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
        R: Send + 'static,
    {
        let answer = timeout(budget.length(), self.exchange(budget, None, call)).await;
        answer.unwrap_or(Err(Cause::Deadline))
    }

    /// Runs one exchange in a task of its own and waits for it. Dropping the wait cancels nothing, and
    /// `link` learns how long it took, or at least takes.
    async fn exchange<R, F>(
        &self,
        budget: Budget,
        link: Option<Arc<Link>>,
        call: impl FnOnce(Stub) -> F,
    ) -> Result<R, Cause>
    where
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
        R: Send + 'static,
    {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(fault(&self.faults, Cause::Overload, &"api.calls_max calls are under way"));
        };
        let answer = call(self.stub.clone());
        // Never cut while somebody still waits.
        let cap = std::cmp::max(self.call_time_max, budget.length());
        let faults = Arc::clone(&self.faults);
        let exchange = tokio::spawn(async move {
            let (_place, asked) = (place, Instant::now());
            let learn = |sample| {
                if let Some(link) = &link {
                    link.learn(sample, Instant::now());
                }
            };
            match timeout(cap, answer).await {
                Ok(Ok(response)) => {
                    learn(Sample::Took(asked.elapsed()));
                    Ok(response.into_inner())
                }
                Ok(Err(status)) => Err(failed(&faults, &status)),
                Err(_elapsed) => {
                    learn(Sample::AtLeast(cap));
                    Err(fault(&faults, Cause::Deadline, &format_args!("no answer in {cap:?}")))
                }
            }
        });
        // The task is never aborted, and a panic in it has ended the process.
        exchange.await.unwrap_or(Err(Cause::Error))
    }

    fn senseless(&self, incomplete: &Incomplete) -> Cause {
        fault(&self.faults, Cause::Error, incomplete)
    }

    fn read(&self, question: &Question, reply: wire::DecideReply) -> Result<Reply, Cause> {
        let decision = match reply.outcome {
            Some(Outcome::Decision(decision)) if decision.id == question.request.id => decision,
            Some(Outcome::IdReused(wire::IdReused {})) => {
                return Ok(Reply::Refused(Problem::id_reused()));
            }
            Some(Outcome::Decision(_)) => return Err(self.senseless(&Incomplete("id"))),
            None => return Err(self.senseless(&Incomplete("outcome"))),
        };
        let decision = Decision::try_from(decision);
        decision.map(Reply::Decided).map_err(|incomplete| self.senseless(&incomplete))
    }
}

impl NextTier for CoreClient {
    const OPERATION: &'static str = "core.decide";

    async fn decide(&self, question: &Question, budget: Budget) -> Result<Reply, Cause> {
        // What we ask ourselves says nothing of what merchants would be told.
        let samples = question.merchant != PROBE_MERCHANT && self.fidelity.samples(question);
        match self.decisions.ask(question.into(), budget, samples).await {
            Ok(Answered { reply, known }) => {
                let reply = self.read(question, reply)?;
                if let (Reply::Decided(decision), Some(known)) = (&reply, known)
                    && !decision.replayed
                {
                    self.fidelity.compare(question, decision.decision, known);
                }
                Ok(reply)
            }
            Err(status) => Err(failed(&self.faults, &status)),
        }
    }
}

/// The request with its budget. Only core acts on it: nothing on this side cancels the exchange.
fn within<M>(budget: Budget, message: M) -> Request<M> {
    let mut request = Request::new(message);
    if let Ok(text) = AsciiMetadataValue::try_from(budget.to_grpc_timeout()) {
        request.metadata_mut().insert("grpc-timeout", text);
    }
    request
}

/// Says why core did not answer; gives the cause back.
fn fault(faults: &Faults, cause: Cause, what: &dyn Display) -> Cause {
    faults.say(cause.as_str(), format_args!("core did not answer: {what}"));
    cause
}

/// The same for a status that is not OK.
fn failed(faults: &Faults, status: &Status) -> Cause {
    let what = format_args!("{:?}: {}", status.code(), status.message());
    fault(faults, cause_of(status), &what)
}

/// What a status that is not OK means for whoever asked.
fn cause_of(status: &Status) -> Cause {
    match status.code() {
        Code::DeadlineExceeded => Cause::Deadline,
        Code::ResourceExhausted => Cause::Overload,
        Code::Unavailable => Cause::Unavailable,
        // A status with a source was made on this side: the connection broke under the call.
        _ if status.source().is_some() => Cause::Unavailable,
        _ => Cause::Error,
    }
}
