//! What became of one thing that was sent. A 200 is believed only when it is a decision on the very
//! id that was asked about.

use std::borrow::Cow;
use std::time::Duration;

use backstop_contract::{Verdict, header};
use hyper::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;

use super::schedule::{About, Step};
use crate::client::Answer;

/// The most of a refusal that is kept to be shown, in characters.
const DETAIL_CHARS_MAX: usize = 240;

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A decision.
    Decided(Brief),
    /// The label was taken.
    Labelled,
    /// Another status than the one that was hoped for, and what the answer says.
    Refused {
        /// The status.
        status: u16,
        /// What the answer says, shortened.
        detail: String,
    },
    /// A 200 that is no decision on this id.
    Unreadable,
    /// Nothing came back.
    Unanswered(Unanswered),
}

/// Why nothing came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No connection could be opened.
    NoConnection,
    /// The connection broke before the answer.
    ConnectionBroke,
    /// It took longer than anybody waits.
    GaveUp,
}

impl Unanswered {
    /// The word for it in a report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::ConnectionBroke => "connection_broke",
            Self::GaveUp => "gave_up",
        }
    }
}

/// What is counted of a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief {
    /// The verdict.
    pub verdict: Verdict,
    /// Who decided.
    pub decided_by: String,
    /// Why that tier stood in.
    pub cause: Option<String>,
    /// False for a stand-in until it is settled.
    pub is_final: bool,
    /// Whether it repeats an earlier answer.
    pub replayed: bool,
    /// The budget in force.
    pub budget_ms: f64,
    /// How long the edge says that it took.
    pub elapsed_ms: f64,
}

/// A step that is over.
#[derive(Debug)]
pub struct Landed {
    /// What it was.
    pub step: Step,
    /// What came of it.
    pub outcome: Outcome,
    /// When it was given to a connection for the last time, if it ever was.
    pub sent: Option<Instant>,
    /// When the answer was whole, or the hope for it given up.
    pub ended: Instant,
    /// How often it was sent again.
    pub retries: u64,
    /// Connections opened for it.
    pub opened: u64,
    /// Connections lost under it.
    pub lost: u64,
}

impl Landed {
    /// From the moment it was due.
    pub fn latency(&self) -> Duration {
        self.ended.saturating_duration_since(self.step.due)
    }

    /// From the moment it was sent.
    pub fn service(&self) -> Option<Duration> {
        self.sent.map(|sent| self.ended.saturating_duration_since(sent))
    }
}

/// Reads an answer as what the step asked for.
pub fn read(about: &About, answer: &Answer) -> Outcome {
    match (about, answer.status) {
        (About::Decision(ticket), StatusCode::OK) => {
            decision(&ticket.id, answer).map_or(Outcome::Unreadable, Outcome::Decided)
        }
        (About::Label { .. }, StatusCode::NO_CONTENT) => Outcome::Labelled,
        (_, status) => {
            Outcome::Refused { status: status.as_u16(), detail: detail_of(&answer.body) }
        }
    }
}

fn decision(id: &str, answer: &Answer) -> Option<Brief> {
    /// The fields that are counted; the rest is skipped, not stored.
    #[derive(Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        decision: Verdict,
        #[serde(borrow)]
        decided_by: Cow<'a, str>,
        #[serde(borrow)]
        cause: Option<Cow<'a, str>>,
        #[serde(rename = "final")]
        is_final: bool,
        budget_ms: f64,
        elapsed_ms: f64,
    }
    let fields: Fields<'_> = serde_json::from_slice(&answer.body).ok()?;
    (fields.id == id).then(|| Brief {
        verdict: fields.decision,
        decided_by: fields.decided_by.into_owned(),
        cause: fields.cause.map(Cow::into_owned),
        is_final: fields.is_final,
        replayed: answer.headers.contains_key(header::REPLAYED),
        budget_ms: fields.budget_ms,
        elapsed_ms: fields.elapsed_ms,
    })
}

/// What a problem document says, or else the beginning of whatever came.
fn detail_of(body: &[u8]) -> String {
    /// What a reader needs of a problem document (RFC 9457).
    #[derive(Deserialize)]
    struct Problem<'a> {
        #[serde(borrow)]
        detail: Cow<'a, str>,
        #[serde(borrow, default)]
        pointer: Cow<'a, str>,
    }
    let text = match serde_json::from_slice::<Problem<'_>>(body) {
        Ok(problem) => format!("{} {}", problem.pointer, problem.detail),
        Err(_other_shape) => String::from_utf8_lossy(body).into_owned(),
    };
    text.trim().chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use backstop_contract::Timestamp;
    use bytes::Bytes;
    use hyper::HeaderMap;

    use super::super::schedule::Ticket;
    use super::*;

    const DECISION: &str = r#"{"id":"txn-1","decision":"review","reasons":["a"],"score":3,
        "decided_by":"edge","cause":"moonlight","final":false,"durable":true,"stack":"prod",
        "policy_version":"v","effects":{"stock":{},"balance":{}},"budget_ms":300,"elapsed_ms":4.1,
        "decided_at":"2018-04-01T00:00:00.000Z","a_newer_field":{}}"#;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn request(id: &str) -> About {
        let at = Some(Timestamp::default());
        About::Decision(Ticket { number: 0, id: id.into(), at, fraud: None })
    }

    #[test]
    fn a_decision_is_read_with_words_of_a_newer_release_too() {
        let Outcome::Decided(brief) = read(&request("txn-1"), &answer(200, DECISION)) else {
            panic!("not read")
        };
        assert_eq!((brief.verdict, brief.decided_by.as_str()), (Verdict::Review, "edge"));
        assert_eq!(brief.cause.as_deref(), Some("moonlight"));
        assert!(!brief.is_final && !brief.replayed);
        assert!((brief.elapsed_ms - 4.1).abs() < 1e-9);
    }

    #[test]
    fn a_200_that_is_not_this_decision_is_not_believed() {
        let cases = [
            (request("txn-2"), DECISION),
            (request("txn-1"), "{}"),
            (request("txn-1"), ""),
            (request("txn-1"), "<html>"),
        ];
        for (about, body) in cases {
            assert_eq!(read(&about, &answer(200, body)), Outcome::Unreadable, "{body}");
        }
    }

    #[test]
    fn a_label_hopes_for_204_and_a_request_for_200() {
        let label = About::Label { stand_in: false };
        assert_eq!(read(&label, &answer(204, "")), Outcome::Labelled);
        for (about, status) in [(label, 200), (request("txn-1"), 204), (request("txn-1"), 503)] {
            let outcome = read(&about, &answer(status, "busy"));
            assert_eq!(outcome, Outcome::Refused { status, detail: "busy".into() });
        }
    }

    #[test]
    fn a_refusal_keeps_the_field_and_what_is_wrong_with_it() {
        let problem = r#"{"type":"t","detail":"is negative","pointer":"/amount"}"#;
        let refused = Outcome::Refused { status: 400, detail: "/amount is negative".into() };
        assert_eq!(read(&request("txn-1"), &answer(400, problem)), refused);
    }
}
