//! Torture: callers who walk away at random moments, connections that are cut under a statement, cores
//! that freeze. On PostgreSQL, where a statement that is given up lives on at the server.
//!
//! `BACKSTOP_TORTURE=100000 cargo test --release -p backstop-core torture -- --nocapture` for the long form.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use super::hostile::audit::audit;
use super::hostile::traffic::{Dice, Heard, Request};
use super::hostile::{Stack, requests, stock_up};
use super::*;
use crate::fixture::claim;
use crate::store::tests::PostgresBooks;

/// Calls of the short form.
const CALLS: u64 = 2_000;
/// Calls for each id.
const REPEATED: u64 = 4;
const CALLERS: u64 = 32;
const LANES: i64 = 2;
/// From one disturbance to the next, in calls.
const DISTURBED_EVERY: u64 = 50;
/// A caller that is gone while its transaction is under way.
const HASTY_MAX: Duration = Duration::from_millis(6);
/// A caller that mostly hears of it.
const PATIENT_MAX: Duration = Duration::from_secs(2);
const YIELDS_MAX: u64 = 40;
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// What the connections of cores are at, in the books' own database.
#[derive(Debug, sqlx::FromRow)]
struct Activity {
    connections: i64,
    active: i64,
    in_transaction: i64,
}

const ACTIVITY: &str = "SELECT count(*) AS connections, \
     count(*) FILTER (WHERE state = 'active') AS active, \
     count(*) FILTER (WHERE state LIKE 'idle in transaction%' \
         OR state = 'idle' AND xact_start IS NOT NULL) AS in_transaction \
     FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'backstop-core'";

/// Ends all of them, and waits until they have ended.
const TERMINATE: &str = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
     WHERE datname = current_database() AND application_name = 'backstop-core'";

/// What they are at once nothing is under way. Nobody is ever idle with a transaction open.
async fn settled(books: &PostgresBooks) -> Activity {
    let mut somebody = books.somebody().await;
    let give_up = Instant::now() + GIVE_UP_AFTER;
    loop {
        let activity: Activity = sqlx::query_as(ACTIVITY).fetch_one(&mut somebody).await.unwrap();
        assert_eq!(activity.in_transaction, 0, "{activity:?}");
        if activity.active == 0 {
            return activity;
        }
        assert!(Instant::now() < give_up, "{activity:?}");
        tokio::task::yield_now().await;
    }
}

/// All that the callers share.
struct Torture {
    books: PostgresBooks,
    stack: Stack,
    faults: Script,
    heard: Mutex<Heard>,
    calls: u64,
    next: AtomicU64,
    told: AtomicU64,
    walked_away: AtomicU64,
    failed: AtomicU64,
    terminated: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_walk_away_and_connections_that_die_leave_nothing_open_and_nothing_half_done() {
    let calls = requests("BACKSTOP_TORTURE", CALLS);
    let ids = calls.div_ceil(REPEATED);
    let (books, faults) = (PostgresBooks::new().await, Script::default());
    let mut stores = Vec::new();
    for _ in 0..LANES {
        stores.push(Faulty::new(books.open().await, faults.clone()));
    }
    let stack = Stack::start("prod", stores);
    let levels = stock_up(&stack.queue, ids).await;
    let torture = Arc::new(Torture {
        books,
        stack,
        faults,
        heard: Mutex::default(),
        calls,
        next: AtomicU64::new(0),
        told: AtomicU64::new(0),
        walked_away: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        terminated: AtomicU64::new(0),
    });
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| tokio::spawn(Arc::clone(&torture).caller()));
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    torture.report(began.elapsed());
    torture.faults.clear();
    // What nobody waited for is behind this in the queue of its account, so that it has ended, too.
    let retries = (0..CALLERS).map(|first| tokio::spawn(Arc::clone(&torture).retry(first, ids)));
    for retry in retries.collect::<Vec<_>>() {
        retry.await.unwrap();
    }
    let activity = settled(&torture.books).await;
    assert!(activity.connections >= LANES, "they are kept: {activity:?}");
    let books = audit(&torture.books, ids, levels).await;
    assert_eq!(books.decided.len() as u64, ids, "each was decided in the end");
    torture.heard.lock().unwrap().check(&books);
    for (count, least) in [
        (&torture.told, calls / 100),
        (&torture.walked_away, calls / 100),
        (&torture.failed, 0),
        (&torture.terminated, 0),
    ] {
        let count = count.load(Ordering::Relaxed);
        assert!(count > least, "{count} of {calls}: this shows nothing");
    }
    let Torture { stack: Stack { queue, mut stopped, .. }, .. } = Arc::into_inner(torture).unwrap();
    drop(queue);
    assert!(stopped.recv().await.is_none(), "no writer was lost on the way");
}

impl Torture {
    async fn caller(self: Arc<Self>) {
        loop {
            let call = self.next.fetch_add(1, Ordering::Relaxed);
            if call >= self.calls {
                return;
            }
            let mut dice = Dice::of(call);
            let newest = call / REPEATED;
            let is_old = dice.below(4) == 0;
            let number = if is_old { dice.below(newest + 1) } else { newest };
            if call.is_multiple_of(DISTURBED_EVERY) {
                self.disturb(&mut dice).await;
            }
            self.call(Request::usual(number), &mut dice).await;
        }
    }

    /// Asks, and waits as long as it likes.
    async fn call(&self, request: Request, dice: &mut Dice) {
        let ask = self.stack.queue.ask(decide(request.question()), None);
        let share = dice.below(1_000) as f64 / 1_000.0;
        let patience = match dice.below(4) {
            0 => Patience::None,
            1 => Patience::Yields(dice.below(YIELDS_MAX)),
            2 => Patience::Time(HASTY_MAX.mul_f64(share)),
            _ => Patience::Time(PATIENT_MAX.mul_f64(share)),
        };
        tokio::select! {
            biased;
            outcome = ask => {
                let told = self.heard.lock().unwrap().note(request, outcome);
                let count = if told { &self.told } else { &self.failed };
                count.fetch_add(1, Ordering::Relaxed);
            }
            () = patience.ends() => {
                self.walked_away.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Ends the writers' connections from outside, or cuts the next statements from inside.
    async fn disturb(&self, dice: &mut Dice) {
        let waits = u8::try_from(dice.below(6)).unwrap();
        match dice.below(3) {
            0 => self.faults.expect([Fault::CutLoad(waits)]),
            1 => self.faults.expect([Fault::CutCommit(waits)]),
            _ => {
                let mut somebody = self.books.somebody().await;
                let activity: Activity =
                    sqlx::query_as(ACTIVITY).fetch_one(&mut somebody).await.unwrap();
                assert_eq!(activity.in_transaction, 0, "{activity:?}");
                let ended: i64 =
                    sqlx::query_scalar(TERMINATE).fetch_one(&mut somebody).await.unwrap();
                self.terminated.fetch_add(ended.cast_unsigned(), Ordering::Relaxed);
            }
        }
    }

    /// Asks for a share of the ids until there is an answer to each.
    async fn retry(self: Arc<Self>, first: u64, ids: u64) {
        let share = (first..ids).step_by(usize::try_from(CALLERS).unwrap());
        for request in share.map(Request::usual) {
            let give_up = Instant::now() + GIVE_UP_AFTER;
            loop {
                let outcome = self.stack.queue.ask(decide(request.question()), None).await;
                if self.heard.lock().unwrap().note(request, outcome) {
                    break;
                }
                assert!(Instant::now() < give_up, "{request:?} was never answered");
            }
        }
    }

    fn report(&self, took: Duration) {
        let counts = [&self.told, &self.walked_away, &self.failed, &self.terminated];
        let [told, walked_away, failed, terminated] =
            counts.map(|count| count.load(Ordering::Relaxed));
        let (calls, seconds) = (self.calls, took.as_secs_f64());
        println!("torture: {calls} calls in {seconds:.1} s, {:.0}/s", calls as f64 / seconds);
        println!("  {told} told, {walked_away} walked away, {failed} failed");
        println!("  {terminated} connections terminated");
        let ends = ["committed", "conflict", "failed"].map(|end| self.stack.transactions(end));
        println!("  transactions committed, in conflict, failed: {ends:?}");
    }
}

/// How long a caller waits.
enum Patience {
    /// It asks, and is gone.
    None,
    /// So many turns of the others.
    Yields(u64),
    Time(Duration),
}

impl Patience {
    async fn ends(self) {
        match self {
            Self::None => {}
            Self::Yields(yields) => {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
            }
            Self::Time(time) => tokio::time::sleep(time).await,
        }
    }
}

/// A core that was frozen in the middle of a transaction held its locks until somebody found it. Now
/// there is no moment at which a core that stops holds anything: whatever it waits for when it freezes,
/// another one decides on the same rows at once.
#[tokio::test]
async fn a_core_that_freezes_at_any_moment_is_in_nobodys_way() {
    const STOCK: i64 = 1_000;
    let slow = |desk: &mut Desk| desk.settings.policy_time_max = GIVE_UP_AFTER;
    let mut other = BenchOver::<PostgresBooks>::with(slow).await;
    other.set_stock("sku:a", STOCK).await;
    let desk = Arc::clone(&other.writer.desk);
    let (mut moment, mut has_ended) = (0, false);
    while !has_ended {
        let mut store = other.books.open().await;
        let reply = Box::new(|_| panic!("it is frozen"));
        let ask = decide(claim(&format!("frozen-{moment}"), "ann", "a", 1));
        let job = Job { ask, deadline: None, reply };
        let cases: Vec<_> = desk.take_up(job, Duration::ZERO).into_iter().collect();
        let mut frozen = Box::pin(transact(&mut store, &desk, &cases, None));
        has_ended = poll_until_it_waits(frozen.as_mut(), moment).await;
        // What it has sent ends at the server by itself.
        settled(&other.books).await;
        let decided = other.answer(claim(&format!("other-{moment}"), "ann", "a", 1)).await;
        assert_eq!(decided.answer.decision, Verdict::Approve);
        drop(frozen);
        moment += 1;
    }
    assert!(moment > 2, "it waits for what it loads, and for its commit");
    assert!(other.stored("frozen-0").await.is_none(), "it had not asked for a commit yet");
    // What was sent before it froze may be there, whole; nothing else is.
    let taken = STOCK - other.stock("sku:a").await.unwrap();
    assert_eq!(other.balances("ann").await, [("coins".to_owned(), taken)]);
    let taken = usize::try_from(taken).unwrap();
    assert!(taken > moment, "the last one was not frozen");
    for table in ["decisions", "outbox", "ledger"] {
        assert_eq!(other.books.rows(table).await, taken, "{table}");
    }
}

/// Polls a future up to where it waits for the so-manieth time; says whether it ended before that.
async fn poll_until_it_waits<F: Future>(mut work: std::pin::Pin<&mut F>, mut waits: usize) -> bool {
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending if waits == 0 => Poll::Ready(false),
        Poll::Pending => {
            waits -= 1;
            Poll::Pending
        }
        Poll::Ready(_) => Poll::Ready(true),
    })
    .await
}
