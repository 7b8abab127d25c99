//! Many connections that send claims over both stacks at once, until core has decided every one of them.
//!
//! They go to the apis' own sockets, as an edge would send them: so both cores want the same rows at the
//! same time, which a single active stack would never show.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use super::demand::Claim;

/// In all, half of them over each stack.
const CONNECTIONS: usize = 64;
pub const STACKS: [&str; 2] = ["prod", "old-prod"];
/// Of so many claims, one is sent twice at once.
const ONE_IS_TWIN_OF: usize = 10;
const BUDGET_MS: &str = "1000";
/// Twice the budget and more: there is always an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// What a client waits before it asks again for what core did not answer.
const PAUSE: Duration = Duration::from_millis(20);
/// For all claims together.
const TIME_MAX: Duration = Duration::from_mins(20);

/// What is sent, and when to say how far it has come.
pub struct Traffic {
    pub merchant: &'static str,
    pub claims: Vec<Claim>,
    /// The apis' sockets, in the order of [`STACKS`].
    pub sockets: [PathBuf; 2],
    /// Told of once so many claims are decided, ascending.
    pub milestones: Vec<usize>,
    /// Only so many of the claims may be sent yet.
    pub sent_max: Arc<AtomicUsize>,
}

/// What core said of one claim. It says the same each time.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub decision: String,
    pub reasons: Value,
    pub stack: String,
    pub decided_at: String,
    pub stock_left: Option<i64>,
    pub balance: Option<i64>,
}

/// All that was said.
#[derive(Default)]
pub struct Told {
    pub answers: HashMap<String, Answer>,
    /// Answers of core's that were no first ones.
    pub replays: usize,
    /// Answers of others, by tier and cause.
    pub stand_ins: BTreeMap<String, usize>,
    /// Connections that ended under a request.
    pub lost: usize,
    pub took: Duration,
}

/// The apis' sockets of a system, in the order of [`STACKS`].
pub fn sockets(dir: &Path) -> [PathBuf; 2] {
    STACKS.map(|stack| dir.join(format!("run/api-{stack}.sock")))
}

impl Traffic {
    /// Starts on a thread of its own. The receiver is told of milestones, and closes at the end.
    pub fn start(self) -> (JoinHandle<Told>, Receiver<usize>) {
        let (reached, milestones) = channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            LocalSet::new().block_on(&runtime.unwrap(), self.run(reached))
        });
        (thread, milestones)
    }

    async fn run(self, reached: Sender<usize>) -> Told {
        let start = Instant::now();
        let twice = |number| 1 + usize::from(number % ONE_IS_TWIN_OF == 0);
        let due =
            (0..self.claims.len()).flat_map(|number| std::iter::repeat_n(number, twice(number)));
        let due = due.collect();
        let milestones = self.milestones.iter().copied().collect();
        let state = State { due, told: Told::default(), milestones, reached };
        let shared = Rc::new((self, Mutex::new(state)));
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|number| tokio::task::spawn_local(work(shared.clone(), number % STACKS.len())))
            .collect();
        for worker in workers {
            let left = TIME_MAX.saturating_sub(start.elapsed());
            timeout(left, worker).await.expect("the claims are decided in time").unwrap();
        }
        let (_, state) = Rc::into_inner(shared).expect("the workers have ended");
        Told { took: start.elapsed(), ..state.into_inner().told }
    }

    fn request(&self, number: usize) -> Request<Full<Bytes>> {
        let Claim { id, account, sku, qty } = &self.claims[number];
        let attributes = json!({ "sku": sku, "qty": qty });
        let body =
            json!({ "id": id, "policy": "claim", "account": account, "attributes": attributes });
        as_edge(self.merchant, number, &body)
    }
}

/// A decision request as the edge passes it on; `number` tells it from others.
pub fn as_edge(merchant: &str, number: usize, body: &Value) -> Request<Full<Bytes>> {
    let (seconds, nanos) = uuid::Uuid::now_v7().get_timestamp().unwrap().to_unix();
    Request::post("/v1/decisions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("backstop-merchant", merchant)
        .header("backstop-received-at", seconds * 1000 + u64::from(nanos) / 1_000_000)
        .header("backstop-request-hash", format!("{number:064x}"))
        .header("backstop-budget-ms", BUDGET_MS)
        .body(Full::new(body.to_string().into()))
        .unwrap()
}

/// What the connections share.
struct State {
    due: VecDeque<usize>,
    told: Told,
    milestones: VecDeque<usize>,
    reached: Sender<usize>,
}

/// Sends what is due over one stack, one after the other. What core did not answer is due again, last,
/// and whoever has it next may ask the other stack.
async fn work(shared: Rc<(Traffic, Mutex<State>)>, stack: usize) {
    let (traffic, state) = &*shared;
    let mut wire = None;
    loop {
        let number = match state.lock().await.next(traffic.sent_max.load(Ordering::Relaxed)) {
            Next::Send(number) => number,
            Next::Wait => {
                sleep(PAUSE).await;
                continue;
            }
            Next::End => return,
        };
        let request = traffic.request(number);
        let answer = timeout(ANSWER_TIME_MAX, ask(&mut wire, &traffic.sockets[stack], request));
        let answer = answer.await.expect("there is always an answer");
        let mut state = state.lock().await;
        let is_decided = match answer {
            Ok((answer, is_replayed)) => state.told.hear(&answer, is_replayed),
            Err(_lost) => {
                state.told.lost += 1;
                wire = None;
                false
            }
        };
        if is_decided {
            state.report();
        } else {
            state.due.push_back(number);
            drop(state);
            sleep(PAUSE).await;
        }
    }
}

/// What a connection does next.
enum Next {
    Send(usize),
    /// All that is due is held back.
    Wait,
    End,
}

impl State {
    fn next(&mut self, sent_max: usize) -> Next {
        if self.due.is_empty() {
            return Next::End;
        }
        let open = self.due.iter().position(|number| *number < sent_max);
        open.and_then(|at| self.due.remove(at)).map_or(Next::Wait, Next::Send)
    }

    fn report(&mut self) {
        if self.milestones.front().is_some_and(|next| self.told.answers.len() >= *next) {
            let milestone = self.milestones.pop_front().unwrap();
            // Whoever listened has failed, and says so itself.
            let _nobody = self.reached.send(milestone);
        }
    }
}

impl Told {
    /// Takes note of an answer; whether it is core's.
    fn hear(&mut self, answer: &Value, is_replayed: bool) -> bool {
        if answer["decided_by"] != "core" {
            // Who knows no stock gives none away, and turns nobody away.
            assert_eq!(answer["decision"], "review", "{answer}");
            let tier = answer["decided_by"].as_str().unwrap();
            let cause = answer["cause"].as_str().unwrap();
            *self.stand_ins.entry(format!("{tier} {cause}")).or_default() += 1;
            return false;
        }
        let id = answer["id"].as_str().unwrap();
        let said = Answer::read(answer);
        self.replays += usize::from(is_replayed);
        if let Some(before) = self.answers.insert(id.to_owned(), said.clone()) {
            assert_eq!(said, before, "{id} has one answer");
        }
        true
    }
}

impl Answer {
    fn read(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("{answer}"));
        let only = |of: &Value| of.as_object().unwrap().values().next().and_then(Value::as_i64);
        Self {
            decision: text("decision").to_owned(),
            reasons: answer["reasons"].clone(),
            stack: text("stack").to_owned(),
            decided_at: text("decided_at").to_owned(),
            stock_left: only(&answer["effects"]["stock"]),
            balance: only(&answer["effects"]["balance"]),
        }
    }
}

type Wire = SendRequest<Full<Bytes>>;

/// One exchange on a connection that is opened where there is none: the body, and whether it is an
/// earlier answer. `Err`: the connection has ended.
async fn ask(
    wire: &mut Option<Wire>,
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<(Value, bool), Box<dyn std::error::Error>> {
    if wire.is_none() {
        let stream = TokioIo::new(UnixStream::connect(socket).await?);
        let (sender, connection) = handshake(stream).await?;
        // How it ends, its sender tells.
        tokio::spawn(connection);
        *wire = Some(sender);
    }
    let sender = wire.as_mut().ok_or("no connection")?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await?.to_bytes();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    Ok((serde_json::from_slice(&body)?, headers.contains_key("idempotency-replayed")))
}
