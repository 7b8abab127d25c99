//! One request with the history and stock that it meets, and what the rules make of it: the calls of core,
//! api and edge, in their order. For tests, trials and prices; nothing here touches a running system.

mod case;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::{HashKey, Question, Request, Timestamp, Verdict};
use backstop_engine::{History, Moves};

use crate::breach::Breach;
use crate::rules::Rules;
use crate::ruling::{Keys, Ruling};

pub use case::CaseError;

/// How long one call may take.
#[derive(Clone, Copy, Debug)]
pub struct Slices {
    /// Of a policy, in core or api.
    pub policy: Duration,
    /// Of a default, at the edge.
    pub default: Duration,
}

/// One request, and what is known when it comes.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The request.
    pub question: Question,
    /// The history of each name that the policy asks for.
    pub histories: BTreeMap<String, History>,
    /// The history under any other name.
    pub otherwise: History,
    /// What is left of each stock.
    pub stock: BTreeMap<String, i64>,
    /// What is left of any other stock; `None` where nobody knows, as in a stand-in.
    pub level: Option<i64>,
    /// Asked as api asks, in core's place.
    pub stand_in: bool,
}

/// What the policy makes of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// What the policy wanted to see.
    pub keys: Result<Keys, Breach>,
    /// What the policy decides.
    pub ruling: Ruling,
    /// What that moves.
    pub moves: Result<Moves, Breach>,
}

impl Told {
    /// What the policy did wrong on the way.
    pub fn breaches(&self) -> Vec<Breach> {
        self.ruling.breach.iter().chain(self.moves.as_ref().err()).cloned().collect()
    }
}

impl Scene {
    /// A request that meets no history, and stock that nobody knows.
    pub fn bare(request: Request) -> Self {
        let hash = HashKey::new(&[0; 32]).hash(&request);
        let body = request.to_json().into();
        let at = request.at.as_ref().map_or(Timestamp::default(), |at| at.timestamp);
        let question = Question {
            merchant: "demo".to_owned(),
            test: true,
            numeric_ids: true,
            request,
            hash,
            received_at: at,
            traceparent: String::new(),
            body,
        };
        let (histories, stock) = (BTreeMap::new(), BTreeMap::new());
        let otherwise = History::default();
        Self { question, histories, otherwise, stock, level: None, stand_in: false }
    }

    /// Asks the policy, and what its decision moves.
    pub fn ask_policy(&self, rules: &Rules, slices: Slices) -> Told {
        let keys = match rules.keys(&self.question, slices.policy) {
            Ok(keys) => keys,
            Err(breach) => {
                let ruling = rules.safe_answer(&self.question, self.stand_in, breach.clone());
                return Told { keys: Err(breach), ruling, moves: Ok(Moves::default()) };
            }
        };
        let (histories, stock) = self.seen(&keys);
        let ruling = rules.decide_by_policy(
            &self.question,
            &histories,
            &stock,
            self.stand_in,
            slices.policy,
        );
        // Who takes an earlier decision back moves what that moved; core knows it, the policy does not.
        let moves = if self.cancels() {
            Ok(Moves::default())
        } else {
            self.ask_effects(rules, slices, &keys, ruling.verdict)
        };
        Told { keys: Ok(keys), ruling, moves }
    }

    /// What a decision would move, whatever the policy decides.
    pub fn ask_effects(
        &self,
        rules: &Rules,
        slices: Slices,
        keys: &Keys,
        verdict: Verdict,
    ) -> Result<Moves, Breach> {
        rules.effects(&self.question, keys, verdict, slices.policy)
    }

    /// Asks the default, as the edge does.
    pub fn ask_default(&self, rules: &Rules, slices: Slices) -> Ruling {
        rules.decide_by_default(&self.question, slices.default)
    }

    /// Whether it takes an earlier decision back.
    pub fn cancels(&self) -> bool {
        self.question.request.attributes.get("cancels").is_some()
    }

    /// What the policy sees of history and stock, given its keys.
    pub fn seen(&self, keys: &Keys) -> (BTreeMap<String, History>, BTreeMap<String, i64>) {
        let history = |name: &String| self.histories.get(name).unwrap_or(&self.otherwise).clone();
        let histories = keys.history.keys().map(|name| (name.clone(), history(name))).collect();
        let level = |key: &String| self.stock.get(key).copied().or(self.level);
        let stock = keys.stock.iter().filter_map(|key| Some((key.clone(), level(key)?))).collect();
        (histories, stock)
    }
}
