//! Two stacks behind an edge, a load on it, and what operators see of both.

use std::path::Path;
use std::process::{Child, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::middleman::{Middleman, Ways};
use crate::system::{Response, System, Wire, backstop, be_patient, payment, until};

/// How hard and how long.
#[derive(Clone, Copy)]
pub struct Form {
    pub is_full: bool,
    /// Requests a second.
    pub rate: u64,
    pub switches: u32,
    /// From one switch to the next.
    pub pause: Duration,
    pub kills: u32,
    /// Of prod's requests fail, where some are to.
    pub errors_permille: u64,
    /// So late is prod, where it is to be late: as late as a request may be.
    pub delay_ms: u64,
}

impl Form {
    pub fn chosen() -> Self {
        let is_full = std::env::var("BACKSTOP_SWITCH").is_ok_and(|form| form == "full");
        let pause = Duration::from_millis(if is_full { 550 } else { 250 });
        if is_full {
            Self {
                is_full,
                rate: 1_000,
                switches: 100,
                pause,
                kills: 50,
                errors_permille: 10,
                delay_ms: 300,
            }
        } else {
            Self {
                is_full,
                rate: 100,
                switches: 20,
                pause,
                kills: 6,
                errors_permille: 100,
                delay_ms: PATIENT_MS,
            }
        }
    }

    /// Starts in `dir`, with these settings.
    pub fn up(self, dir: &Path, settings: &str) -> System {
        std::fs::write(dir.join("backstop.toml"), settings).unwrap();
        if !self.is_full {
            be_patient(dir, Duration::from_millis(PATIENT_MS));
        }
        System::up(dir)
    }

    /// As an operator leaves it; in the short form all windows are short.
    pub const fn settings(self) -> &'static str {
        if self.is_full {
            "[switch]\nlockout = \"0ms\"\n"
        } else {
            "[switch]\nlockout = \"0ms\"\nsample_min = 100\nwindow = \"10s\"\nwindow_long = \"1m\"\n\
             warm_after = \"1s\"\ncool_down = \"1s\"\nmirror_percent = 50\nmix_pairs_min = 20\n\
             proof_answers_min = 50\n"
        }
    }
}

/// The budget where a machine that is busy with other things is to make nobody late.
const PATIENT_MS: u64 = 2_000;

/// A running system, each of whose stacks can be made a bad one.
pub struct Stage {
    pub system: System,
    stacks: [Middleman; 2],
    _dir: TempDir,
}

impl Stage {
    pub fn new(form: Form) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stacks = ["prod", "old-prod"].map(|stack| {
            let api = dir.path().join(format!("run/api-{stack}.sock"));
            Middleman::start(&dir.path().join(format!("to-{stack}.sock")), &api)
        });
        let apis =
            |stack| format!("[\"{}\"]", dir.path().join(format!("to-{stack}.sock")).display());
        let edge =
            format!("[edge]\nprod_apis = {}\nold_prod_apis = {}\n", apis("prod"), apis("old-prod"));
        let system = form.up(dir.path(), &(edge + form.settings()));
        until_ready(&system, &["prod", "old-prod"]);
        Self { system, stacks, _dir: dir }
    }

    pub fn prod(&self) -> &Arc<Ways> {
        &self.stacks[0].ways
    }

    pub fn old_prod(&self) -> &Arc<Ways> {
        &self.stacks[1].ways
    }
}

/// Which stack serves, and how both fare.
pub fn status(system: &System) -> Value {
    Wire::connect(system.admin).get("/admin/switch", &token(system.dir.as_path())).json()
}

pub fn is_ready(status: &Value, stack: &str) -> bool {
    status["stacks"]
        .as_array()
        .unwrap()
        .iter()
        .any(|it| it["stack"] == stack && it["ready"] == true)
}

pub fn until_ready(system: &System, stacks: &[&str]) {
    until(&format!("{stacks:?} are ready"), || {
        let status = status(system);
        stacks.iter().all(|stack| is_ready(&status, stack)).then_some(())
    });
}

/// Every line of the audit log in the edge's memory: what was done, and why.
pub fn history(system: &System) -> Vec<(String, String)> {
    let path = "/admin/switch/history";
    let history = Wire::connect(system.admin).get(path, &token(&system.dir)).json();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let lines = history["history"].as_array().unwrap().iter();
    lines.map(|line| (text(&line["what"]), text(&line["reason"]))).collect()
}

pub fn token(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("admin.token")).unwrap().trim().to_owned()
}

/// Orders a switch of the edge itself.
pub fn order(system: &System, to: &str, force: bool) -> Response {
    let order = json!({ "to": to, "reason": "a test", "who": "test", "force": force });
    let token = token(&system.dir);
    Wire::connect(system.admin).post("/admin/switch", &token, order.to_string().as_bytes())
}

/// `backstop` with these words in this directory.
pub fn run(system: &System, words: &[&str]) -> Output {
    backstop(&[words, &["--dir", system.dir.to_str().unwrap()]].concat())
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into()
}

/// Asks for a decision; the stack that served it.
pub fn served_by(system: &System, id: &str) -> String {
    let answer = system.decide(&payment(id));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["stack"].as_str().unwrap().to_owned()
}

/// How many decisions this stack has given, or was stood in for.
pub fn decisions_of(system: &System, stack: &str) -> f64 {
    let metrics = Wire::connect(system.admin).send("GET", "/metrics", &[], b"").text;
    let label = format!("stack=\"{stack}\"");
    let series = metrics.lines().filter(|line| line.starts_with("backstop_decisions_total{"));
    let of_stack = series.filter(|line| line.contains(&label));
    of_stack.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// A steady stream of payments over TLS, each at the moment it is due. It ends when it is dropped.
pub struct Replay(Option<Child>);

impl Replay {
    pub fn start(system: &System, rate: u64, length: Duration) -> Self {
        let replay = system.replaying(rate, rate * length.as_secs(), 256);
        let replay = Self(Some(replay));
        until("the replay is under way", || {
            let all = decisions_of(system, "prod") + decisions_of(system, "old-prod");
            (all > rate as f64).then_some(())
        });
        replay
    }

    /// What it saw, once all was sent.
    pub fn report(mut self) -> Value {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
