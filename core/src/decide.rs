//! What becomes of a set of requests: pure arithmetic on what was loaded, and nothing is stored here.
//!
//! The requests of one unit are decided in order and see each other's effects: the second payment of a
//! customer finds the first in its history, the second claim what the first has left, a repeated id
//! gets the first one's answer. What clients were told by other tiers is settled among them ([`settle`]).

mod changes;
mod holdings;
mod rehearse;
pub mod settle;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use backstop_contract::{
    Cause, Decision, Effects, Question, Request, Standing, Tier, Timestamp, Value, Verdict, advice,
};
use backstop_engine::{Arrivals, History, Moves, Shortage};
use backstop_lua::{Breach, Keys, Rules, Ruling};

use self::holdings::Holdings;
use crate::error::CoreError;
use crate::shadow::Saw;
use crate::store::settled::{Discrepancy, SequenceKey};
use crate::store::{Decided, DecisionKey, Loaded, RowKey, Versioned};

pub use self::rehearse::Without;

/// The attribute that makes a request a cancel: the id of the decision whose moves are released.
const CANCELS: &str = "cancels";
/// The reason when there is no such decision, or nothing that it moved.
const NOTHING_TO_CANCEL: &str = "nothing_to_cancel";
/// The reason when its moves are released already.
const ALREADY_CANCELLED: &str = "already_cancelled";

/// What a request ends in, once its unit has committed.
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
    /// Stock is what it was set to.
    StockSet,
    /// What became of an advice.
    Settled {
        /// Of the few that there are.
        outcome: advice::Outcome,
        /// Why it was refused; else empty.
        why: &'static str,
    },
    /// It is known which advices have arrived.
    Arrived,
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
    /// What it was shown, and said; none where it could not say what it wants to see.
    pub saw: Option<Saw>,
}

/// Who decides, by what.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// The policies.
    pub rules: &'a Rules,
    /// The stack that decides.
    pub stack: &'a str,
    /// How long a policy may run where its caller leaves it the time.
    pub policy_time_max: Duration,
}

/// The requests that share a unit, and what they have changed so far.
pub struct Set<'a> {
    judge: Judge<'a>,
    /// Decisions that exist, loaded or new.
    known: HashMap<DecisionKey, Decided>,
    /// Rows of history, loaded or new, with the version that was loaded.
    history: HashMap<RowKey, Versioned<History>>,
    holdings: Holdings,
    arrivals: HashMap<SequenceKey, Versioned<Arrivals>>,
    new: Vec<New<'a>>,
    /// Decisions that were labelled, cancelled or settled.
    touched: BTreeMap<DecisionKey, Touched>,
    /// What is to be booked, in order.
    booked: Vec<Booked>,
    /// Changed rows of history, encoded.
    rows: BTreeMap<RowKey, Vec<u8>>,
    /// Decisions that others are told of again, and when they were corrected.
    revised: BTreeMap<DecisionKey, Timestamp>,
    discrepancies: Vec<Discrepancy>,
    arrived: BTreeSet<SequenceKey>,
}

/// Histories by the name that a policy knows them under, and what is left of each stock.
pub type Seen = (BTreeMap<String, History>, BTreeMap<String, i64>);

/// A decision of this set.
struct New<'a> {
    key: DecisionKey,
    question: &'a Question,
}

/// A decision as it was before this set.
struct Touched {
    standing: Standing,
    cancelled_by: Option<String>,
    fraud: Option<bool>,
    /// It was settled, and not only labelled or cancelled.
    is_restated: bool,
}

/// Moves as they were made, or undone.
struct Booked {
    /// The decision that did it.
    by: DecisionKey,
    account: String,
    moves: Moves,
    is_undone: bool,
    at: Timestamp,
}

impl<'a> Set<'a> {
    /// A set that begins from what was loaded: every row that its requests ask, repeat, read, move,
    /// label, release or settle, where it exists.
    pub fn new(judge: Judge<'a>, loaded: Loaded) -> Self {
        let Loaded { decisions: known, history, stock, balances, arrivals } = loaded;
        let holdings = Holdings::new(stock, balances);
        let (new, touched, booked, rows) = Default::default();
        let (revised, discrepancies, arrived) = Default::default();
        Self {
            judge,
            known,
            history,
            holdings,
            arrivals,
            new,
            touched,
            booked,
            rows,
            revised,
            discrepancies,
            arrived,
        }
    }

    /// From here on these rules decide: within a set, each request keeps those that it began with.
    pub const fn judge_by(&mut self, rules: &'a Rules) {
        self.judge.rules = rules;
    }

    /// Decides one request, unless its id has been decided. `keys` is what its policy asked for. A
    /// policy that `time_max`, shortened by the caller, cut short has decided nothing: that is too late.
    pub fn decide(
        &mut self,
        question: &'a Question,
        keys: &Result<Keys, Breach>,
        now: Timestamp,
        time_max: Duration,
    ) -> Result<Outcome, CoreError> {
        let key = decision_key(question);
        match self.known.get(&key) {
            Some(known) if known.hash == question.hash => {
                let answer = Decision { replayed: true, ..known.answer.clone() };
                return Ok(Outcome::Replayed(answer));
            }
            Some(_) => return Ok(Outcome::IdReused),
            None => {}
        }
        let (mut ruling, moves, saw) = self.rule(question, keys, time_max);
        if self.was_cut_short(&ruling) {
            return Err(CoreError::TooLate);
        }
        let (moves, effects) = self.carry_out(question, &mut ruling, moves, now);
        let answer = self.answer(question, &ruling, effects, now);
        let history = keys.as_ref().map(|keys| self.count(question, keys, answer.decision));
        let history = history.unwrap_or_default();
        let decided = Decided {
            hash: question.hash,
            policy: question.request.policy.clone(),
            account: question.request.account.clone(),
            money: question.request.money.clone(),
            answer: answer.clone(),
            standing: Standing::Decided,
            released_by: None,
            first: None,
            at: question.at(),
            history_keys: history.iter().map(|(key, _)| key.clone()).collect(),
            moves,
            cancelled_by: None,
            fraud: None,
        };
        self.known.insert(key.clone(), decided);
        self.new.push(New { key, question });
        Ok(Outcome::Decided(Fresh { answer, history, breach: ruling.breach, saw }))
    }

    /// Labels a decision and the history that counts it. Told again, it changes nothing.
    pub fn label(&mut self, key: &DecisionKey, fraud: bool) -> Outcome {
        let Some(decided) = self.touch(key, false) else {
            return Outcome::Labelled { found: false };
        };
        let was = decided.fraud.replace(fraud);
        if was != Some(fraud) {
            let (at, rows) = (decided.at, decided.history_keys.clone());
            for row in rows {
                let row = RowKey { merchant: key.merchant.clone(), key: row };
                let history = &mut self.history.entry(row.clone()).or_default().value;
                history.label(at, fraud, was);
                self.rows.insert(row, history.encode());
            }
        }
        Outcome::Labelled { found: true }
    }

    /// Sets what is left in stock.
    pub fn set_stock(&mut self, key: &RowKey, remaining: i64) -> Outcome {
        self.holdings.set_stock(key, remaining);
        Outcome::StockSet
    }

    /// What the policy says, and what it wants moved. A broken policy moves nothing, nor does a cancel
    /// but by what it releases.
    fn rule(
        &self,
        question: &Question,
        keys: &Result<Keys, Breach>,
        time_max: Duration,
    ) -> (Ruling, Moves, Option<Saw>) {
        let rules = self.judge.rules;
        let safe = |breach| (rules.safe_answer(question, false, breach), Moves::default());
        let keys = match keys {
            Ok(keys) => keys,
            Err(breach) => {
                let (ruling, moves) = safe(breach.clone());
                return (ruling, moves, None);
            }
        };
        let (histories, stock) = self.seen(&question.merchant, keys);
        let ruling = rules.decide_by_policy(question, &histories, &stock, false, time_max);
        let saw = Some(Saw { histories, stock, said: ruling.verdict });
        if ruling.breach.is_some() || cancels(&question.request).is_some() {
            return (ruling, Moves::default(), saw);
        }
        let (ruling, moves) = match rules.effects(question, keys, ruling.verdict, time_max) {
            Ok(moves) => (ruling, moves),
            Err(breach) => safe(breach),
        };
        (ruling, moves, saw)
    }

    /// What a policy sees that asks for `keys`.
    fn seen(&self, merchant: &str, keys: &Keys) -> Seen {
        let histories = keys.history.iter().map(|(name, key)| {
            let row = RowKey { merchant: merchant.to_owned(), key: key.clone() };
            (name.clone(), self.history.get(&row).map(|row| row.value.clone()).unwrap_or_default())
        });
        let stock = keys.stock.iter().map(|key| (key.clone(), self.holdings.stock(merchant, key)));
        (histories.collect(), stock.collect())
    }

    /// Whether the policy ran out of a time that was less than any policy is owed.
    fn was_cut_short(&self, ruling: &Ruling) -> bool {
        let owed = self.judge.policy_time_max;
        matches!(&ruling.breach, Some(Breach::OutOfTime { time_max, .. }) if *time_max < owed)
    }

    /// Moves what is to be moved, or releases what is to be released. Where that cannot be, the answer
    /// is no, and nothing moves.
    fn carry_out(
        &mut self,
        question: &Question,
        ruling: &mut Ruling,
        moves: Moves,
        now: Timestamp,
    ) -> (Moves, Effects) {
        let approved = ruling.verdict == Verdict::Approve && ruling.breach.is_none();
        let done = match cancels(&question.request) {
            Some(id) if approved => {
                let released = self.release(question, id, now);
                released.map(|effects| (Moves::default(), effects))
            }
            _ if moves.is_empty() => Ok((moves, Effects::default())),
            _ => self.make(question, moves, now).map_err(Shortage::as_str),
        };
        done.unwrap_or_else(|reason| {
            ruling.verdict = Verdict::Decline;
            ruling.reasons.push(reason.to_owned());
            (Moves::default(), Effects::default())
        })
    }

    fn make(
        &mut self,
        question: &Question,
        moves: Moves,
        now: Timestamp,
    ) -> Result<(Moves, Effects), Shortage> {
        let (merchant, account) = (&question.merchant, &question.request.account);
        let effects = self.holdings.apply(merchant, account, &moves)?;
        let by = decision_key(question);
        let (account, made) = (account.clone(), moves.clone());
        self.booked.push(Booked { by, account, moves: made, is_undone: false, at: now });
        Ok((moves, effects))
    }

    /// Releases what the decision `id` moved, once, for the same policy and account.
    fn release(
        &mut self,
        question: &Question,
        id: &str,
        now: Timestamp,
    ) -> Result<Effects, &'static str> {
        let Request { policy, account, .. } = &question.request;
        let key = DecisionKey { merchant: question.merchant.clone(), id: id.to_owned() };
        let decided = self.known.get(&key).filter(|decided| {
            decided.answer.decision == Verdict::Approve
                && !decided.moves.is_empty()
                && (&decided.policy, &decided.account) == (policy, account)
        });
        let decided = decided.ok_or(NOTHING_TO_CANCEL)?;
        if decided.cancelled_by.is_some() {
            return Err(ALREADY_CANCELLED);
        }
        let effects = self.holdings.release(&key.merchant, account, &decided.moves);
        let effects = effects.map_err(Shortage::as_str)?;
        let moves = decided.moves.clone();
        let (by, account) = (decision_key(question), account.clone());
        self.booked.push(Booked { by, account, moves, is_undone: true, at: now });
        if let Some(decided) = self.touch(&key, false) {
            decided.cancelled_by = Some(question.request.id.clone());
        }
        Ok(effects)
    }

    /// A decision that is about to change, as it was before remembered.
    fn touch(&mut self, key: &DecisionKey, is_restated: bool) -> Option<&mut Decided> {
        let decided = self.known.get_mut(key)?;
        let as_it_was = || Touched {
            standing: decided.standing,
            cancelled_by: decided.cancelled_by.clone(),
            fraud: decided.fraud,
            is_restated: false,
        };
        let touched = self.touched.entry(key.clone()).or_insert_with(as_it_was);
        touched.is_restated |= is_restated;
        Some(decided)
    }

    fn answer(
        &self,
        question: &Question,
        ruling: &Ruling,
        effects: Effects,
        now: Timestamp,
    ) -> Decision {
        let bare = Decision::by(Tier::Core, question.request.id.clone(), ruling.verdict);
        Decision {
            reasons: ruling.reasons.clone(),
            score: ruling.score,
            cause: ruling.breach.as_ref().map(|_| Cause::Error),
            stack: self.judge.stack.to_owned(),
            policy_version: self.judge.rules.version().to_owned(),
            effects,
            decided_at: now,
            ..bare
        }
    }

    /// Counts a decision once in each row that its policy named, however often it named it. Returns them.
    fn count(
        &mut self,
        question: &Question,
        keys: &Keys,
        verdict: Verdict,
    ) -> Vec<(String, Vec<u8>)> {
        let amount = question.request.money.as_ref().map_or(0, |money| money.amount);
        let mut rows: BTreeMap<&String, Option<&str>> = BTreeMap::new();
        for (name, key) in &keys.history {
            let counterparty = rows.entry(key).or_default();
            *counterparty = counterparty.or(keys.counterparties.get(name).map(String::as_str));
        }
        let mut counted = Vec::with_capacity(rows.len());
        for (key, counterparty) in rows {
            let row = RowKey { merchant: question.merchant.clone(), key: key.clone() };
            let history = &mut self.history.entry(row.clone()).or_default().value;
            history.record(question.at(), amount, verdict, counterparty);
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

/// The id of the decision that a request cancels, where it is a cancel.
pub fn cancels(request: &Request) -> Option<&str> {
    match request.attributes.get(CANCELS) {
        Some(Value::Text(id)) => Some(id),
        _ => None,
    }
}
