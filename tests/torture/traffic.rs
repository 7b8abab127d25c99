//! A merchant's load: open loop, at a steady rate, over many connections. Some ids are sent twice at
//! once, some again at random moments, some again with another body. Whoever loses an answer asks until
//! there is one.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::demand::Demand;
use super::dice::Dice;
use super::notes::Notes;
use super::watch::Watch;
use super::wire::Wire;

/// An attempt without an answer is given up after this: fifty budgets.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// Whoever was never answered in this time gives up, and says so.
const ASKS_FOR: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);
/// In a hundred requests.
const TWINS: u64 = 5;
const AGAIN: u64 = 20;
const OTHERS: u64 = 5;
/// Sets these dice apart from those of the demand.
const PLANS: u64 = 1 << 40;

/// What is asked, how often and by whom.
pub struct Traffic {
    pub door: SocketAddr,
    pub key: String,
    pub demand: Demand,
    /// The number of the first request.
    pub first: usize,
    /// First attempts a second.
    pub rate: u32,
    pub connections: usize,
    /// The latest that an id is asked for again.
    pub again_within: Duration,
}

/// A load under way.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Notes, usize)>,
}

impl Running {
    /// Ends it: what was noted, and the number of the next request.
    pub fn stop(self) -> (Notes, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not fail")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    First,
    Again,
    /// Under a known id, something else.
    Other,
}

/// Ordered by the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    number: usize,
    how: How,
}

impl Traffic {
    /// Starts on a thread of its own, and adds to these notes.
    pub fn start(self, notes: Notes, watch: Arc<Watch>) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.unwrap(), self.run(notes, watch, &until))
        });
        Running { stop, thread }
    }

    async fn run(self, notes: Notes, watch: Arc<Watch>, stop: &AtomicBool) -> (Notes, usize) {
        let (jobs, waiting) = mpsc::unbounded_channel();
        let (first, connections) = (self.first, self.connections);
        let shared = Rc::new(Shared {
            traffic: self,
            waiting: Mutex::new(waiting),
            notes: RefCell::new(notes),
            watch,
        });
        let workers: Vec<_> =
            (0..connections).map(|_| tokio::task::spawn_local(work(shared.clone()))).collect();
        let asked = shared.traffic.send(&jobs, stop).await;
        drop(jobs);
        for worker in workers {
            worker.await.unwrap();
        }
        let shared = Rc::into_inner(shared).expect("the workers have ended");
        (shared.notes.into_inner(), first + asked)
    }

    /// Sends what is due when it is due, until it is stopped; how many first attempts that were.
    async fn send(&self, jobs: &mpsc::UnboundedSender<Due>, stop: &AtomicBool) -> usize {
        let start = Instant::now();
        let mut later = BinaryHeap::new();
        for asked in 0_u32.. {
            let at = start + Duration::from_secs(1) * asked / self.rate;
            sleep_until(at).await;
            if stop.load(Ordering::Relaxed) {
                // Nobody waits for what was planned for later: it comes now.
                for Reverse(due) in later.drain() {
                    jobs.send(due).unwrap();
                }
                return asked as usize;
            }
            self.plan(self.first + asked as usize, at, &mut later);
            while later.peek().is_some_and(|Reverse(due): &Reverse<Due>| due.at <= at) {
                later.pop().into_iter().for_each(|Reverse(due)| jobs.send(due).unwrap());
            }
        }
        unreachable!("it is stopped long before")
    }

    /// When this request is sent for the first time, and when again.
    fn plan(&self, number: usize, at: Instant, later: &mut BinaryHeap<Reverse<Due>>) {
        let mut dice = Dice::new(self.demand.seed ^ PLANS, number as u64);
        let moment = |dice: &mut Dice| {
            let longest = u64::try_from(self.again_within.as_millis()).unwrap();
            at + Duration::from_millis(dice.roll(longest))
        };
        later.push(Reverse(Due { at, number, how: How::First }));
        if dice.is_within(TWINS) {
            later.push(Reverse(Due { at, number, how: How::Again }));
        }
        if dice.is_within(AGAIN) {
            later.push(Reverse(Due { at: moment(&mut dice), number, how: How::Again }));
        }
        if dice.is_within(OTHERS) {
            later.push(Reverse(Due { at: moment(&mut dice), number, how: How::Other }));
        }
    }
}

/// What the connections share.
struct Shared {
    traffic: Traffic,
    waiting: Mutex<mpsc::UnboundedReceiver<Due>>,
    notes: RefCell<Notes>,
    watch: Arc<Watch>,
}

/// Sends what is due, one after the other, on one connection.
async fn work(shared: Rc<Shared>) {
    let mut wire = Wire::to(shared.traffic.door);
    loop {
        // The lock is handed on in turn, so that every connection is used.
        let next = shared.waiting.lock().await.recv().await;
        let Some(due) = next else { return };
        if due.how == How::Other {
            let notes = shared.notes.borrow();
            // What nobody wrote down, a proxy that dies may forget.
            if !notes.told.get(&due.number).is_some_and(|told| told.is_durable) {
                continue;
            }
        }
        shared.ask(&mut wire, due).await;
    }
}

impl Shared {
    /// Asks until there is an answer.
    async fn ask(&self, wire: &mut Wire, due: Due) {
        let (body, other) = self.traffic.demand.bodies(due.number);
        let body = if due.how == How::Other { other } else { body };
        let body = Bytes::from(body.to_string());
        let mut lost = None;
        let reply = loop {
            let begun = Instant::now();
            let answer = timeout(ANSWER_TIME_MAX, wire.ask(&self.traffic.key, body.clone())).await;
            let why = match answer {
                Ok(Ok(reply)) => break reply,
                Ok(Err(why)) => why,
                Err(_elapsed) => format!("no answer in {ANSWER_TIME_MAX:?}"),
            };
            if !self.watch.excuses(begun) {
                let what = format!("order-{} lost, but the proxy lived: {why}", due.number);
                self.notes.borrow_mut().complain(what);
            }
            let since = *lost.get_or_insert_with(Instant::now);
            if since.elapsed() > ASKS_FOR {
                let what = format!("order-{} has no answer after {ASKS_FOR:?}", due.number);
                return self.notes.borrow_mut().complain(what);
            }
            sleep(PAUSE).await;
        };
        let mut notes = self.notes.borrow_mut();
        if let Some(since) = lost {
            notes.lost += 1;
            notes.longest_loss = std::cmp::max(notes.longest_loss, since.elapsed());
        } else if due.how == How::First {
            notes.latencies.push(due.at.elapsed());
        }
        match due.how {
            How::First | How::Again => notes.hear(due.number, &reply, &self.watch),
            How::Other => notes.hear_refusal(due.number, &reply),
        }
    }
}
