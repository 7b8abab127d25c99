//! The answers, one JSON object a line, for whoever wants to check them one by one.
//!
//! A slow disk must not make the server look slow, so the lines are written on a thread of their own.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use super::error::ReplayError;
use super::outcome::{Landed, Outcome};
use super::schedule::{About, Schedule};

/// Lines that wait to be written; when it is full, the replay waits for the disk after all.
const LINES_WAITING_MAX: usize = 65_536;

/// Writes down every answer.
pub struct Answers {
    path: PathBuf,
    lines: SyncSender<Answered>,
    writer: JoinHandle<io::Result<()>>,
}

/// One line: what was asked, and what came of it.
#[derive(Serialize)]
struct Answered {
    id: String,
    due_ms: f64,
    decision: Option<&'static str>,
    decided_by: Option<String>,
    cause: Option<String>,
    #[serde(rename = "final")]
    is_final: Option<bool>,
    replayed: Option<bool>,
    status: Option<u16>,
    unanswered: Option<&'static str>,
    elapsed_ms: Option<f64>,
    latency_ms: f64,
    service_ms: Option<f64>,
    retries: u64,
}

impl Answers {
    /// Begins a file, in place of one of that name.
    pub fn create(path: &Path) -> Result<Self, ReplayError> {
        let failed = |source| ReplayError::Answers { path: path.to_owned(), source };
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        let (lines, waiting) = sync_channel::<Answered>(LINES_WAITING_MAX);
        let writer = std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || {
                for line in waiting {
                    serde_json::to_writer(&mut file, &line)?;
                    file.write_all(b"\n")?;
                }
                file.flush()
            })
            .map_err(ReplayError::Run)?;
        Ok(Self { path: path.to_owned(), lines, writer })
    }

    /// Takes down the answer to a request; labels are not written.
    pub fn record(&self, schedule: &Schedule, landed: &Landed) {
        let About::Decision(ticket) = &landed.step.about else { return };
        let brief = match &landed.outcome {
            Outcome::Decided(brief) => Some(brief),
            _ => None,
        };
        let (status, unanswered) = match &landed.outcome {
            Outcome::Unanswered(why) => (None, Some(why.as_str())),
            Outcome::Refused { status, .. } => (Some(*status), None),
            Outcome::Decided(_) | Outcome::Unreadable | Outcome::Labelled => (Some(200), None),
        };
        let line = Answered {
            id: ticket.id.clone(),
            due_ms: millis(schedule.since_start(landed.step.due)),
            decision: brief.map(|brief| brief.verdict.as_str()),
            decided_by: brief.map(|brief| brief.decided_by.clone()),
            cause: brief.and_then(|brief| brief.cause.clone()),
            is_final: brief.map(|brief| brief.is_final),
            replayed: brief.map(|brief| brief.replayed),
            status,
            unanswered,
            elapsed_ms: brief.map(|brief| brief.elapsed_ms),
            latency_ms: millis(landed.latency()),
            service_ms: landed.service().map(millis),
            retries: landed.retries,
        };
        // It fails only when the writer has, and `finish` says why.
        let _ = self.lines.send(line);
    }

    /// Waits until all of them are written.
    pub fn finish(self) -> Result<(), ReplayError> {
        let Self { path, lines, writer } = self;
        drop(lines);
        let written = writer.join().unwrap_or_else(|_panic| Err(io::Error::other("it panicked")));
        written.map_err(|source| ReplayError::Answers { path, source })
    }
}

/// Milliseconds, to the microsecond.
fn millis(length: Duration) -> f64 {
    length.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use backstop_contract::{Timestamp, Verdict};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::super::outcome::{Brief, Unanswered};
    use super::super::schedule::{Pacing, Step, Ticket};
    use super::*;
    use crate::client::Call;

    #[test]
    fn each_request_makes_one_line_that_says_when_and_by_whom() {
        let start = Instant::now();
        let schedule = Schedule::new(mpsc::channel(1).1, Pacing::Rate(1.0), None, start);
        let landed = |about, outcome| Landed {
            step: Step {
                due: start + Duration::from_secs(2),
                call: Call::decision(Bytes::new()),
                about,
            },
            outcome,
            sent: None,
            ended: start + Duration::from_millis(2_005),
            retries: 1,
            opened: 0,
            lost: 0,
        };
        let request = || {
            let at = Some(Timestamp::default());
            About::Decision(Ticket { number: 0, id: "txn-0".into(), at, fraud: None })
        };
        let brief = Brief {
            verdict: Verdict::Decline,
            decided_by: "edge".into(),
            cause: Some("deadline".into()),
            is_final: false,
            replayed: false,
            budget_ms: 300.0,
            elapsed_ms: 290.5,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let answers = Answers::create(file.path()).unwrap();
        answers.record(&schedule, &landed(request(), Outcome::Decided(brief)));
        answers.record(&schedule, &landed(About::Label { stand_in: false }, Outcome::Labelled));
        answers.record(&schedule, &landed(request(), Outcome::Unanswered(Unanswered::GaveUp)));
        answers.finish().unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            json!({"id": "txn-0", "due_ms": 2000.0, "decision": "decline", "decided_by": "edge",
                "cause": "deadline", "final": false, "replayed": false, "status": 200,
                "unanswered": null, "elapsed_ms": 290.5, "latency_ms": 5.0, "service_ms": null,
                "retries": 1})
        );
        assert_eq!(lines[1]["unanswered"], "gave_up");
        assert_eq!(lines[1]["status"], Value::Null);
    }
}
