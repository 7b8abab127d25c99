//! Which stack serves: by order, by itself, and over the death of the edge. No client notices.
//!
//! `BACKSTOP_SWITCH=full` asks 1,000 times a second with the settings as they are shipped and the binaries of
//! `BACKSTOP_BIN_DIR`, watches ten minutes of good health, and runs the release of `BACKSTOP_OLD_BIN_DIR` as
//! old-prod beside this one.

mod system;
mod switch {
    pub mod middleman;
    pub mod stage;
}

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use switch::middleman::Ways;
use switch::stage::{
    Form, Replay, Stage, decisions_of, history, is_ready, order, run, said, served_by, status,
    token, until_ready,
};
use system::{System, Wire, binary, payment, until};
use tokio::time::Instant;

const SHORT_LIVES: &str = "[up]\nrestart_delay_max = \"100ms\"\n";
const SOON_WARM: &str = "[switch]\nwarm_after = \"1s\"\n";
const OTHER: [(&str, &str); 2] = [("prod", "old-prod"), ("old-prod", "prod")];

fn other(stack: &str) -> &'static str {
    OTHER.iter().find(|(it, _)| *it == stack).unwrap().1
}

/// A system with these settings, both stacks of which are ready.
fn up(dir: &Path, settings: &str) -> System {
    let system = Form::chosen().up(dir, settings);
    until_ready(&system, &["prod", "old-prod"]);
    system
}

/// What the edge says of an order that it obeys. On a busy machine a stack may just have been late:
/// then it is not ready for a moment.
fn obeyed(system: &System, to: &str) -> Value {
    until("the order is obeyed", || {
        let answer = order(system, to, false);
        (answer.status == 200).then(|| answer.json())
    })
}

fn verify(system: &System) {
    let verified = run(system, &["audit", "verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
}

#[test]
fn many_switches_under_load_cost_no_request_and_no_decision_of_core() {
    let (form, dir) = (Form::chosen(), tempfile::tempdir().unwrap());
    let system = up(dir.path(), SOON_WARM);
    let length = form.pause * form.switches + Duration::from_secs(4);
    let replay = Replay::start(&system, form.rate, length);
    let (mut active, mut took) = ("prod", Vec::new());
    for number in 0..form.switches {
        active = other(active);
        let done = obeyed(&system, active);
        assert_eq!((&done["active"], &done["durable"]), (&json!(active), &json!(true)), "{done}");
        took.push(done["took_ms"].as_f64().unwrap());
        assert_eq!(served_by(&system, &format!("after-{number}")), active);
        std::thread::sleep(form.pause);
    }
    let report = replay.report();
    took.sort_by(f64::total_cmp);
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{} switches at {}/s: from the order to the last request on the other stack {median:.2} ms, at \
         most {worst:.2} ms; by tier {}, stand-ins {}",
        took.len(),
        form.rate,
        report["by_tier"],
        report["by_cause"]
    );
    assert_eq!(report["answered"], report["sent"], "{report:#}");
    assert_eq!(report["errors_by_status"], json!({}), "{report:#}");
    assert_eq!((&report["unreadable"], &report["connections"]["lost"]), (&json!(0), &json!(0)));
    for (cause, count) in report["by_cause"].as_object().unwrap() {
        // A machine that is busy with other things is late without any switch.
        let is_late =
            cause == "deadline" && count.as_u64() < report["sent"].as_u64().map(|it| it / 10);
        assert!(is_late && !form.is_full, "{cause}: {report:#}");
    }
    verify(&system);
}

#[test]
fn a_stack_that_is_not_ready_is_refused_and_force_ends_the_hung_core_that_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let system = up(dir.path(), SOON_WARM);
    let rehearsed = until("an order would be obeyed", || {
        let rehearsed = run(&system, &["switch", "old-prod", "--reason", "x", "--dry-run"]);
        rehearsed.status.success().then_some(rehearsed)
    });
    assert!(said(&rehearsed).contains("would go"), "{rehearsed:?}");
    assert_eq!(status(&system)["active"], "prod");

    system.signal("core", "old-prod", Signal::SIGSTOP);
    until("its probes fail", || (!is_ready(&status(&system), "old-prod")).then_some(()));
    for flags in [&[][..], &["--dry-run"]] {
        let words = [&["switch", "old-prod", "--yes", "--reason", "x"], flags].concat();
        let refused = run(&system, &words);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(said(&refused).contains("old-prod is not ready"), "{}", said(&refused));
    }
    assert_eq!(status(&system)["active"], "prod");
    let forced = run(&system, &["switch", "old-prod", "--yes", "--force", "--reason", "x"]);
    assert!(forced.status.success(), "{}", said(&forced));
    assert_eq!(status(&system)["active"], "old-prod");

    let hung = until("it is known to hang", || {
        let core = system.process("core", "old-prod");
        (core["state"] == "hung").then(|| core["pid"].as_i64().unwrap())
    });
    let back = run(&system, &["switch", "prod", "--yes", "--force", "--reason", "back"]);
    assert!(back.status.success() && said(&back).contains("is silent: ended"), "{}", said(&back));
    assert_ne!(i64::from(system.pid_of("core", "old-prod")), hung);
    until_ready(&system, &["old-prod"]);
    verify(&system);
}

#[test]
fn an_edge_that_is_killed_around_a_switch_comes_back_with_the_old_choice_or_the_new() {
    let form = Form::chosen();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), SHORT_LIVES).unwrap();
    let system = System::up(dir.path());
    let (mut active, mut obeyed, mut kept) = ("prod", 0, 0);
    for number in 0..form.kills {
        let to = other(active);
        let victim = Pid::from_raw(system.pid_of("proxy", ""));
        // From before the order is read to after it was answered.
        let delay = Duration::from_micros(u64::from(number % 10) * 1_000);
        let mut wire = Wire::connect(system.admin);
        wire.write(order_as_sent(&system, to).as_bytes());
        std::thread::sleep(delay);
        kill(victim, Signal::SIGKILL).unwrap();
        let was_answered = wire.read().is_some_and(|answer| answer.status == 200);
        until("another edge serves", || {
            (system.pid_of("proxy", "") != victim.as_raw()).then_some(())
        });
        let now = until("it answers", || try_status(&system));
        if now == to {
            (active, obeyed) = (to, obeyed + 1);
        } else {
            assert_eq!(now, active, "neither the old choice nor the new one");
            assert!(!was_answered, "what was answered is forgotten");
            kept += 1;
        }
        assert_eq!(served_by(&system, &format!("after-kill-{number}")), active);
        verify(&system);
    }
    println!(
        "{} kills around a switch: {obeyed} came back with the new choice, {kept} with the old",
        form.kills
    );
}

/// The bytes of an order that is not checked first: an edge that was just started has seen no probe.
fn order_as_sent(system: &System, to: &str) -> String {
    let body = json!({ "to": to, "reason": "around a kill", "force": true }).to_string();
    let (token, length) = (token(&system.dir), body.len());
    format!(
        "POST /admin/switch HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// What serves, by an edge that may just be starting.
fn try_status(system: &System) -> Option<&'static str> {
    let shown = run(system, &["switch", "status", "--json"]);
    let all: Value = serde_json::from_slice(&shown.stdout).ok()?;
    let one = all.as_object()?.values().next()?;
    OTHER.iter().map(|(stack, _)| *stack).find(|stack| one["active"] == *stack)
}

/// Longer than any of this takes.
const LONG: Duration = Duration::from_mins(15);

/// A load on two healthy stacks that have shown what they make of it.
fn healthy(form: Form) -> (Stage, Replay) {
    let stage = Stage::new(form);
    let replay = Replay::start(&stage.system, form.rate, LONG);
    let mirrored_min = if form.is_full { 300.0 } else { 100.0 };
    until("old-prod has rehearsed", || {
        let rehearsed =
            stage.system.metric("backstop_mirrored_total{end=\"same\",stack=\"old-prod\"}");
        (rehearsed >= mirrored_min).then_some(())
    });
    assert_eq!(status(&stage.system)["active"], "prod", "{:?}", history(&stage.system));
    (stage, replay)
}

fn switches(system: &System) -> Vec<String> {
    let lines = history(system).into_iter();
    lines.filter(|(what, _)| what == "automatic").map(|(_, why)| why).collect()
}

/// Makes prod a bad stack, and sees the edge leave it, for good.
fn leaves_prod(name: &str, spoil: impl FnOnce(&Ways, Form)) {
    let form = Form::chosen();
    let (stage, replay) = healthy(form);
    let system = &stage.system;
    let (before, start) = (decisions_of(system, "prod"), Instant::now());
    spoil(stage.prod(), form);
    until("the edge leaves prod", || (status(system)["active"] == "old-prod").then_some(()));
    let (took, requests) = (start.elapsed(), decisions_of(system, "prod") - before);
    let why = switches(system);
    println!("{name}: after {requests} requests and {took:.1?}: {}", why.join(" "));
    // What it left is as bad as before, and what it went to is well.
    std::thread::sleep(Duration::from_secs(if form.is_full { 60 } else { 2 }));
    assert_eq!(switches(system).len(), 1, "{:?}", history(system));
    assert_eq!(status(system)["active"], "old-prod");
    verify(system);
    drop(replay);
}

#[test]
fn the_edge_leaves_a_stack_that_became_slow() {
    leaves_prod("prod is late", |ways, form| {
        ways.delay_ms.store(form.delay_ms, Ordering::Relaxed);
    });
}

#[test]
fn the_edge_leaves_a_stack_that_answers_errors() {
    leaves_prod("prod answers errors", |ways, form| {
        ways.errors_permille.store(form.errors_permille, Ordering::Relaxed);
    });
}

#[test]
fn the_edge_leaves_a_stack_that_declines_everything() {
    leaves_prod("prod declines everything", |ways, _| ways.declines.store(true, Ordering::Relaxed));
}

/// Makes both stacks bad, so much of what the form says, and sees the edge stay.
fn stays(name: &str, of_prod: u64, of_old_prod: u64) {
    let form = Form::chosen();
    let (stage, replay) = healthy(form);
    let system = &stage.system;
    let fail = |ways: &Ways, times: u64| {
        ways.errors_permille.store(times * form.errors_permille, Ordering::Relaxed);
    };
    fail(stage.old_prod(), of_old_prod);
    until("old-prod is seen to be ill", || (!is_ready(&status(system), "old-prod")).then_some(()));
    fail(stage.prod(), of_prod);
    let why = until("the edge says that it stays", || {
        history(system).into_iter().find(|(what, _)| what == "stayed").map(|(_, why)| why)
    });
    println!("{name}: {why}");
    std::thread::sleep(Duration::from_secs(if form.is_full { 120 } else { 2 }));
    assert_eq!(switches(system), Vec::<String>::new(), "{:?}", history(system));
    assert_eq!(status(system)["active"], "prod");
    verify(system);
    drop(replay);
}

#[test]
fn the_edge_stays_where_the_other_stack_is_worse_and_says_why() {
    stays("old-prod is worse", 2, 6);
}

#[test]
fn the_edge_stays_where_both_stacks_are_bad_and_says_why() {
    stays("both are bad", 2, 2);
}

#[test]
#[ignore = "takes ten minutes"]
fn ten_minutes_of_good_health_see_no_switch() {
    let form = Form::chosen();
    let (stage, replay) = healthy(form);
    let system = &stage.system;
    std::thread::sleep(Duration::from_mins(10));
    drop(replay);
    let mirrored = |end: &str| {
        system.metric(&format!("backstop_mirrored_total{{end=\"{end}\",stack=\"old-prod\"}}"))
    };
    println!(
        "ten minutes: {} decisions, rehearsed the same {}, otherwise {}; log {:?}",
        decisions_of(system, "prod"),
        mirrored("same"),
        mirrored("other"),
        history(system)
    );
    assert_eq!(switches(system), Vec::<String>::new());
}

#[test]
fn the_release_before_serves_beside_this_one_on_the_same_books() {
    let this = || binary("backstop-core").parent().unwrap().to_owned();
    let old = std::env::var_os("BACKSTOP_OLD_BIN_DIR").map_or_else(this, PathBuf::from);
    let (old, dir) = (std::fs::canonicalize(old).unwrap(), tempfile::tempdir().unwrap());
    let release = format!("{SOON_WARM}[stacks.old-prod]\ncommand = \"{}\"\n", old.display());
    let system = up(dir.path(), &release);
    for (number, stack) in ["prod", "old-prod", "prod", "old-prod"].into_iter().enumerate() {
        obeyed(&system, stack);
        let id = format!("on-{stack}-{number}");
        let first = system.decide(&payment(&id)).json();
        assert_eq!(
            (&first["decided_by"], &first["stack"]),
            (&json!("core"), &json!(stack)),
            "{first}"
        );
    }
}
