//! How well the answers tell fraud from honest transactions, against the file's own labels.

use std::collections::BTreeMap;

use backstop_contract::{Timestamp, Verdict};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Answers by verdict and truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    honest: Verdicts,
    fraud: Verdicts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdicts {
    approve: u64,
    decline: u64,
    review: u64,
}

/// Precision and recall; `None` where there is nothing to divide by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Split {
    /// Frauds among what was stopped.
    pub precision: Option<f64>,
    /// What was stopped among the frauds.
    pub recall: Option<f64>,
}

impl Verdicts {
    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Approve => &mut self.approve,
            Verdict::Decline => &mut self.decline,
            Verdict::Review => &mut self.review,
        } += 1;
    }

    const fn all(self) -> u64 {
        self.approve + self.decline + self.review
    }
}

impl Confusion {
    /// Counts one answer.
    pub fn count(&mut self, verdict: Verdict, fraud: bool) {
        let verdicts = if fraud { &mut self.fraud } else { &mut self.honest };
        verdicts.count(verdict);
    }

    /// Answers counted.
    pub const fn answers(&self) -> u64 {
        self.honest.all() + self.fraud.all()
    }

    /// Frauds among them.
    pub const fn frauds(&self) -> u64 {
        self.fraud.all()
    }

    /// Positive is a decline or a review.
    pub fn either(&self) -> Split {
        self.split(|verdicts| verdicts.decline + verdicts.review)
    }

    /// Positive is a decline alone.
    pub fn decline(&self) -> Split {
        self.split(|verdicts| verdicts.decline)
    }

    /// Positive is a review alone.
    pub fn review(&self) -> Split {
        self.split(|verdicts| verdicts.review)
    }

    fn split(&self, positive: impl Fn(Verdicts) -> u64) -> Split {
        let (right, wrong) = (positive(self.fraud), positive(self.honest));
        Split { precision: share(right, right + wrong), recall: share(right, self.fraud.all()) }
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Serialize for Confusion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Confusion", 5)?;
        fields.serialize_field("answers", &self.answers())?;
        fields.serialize_field("frauds", &self.frauds())?;
        fields.serialize_field("decline_or_review", &self.either())?;
        fields.serialize_field("decline", &self.decline())?;
        fields.serialize_field("review", &self.review())?;
        fields.end()
    }
}

/// The same over everything, and by calendar month of the file's time, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// Everything.
    pub overall: Confusion,
    /// By month, such as `2018-08`.
    pub months: BTreeMap<String, Confusion>,
}

impl Quality {
    /// Counts one answer to a transaction of this time.
    pub fn count(&mut self, at: Timestamp, verdict: Verdict, fraud: bool) {
        self.overall.count(verdict, fraud);
        let text = at.to_string();
        let month = text.get(..7).unwrap_or(&text);
        if let Some(confusion) = self.months.get_mut(month) {
            confusion.count(verdict, fraud);
        } else {
            self.months.entry(month.to_owned()).or_default().count(verdict, fraud);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_and_recall_come_out_as_by_hand() {
        let mut quality = Quality::default();
        let counts = [
            (Verdict::Approve, false, 90),
            (Verdict::Decline, false, 2),
            (Verdict::Review, false, 3),
            (Verdict::Approve, true, 4),
            (Verdict::Decline, true, 6),
            (Verdict::Review, true, 10),
        ];
        for (verdict, fraud, times) in counts {
            for _ in 0..times {
                quality.count(Timestamp::default(), verdict, fraud);
            }
        }
        let split = |precision, recall| Split { precision: Some(precision), recall: Some(recall) };
        let all = quality.overall;
        assert_eq!((all.answers(), all.frauds()), (115, 20));
        assert_eq!(all.either(), split(16.0 / 21.0, 0.8));
        assert_eq!(all.decline(), split(0.75, 0.3));
        assert_eq!(all.review(), split(10.0 / 13.0, 0.5));
    }

    #[test]
    fn nothing_to_divide_by_is_no_figure() {
        let mut all = Confusion::default();
        assert_eq!(all.either(), Split { precision: None, recall: None });
        all.count(Verdict::Approve, true);
        assert_eq!(all.either(), Split { precision: None, recall: Some(0.0) });
    }

    #[test]
    fn months_part_at_midnight_utc() {
        let mut quality = Quality::default();
        for text in ["2018-07-31T23:59:59Z", "2018-08-01T00:00:00Z", "2018-08-01T01:00:00+02:00"] {
            quality.count(Timestamp::parse(text).unwrap(), Verdict::Decline, true);
        }
        let months: Vec<_> = quality.months.iter().map(|(m, c)| (m.as_str(), c.frauds())).collect();
        assert_eq!(months, [("2018-07", 2), ("2018-08", 1)]);
    }
}
