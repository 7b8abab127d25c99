//! Everything is replaced while it serves: no request fails, no connection is lost, and whatever can not
//! take over leaves the one before as it was.
//!
//! `BACKSTOP_UPGRADE=full` asks 1,000 times a second for half a minute, with the binaries of
//! `BACKSTOP_BIN_DIR`, and prints what it saw.

mod system;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};

use nix::sys::signal::Signal;
use serde_json::Value;
use system::{System, Wire, backstop, binary, payment, until};

const PROCESSES: [(&str, &str); 5] =
    [("core", "prod"), ("core", "old-prod"), ("api", "prod"), ("api", "old-prod"), ("proxy", "")];

fn upgrade(system: &System, flags: &[&str]) -> Output {
    let dir = system.dir.to_str().unwrap();
    backstop(&[&["upgrade", "--dir", dir], flags].concat())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into()
}

fn pids(system: &System) -> Vec<i32> {
    PROCESSES.iter().map(|(tier, stack)| system.pid_of(tier, stack)).collect()
}

/// How many the edge has given, whoever decided.
fn decisions(system: &System) -> f64 {
    let metrics = Wire::connect(system.admin).send("GET", "/metrics", &[], b"").text;
    let series = metrics.lines().filter(|line| line.starts_with("backstop_decisions_total{"));
    series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// A steady stream of payments over TLS, each at the moment it is due.
struct Replay(Child);

impl Replay {
    fn start(system: &System, rate: u64, requests: u64) -> Self {
        Self(system.replaying(rate, requests, 32))
    }

    fn report(self) -> Value {
        let output = self.0.wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }
}

#[test]
fn every_process_is_replaced_under_load_and_no_client_notices() {
    let is_full = std::env::var_os("BACKSTOP_UPGRADE").is_some_and(|form| form == "full");
    let (rate, requests) = if is_full { (1_000, 30_000) } else { (100, 800) };
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let before = pids(&system);
    let (key, first) = (system.key(true), system.decide(&payment("before")).json());
    let mut idle = system.connect();
    assert_eq!(idle.decide(&key, &payment("idle")).status, 200);

    let replay = Replay::start(&system, rate, requests);
    until("the replay is under way", || (decisions(&system) > 100.0).then_some(()));
    let upgraded = upgrade(&system, &[]);
    assert!(upgraded.status.success(), "{}\n{}", said(&upgraded), system.logs());
    let report = replay.report();
    if is_full {
        println!("{}{report:#}", said(&upgraded));
    }
    assert_eq!(report["answered"], requests, "{report:#}");
    for none in ["unanswered", "unreadable"] {
        assert_eq!(report[none], 0, "{report:#}");
    }
    assert_eq!(report["errors_by_status"], serde_json::json!({}), "{report:#}");
    assert_eq!(report["connections"]["lost"], 0, "{report:#}");
    let after = pids(&system);
    for ((old, new), process) in before.iter().zip(&after).zip(PROCESSES) {
        assert_ne!(old, new, "{process:?}");
    }

    // A connection from before is answered by the successor, which has the book, and told to go.
    let moved = idle.decide(&key, &payment("idle"));
    assert_eq!((moved.status, moved.header("idempotency-replayed")), (200, "true"), "{moved:?}");
    assert_eq!(moved.header("connection"), "close");
    assert!(idle.read().is_none());
    let again = system.decide(&payment("before"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["decided_at"], first["decided_at"]);
    let former = before.last().unwrap();
    until("the edge before has ended", || {
        (!Path::new(&format!("/proc/{former}")).exists()).then_some(())
    });
}

#[test]
fn whoever_connects_while_the_edge_is_dead_waits_and_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let key = system.key(true);
    for round in 0..3 {
        let killed = system.signal("proxy", "", Signal::SIGKILL);
        // Connecting panics when it is refused.
        let waiting: Vec<Wire> = (0..20).map(|_| system.connect()).collect();
        for (number, mut wire) in waiting.into_iter().enumerate() {
            let answer = wire.decide(&key, &payment(&format!("waited-{round}-{number}")));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_ne!(system.pid_of("proxy", ""), killed);
    }
}

#[test]
fn what_is_told_to_stop_finishes_what_is_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let key = system.key(true);
    // With core frozen a payment takes the whole budget, so that it is under way at the signal.
    let core = system.signal("core", "prod", Signal::SIGSTOP);
    for tier in ["proxy", "api"] {
        let stack = if tier == "proxy" { "" } else { "prod" };
        let told = system.pid_of(tier, stack);
        let mut wire = system.connect();
        let body = payment(&format!("under-way-at-{tier}")).to_string();
        let head = format!(
            "POST /v1/decisions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.write((head + &body).as_bytes());
        until("core is asked", || {
            let metrics = system.metrics_of("api-prod.sock");
            let series = "backstop_calls_in_flight{operation=\"core\"}";
            let in_flight = metrics.lines().find_map(|line| line.strip_prefix(series))?;
            (in_flight.trim().parse::<f64>().unwrap() > 0.0).then_some(())
        });
        let pid = nix::unistd::Pid::from_raw(told);
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let answer = wire.read().unwrap_or_else(|| panic!("cut by {tier}:\n{}", system.logs()));
        assert_eq!(answer.status, 200, "{answer:?}");
        until("it is started again", || (system.pid_of(tier, stack) != told).then_some(()));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(core), Signal::SIGCONT).unwrap();
}

/// On a busy machine a payment may take longer than its budget.
fn does_core_decide(system: &System) {
    let mut number = 0;
    until("core decides", || {
        number += 1;
        let answer = system.decide(&payment(&format!("by-core-{number}"))).json();
        (answer["decided_by"] == "core").then_some(())
    });
}

/// A folder of programs, each of which is this script.
fn release(folder: &Path, script: &str) -> PathBuf {
    let folder = folder.join("release");
    std::fs::create_dir_all(&folder).unwrap();
    for program in ["backstop-core", "backstop-api", "backstop-proxy"] {
        let file = folder.join(program);
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    }
    folder
}

#[test]
fn a_release_that_can_not_run_leaves_the_one_before_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let before = pids(&system);
    let mut kept = system.connect();
    assert_eq!(kept.decide(&system.key(true), &payment("kept")).status, 200);
    let broken = release(dir.path(), "#!/bin/sh\necho 'error: made to fail' >&2\nexit 2\n");
    for tier in ["core", "api", "proxy"] {
        let refused = upgrade(&system, &["--only", tier, "--binaries", broken.to_str().unwrap()]);
        let words = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{words}");
        assert!(words.contains(tier) && words.contains("made to fail"), "{words}");
    }
    std::fs::remove_file(broken.join("backstop-core")).unwrap();
    let refused = upgrade(&system, &["--binaries", broken.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("backstop-core is missing"), "{}", said(&refused));

    assert_eq!(pids(&system), before);
    assert_eq!(kept.decide(&system.key(true), &payment("after")).status, 200);
    does_core_decide(&system);
}

#[test]
fn old_prod_may_be_another_release() {
    let dir = tempfile::tempdir().unwrap();
    let last = dir.path().join("last");
    std::fs::create_dir(&last).unwrap();
    let settings = dir.path().join("backstop.toml");
    std::fs::write(&settings, "[stacks.old-prod]\ncommand = \"last\"\n").unwrap();
    let copy = |name: &str| std::fs::copy(binary(name), last.join(name)).unwrap();
    copy("backstop-core");
    let refused = backstop(&["up", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("last/backstop-api is missing"), "{}", said(&refused));
    copy("backstop-api");
    std::fs::set_permissions(last.join("backstop-api"), PermissionsExt::from_mode(0o644)).unwrap();
    let refused = backstop(&["up", "--dir", dir.path().to_str().unwrap()]);
    assert!(said(&refused).contains("backstop-api is not executable"), "{}", said(&refused));
    copy("backstop-api");

    let system = System::up(dir.path());
    let folder = |tier: &str, stack: &str| {
        let program = format!("/proc/{}/exe", system.pid_of(tier, stack));
        std::fs::read_link(program).unwrap().parent().unwrap().to_owned()
    };
    let last = std::fs::canonicalize(last).unwrap();
    for tier in ["core", "api"] {
        assert_eq!(folder(tier, "old-prod"), last);
        assert_ne!(folder(tier, "prod"), last);
    }
    does_core_decide(&system);
}
