//! What becomes of a set of requests: pure arithmetic on what was loaded, and nothing is stored here.
//!
//! The requests of one transaction are decided in order and see each other's effects: the second
//! payment of a customer finds the first in its history, a repeated id gets the first one's answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use backstop_contract::{Cause, Decision, Effects, Question, Tier, Timestamp};
use backstop_engine::History;
use backstop_lua::{Breach, Keys, Rules, Ruling};

use crate::store::{Changes, Decided, DecisionKey, HistoryKey};

/// What a request ends in, once its transaction has committed.
#[derive(Debug)]
pub enum Outcome {
    /// A new decision.
    Decided(Fresh),
    /// The decision that this id has already.
    Replayed(Decision),
    /// The id was decided for another request.
    IdReused,
    /// A label was asked for; whether its decision exists.
    Labelled {
        /// It does.
        found: bool,
    },
}

/// A decision made just now.
#[derive(Debug)]
pub struct Fresh {
    /// The answer.
    pub answer: Decision,
    /// The rows of history that the policy read, as they are after the decision, by key.
    pub history: Vec<(String, Vec<u8>)>,
    /// What the policy did wrong; the answer is then its safe one.
    pub breach: Option<Breach>,
}

/// The requests that share a transaction, and what they have changed so far.
pub struct Set<'a> {
    rules: &'a Rules,
    stack: &'a str,
    /// Decisions that exist, loaded or new.
    known: HashMap<DecisionKey, Decided>,
    /// Rows of history, loaded or new.
    history: HashMap<HistoryKey, History>,
    decided: Vec<(DecisionKey, &'a Question)>,
    labelled: BTreeMap<DecisionKey, bool>,
    /// Changed rows of history, encoded.
    rows: BTreeMap<HistoryKey, Vec<u8>>,
}

impl<'a> Set<'a> {
    /// A set that begins from what was loaded. `known` must hold every decision that the requests ask
    /// or repeat, `history` every row that their policies or labels touch, where they exist.
    pub fn new(
        rules: &'a Rules,
        stack: &'a str,
        known: HashMap<DecisionKey, Decided>,
        history: HashMap<HistoryKey, History>,
    ) -> Self {
        let (decided, labelled, rows) = Default::default();
        Self { rules, stack, known, history, decided, labelled, rows }
    }

    /// Decides one request, unless its id has been decided. `keys` is what its policy asked for.
    pub fn decide(
        &mut self,
        question: &'a Question,
        keys: &Result<Keys, Breach>,
        now: Timestamp,
        time_max: Duration,
    ) -> Outcome {
        let key = decision_key(question);
        match self.known.get(&key) {
            Some(known) if known.hash == question.hash => {
                return Outcome::Replayed(Decision { replayed: true, ..known.answer.clone() });
            }
            Some(_) => return Outcome::IdReused,
            None => {}
        }
        let ruling = match keys {
            Ok(keys) => self.rule(question, keys, time_max),
            Err(breach) => self.rules.safe_answer(question, false, breach.clone()),
        };
        let answer = self.answer(question, &ruling, now);
        let history = keys.as_ref().map(|keys| self.count(question, keys, &answer));
        let history = history.unwrap_or_default();
        let decided = Decided {
            hash: question.hash,
            answer: answer.clone(),
            at: question.at(),
            history_keys: history.iter().map(|(key, _)| key.clone()).collect(),
            fraud: None,
        };
        self.known.insert(key.clone(), decided);
        self.decided.push((key, question));
        Outcome::Decided(Fresh { answer, history, breach: ruling.breach })
    }

    /// Labels a decision and the history that counts it. Told again, it changes nothing.
    pub fn label(&mut self, key: &DecisionKey, fraud: bool) -> Outcome {
        let Some(decided) = self.known.get_mut(key) else {
            return Outcome::Labelled { found: false };
        };
        let was = decided.fraud.replace(fraud);
        if was != Some(fraud) {
            for row in &decided.history_keys {
                let row = HistoryKey { merchant: key.merchant.clone(), key: row.clone() };
                let history = self.history.entry(row.clone()).or_default();
                history.label(decided.at, fraud, was);
                self.rows.insert(row, history.encode());
            }
            self.labelled.insert(key.clone(), fraud);
        }
        Outcome::Labelled { found: true }
    }

    /// All that there is to write.
    pub fn changes(&self) -> Changes<'_> {
        let decided = self.decided.iter().filter_map(|(key, question)| {
            // A label given since is in the row already.
            self.known.get(key).map(|decided| (*question, decided))
        });
        let new: BTreeSet<_> = self.decided.iter().map(|(key, _)| key).collect();
        let labels = self.labelled.iter().filter(|(key, _)| !new.contains(key));
        Changes {
            decided: decided.collect(),
            labels: labels.map(|(key, fraud)| (key, *fraud)).collect(),
            history: self.rows.iter().map(|(key, row)| (key, row.as_slice())).collect(),
        }
    }

    fn rule(&self, question: &Question, keys: &Keys, time_max: Duration) -> Ruling {
        let read = |(name, key): (&String, &String)| {
            let row = HistoryKey { merchant: question.merchant.clone(), key: key.clone() };
            (name.clone(), self.history.get(&row).cloned().unwrap_or_default())
        };
        let histories = keys.history.iter().map(read).collect();
        self.rules.decide_by_policy(question, &histories, &BTreeMap::new(), false, time_max)
    }

    fn answer(&self, question: &Question, ruling: &Ruling, now: Timestamp) -> Decision {
        Decision {
            id: question.request.id.clone(),
            decision: ruling.verdict,
            reasons: ruling.reasons.clone(),
            score: ruling.score,
            decided_by: Tier::Core,
            cause: ruling.breach.as_ref().map(|_| Cause::Error),
            is_final: true,
            durable: true,
            stack: self.stack.to_owned(),
            policy_version: self.rules.version().to_owned(),
            effects: Effects::default(),
            budget_ms: 0,
            elapsed_ms: 0.0,
            decided_at: now,
            replayed: false,
            server_timing: String::new(),
            calls: Vec::new(),
        }
    }

    /// Counts a decision once in each row that its policy named, however often it named it.
    fn count(
        &mut self,
        question: &Question,
        keys: &Keys,
        answer: &Decision,
    ) -> Vec<(String, Vec<u8>)> {
        let amount = question.request.money.as_ref().map_or(0, |money| money.amount);
        let rows: BTreeSet<&String> = keys.history.values().collect();
        let mut counted = Vec::with_capacity(rows.len());
        for key in rows {
            let row = HistoryKey { merchant: question.merchant.clone(), key: key.clone() };
            let history = self.history.entry(row.clone()).or_default();
            history.record(question.at(), amount, answer.decision);
            let encoded = history.encode();
            self.rows.insert(row, encoded.clone());
            counted.push((key.clone(), encoded));
        }
        counted
    }
}

/// What a request is unique under.
pub fn decision_key(question: &Question) -> DecisionKey {
    DecisionKey { merchant: question.merchant.clone(), id: question.request.id.clone() }
}
