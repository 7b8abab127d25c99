//! What a decision costs where the next set is always complete: how many commit in a second, and the CPU time of all processes of PostgreSQL
//! for each. `cargo test --release -p backstop-core measure -- --ignored --nocapture`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use backstop_contract::{Question, Timestamp, Verdict};
use backstop_engine::Moves;

use super::*;
use crate::cluster::Cluster;
use crate::fixture::{NOON, question};
use crate::store::tests::decided;
use crate::store::{Decided, RowKey};
use crate::store::{Entry, Versioned};

/// As the peers that this is compared with.
const SETTINGS: [&str; 3] = ["shared_buffers=1GB", "max_wal_size=8GB", "checkpoint_timeout=30min"];
const ACCOUNTS: u64 = 100_000;
const TERMINALS: u64 = 10_000;
const BATCHES: [usize; 5] = [1, 4, 16, 64, 256];
const EACH_FOR: Duration = Duration::from_secs(3);

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A set, and how it was decided.
type Asked = Vec<(Question, Decided)>;

/// One writer, and what it takes its requests from.
struct Writer {
    store: PostgresStore,
    numbers: Numbers,
    made: u64,
    name: usize,
    /// The set after the one that was committed last, whose rows are read already.
    next: Option<Asked>,
}

impl Writer {
    fn set(&mut self, policy: &str, batch: usize) -> Asked {
        (0..batch).map(|_| self.asked(policy)).collect()
    }

    fn asked(&mut self, policy: &str) -> (Question, Decided) {
        self.made += 1;
        let account = format!("customer-{}", self.numbers.below(ACCOUNTS));
        let terminal = format!("terminal-{}", self.numbers.below(TERMINALS));
        let id = format!("txn-{:016x}-{}-{}", self.numbers.below(1 << 31), self.name, self.made);
        let mut question = question(&id);
        policy.clone_into(&mut question.request.policy);
        question.request.account.clone_from(&account);
        let answer = decided(&id);
        if policy == "claim" {
            let of = |key: &str| [(key.to_owned(), 1)].into();
            let moves = Moves { take: of("sku:hot"), credit: of("coins"), ..Moves::default() };
            return (question, Decided { account, history_keys: Vec::new(), moves, ..answer });
        }
        let history_keys = vec![format!("customer:{account}"), format!("terminal:{terminal}")];
        (question, Decided { account, history_keys, ..answer })
    }

    fn this_and_next(&mut self, policy: &str, batch: usize) -> (Asked, Asked) {
        let this = self.next.take().unwrap_or_else(|| self.set(policy, batch));
        (this, self.set(policy, batch))
    }

    /// Two rows of history each, read, counted in and put.
    async fn payments(&mut self, batch: usize) -> Result<(), CoreError> {
        let (asked, next) = self.this_and_next("payment", batch);
        let mut unit = self.store.begin().await?;
        let mut found = unit.load(wanted(&asked)).await?.history;
        unit.read_ahead(wanted(&next)).await;
        self.next = Some(next);
        for (place, (_, decided)) in asked.iter().enumerate() {
            let at = Timestamp::from_millis(
                NOON + i64::try_from(self.made).unwrap() * 10 + i64::try_from(place).unwrap(),
            );
            for key in &decided.history_keys {
                let history = &mut found.entry(row(key)).or_default().value;
                history.record(at, 5716, Verdict::Approve, None);
            }
        }
        let encoded: BTreeMap<_, _> = found
            .iter()
            .map(|(key, history)| (key, (history.value.encode(), history.version)))
            .collect();
        let put = |(key, (row, was)): (&&'_ RowKey, &'_ (Vec<u8>, i64))| {
            (key.key.clone(), row.clone(), *was)
        };
        let rows: Vec<_> = encoded.iter().map(put).collect();
        let history = rows
            .iter()
            .map(|(key, row, was)| Put { key, ..crate::store::tests::put(row.as_slice(), *was) });
        let decided = asked.iter().map(|(question, decided)| (question, decided)).collect();
        unit.commit(&Changes { decided, history: history.collect(), ..Changes::default() }, &|| {
            true
        })
        .await
    }

    /// One of the same stock each, and a coin for it.
    async fn claims(&mut self, batch: usize) -> Result<(), CoreError> {
        let (asked, next) = self.this_and_next("claim", batch);
        let mut unit = self.store.begin().await?;
        let found = unit.load(wanted(&asked)).await?;
        unit.read_ahead(wanted(&next)).await;
        self.next = Some(next);
        let hot = found
            .stock
            .get(&row("sku:hot"))
            .cloned()
            .unwrap_or(Versioned { value: 1 << 52, version: 0 });
        let mut balances = BTreeMap::<&str, (i64, i64)>::new();
        for (_, decided) in &asked {
            let had =
                found.balances.get(&account(&decided.account)).and_then(|units| units.get("coins"));
            let had = had.map_or((0, 0), |coins| (coins.value, coins.version));
            balances.entry(&decided.account).or_insert(had).0 += 1;
        }
        let left = hot.value - i64::try_from(batch).unwrap();
        let entry = |(question, decided): &'_ (Question, Decided)| {
            (question.request.id.clone(), decided.account.clone())
        };
        let entries: Vec<_> = asked.iter().map(entry).collect();
        let changes = Changes {
            decided: asked.iter().map(|(question, decided)| (question, decided)).collect(),
            stock: vec![Put { key: "sku:hot", ..put(&left, hot.version) }],
            balances: balances
                .iter()
                .map(|(account, (balance, was))| PutBalance {
                    account,
                    ..put_coins(*balance, *was)
                })
                .collect(),
            ledger: entries
                .iter()
                .map(|(id, account)| Entry {
                    merchant: "demo",
                    id,
                    debit: "@house",
                    credit: account,
                    unit: "coins",
                    amount: 1,
                    at: Timestamp::from_millis(NOON),
                })
                .collect(),
            ..Changes::default()
        };
        unit.commit(&changes, &|| true).await
    }
}

/// The histories that payments are counted in; the stock and the balances that claims move.
fn wanted(asked: &[(Question, Decided)]) -> Wanted {
    let ids = asked.iter().map(|(question, _)| crate::store::tests::key(&question.request.id));
    let of_claims = || asked.iter().filter(|(_, decided)| !decided.moves.take.is_empty());
    let keys = |rows: BTreeSet<String>| rows.iter().map(|key| row(key)).collect();
    let accounts: BTreeSet<_> = of_claims().map(|(_, decided)| account(&decided.account)).collect();
    Wanted {
        asked: ids.collect(),
        history: keys(asked.iter().flat_map(|(_, it)| it.history_keys.clone()).collect()),
        stock: keys(of_claims().flat_map(|(_, it)| it.moves.take.keys().cloned()).collect()),
        accounts: accounts.into_iter().collect(),
        ..Wanted::default()
    }
}

/// The CPU time of the server and of each of its processes, in nanoseconds, by process.
fn cpu(postmaster: u32) -> BTreeMap<String, u64> {
    let ours = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parent == Some(postmaster) || pid.parse() == Ok(postmaster)
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids =
        processes.filter_map(|entry| entry.file_name().into_string().ok()).filter(|pid| ours(pid));
    let nanos = |pid: String| {
        let times = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
        let nanos = times.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok());
        (pid, nanos.unwrap_or(0))
    };
    pids.map(nanos).collect()
}

/// What they spent since, in microseconds. One that ended meanwhile takes its account along.
fn spent_since(before: &BTreeMap<String, u64>, postmaster: u32) -> f64 {
    let since = |(pid, now): (String, u64)| now - before.get(&pid).copied().unwrap_or(0);
    cpu(postmaster).into_iter().map(since).sum::<u64>() as f64 / 1000.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for minutes; what it prints is for people"]
async fn measure_what_a_decision_costs_in_postgres() {
    let cluster = Cluster::start(&SETTINGS).unwrap();
    let books = PostgresBooks { url: cluster.database() };
    let store = books.open().await;
    let writer = |name: usize| Writer {
        store: store.another(),
        numbers: Numbers(u64::try_from(name).unwrap() + 7),
        made: 0,
        name,
        next: None,
    };
    let mut seeding = writer(0);
    while seeding.made < ACCOUNTS * 2 {
        seeding.payments(256).await.unwrap();
    }
    let mut table = String::new();
    for (place, case) in ["payments", "claims"].into_iter().enumerate() {
        for (lanes, batch) in BATCHES.map(|batch| (1, batch)).into_iter().chain([(2, 64), (2, 256)])
        {
            if case == "claims" && lanes > 1 {
                continue;
            }
            let mut somebody = books.somebody().await;
            somebody.execute("VACUUM (ANALYZE)").await.unwrap();
            somebody.execute("CHECKPOINT").await.unwrap();
            let name = |lane| (place * 10 + lane) * 1000 + batch;
            let mut writers: Vec<_> = (1..=lanes).map(|lane| writer(name(lane))).collect();
            for writer in &mut writers {
                // Two are plenty to connect and to prepare.
                for _ in 0..2 {
                    run(case, writer, batch).await;
                }
            }
            let (before, began) = (cpu(cluster.pid()), Instant::now());
            let work = |mut writer: Writer| async move {
                let mut made = 0;
                while began.elapsed() < EACH_FOR {
                    made += run(case, &mut writer, batch).await;
                }
                made
            };
            let mut made = 0;
            for lane in
                writers.into_iter().map(|writer| tokio::spawn(work(writer))).collect::<Vec<_>>()
            {
                made += lane.await.unwrap();
            }
            let seconds = began.elapsed().as_secs_f64();
            let spent = spent_since(&before, cluster.pid()) / made as f64;
            let line = format!(
                "{case} lanes={lanes} batch={batch} per_s={:.0} cpu_us={spent:.1}",
                made as f64 / seconds
            );
            println!("{line}");
            writeln!(table, "{line}").unwrap();
        }
    }
    println!("{table}");
}

/// One unit; how many decisions it made.
async fn run(case: &str, writer: &mut Writer, batch: usize) -> usize {
    let ended =
        if case == "payments" { writer.payments(batch).await } else { writer.claims(batch).await };
    match ended {
        Ok(()) => batch,
        // The other lane was first, or held a row for long: nothing was made.
        Err(CoreError::Conflict | CoreError::Refused(_)) => 0,
        Err(error) => panic!("{error}"),
    }
}
