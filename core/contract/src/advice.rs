//! What the edge tells core of an answer that another tier gave for it, and what becomes of it there.
//!
//! Advices travel as requests do, from proxy to api to core. At least once: each has a number, and what
//! was settled is settled again to the same end.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::fingerprint::RequestHash;
use crate::timestamp::Timestamp;

/// The most advices in one message.
pub const ADVICES_MAX: usize = 256;
/// The largest message of them over HTTP. A message may always hold one, whatever its size.
pub const ADVICES_BYTES_MAX: usize = 1 << 20;

/// The body of `POST /v1/advices`, from edge to api: advices of one node, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Advices<'a> {
    /// Who released the answers: a name that the node keeps for life.
    #[serde(borrow)]
    pub node: Cow<'a, str>,
    /// At most [`ADVICES_MAX`].
    #[serde(borrow)]
    pub advices: Vec<Advice<'a>>,
}

/// An answer that a client was given, and to what. The two documents pass through the edge as it wrote
/// them down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Advice<'a> {
    /// Of the node; a new one begins where its numbers could repeat.
    pub epoch: u64,
    /// Of the epoch, from 1 and without gaps, so that core sees when one is missing.
    pub number: u64,
    /// Whose request it was.
    #[serde(borrow)]
    pub merchant: Cow<'a, str>,
    /// Asked with a test key.
    pub test: bool,
    /// The merchant's ids may look like card numbers.
    pub numeric_ids: bool,
    /// When the edge had the request.
    pub received_at: Timestamp,
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// The request, card numbers replaced.
    #[serde(borrow)]
    pub request: &'a RawValue,
    /// The [`Decision`](crate::Decision) as it was released.
    #[serde(borrow)]
    pub answer: &'a RawValue,
}

/// The answer to [`Advices`]. One that is not in it is to be sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// In no order.
    pub settled: Vec<Settled>,
}

/// What became of one advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// As in the advice.
    pub epoch: u64,
    /// As in the advice.
    pub number: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// What core makes of an advice. An open enum, as [`Tier`](crate::Tier) is: whatever a newer core says,
/// it has been settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Core had not heard of the request: the answer is in the books now, with what it moves.
    Applied,
    /// Core had decided the same.
    Match,
    /// Core had decided otherwise; the books were corrected to what the client was told.
    Overridden,
    /// Another node told its client something else. Both are on record, and nothing was changed.
    Conflict,
    /// Core can not accept it; sent again, it would fare no better.
    Refused,
    /// An outcome named by a newer release.
    #[serde(untagged)]
    Newer(String),
}

impl Outcome {
    /// The word on the wire, in the books and in metrics.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Applied => "applied",
            Self::Match => "match",
            Self::Overridden => "overridden",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Newer(name) => name,
        }
    }

    /// The same from a closed set, for metrics.
    pub fn label(&self) -> &str {
        if matches!(self, Self::Newer(_)) { "newer" } else { self.as_str() }
    }
}

impl From<String> for Outcome {
    fn from(word: String) -> Self {
        match word.as_str() {
            "applied" => Self::Applied,
            "match" => Self::Match,
            "overridden" => Self::Overridden,
            "conflict" => Self::Conflict,
            "refused" => Self::Refused,
            _ => Self::Newer(word),
        }
    }
}

/// How a decision in the books came to stand there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Core decided, and has heard nothing else: final, as far as anybody knows.
    #[default]
    Decided,
    /// A client was told it before core heard of it.
    Applied,
    /// A client was told the same by another tier.
    Match,
    /// A client was told otherwise, and the books were corrected.
    Overridden,
    /// Clients of two nodes were told two things. The first is in the books.
    Conflict,
}

impl Standing {
    /// The word on the wire and in the books.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::Applied => "applied",
            Self::Match => "match",
            Self::Overridden => "overridden",
            Self::Conflict => "conflict",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::Decided, Self::Applied, Self::Match, Self::Overridden, Self::Conflict];
        all.into_iter().find(|it| it.as_str() == word)
    }

    /// Whether a node has said what it told its client.
    pub const fn is_released(self) -> bool {
        !matches!(self, Self::Decided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_pass_through_as_they_were_written() {
        let hash = "0f".repeat(32);
        let text = format!(
            r#"{{"node":"n","advices":[{{"epoch":1,"number":7,"merchant":"demo","test":true,"numeric_ids":false,"received_at":"2018-08-01T12:00:00.000Z","hash":"{hash}","request":{{"b": 1,"a":2}},"answer":{{"id" :"x"}}}}]}}"#
        );
        let read: Advices<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(read.advices.len(), 1);
        assert_eq!(read.advices.first().unwrap().request.get(), r#"{"b": 1,"a":2}"#);
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for outcome in [
            Outcome::Applied,
            Outcome::Match,
            Outcome::Overridden,
            Outcome::Conflict,
            Outcome::Refused,
        ] {
            assert_eq!(Outcome::from(outcome.as_str().to_owned()), outcome);
            let json = format!("\"{}\"", outcome.as_str());
            assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), outcome);
        }
        assert_eq!(Outcome::from("later".to_owned()), Outcome::Newer("later".into()));
        for standing in [
            Standing::Decided,
            Standing::Applied,
            Standing::Match,
            Standing::Overridden,
            Standing::Conflict,
        ] {
            assert_eq!(Standing::parse(standing.as_str()), Some(standing));
        }
        assert_eq!(Standing::parse("later"), None);
    }
}
