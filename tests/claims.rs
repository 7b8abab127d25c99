//! Claims on limited stock, decided by two cores on one PostgreSQL at once: never more is granted than
//! there is, and stock, ledger, balances and what every client was told agree to the unit; also when
//! cores are killed, and when PostgreSQL freezes, restarts or is locked.
//!
//! `cargo test --test claims` sends a few thousand generated claims. `make claims` is the long form, on
//! the release binaries: `BACKSTOP_CLAIMS=full` sends the lines of real orders from ../shared/data, or
//! the first `BACKSTOP_CLAIMS_LIMIT` of them.

mod cluster;
mod postgres;
mod system;

mod claims {
    pub mod audit;
    pub mod demand;
    pub mod traffic;
}

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claims::audit::{Audit, admin_token, put_stock, stock_path, stock_up};
use claims::demand::{self, Demand, is_full};
use claims::traffic::{STACKS, Told, Traffic, sockets};
use cluster::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postgres::{Books, Frozen};
use serde_json::{Value, json};
use system::{AMPLE, System, Wire, be_patient, until};
use tempfile::TempDir;

/// The merchant whose key lies in the directory.
const MERCHANT: &str = "demo";

/// One keeps the machine busy at a time.
static QUIET: Mutex<()> = Mutex::new(());

/// `backstop up --database postgres://…`, and its books.
struct Shop {
    system: System,
    books: Books<'static>,
    _dir: TempDir,
}

impl Shop {
    fn open() -> Self {
        let (dir, books) = (tempfile::tempdir().unwrap(), Books::new(Cluster::shared()));
        be_patient(dir.path(), AMPLE);
        let system = System::starting(dir.path(), &["--database", &books.database]);
        assert_eq!(system.line(), format!("ready https://{}", system.listen), "{}", system.logs());
        Self { system, books, _dir: dir }
    }

    /// Sets what is left of a stock, as an operator.
    fn put(&self, stock: &str, remaining: i64) {
        let (path, body) = (format!("/admin/stock/{stock}"), json!({ "remaining": remaining }));
        let mut wire = Wire::connect(self.system.admin);
        let set = put_stock(&mut wire, &path, &admin_token(&self.system), &body);
        assert_eq!((set.status, set.json()), (200, body), "{stock}");
    }

    /// What core decides, by whichever stack serves; a stand-in is asked about again.
    fn decide(&self, policy: &str, id: &str, account: &str, attributes: &Value) -> Value {
        let body = json!({
            "id": id, "policy": policy, "account": account,
            "amount": 4746, "currency": "EUR", "attributes": attributes,
        });
        until("core decides", || {
            let answer = self.system.connect().decide(&self.system.key(false), &body);
            assert_eq!(answer.status, 200, "{body}: {answer:?}");
            let answer = answer.json();
            (answer["decided_by"] == "core").then_some(answer)
        })
    }

    /// How often another core had changed a row of a set, so that it began again or was halved.
    fn conflicts(&self, stack: &str) -> usize {
        let socket = format!("core-{stack}.sock");
        // It may have been killed a moment ago.
        until("core serves", || {
            UnixStream::connect(self.system.dir.join("run").join(&socket)).ok()
        });
        let metrics = self.system.metrics_of(&socket);
        let line = r#"backstop_core_transactions_total{end="conflict"} "#;
        let count = metrics.lines().find_map(|it| it.strip_prefix(line));
        count.map_or(0, |count| count.parse().unwrap())
    }
}

/// What befalls the shop while claims come in.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `kill -9` of the core of this stack; the supervisor starts it again.
    Kill(&'static str),
    /// It does nothing for a while, wherever it was.
    Stop(&'static str),
    /// No process of the server does anything for a while.
    Freeze,
    /// As an operator restarts a server.
    Restart,
    /// A session holds all rows of stock for a while.
    Locks,
}

impl Blow {
    /// Strikes; `go_on` lets the claims go on that are held back until there is something to count.
    fn strike(self, shop: &Shop, go_on: impl FnOnce()) {
        let hold = Duration::from_secs(if is_full() { 4 } else { 1 });
        match self {
            Self::Kill(stack) => drop(shop.system.signal("core", stack, Signal::SIGKILL)),
            Self::Stop(stack) => {
                let pid = shop.system.signal("core", stack, Signal::SIGSTOP);
                let open = "SELECT count(*) FROM pg_stat_activity \
                            WHERE application_name = 'backstop-core' AND state ~ 'in transaction'";
                let others = format!("SELECT count(*) FROM decisions WHERE stack <> '{stack}'");
                let before = shop.books.count(&others);
                go_on();
                std::thread::sleep(hold);
                until("the other core goes on", || {
                    (shop.books.count(&others) > before).then_some(())
                });
                let open = shop.books.count(open);
                kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
                assert_eq!(open, 0, "it left no transaction open");
            }
            Self::Freeze => {
                let _frozen = Frozen::stop(shop.books.cluster);
                std::thread::sleep(hold);
            }
            Self::Restart => shop.books.cluster.restart(),
            Self::Locks => {
                let _locks =
                    shop.books.lock("SELECT count(*) FROM (SELECT FROM stock FOR UPDATE) AS row");
                std::thread::sleep(hold);
            }
        }
    }
}

/// Sends all claims over both stacks, with these blows at equal distances, and audits the books.
fn the_books_agree_through(name: &str, blows: &[Blow]) {
    let _quiet = QUIET.lock();
    let (shop, demand) = (Shop::open(), Demand::chosen());
    stock_up(&shop.system, &demand);
    let (parts, all) = (blows.len() + 1, demand.claims.len());
    // A core that stands still is struck amid claims, and the other one still has some to decide.
    let held_back =
        if blows.iter().any(|blow| matches!(blow, Blow::Stop(_))) { all / 10 } else { 0 };
    let sent_max = Arc::new(AtomicUsize::new(all - held_back));
    let traffic = Traffic {
        merchant: MERCHANT,
        claims: demand.claims.clone(),
        sockets: sockets(&shop.system.dir),
        milestones: (1..parts).map(|part| all * part / parts).collect(),
        sent_max: sent_max.clone(),
    };
    let (traffic, milestones) = traffic.start();
    let mut conflicts = 0;
    for (blow, milestone) in blows.iter().zip(milestones) {
        if let Blow::Kill(stack) = blow {
            conflicts += shop.conflicts(stack);
        }
        println!("{name}: {blow:?} after {milestone} claims");
        blow.strike(&shop, || sent_max.store(all, Ordering::Relaxed));
    }
    let told = traffic.join().unwrap_or_else(|_| panic!("{}", shop.system.logs()));
    conflicts += STACKS.iter().map(|stack| shop.conflicts(stack)).sum::<usize>();
    println!("{}", report(name, &demand, &told, conflicts));
    Audit { merchant: MERCHANT, demand: &demand, told: &told, books: &shop.books }
        .pass(&shop.system);

    let by = |stack: &str| told.answers.values().filter(|answer| answer.stack == stack).count();
    assert!(STACKS.iter().all(|stack| by(stack) > 0), "both cores decided");
    assert!(conflicts > 0, "they wanted the same rows");
    assert!(told.replays > 0, "some were asked twice");
    let stood_in: usize = told.stand_ins.values().sum();
    assert!(blows.is_empty() || stood_in > 0, "the blows were felt");
    for stack in STACKS {
        let kills =
            blows.iter().filter(|blow| matches!(blow, Blow::Kill(it) if *it == stack)).count();
        assert_eq!(shop.system.process("core", stack)["restarts"], kills, "{stack}");
    }
}

fn report(name: &str, demand: &Demand, told: &Told, conflicts: usize) -> String {
    let (claims, articles) = (demand.claims.len(), &demand.articles);
    let certain: Vec<_> = articles.values().filter(|article| article.is_certain()).collect();
    let uniform = certain.iter().filter(|article| article.is_uniform).count();
    let wanted: i64 = demand.claims.iter().map(|claim| claim.qty).sum();
    let there: i64 = articles.values().map(|article| article.cap).sum();
    let in_order: i64 = articles.values().map(|article| article.in_order).sum();
    let is_granted = |claim: &&demand::Claim| told.answers[&claim.id].decision == "approve";
    let granted: Vec<_> = demand.claims.iter().filter(is_granted).map(|claim| claim.qty).collect();
    let seconds = told.took.as_secs_f64();
    let by = STACKS.map(|stack| {
        let count = told.answers.values().filter(|answer| answer.stack == stack).count();
        format!("{count} by {stack}")
    });
    format!(
        "{name}: {claims} claims ({}) in {seconds:.1} s, {:.0}/s; {} replays, {conflicts} conflicts, \
         stand-ins {:?}, {} connections lost\n{name}: {} articles, of {} the order cannot matter ({uniform} \
         have equal claims); {wanted} units wanted, {there} there, {} granted to {} claims, {in_order} in order",
        by.join(", "),
        claims as f64 / seconds,
        told.replays,
        told.stand_ins,
        told.lost,
        articles.len(),
        certain.len(),
        granted.iter().sum::<i64>(),
        granted.len(),
    )
}

#[test]
fn two_cores_on_one_database_grant_what_there_is_and_no_more() {
    the_books_agree_through("calm", &[]);
}

#[test]
fn when_cores_are_killed_or_freeze_amid_claims_the_books_agree_to_the_unit() {
    let (kill, other) = (Blow::Kill("prod"), Blow::Kill("old-prod"));
    the_books_agree_through("cores", &[kill, other, kill, Blow::Stop("prod")]);
}

#[test]
fn when_postgresql_freezes_restarts_or_is_locked_the_books_agree_to_the_unit() {
    the_books_agree_through("PostgreSQL", &[Blow::Freeze, Blow::Restart, Blow::Locks]);
}

#[test]
fn stock_is_seen_and_set_by_operators_and_a_balance_is_seen_by_its_merchant() {
    let _quiet = QUIET.lock();
    let shop = Shop::open();
    let (token, path) = (admin_token(&shop.system), stock_path("85123A"));
    let mut wire = Wire::connect(shop.system.admin);
    let unknown = wire.get(&path, &token);
    assert_eq!((unknown.status, unknown.header("content-type")), (404, "application/problem+json"));
    let whole_max = 9_007_199_254_740_991_i64;
    for remaining in [30, 0, whole_max, 4] {
        shop.put("sku:85123A", remaining);
        assert_eq!(wire.get(&path, &token).json(), json!({ "remaining": remaining }));
    }

    let bearer = format!("Bearer {token}");
    let admin = [("Authorization", bearer.as_str())];
    let too_large = format!("{{\"remaining\": {}1}}", " ".repeat(100_000));
    for (method, headers, body, status) in [
        ("PUT", &admin[..], "", 400),
        ("PUT", &admin, "4", 400),
        ("PUT", &admin, "{}", 400),
        ("PUT", &admin, r#"{"remaining": -1}"#, 400),
        ("PUT", &admin, r#"{"remaining": 1.5}"#, 400),
        ("PUT", &admin, r#"{"remaining": "4"}"#, 400),
        ("PUT", &admin, r#"{"remaining": 9007199254740992}"#, 400),
        ("PUT", &admin, r#"{"remaining": 1, "at_least": 1}"#, 400),
        ("PUT", &admin, &too_large, 413),
        ("POST", &admin, r#"{"remaining": 1}"#, 405),
        ("PUT", &[], r#"{"remaining": 1}"#, 401),
        ("GET", &[("Authorization", "Bearer nobody")], "", 401),
    ] {
        let refused =
            Wire::connect(shop.system.admin).send(method, &path, headers, body.as_bytes());
        assert_eq!(refused.status, status, "{method} {body:.40}: {refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    assert_eq!(wire.get(&path, &token).json(), json!({ "remaining": 4 }), "nothing of it counted");
    let others = wire.get(&format!("{path}?merchant=demo-test"), &token);
    assert_eq!(others.status, 404, "another merchant has none");

    let (key, of) = (shop.system.key(false), "/v1/accounts/customer-1/balance");
    assert_eq!(shop.system.connect().get(of, &key).status, 404, "it never had one");
    let three = json!({ "sku": "85123A", "qty": 3 });
    let answer = shop.decide("claim", "claim-1", "customer-1", &three);
    let effects = json!({ "stock": { "sku:85123A": 1 }, "balance": { "coins": 3 } });
    assert_eq!((&answer["decision"], &answer["effects"]), (&json!("approve"), &effects));
    let balance = json!({ "account": "customer-1", "balance": { "coins": 3 } });
    assert_eq!(shop.system.connect().get(of, &key).json(), balance);
    let of_another = shop.system.connect().get(of, &shop.system.key(true));
    assert_eq!(of_another.status, 404, "a balance is its merchant's own");
}

#[test]
fn a_booking_that_is_cancelled_gives_its_room_back_once() {
    let _quiet = QUIET.lock();
    let shop = Shop::open();
    let room = "room:resort:C:2015-07-01";
    shop.put(room, 1);
    let stay = json!({ "hotel": "resort", "room_type": "C", "arrive_on": "2015-07-01" });
    let cancel = json!({ "cancels": "booking-1" });
    for (id, account, attributes, decision, reasons, left) in [
        ("booking-1", "guest-1", &stay, "approve", json!([]), Some(0)),
        ("booking-2", "guest-2", &stay, "decline", json!(["no_room"]), None),
        ("cancel-by-another", "guest-2", &cancel, "decline", json!(["nothing_to_cancel"]), None),
        ("cancel-1", "guest-1", &cancel, "approve", json!([]), Some(1)),
        ("cancel-2", "guest-1", &cancel, "decline", json!(["already_cancelled"]), None),
        ("booking-3", "guest-2", &stay, "approve", json!([]), Some(0)),
        // Told again, everything is as it was told.
        ("cancel-1", "guest-1", &cancel, "approve", json!([]), Some(1)),
        ("booking-1", "guest-1", &stay, "approve", json!([]), Some(0)),
    ] {
        let answer = shop.decide("booking", id, account, attributes);
        assert_eq!((&answer["decision"], &answer["reasons"]), (&json!(decision), &reasons), "{id}");
        let stock = left.map_or_else(|| json!({}), |left| json!({ room: left }));
        assert_eq!(answer["effects"]["stock"], stock, "{id}");
    }
    let left = shop.books.count(&format!("SELECT remaining FROM stock WHERE key = '{room}'"));
    assert_eq!(left, 0);
    let cancelled =
        shop.books.rows("SELECT id, cancelled_by FROM decisions WHERE cancelled_by IS NOT NULL");
    assert_eq!(cancelled, [["booking-1", "cancel-1"]]);
}

/// A reward system took from a chest, credited the player and wrote the outbox, in one statement. Its
/// inserts did not depend on the update: of an empty chest nothing was taken, and the player was credited
/// all the same. Here the take is decided first, and one that cannot be made credits nothing.
#[test]
fn an_empty_chest_credits_nothing() {
    let _quiet = QUIET.lock();
    let shop = Shop::open();
    shop.put("sku:chest", 2);
    let claims = [
        ("never-filled", "void", 1),
        ("more-than-there-is", "chest", 3),
        ("the-last-two", "chest", 2),
        ("empty", "chest", 1),
    ];
    for (id, sku, qty) in claims {
        let answer = shop.decide("claim", id, id, &json!({ "sku": sku, "qty": qty }));
        let is_served = id == "the-last-two";
        let decision = if is_served { "approve" } else { "decline" };
        assert_eq!(answer["decision"], decision, "{answer}");
        let path = format!("/v1/accounts/{id}/balance");
        let balance = shop.system.connect().get(&path, &shop.system.key(false));
        if is_served {
            assert_eq!(balance.json()["balance"], json!({ "coins": 2 }));
        } else {
            assert_eq!(answer["reasons"], json!(["out_of_stock"]));
            assert_eq!(answer["effects"], json!({ "stock": {}, "balance": {} }));
            assert_eq!(balance.status, 404, "{balance:?}");
        }
    }
    let lines = shop.books.rows("SELECT id, credit, amount FROM ledger");
    assert_eq!(lines, [["the-last-two", "the-last-two", "2"]], "the ledger knows of no other");
}

#[test]
fn the_model_knows_what_every_order_of_claims_can_grant() {
    for wanted in [
        &[1, 2, 3][..],
        &[2, 2, 2, 2],
        &[5],
        &[1, 4, 4, 9],
        &[2, 3, 5, 7, 7],
        &[6, 10, 15, 1, 1],
        &[3, 3, 8, 8, 13],
    ] {
        let mut ascending = wanted.to_vec();
        ascending.sort_unstable();
        for cap in 0..=wanted.iter().sum::<i64>() + 1 {
            let mut all = Vec::new();
            permute(&mut wanted.to_vec(), 0, &mut |order| all.push(demand::greedy(order, cap)));
            let seen = (*all.iter().min().unwrap(), *all.iter().max().unwrap());
            assert_eq!(demand::possible(&ascending, cap), seen, "{wanted:?} of {cap}");
        }
    }
}

fn permute(numbers: &mut [i64], from: usize, see: &mut impl FnMut(&[i64])) {
    if from == numbers.len() {
        return see(numbers);
    }
    for other in from..numbers.len() {
        numbers.swap(from, other);
        permute(numbers, from + 1, see);
        numbers.swap(from, other);
    }
}
