//! What the books, or the edge's own book, say of one decision; and how the edge asks for many.

use serde::{Deserialize, Serialize};

use crate::advice::Standing;
use crate::decision::{Cause, Decision, Tier, Verdict};
use crate::one_field;
use crate::problem::Problem;
use crate::request::Money;
use crate::timestamp::Timestamp;
use crate::wire::{self, Incomplete};

/// The most ids that are asked about at a time.
pub const IDS_MAX: usize = 1_024;
/// The largest body with them: each of 128 characters, with room for how JSON may write those.
pub const IDS_BYTES_MAX: usize = 1 << 20;

/// The body of `POST /v1/records`, from edge to api.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ids {
    /// At most [`IDS_MAX`].
    pub ids: Vec<String>,
}

impl Ids {
    /// Reads `{"ids": ["txn-1"]}`; nothing less, nothing more.
    pub fn read(body: &[u8]) -> Result<Self, Problem> {
        let remedy = "send {\"ids\": [\"txn-1\"]}, at most 1024 of them";
        let wrong =
            || Problem::field("/ids", "the body is not an object with the one field ids", remedy);
        let ids: Vec<String> = one_field::read(body, "ids", wrong)?;
        if ids.len() > IDS_MAX {
            return Err(Problem::field("/ids", "there are over 1024 ids", remedy));
        }
        Ok(Self { ids })
    }

    /// The ids as a body.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings always serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The answer to it: the records that there are, in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// At most one an id.
    pub records: Vec<Record>,
}

/// A decision as it stands in a book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The id of its request.
    pub id: String,
    /// What a client was told, as far as this book knows.
    pub decision: Verdict,
    /// Who decided.
    pub decided_by: Tier,
    /// Why that tier stood in.
    pub cause: Option<Cause>,
    /// False until core has settled it.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// In minor units, if there was money in it.
    pub amount: Option<u64>,
    /// Of the amount.
    pub currency: Option<String>,
    /// How it came to stand in the books: a [`Standing`] or a newer word; `unsettled` where core has yet
    /// to hear of it.
    pub settlement: String,
    /// What core had decided before it learned what the client was told.
    pub decided_first: Option<Verdict>,
}

impl Record {
    /// As the edge released it, while core has yet to hear of it.
    pub fn unsettled(answer: &Decision, money: Option<&Money>) -> Self {
        Self {
            id: answer.id.clone(),
            decision: answer.decision,
            decided_by: answer.decided_by.clone(),
            cause: answer.cause.clone(),
            is_final: false,
            decided_at: answer.decided_at,
            amount: money.map(|money| money.amount),
            currency: money.map(|money| money.currency.clone()),
            settlement: "unsettled".to_owned(),
            decided_first: None,
        }
    }

    /// Whether core has been told what the client was told.
    pub fn is_settled(&self) -> bool {
        self.settlement != Standing::Decided.as_str() && self.settlement != "unsettled"
    }

    /// The amount with its currency.
    pub fn money(&self) -> Option<Money> {
        let (amount, currency) = (self.amount?, self.currency.clone()?);
        Some(Money { amount, currency })
    }
}

impl TryFrom<wire::Record> for Record {
    type Error = Incomplete;

    fn try_from(record: wire::Record) -> Result<Self, Incomplete> {
        let decision = record.decision.ok_or(Incomplete("decision"))?;
        let money =
            record.money.map(|money| Money { amount: money.amount, currency: money.currency });
        let answer = Decision::try_from(decision)?;
        Ok(Self {
            is_final: answer.is_final,
            settlement: record.settlement,
            decided_first: verdict_or_none(&record.decided_first)?,
            ..Self::unsettled(&answer, money.as_ref())
        })
    }
}

/// A verdict that may be left out on the wire, as an empty word.
pub(super) fn verdict_or_none(word: &str) -> Result<Option<Verdict>, Incomplete> {
    match word {
        "" => Ok(None),
        word => Verdict::parse(word).map(Some).ok_or(Incomplete("decided_first")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_core_is_read_and_one_without_sense_is_not() {
        let decision = wire::Decision {
            id: "t".into(),
            decision: "approve".into(),
            decided_by: "edge".into(),
            cause: Some("deadline".into()),
            r#final: true,
            decided_at: 9,
            ..wire::Decision::default()
        };
        let sound = wire::Record {
            decision: Some(decision),
            settlement: "overridden".into(),
            fraud: None,
            money: Some(wire::Money { amount: 5, currency: "GBP".into() }),
            decided_first: "decline".into(),
        };
        let record = Record::try_from(sound.clone()).unwrap();
        assert_eq!(record.money(), Some(Money { amount: 5, currency: "GBP".into() }));
        assert_eq!(
            (record.decision, record.decided_first),
            (Verdict::Approve, Some(Verdict::Decline))
        );
        assert!(record.is_final && record.is_settled());
        let json = serde_json::to_vec(&Records { records: vec![record.clone()] }).unwrap();
        assert_eq!(serde_json::from_slice::<Records>(&json).unwrap().records, [record]);
        for (broken, what) in [
            (wire::Record { decision: None, ..sound.clone() }, "decision"),
            (wire::Record { decided_first: "perhaps".into(), ..sound.clone() }, "decided_first"),
        ] {
            assert_eq!(Record::try_from(broken), Err(Incomplete(what)));
        }
        let decided = wire::Record { settlement: "decided".into(), ..sound };
        assert!(!Record::try_from(decided).unwrap().is_settled());
    }

    #[test]
    fn ids_are_one_list_of_at_most_1024() {
        let ids = |many: usize| Ids { ids: vec!["x".repeat(128); many] };
        assert_eq!(Ids::read(&ids(IDS_MAX).to_json()), Ok(ids(IDS_MAX)));
        assert!(ids(IDS_MAX).to_json().len() < IDS_BYTES_MAX / 4, "characters may have four bytes");
        let over = ids(IDS_MAX + 1).to_json();
        for (body, detail) in [
            (over.as_slice(), "over 1024"),
            (b"{\"ids\": [1]}", "one field ids"),
            (b"{\"ids\": [], \"all\": true}", "one field ids"),
            (b"[]", "one field ids"),
            (b"{", "not JSON"),
        ] {
            let problem = Ids::read(body).unwrap_err();
            assert!(problem.status == 400 && problem.detail.contains(detail), "{}", problem.detail);
        }
    }
}
