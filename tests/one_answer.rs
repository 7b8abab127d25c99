//! One id has one answer: with everything behind the edge gone, after the edge itself was killed, from
//! either side of a settlement; and every stand-in ends in the books.

mod system;

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system::{AMPLE, Response, System, Wire, be_patient, payment, until};

/// What no later answer of an id may change.
fn repeating(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let fields = answer.as_object_mut().unwrap();
    for changing in ["final", "durable", "budget_ms", "elapsed_ms", "settlement", "label"] {
        fields.remove(changing);
    }
    answer
}

fn assert_repeats(again: &Response, first: &Value) {
    assert_eq!(again.status, 200, "{again:?}");
    assert_eq!(again.header("idempotency-replayed"), "true", "{again:?}");
    assert_eq!(repeating(&again.json()), repeating(first));
}

fn forced(id: &str, tier: &str) -> Value {
    let mut body = payment(id);
    body["attributes"]["backstop_force"] = json!(tier);
    body
}

fn other_body(id: &str) -> Value {
    let mut body = payment(id);
    body["amount"] = json!(5717);
    body
}

/// The record once core has settled it.
fn settled(system: &System, id: &str) -> Value {
    let (key, path) = (system.key(true), format!("/v1/decisions/{id}"));
    until("the stand-in is settled", || {
        let record = system.connect().get(&path, &key).json();
        (record["final"] == true).then_some(record)
    })
}

/// Freezes both stacks, so that nobody but the edge can answer.
fn freeze_all(system: &System) {
    for stack in ["prod", "old-prod"] {
        for tier in ["api", "core"] {
            system.signal(tier, stack, Signal::SIGSTOP);
        }
    }
}

fn thaw(pids: &[i32]) {
    for pid in pids {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), Signal::SIGCONT).unwrap();
    }
}

fn pids(system: &System) -> Vec<i32> {
    let stacks = ["prod", "old-prod"];
    stacks.iter().flat_map(|stack| ["api", "core"].map(|tier| system.pid_of(tier, stack))).collect()
}

fn up() -> (tempfile::TempDir, System) {
    let dir = tempfile::tempdir().unwrap();
    let system = System::patient(dir.path());
    (dir, system)
}

fn readiness(system: &System) -> Value {
    Wire::connect(system.admin).send("GET", "/readyz", &[], b"").json()
}

#[test]
fn a_retry_is_told_the_same_with_all_behind_the_edge_gone_and_after_the_edge_was_killed() {
    let (_dir, system) = up();
    let by_core = system.decide(&payment("by-core")).json();
    assert_eq!((by_core["decided_by"].as_str(), &by_core["durable"]), (Some("core"), &json!(true)));

    let behind = pids(&system);
    freeze_all(&system);
    let by_edge = system.decide(&payment("by-edge")).json();
    assert_eq!(by_edge["decided_by"], "edge", "{by_edge}");
    assert_eq!((&by_edge["durable"], &by_edge["final"]), (&json!(true), &json!(false)));
    assert_repeats(&system.decide(&payment("by-core")), &by_core);
    assert_repeats(&system.decide(&payment("by-edge")), &by_edge);
    // Nobody has to ask core whether an id was used for another request.
    for id in ["by-core", "by-edge"] {
        let refused = system.decide(&other_body(id));
        assert_eq!((refused.status, refused.json()["pointer"].as_str()), (422, Some("/id")));
    }
    let record = system.connect().get("/v1/decisions/by-edge", &system.key(true)).json();
    assert_eq!(record["settlement"]["state"], "unsettled", "{record}");
    assert_eq!(repeating(&record), repeating(&by_edge));

    let killed = system.signal("proxy", "", Signal::SIGKILL);
    until("another edge", || (system.pid_of("proxy", "") != killed).then_some(()));
    assert_repeats(&system.decide(&payment("by-core")), &by_core);
    assert_repeats(&system.decide(&payment("by-edge")), &by_edge);

    thaw(&behind);
    let record = settled(&system, "by-edge");
    let state = record["settlement"]["state"].as_str().unwrap();
    assert!(["applied", "match"].contains(&state), "{record}");
    assert_eq!(repeating(&record), repeating(&by_edge));
    let again = system.decide(&payment("by-edge"));
    assert_repeats(&again, &by_edge);
    assert_eq!(again.json()["final"], true);
}

/// Core approves and credits; the edge alone declines.
const POLICY: &str = r#"return {
  fields = {}, safe = "review", strict = false,
  keys = function(tx) return {} end,
  decide = function(tx) return "approve", { "policy" }, 1 end,
  effects = function(tx, decision)
    return decision == "approve" and { credit = { points = tx.amount } } or {}
  end,
}"#;
const DEFAULT: &str = r#"return {
  fields = {}, safe = "review",
  decide = function(tx) return "decline", { "default" }, 2 end,
}"#;

#[test]
fn what_core_had_decided_otherwise_is_corrected_to_what_the_client_was_told() {
    let (dir, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (folder, text) in [("policies", POLICY), ("defaults", DEFAULT)] {
        std::fs::create_dir(rules.path().join(folder)).unwrap();
        std::fs::write(rules.path().join(folder).join("payment.lua"), text).unwrap();
    }
    be_patient(dir.path(), AMPLE);
    let system = System::starting(dir.path(), &["--rules", rules.path().to_str().unwrap()]);
    assert!(system.line().starts_with("ready"), "{}", system.logs());
    let key = system.key(true);
    let points = || {
        let balance = system.connect().get("/v1/accounts/customer-596/balance", &key).json();
        balance["balance"]["points"].as_i64()
    };
    assert_eq!(system.decide(&payment("kept")).json()["decision"], "approve");
    assert_eq!(system.decide(&payment("lost")).json()["decision"], "approve");
    assert_eq!(points(), Some(2 * 5716));

    // The book is lost, and with it what the client was told: the worst that can happen to an edge.
    let killed = system.pid_of("proxy", "");
    std::fs::rename(dir.path().join("book"), dir.path().join("gone")).unwrap();
    system.signal("proxy", "", Signal::SIGKILL);
    until("another edge", || (system.pid_of("proxy", "") != killed).then_some(()));
    let told = system.decide(&forced("lost", "edge"));
    let told = told.json();
    assert_eq!((&told["decision"], &told["decided_by"]), (&json!("decline"), &json!("edge")));

    let record = settled(&system, "lost");
    assert_eq!(record["settlement"]["state"], "overridden", "{record}");
    assert_eq!(repeating(&record), repeating(&told));
    assert_eq!(points(), Some(5716), "what core had credited is taken back");
    let statement = system.connect().get("/v1/reconciliation", &key).json();
    let corrected = statement["lines"].as_array().unwrap().iter();
    let corrected: Vec<_> = corrected.filter(|line| line["kind"] == "corrected").collect();
    assert_eq!(corrected.len(), 1, "{statement}");
    assert_eq!((&corrected[0]["id"], &corrected[0]["between"]), (&json!("lost"), &json!(-5716)));
    assert_repeats(&system.decide(&payment("lost")), &told);
}

#[test]
fn duplicates_at_a_time_share_one_exchange_and_get_one_answer() {
    let (_dir, system) = up();
    let key = system.key(true);
    let behind = pids(&system);
    for round in 0..5 {
        let id = format!("twin-{round}");
        if round == 3 {
            freeze_all(&system);
        }
        let (plain, key, body) = (system.plain, &key, &payment(&id));
        let answers: Vec<Response> = std::thread::scope(|scope| {
            let ask = move || Wire::connect(plain).decide(key, body);
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let first = answers[0].json();
        for answer in &answers {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(repeating(&answer.json()), repeating(&first));
        }
        let new = answers.iter().filter(|it| it.header("idempotency-replayed").is_empty());
        assert_eq!(new.count(), 1, "one of them was decided, the others were told the same");
    }
    thaw(&behind);
}

#[test]
fn every_stand_in_ends_in_the_books_and_in_the_statement() {
    let (_dir, system) = up();
    let key = system.key(true);
    let mut wire = system.connect();
    for n in 0..20 {
        assert_eq!(wire.decide(&key, &payment(&format!("core-{n}"))).status, 200);
        assert_eq!(wire.decide(&key, &forced(&format!("edge-{n}"), "edge")).status, 200);
        assert_eq!(wire.decide(&key, &forced(&format!("api-{n}"), "api")).status, 200);
    }
    until("all is settled", || (readiness(&system)["book"]["unsettled"] == 0).then_some(()));
    let total = |kind: &str| {
        let statement = system.connect().get("/v1/reconciliation", &key).json();
        let totals = statement["totals"].as_array().unwrap().clone();
        let of_kind = totals.iter().filter(|it| it["kind"] == kind);
        of_kind.map(|it| it["count"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((total("agreed"), total("applied_late")), (20, 40));
    assert_eq!(total("never_arrived") + total("conflict") + total("corrected"), 0);

    let seen = "id,decision,amount,currency,decided_by\n\
        core-1,approve,5716,GBP,\n\
        edge-1,decline,5716,GBP,\n\
        nowhere,approve,100,GBP,\n\
        alone,approve,100,GBP,client\n";
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "text/csv")];
    let compared = wire.send("POST", "/v1/reconciliation", &headers, seen.as_bytes());
    assert_eq!(compared.status, 200, "{compared:?}");
    let findings = compared.json()["findings"].as_array().unwrap().clone();
    let found: Vec<_> = findings
        .iter()
        .map(|it| (it["id"].as_str().unwrap(), it["difference"].as_str().unwrap()))
        .collect();
    let expected = [("edge-1", "differs"), ("nowhere", "unknown_here"), ("alone", "client_alone")];
    assert_eq!(found, expected, "{findings:?}");
}

#[test]
fn a_damaged_book_is_set_aside_and_said_and_the_edge_answers_on() {
    let (dir, system) = up();
    let behind = pids(&system);
    let first = system.decide(&payment("first")).json();
    let second = system.decide(&payment("second")).json();
    let third = system.decide(&payment("third")).json();
    let killed = system.signal("proxy", "", Signal::SIGSTOP);
    damage_the_middle(&dir.path().join("book"), b"\"second\"");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(killed), Signal::SIGKILL).unwrap();
    until("another edge", || (system.pid_of("proxy", "") != killed).then_some(()));
    freeze_all(&system);
    assert_repeats(&system.decide(&payment("first")), &first);
    assert_repeats(&system.decide(&payment("third")), &third);
    thaw(&behind);
    // Were it late just then, the book would keep what was said in its place.
    system.until_core_is_well(&system.key(true));
    // Core is the memory beyond the book.
    assert_repeats(&system.decide(&payment("second")), &second);
    assert_eq!(readiness(&system)["book"]["corrupt_files"], 1);
    assert!(system.logs().contains("corrupt"), "it is said loudly:\n{}", system.logs());
}

/// Turns a bit within the record that holds this text, in whichever file of the book has it.
fn damage_the_middle(book: &Path, text: &[u8]) {
    for file in std::fs::read_dir(book).unwrap().map(|file| file.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(text.len()).position(|window| window == text);
        if let Some(place) = found {
            bytes[place + 1] ^= 1;
            std::fs::write(&file, bytes).unwrap();
            return;
        }
    }
    panic!("no file of the book holds {}", String::from_utf8_lossy(text));
}
