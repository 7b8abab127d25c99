//! What an author orders of the rules: a bundle tried, a bundle live, the last step taken back. The admin
//! route reads it and `backstop rules` writes it, so that both mean the same.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::canary::Percent;
use crate::card;
use crate::class::Restricted;
use crate::order::{REASON_CHARS_MAX, WHO_CHARS_MAX};
use crate::problem::Problem;
use crate::stack::Stack;

/// Where it is sent.
pub const PATH: &str = "/admin/rules";
/// The longest soak: a week.
const SOAK_SECONDS_MAX: u64 = 7 * 24 * 3_600;
/// The most bytes in the version of a bundle.
const VERSION_BYTES_MAX: usize = 64;

/// One step of a bundle, complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// Whose rules; none: those of the stack that serves.
    #[serde(default)]
    pub stack: Option<Stack>,
    /// What is to be done.
    pub step: Step,
    /// Why, in a sentence.
    pub reason: String,
    /// Who says so.
    pub who: String,
}

/// What may be ordered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// This bundle goes so far.
    Publish {
        /// Which one, as it lies on the shelf.
        version: String,
        /// How far.
        to: To,
        /// The edge takes its defaults after so many seconds; none: as the settings say.
        #[serde(default)]
        soak_seconds: Option<u64>,
    },
    /// The last step is taken back.
    RollBack,
}

/// How far a bundle goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// It is asked, and nobody hears it.
    Shadow,
    /// It decides for so many of a hundred accounts.
    Percent(Percent),
    /// It decides.
    Live,
}

impl To {
    /// Reads `shadow`, `live`, or a percentage such as `10%`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "shadow" => Some(Self::Shadow),
            "live" => Some(Self::Live),
            _ => {
                let percent = text.strip_suffix('%')?.trim_end().parse::<f64>().ok()?;
                Percent::try_from(percent).ok().map(Self::Percent)
            }
        }
    }
}

impl fmt::Display for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadow => f.write_str("shadow"),
            Self::Percent(percent) => write!(f, "{}%", f64::from(*percent)),
            Self::Live => f.write_str("live"),
        }
    }
}

impl Rollout {
    /// Reads a body. An order has no place for a card number.
    pub fn receive(body: Restricted<Bytes>) -> Result<Self, Problem> {
        Self::read(&body.uncover())
    }

    fn read(body: &[u8]) -> Result<Self, Problem> {
        // What serde says might repeat a value.
        let rollout: Self = serde_json::from_slice(body).map_err(|_unlike_it| {
            let remedy = "send { \"stack\": …, \"step\": { \"publish\": { \"version\": …, \"to\": \
                          \"shadow\" } } or \"roll_back\", \"reason\": …, \"who\": … }";
            Problem::field("", "the body is no order about rules", remedy)
        })?;
        let Self { reason, who, step, .. } = &rollout;
        for (pointer, text, chars_max) in
            [("/reason", reason, REASON_CHARS_MAX), ("/who", who, WHO_CHARS_MAX)]
        {
            let is_line = !text.trim().is_empty() && !text.chars().any(char::is_control);
            if !is_line || text.chars().count() > chars_max {
                let remedy = format!("send a line of 1 to {chars_max} characters");
                return Err(Problem::field(pointer, "this order says none", remedy));
            }
            if card::contains(text) {
                return Err(Problem::card_number(pointer));
            }
        }
        if let Step::Publish { version, soak_seconds, .. } = step {
            let is_word = version.bytes().all(|b| b.is_ascii_alphanumeric());
            let is_version = is_word && (1..=VERSION_BYTES_MAX).contains(&version.len());
            if !is_version || card::contains(version) {
                let remedy = "send a version that `backstop rules check` prints";
                return Err(Problem::field("/step/publish/version", "is no version", remedy));
            }
            if soak_seconds.is_some_and(|soak| soak > SOAK_SECONDS_MAX) {
                let remedy = format!("send 0 to {SOAK_SECONDS_MAX}");
                return Err(Problem::field("/step/publish/soak_seconds", "is too long", remedy));
            }
        }
        Ok(rollout)
    }
}

impl Step {
    /// How long the defaults of a bundle that goes live soak, where that is said.
    pub const fn soak(&self) -> Option<Duration> {
        match self {
            Self::Publish { soak_seconds: Some(seconds), .. } => {
                Some(Duration::from_secs(*seconds))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(step: Step) -> Rollout {
        let (reason, who) = ("because".to_owned(), "maria".to_owned());
        Rollout { stack: Some(Stack::OldProd), step, reason, who }
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        for to in ["shadow", "12.5%", "live"] {
            let to = To::parse(to).unwrap();
            let version = "0123456789ab".to_owned();
            for soak_seconds in [None, Some(0)] {
                let order = order(Step::Publish { version: version.clone(), to, soak_seconds });
                let body = serde_json::to_vec(&order).unwrap();
                assert_eq!(Rollout::read(&body).unwrap(), order);
            }
        }
        let body = br#"{"step":"roll_back","reason":"it declines all","who":"maria"}"#;
        assert_eq!(Rollout::read(body).unwrap().stack, None);
    }

    #[test]
    fn what_is_no_order_is_refused_with_what_to_send() {
        for (body, pointer) in [
            ("", ""),
            (r#"{"step":"roll_back","reason":"a","who":"b","moon":1}"#, ""),
            (r#"{"step":"roll_back","who":"b"}"#, ""),
            (r#"{"step":"roll_back","reason":" ","who":"b"}"#, "/reason"),
            (r#"{"step":"roll_back","reason":"a","who":"b\nc"}"#, "/who"),
            (r#"{"step":"roll_back","reason":"4111 1111 1111 1111","who":"b"}"#, "/reason"),
            (
                r#"{"step":{"publish":{"version":"","to":"live"}},"reason":"a","who":"b"}"#,
                "/step/publish/version",
            ),
            (
                r#"{"step":{"publish":{"version":"../a","to":"live"}},"reason":"a","who":"b"}"#,
                "/step/publish/version",
            ),
            (
                r#"{"step":{"publish":{"version":"a","to":"live","soak_seconds":999999999}},"reason":"a","who":"b"}"#,
                "/step/publish/soak_seconds",
            ),
            (
                r#"{"step":{"publish":{"version":"a","to":{"percent":101}}},"reason":"a","who":"b"}"#,
                "",
            ),
        ] {
            let problem = Rollout::read(body.as_bytes()).unwrap_err();
            assert_eq!(problem.pointer.as_deref().unwrap_or_default(), pointer, "{body}");
        }
        assert_eq!(To::parse("0%").or(To::parse("10")).or(To::parse("all")), None);
    }
}
