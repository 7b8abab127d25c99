//! The decisions that core is asked for, all on one gRPC stream.
//!
//! A call of its own for each decision has headers there, trailers back, and two tasks: the api spent 175,000
//! instructions a decision on that way, and spends 110,000 on this. A caller may walk away from its answer, which cancels nothing: the answer still teaches
//! how long core takes, and brings its history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use backstop_contract::learned::Sample;
use backstop_contract::wire::{DecideAnswer, DecideCall, DecideReply, DecideRequest, FAREWELL};
use backstop_contract::{Budget, Link};

use super::Stub;
use crate::seen::{Known, Seen};

/// How often calls past their time are looked for. They are late by seconds; this is soon enough.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What core said to one call.
pub struct Answered {
    /// Its words, but for the history, which is kept already.
    pub reply: DecideReply,
    /// What was known of that history before, where the caller wanted to know.
    pub known: Option<Known>,
}

type Answer = Result<Answered, Status>;

/// Asks core for decisions. Opens its stream when it is needed, and again when it broke.
pub struct Calls {
    stub: Stub,
    places: Arc<Semaphore>,
    room: usize,
    call_time_max: Duration,
    learns: Arc<Learns>,
    line: Mutex<Option<Arc<Line>>>,
}

/// What answers teach, whether or not anybody still waits for them.
struct Learns {
    link: Arc<Link>,
    seen: Arc<Seen>,
}

/// One stream.
struct Line {
    waiting: Mutex<Waiting>,
}

/// The calls that core has not answered.
struct Waiting {
    /// Where calls are sent; none when the stream takes no more.
    sends: Option<mpsc::Sender<DecideCall>>,
    last: u64,
    calls: HashMap<u64, Call>,
}

/// A call under way.
struct Call {
    merchant: String,
    /// Its caller wants to know what was known before.
    recalls: bool,
    asked: Instant,
    /// When it is given up, whoever waits.
    ends: Instant,
    answer: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
}

impl Calls {
    /// At most `room` at a time, each of which holds one of `places`. One that nobody waits for any
    /// more is given up after `call_time_max`.
    pub fn new(
        stub: Stub,
        (places, room): (Arc<Semaphore>, usize),
        call_time_max: Duration,
        link: Arc<Link>,
        seen: Arc<Seen>,
    ) -> Self {
        let learns = Arc::new(Learns { link, seen });
        Self { stub, places, room, call_time_max, learns, line: Mutex::new(None) }
    }

    /// Asks, and waits for the answer; with what was known before where it `recalls` that. Dropping the
    /// wait cancels nothing.
    pub async fn ask(&self, request: DecideRequest, budget: Budget, recalls: bool) -> Answer {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_full| {
            Status::resource_exhausted(format!("{} calls are under way", self.room))
        })?;
        let (answer, answered) = oneshot::channel();
        let asked = Instant::now();
        // Never given up while somebody still waits.
        let ends = asked + std::cmp::max(self.call_time_max, budget.length());
        let merchant = request.merchant.clone();
        let call = Call { merchant, recalls, asked, ends, answer, _place: place };
        self.put(call, request, budget)?;
        // A line answers all its calls, whatever becomes of it.
        answered.await.unwrap_or_else(|_lost| Err(Status::unavailable("the call was lost")))
    }

    fn put(&self, call: Call, request: DecideRequest, budget: Budget) -> Result<(), Status> {
        let mut slot = lock(&self.line);
        let line = match slot.take() {
            Some(line) if line.waiting().sends.is_some() => line,
            _ => self.open(),
        };
        let line = slot.insert(line);
        let mut waiting = line.waiting();
        let number = waiting.last + 1;
        let timeout_micros = u64::try_from(budget.length().as_micros()).unwrap_or(u64::MAX);
        let message = DecideCall { number, timeout_micros, request: Some(request) };
        // There is a place in it for each call that may be under way.
        let sent = waiting.sends.as_ref().and_then(|sends| sends.try_send(message).ok());
        sent.ok_or_else(|| Status::unavailable("the stream ended"))?;
        waiting.last = number;
        waiting.calls.insert(number, call);
        Ok(())
    }

    fn open(&self) -> Arc<Line> {
        let (sends, sent) = mpsc::channel(self.room);
        let waiting = Waiting { sends: Some(sends), last: FAREWELL, calls: HashMap::new() };
        let line = Arc::new(Line { waiting: Mutex::new(waiting) });
        let (stub, learns, served) = (self.stub.clone(), self.learns.clone(), line.clone());
        tokio::spawn(async move {
            let status = served.serve(stub, sent, &learns).await;
            served.close(&status);
        });
        line
    }
}

impl Line {
    /// Carries calls and answers until the stream ends; why it did.
    async fn serve(
        &self,
        mut stub: Stub,
        calls: mpsc::Receiver<DecideCall>,
        learns: &Learns,
    ) -> Status {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let opened = stub.decide_many(ReceiverStream::new(calls));
        let mut opened = std::pin::pin!(opened);
        let mut answers: Streaming<DecideAnswer> = loop {
            tokio::select! {
                answers = &mut opened => match answers {
                    Ok(answers) => break answers.into_inner(),
                    Err(status) => return status,
                },
                _ = look.tick() => self.give_up(learns),
            }
        };
        loop {
            tokio::select! {
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => self.answered(answer, learns),
                    Ok(None) => return Status::unavailable("core ended the stream"),
                    Err(status) => return status,
                },
                _ = look.tick() => self.give_up(learns),
            }
        }
    }

    fn answered(&self, answer: DecideAnswer, learns: &Learns) {
        if answer.number == FAREWELL {
            // Nothing more is sent, which ends the stream once all that was sent has been answered.
            self.waiting().sends = None;
            return;
        }
        let Some(call) = self.waiting().calls.remove(&answer.number) else { return };
        let answer = match answer.reply {
            Some(mut reply) => {
                learns.link.learn(Sample::Took(call.asked.elapsed()), Instant::now());
                let rows = std::mem::take(&mut reply.history);
                let recall = || learns.seen.known(&call.merchant, call.asked, &rows);
                let known = call.recalls.then(recall).flatten();
                learns.seen.remember(&call.merchant, call.asked, rows);
                Ok(Answered { reply, known })
            }
            None => Err(Status::new(Code::from_i32(answer.code), answer.message)),
        };
        // Nobody may be waiting any more: that is what the deadline is for.
        let _walked_away = call.answer.send(answer);
    }

    /// Ends what has been under way for too long. It is a lesson too: core takes at least as long.
    fn give_up(&self, learns: &Learns) {
        let now = Instant::now();
        let late = |_: &u64, call: &mut Call| call.ends <= now;
        let late: Vec<Call> = self.waiting().calls.extract_if(late).map(|(_, call)| call).collect();
        for call in late {
            learns.link.learn(Sample::AtLeast(call.asked.elapsed()), now);
            let _walked_away = call.answer.send(Err(Status::deadline_exceeded("no answer")));
        }
    }

    fn close(&self, status: &Status) {
        let mut waiting = self.waiting();
        waiting.sends = None;
        for (_, call) in waiting.calls.drain() {
            let _walked_away = call.answer.send(Err(status.clone()));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is whole, even after a panic in another.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
