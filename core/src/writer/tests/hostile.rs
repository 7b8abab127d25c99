//! Hostile clients: few ids and many requests, duplicates in the same instant, changed bodies, cancels of
//! cancels, over two stacks on one database. Every id has one answer, and the books are what the answers
//! come to.
//!
//! `BACKSTOP_HOSTILE=1000000 cargo test --release -p backstop-core hostile -- --nocapture` for the long form.

mod advices;
pub(super) mod audit;
pub(super) mod traffic;

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::audit::{Audited, audit};
use self::traffic::{ARTICLES, BODIES, Dice, Heard, Request, id};
use super::*;
use crate::store::tests::PostgresBooks;

/// Requests of the short form.
const REQUESTS: u64 = 20_000;
/// Requests for each id.
const REPEATED: u64 = 10;
const CLIENTS: u64 = 48;
/// What a client sends in one instant.
const BURST: u64 = 4;
const GIVE_UP_AFTER: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_get_one_answer_for_an_id_over_two_stacks_on_postgresql() {
    let stacks = attack::<PostgresBooks>("PostgreSQL").await;
    let conflicts: u64 = stacks.iter().map(|stack| stack.transactions("conflict")).sum();
    assert!(conflicts > 0, "neither stack met the other: this shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_get_one_answer_for_an_id_over_two_stacks_on_sqlite() {
    attack::<SqliteBooks>("SQLite").await;
}

/// A number that the environment may make larger.
pub(super) fn requests(variable: &str, short: u64) -> u64 {
    std::env::var(variable).map_or(short, |text| text.parse().expect("a whole number"))
}

/// One stack: its writers, and what they count.
pub(super) struct Stack {
    pub(super) queue: Queue,
    pub(super) stopped: mpsc::Receiver<Infallible>,
    metrics: Metrics,
}

impl Stack {
    pub(super) fn start<S: Store + Send + 'static>(stack: &str, stores: Vec<S>) -> Self {
        let mut desk = desk();
        desk.stack = stack.to_owned();
        // The machine may be busy: a policy out of time would be an answer of its own.
        desk.settings.policy_time_max = GIVE_UP_AFTER;
        let metrics = desk.metrics.clone();
        let (queue, stopped) = start(stores, desk);
        Self { queue, stopped, metrics }
    }

    /// Transactions that ended so.
    pub(super) fn transactions(&self, end: &str) -> u64 {
        let prefix = format!("backstop_core_transactions_total{{end=\"{end}\"}} ");
        let metrics = self.metrics.render();
        let count = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
        count.map_or(0, |count| count.parse().unwrap())
    }
}

/// There is plenty of one article, too little of another, and nothing of the third.
pub(super) async fn stock_up(queue: &Queue, ids: u64) -> [i64; ARTICLES.len()] {
    let ids = ids.cast_signed();
    let stock = [ids, ids / 8, 0];
    for (article, remaining) in ARTICLES.iter().zip(stock) {
        let ask = Ask::SetStock(row(&format!("sku:{article}")), remaining);
        assert!(matches!(queue.ask(ask, None).await, Ok(Outcome::StockSet)));
    }
    stock
}

/// All that the clients share.
struct Attack {
    stacks: [Stack; 2],
    heard: Mutex<Heard>,
    bursts: u64,
    next: AtomicU64,
    asked_again: AtomicU64,
}

async fn attack<B: Books>(name: &str) -> [Stack; 2] {
    let bursts = requests("BACKSTOP_HOSTILE", REQUESTS) / BURST;
    let ids = (bursts * BURST).div_ceil(REPEATED);
    let books = B::new().await;
    let prod = Stack::start("prod", vec![books.open().await]);
    let old_prod = Stack::start("old-prod", vec![books.open().await]);
    let stock = stock_up(&prod.queue, ids).await;
    let attack = Arc::new(Attack {
        stacks: [prod, old_prod],
        heard: Mutex::default(),
        bursts,
        next: AtomicU64::new(0),
        asked_again: AtomicU64::new(0),
    });
    let began = Instant::now();
    let clients = (0..CLIENTS).map(|_| tokio::spawn(Arc::clone(&attack).client()));
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let took = began.elapsed();
    let books = audit(&books, ids, stock).await;
    attack.report(name, took, &books);
    let Attack { stacks, heard, .. } = Arc::into_inner(attack).unwrap();
    let heard = heard.into_inner().unwrap();
    heard.check(&books);
    // One of the callers of an id was the first, the others were not.
    assert_eq!(heard.fresh(), books.decided.len());
    assert!(heard.reused() > 0 && stacks.iter().all(|stack| stack.transactions("committed") > 0));
    for answer in [
        "approve",
        "decline out_of_stock",
        "decline insufficient_balance",
        "decline unlucky",
        "decline velocity",
        "decline nothing_to_cancel",
        "decline already_cancelled",
    ] {
        assert!(books.answers.contains_key(answer), "nobody was told {answer:?}");
    }
    stacks
}

impl Attack {
    async fn client(self: Arc<Self>) {
        loop {
            let burst = self.next.fetch_add(1, Ordering::Relaxed);
            if burst >= self.bursts {
                return;
            }
            let mut dice = Dice::of(burst);
            // The newest id, which others ask for now as well, or any before it.
            let newest = burst * BURST / REPEATED;
            let mut ask = || {
                let is_old = dice.below(4) == 0;
                let number = if is_old { dice.below(newest + 1) } else { newest };
                let body = if dice.below(10) == 0 { dice.below(BODIES) } else { 0 };
                self.ask(Request { number, body }, dice.pick(&self.stacks))
            };
            tokio::join!(ask(), ask(), ask(), ask());
        }
    }

    /// Asks one of the stacks until there is an answer.
    async fn ask(&self, request: Request, stack: &Stack) {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        loop {
            let ask = decide(request.question());
            let outcome = stack.queue.ask(ask, None).await;
            if self.heard.lock().unwrap().note(request, outcome) {
                return;
            }
            self.asked_again.fetch_add(1, Ordering::Relaxed);
            assert!(Instant::now() < give_up, "{request:?} was never answered");
        }
    }

    fn transactions(&self, end: &str) -> u64 {
        self.stacks.iter().map(|stack| stack.transactions(end)).sum()
    }

    fn report(&self, name: &str, took: Duration, books: &Audited) {
        let (requests, seconds) = (self.bursts * BURST, took.as_secs_f64());
        println!(
            "{name}: {requests} requests in {seconds:.1} s, {:.0}/s",
            requests as f64 / seconds
        );
        let [committed, conflict, failed] =
            ["committed", "conflict", "failed"].map(|end| self.transactions(end));
        println!("  transactions: {committed} committed, {conflict} conflicts, {failed} failed");
        println!("  asked again: {}", self.asked_again.load(Ordering::Relaxed));
        println!("  {} decisions: {:?}", books.decided.len(), books.answers);
    }
}
