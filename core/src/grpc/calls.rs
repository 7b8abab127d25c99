//! Many decisions on one stream: answered by number, each as soon as it is committed.
//!
//! The answers of a set leave the writer together and travel in one write, where calls of their own would
//! take a stream, headers and trailers each.

use std::sync::Arc;
use std::time::Duration;

use backstop_contract::wire::{DecideAnswer, DecideCall, DecideReply, FAREWELL};
use backstop_contract::{Budget, Deadline};
use backstop_lua::InForce;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, Streaming};

use super::{question_of, reply_of, status_of};
use crate::metrics::Metrics;
use crate::writer::{Ask, Queue};

/// A caller that was told to go elsewhere has this long to do so.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// What takes the answers to the caller.
pub type Answers = mpsc::Sender<Result<DecideAnswer, Status>>;

/// One stream, as core serves it.
pub struct Calls {
    /// The way to the writers.
    pub queue: Queue,
    /// To know the policies by name.
    pub rules: Arc<InForce>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where answers go. There is room for one to each call that may wait.
    pub answers: Answers,
    /// Ends when core is to stop.
    pub stopping: watch::Receiver<()>,
}

impl Calls {
    /// Takes calls up until the caller ends the stream, as it does when it hears that core is to stop.
    /// What was taken up is answered.
    pub async fn serve(mut self, mut calls: Streaming<DecideCall>) {
        let mut leave_by = None;
        loop {
            let call = tokio::select! {
                call = calls.message() => call,
                _stop = self.stopping.changed(), if leave_by.is_none() => {
                    let farewell = Err(Status::unavailable("core is about to stop"));
                    let _given_up = self.answers.try_send(Ok(answer_of(FAREWELL, farewell)));
                    leave_by = Some(Instant::now() + FAREWELL_TIME_MAX);
                    continue;
                }
                // The caller is of a release that does not know the word.
                () = sleep_until(leave_by.unwrap_or_else(Instant::now)), if leave_by.is_some() => return,
            };
            match call {
                Ok(Some(call)) => self.take_up(call),
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%error, "a stream of calls broke");
                    return;
                }
            }
        }
    }

    fn take_up(&self, call: DecideCall) {
        let received = Instant::now();
        let (number, answers, metrics) = (call.number, self.answers.clone(), self.metrics.clone());
        let answer = move |reply: Result<DecideReply, Status>| {
            metrics.answered(received.elapsed());
            // A caller that does not read its answers has given them up.
            let _given_up = answers.try_send(Ok(answer_of(number, reply)));
        };
        let question = match question_of(call.request.unwrap_or_default(), &self.rules) {
            Ok(question) => question,
            Err(status) => return answer(Err(status)),
        };
        let budget = Budget::new(Duration::from_micros(call.timeout_micros));
        let deadline = (call.timeout_micros > 0).then(|| Deadline::after(received, budget));
        self.queue.put(Ask::Decide(Box::new(question)), deadline, move |outcome| {
            answer(outcome.map_err(|error| status_of(&error)).and_then(reply_of));
        });
    }
}

fn answer_of(number: u64, reply: Result<DecideReply, Status>) -> DecideAnswer {
    let (code, message) = match &reply {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    };
    DecideAnswer { number, reply: reply.ok(), code: i32::from(code), message }
}
