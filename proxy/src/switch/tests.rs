//! The switch as a whole, over two stacks that nobody asks: orders, their end, the files, a restart, and
//! the way back by itself.

mod automatic;

use std::fs;

use backstop_contract::order::What;
use backstop_contract::{Cause, Order, Tier, Verdict};
use backstop_settings::Address;
use backstop_settings::audit::{tail, verify};

use super::*;
use crate::trial::false_stacks::stacks_at;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Two stacks at places where nobody is.
pub fn stacks() -> Arc<Stacks> {
    stacks_at(|stack| Address::Socket(format!("/nowhere/{stack}.sock").into()))
}

fn open(folder: &tempfile::TempDir) -> Arc<Switch> {
    let settings = settings::Switch { warm_after: Duration::ZERO, ..settings::Switch::default() };
    let metrics = Arc::new(Metrics::new().unwrap());
    Arc::new(Switch::open(&Layout::new(folder.path()), settings, stacks(), metrics))
}

fn order(what: What) -> Order {
    let (reason, who) = ("the new release is slow".to_owned(), "maria".to_owned());
    Order { what, reason, who, lasts: None, force: false, dry_run: false }
}

const TO_OLD: What = What::Switch(Stack::OldProd);

fn well(switch: &Switch) {
    for stack in Stack::ALL {
        switch.probed(stack, true);
    }
}

fn log_of(folder: &tempfile::TempDir) -> Vec<Record> {
    let switch = Layout::new(folder.path()).switch();
    verify(&switch).unwrap();
    tail(&switch, usize::MAX).unwrap().into_iter().map(|line| line.record).collect()
}

#[tokio::test]
async fn an_order_is_obeyed_kept_over_a_restart_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    let done = switch.obey(order(TO_OLD)).await.unwrap();
    assert_eq!(
        (done.after.course.active, done.after.generation, done.is_written),
        (Stack::OldProd, 1, true)
    );
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::OldProd);
    assert_eq!(switch.stacks.active().stack(), "old-prod");
    let pin = What::Pin { merchant: "demo".into(), to: Some(Stack::Prod) };
    switch.obey(order(pin)).await.unwrap();
    drop(switch); // killed: nothing was closed
    let switch = open(&folder);
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::Prod);
    assert_eq!(switch.stacks.choose("shop", "a"), Stack::OldProd);
    well(&switch);
    let undo = Order { reason: String::new(), ..order(What::Undo) };
    switch.obey(undo).await.unwrap();
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::OldProd);
    let lines = log_of(&folder);
    let words: Vec<_> = lines
        .iter()
        .map(|it| (it.what.as_str(), it.generation, it.from.as_str(), it.to.as_str()))
        .collect();
    assert_eq!(
        words,
        [
            ("switch", 1, "prod", "old-prod"),
            ("pin", 2, "old-prod", "old-prod"),
            ("undo", 3, "old-prod", "old-prod"),
        ]
    );
    assert_eq!(lines[2].reason, "undo of 2: the new release is slow");
    assert_eq!(lines[0].who, "maria");
    let status = switch.status();
    assert_eq!((&status["active"], &status["generation"]), (&"old-prod".into(), &3.into()));
    assert_eq!(status["history"].as_array().unwrap().len(), 3);
    assert!(
        status["said"].as_str().unwrap().starts_with("old-prod serves by choice 3"),
        "{status}"
    );
}

#[tokio::test]
async fn a_stack_that_is_cold_or_ill_is_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    let refused = switch.obey(order(TO_OLD)).await.unwrap_err();
    assert_eq!(refused.to_string(), "old-prod is not ready: it has not decided a probe yet");
    switch.probed(Stack::OldProd, false);
    let refused = switch.obey(order(TO_OLD)).await.unwrap_err();
    assert!(matches!(refused, Refused::NotReady(Stack::OldProd, _)), "{refused}");
    assert_eq!(switch.stacks.choice().generation, 0);
    assert!(log_of(&folder).is_empty());
    let done = switch.obey(Order { force: true, ..order(TO_OLD) }).await.unwrap();
    assert!(done.unready.is_some());
    assert_eq!(
        log_of(&folder)[0].numbers["forced"],
        "old-prod is not ready: its last probe failed"
    );
    // It is never refused to stay where one is.
    switch.obey(order(TO_OLD)).await.unwrap();
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    let lasts = Some(Duration::from_mins(15));
    let done = switch.obey(Order { dry_run: true, lasts, ..order(TO_OLD) }).await.unwrap();
    let said = done.to_json();
    assert_eq!((&said["active"], &said["dry_run"]), (&"old-prod".into(), &true.into()));
    assert!(said["said"].as_str().unwrap().ends_with("(nothing was done)"), "{said}");
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::Prod);
    assert!(log_of(&folder).is_empty() && !Layout::new(folder.path()).choice().exists());
}

#[tokio::test]
async fn orders_that_mean_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    assert!(matches!(switch.obey(order(What::Undo)).await, Err(Refused::NothingBefore)));
    let canary: backstop_contract::Canary =
        serde_json::from_str(r#"{"to":"prod","share":{"percent":14.0},"of":"account"}"#).unwrap();
    let refused = switch.obey(order(What::Canary(Some(canary)))).await.unwrap_err();
    assert!(matches!(refused, Refused::Active(Stack::Prod)), "{refused}");
}

#[tokio::test]
async fn what_was_ordered_for_a_time_reverts_by_itself_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    let done = switch.obey(Order { lasts: Some(50 * MS), ..order(TO_OLD) }).await.unwrap();
    let until = done.after.until.unwrap().at;
    drop(switch);
    let switch = open(&folder);
    assert_eq!(switch.stacks.choice().course.active, Stack::OldProd);
    // While prod is not ready, it stays, and says so once.
    while Timestamp::now() < until {
        switch.look().await;
        assert!(switch.stacks.choice().generation == 1);
    }
    switch.look().await;
    switch.look().await;
    assert_eq!(switch.stacks.choice().course.active, Stack::OldProd);
    well(&switch);
    switch.look().await;
    assert_eq!(switch.stacks.choice().course.active, Stack::Prod);
    let lines = log_of(&folder);
    let words: Vec<_> = lines.iter().map(|it| it.what.as_str()).collect();
    assert_eq!(words, ["switch", "put-off", "revert"]);
    assert!(lines[2].reason.starts_with("The 0 s are over that maria ordered: "), "{lines:?}");
}

#[tokio::test]
async fn an_order_that_the_disk_does_not_take_is_refused_and_a_forced_one_holds_and_is_written_later()
 {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    // What the next choice is written to is there, and is no file.
    let in_the_way = folder.path().join("switch/choice.json.new");
    fs::create_dir(&in_the_way).unwrap();
    let refused = switch.obey(order(TO_OLD)).await.unwrap_err();
    assert!(matches!(refused, Refused::Unwritten(_)), "{refused}");
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::Prod);
    let done = switch.obey(Order { force: true, ..order(TO_OLD) }).await.unwrap();
    assert!(!done.is_written);
    assert!(done.to_json()["said"].as_str().unwrap().contains("a restart may forget it"));
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::OldProd);
    assert_eq!(switch.status()["durable"], false);
    fs::remove_dir(&in_the_way).unwrap();
    switch.look().await;
    assert_eq!(switch.status()["durable"], true);
    drop(switch);
    let switch = open(&folder);
    assert_eq!(switch.stacks.choose("demo", "a"), Stack::OldProd);
    assert_eq!(switch.stacks.choice().generation, 2, "none is given twice");
}

#[tokio::test]
async fn one_that_was_closed_writes_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    switch.close().await;
    let refused = switch.obey(order(TO_OLD)).await.unwrap_err();
    assert!(matches!(refused, Refused::Unwritten(_)), "{refused}");
    let successor = open(&folder);
    well(&successor);
    successor.obey(order(TO_OLD)).await.unwrap();
    let lines = log_of(&folder);
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// A decision as the edge releases it.
fn decision(cause: Option<Cause>) -> Decision {
    let tier = if cause.is_some() { Tier::Edge } else { Tier::Core };
    Decision { cause, ..Decision::by(tier, "txn-1".into(), Verdict::Approve) }
}

fn timing(elapsed: u32) -> Timing {
    Timing { elapsed: MS * elapsed, budget: 300 * MS, ceiling: 300 * MS }
}

#[tokio::test(start_paused = true)]
async fn repeated_answers_and_requests_without_time_say_nothing_of_a_stack() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    let late = || decision(Some(Cause::Deadline));
    switch.saw(Stack::Prod, &Decision { replayed: true, ..late() }, timing(1));
    switch.saw(Stack::Prod, &late(), Timing { budget: 149 * MS, ..timing(1) });
    switch.saw(Stack::Prod, &decision(Some(Cause::Forced)), timing(1));
    switch.saw(Stack::Prod, &late(), Timing { budget: 150 * MS, ..timing(1) });
    switch.saw(Stack::Prod, &decision(None), timing(301));
    switch.look().await;
    let served = &switch.status()["stacks"][0]["served"];
    assert_eq!((&served["decisions"], &served["misses"]), (&2.into(), &2.into()), "{served}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_switches_under_traffic_each_hold_for_all_that_comes_after() {
    let folder = tempfile::tempdir().unwrap();
    let switch = open(&folder);
    well(&switch);
    let (stacks, stop) = (switch.stacks.clone(), Arc::new(AtomicBool::new(false)));
    let traffic = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut chosen = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                chosen += u64::from(stacks.choose("demo", "customer-1") == Stack::OldProd);
            }
            chosen
        }
    });
    let mut took = Vec::new();
    for n in 0..100 {
        let to = if n % 2 == 0 { Stack::OldProd } else { Stack::Prod };
        let done = switch.obey(order(What::Switch(to))).await.unwrap();
        assert_eq!(switch.stacks.choose("demo", "customer-1"), to);
        took.push(done.took);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(traffic.join().unwrap() > 0);
    took.sort();
    println!("from the order to the first request: median {:?}, most {:?}", took[50], took[99]);
    assert_eq!((log_of(&folder).len(), switch.stacks.choice().generation), (100, 100));
}

#[test]
fn choosing_a_stack_costs_next_to_nothing() {
    let stacks = stacks();
    let start = Instant::now();
    let count = 1_000_000_u32;
    let mut prod = 0;
    for _ in 0..count {
        prod += u32::from(stacks.choose("demo", "customer-596") == Stack::Prod);
    }
    println!("a choice without canary: {:?}, unoptimized", start.elapsed() / count);
    assert_eq!(prod, count);
}
