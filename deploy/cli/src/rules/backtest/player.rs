//! One version of the rules, deciding request after request with the past it made itself.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::{Timestamp, Verdict};
use backstop_lua::{Rules, Slices};

use super::past::Past;
use super::requests::Entry;
use crate::rules::folder::Limits;

/// What one version made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// By policy, as core decides.
    pub policy: Verdict,
    /// By default, as the edge decides alone.
    pub default: Verdict,
    /// Whether the policy broke on the way, and gave its safe answer.
    pub broke: bool,
    /// Whether it counts: it asks for a policy that is there, and is not history alone.
    pub counts: bool,
}

/// Decides.
pub struct Player {
    rules: Rules,
    slices: Slices,
    past: Past,
    from: Option<Timestamp>,
    level: Option<i64>,
}

impl Player {
    /// Begins without a past.
    pub fn new(
        rules: Rules,
        limits: Limits,
        labels_after: Duration,
        from: Option<Timestamp>,
        level: Option<i64>,
    ) -> Self {
        let (slices, past) = (super::patient(limits), Past::new(Some(labels_after)));
        Self { rules, slices, past, from, level }
    }

    /// Decides one request, and remembers it.
    pub fn play(&mut self, entry: &Entry) -> Played {
        let question = &entry.question;
        let mut played = Played {
            policy: Verdict::Review,
            default: Verdict::Review,
            broke: false,
            counts: self.rules.has_policy(&question.request.policy),
        };
        if !played.counts {
            return played;
        }
        let at = question.at();
        self.past.arrive(at);
        let Ok(keys) = self.rules.keys(question, self.slices.policy) else {
            played.broke = true;
            return played;
        };
        if self.from.is_some_and(|from| at < from) {
            played.counts = false;
            self.past.record(&keys, entry, Verdict::Approve);
            return played;
        }
        let histories = self.past.take(&question.merchant, &keys);
        let level = |key: &String| Some((key.clone(), self.level?));
        let stock: BTreeMap<String, i64> = keys.stock.iter().filter_map(level).collect();
        let ruling =
            self.rules.decide_by_policy(question, &histories, &stock, false, self.slices.policy);
        (played.policy, played.broke) = (ruling.verdict, ruling.breach.is_some());
        played.default = self.rules.decide_by_default(question, self.slices.default).verdict;
        self.past.put_back(&keys, histories, entry, played.policy);
        played
    }
}
