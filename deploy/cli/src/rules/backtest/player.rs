//! One version of the rules, deciding request after request with the past it made itself.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::{Question, Timestamp, Verdict};
use backstop_engine::History;
use backstop_lua::{Keys, Rules, Slices};

use super::past::Past;
use super::requests::Entry;
use super::seen::Seen;
use crate::rules::folder::Limits;

/// What one version made of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// By policy, as core decides.
    pub core: Verdict,
    /// By policy, as the api decides with the history it last saw.
    pub api: Verdict,
    /// By default, as the edge decides alone.
    pub edge: Verdict,
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
    seen: Seen,
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
        let seen = Seen::new(limits.history_entries_max);
        Self { rules, slices, past, seen, from, level }
    }

    /// Decides one request, and remembers it.
    pub fn play(&mut self, entry: &Entry) -> Played {
        let question = &entry.question;
        let mut played = Played {
            core: Verdict::Review,
            api: Verdict::Review,
            edge: Verdict::Review,
            broke: false,
            counts: self.rules.has_policy(&question.request.policy),
        };
        if !played.counts {
            return played;
        }
        let at = question.at();
        self.past.arrive(at, |merchant, key, row| self.seen.labels(merchant, key, row));
        let Ok(keys) = self.rules.keys(question, self.slices.policy) else {
            played.broke = true;
            return played;
        };
        if self.from.is_some_and(|from| at < from) {
            played.counts = false;
            self.past.record(&keys, entry, Verdict::Approve);
            self.seen.shows(&question.merchant, &keys);
            return played;
        }
        let histories = self.past.take(&question.merchant, &keys);
        let level = |key: &String| Some((key.clone(), self.level?));
        let stock: BTreeMap<String, i64> = keys.stock.iter().filter_map(level).collect();
        let ruling =
            self.rules.decide_by_policy(question, &histories, &stock, false, self.slices.policy);
        (played.core, played.broke) = (ruling.verdict, ruling.breach.is_some());
        played.api = self.stand_in(question, &keys, &histories, &stock).unwrap_or(played.core);
        played.edge = self.rules.decide_by_default(question, self.slices.default).verdict;
        self.past.put_back(&keys, histories, entry, played.core);
        self.seen.shows(&question.merchant, &keys);
        played
    }

    /// What the api says with the history it last saw, and no stock; nothing where all that it goes by is as
    /// core has it, since rules are pure.
    fn stand_in(
        &self,
        question: &Question,
        keys: &Keys,
        histories: &BTreeMap<String, History>,
        stock: &BTreeMap<String, i64>,
    ) -> Option<Verdict> {
        let seen = self.seen.instead_of(histories, &question.merchant, keys);
        let says = self.rules.policy_says(&question.request.policy)?;
        if seen.is_none() && stock.is_empty() && !says.strict {
            return None;
        }
        let (seen, slice) = (seen.as_ref().unwrap_or(histories), self.slices.policy);
        let ruling = self.rules.decide_by_policy(question, seen, &BTreeMap::new(), true, slice);
        Some(ruling.verdict)
    }
}
