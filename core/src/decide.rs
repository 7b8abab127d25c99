//! What becomes of a set of requests: pure arithmetic on what was loaded, and nothing is stored here.
//!
//! The requests of one unit are decided in order and see each other's effects: the second payment of a
//! customer finds the first in its history, the second claim what the first has left, a repeated id
//! gets the first one's answer.

mod holdings;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use backstop_contract::{
    Cause, Decision, Effects, Question, Request, Tier, Timestamp, Value, Verdict,
};
use backstop_engine::effects::Line;
use backstop_engine::{History, Moves, Shortage};
use backstop_lua::{Breach, Keys, Rules, Ruling};

use self::holdings::Holdings;
use crate::error::CoreError;
use crate::store::{Changes, Decided, DecisionKey, Entry, Loaded, Put, RowKey, Versioned};

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
    new: Vec<New<'a>>,
    labelled: BTreeMap<DecisionKey, bool>,
    /// Changed rows of history, encoded.
    rows: BTreeMap<RowKey, Vec<u8>>,
}

/// A decision of this set.
struct New<'a> {
    key: DecisionKey,
    question: &'a Question,
    /// The decision whose moves it released.
    released: Option<DecisionKey>,
}

/// What a decision moved.
#[derive(Default)]
struct Moved {
    moves: Moves,
    effects: Effects,
    released: Option<DecisionKey>,
}

impl<'a> Set<'a> {
    /// A set that begins from what was loaded: every row that its requests ask, repeat, read, move,
    /// label or release, where it exists.
    pub fn new(judge: Judge<'a>, loaded: Loaded) -> Self {
        let Loaded { decisions: known, history, stock, balances } = loaded;
        let holdings = Holdings::new(stock, balances);
        let (new, labelled, rows) = Default::default();
        Self { judge, known, history, holdings, new, labelled, rows }
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
        let (mut ruling, moves) = self.rule(question, keys, time_max);
        if self.was_cut_short(&ruling) {
            return Err(CoreError::TooLate);
        }
        let Moved { moves, effects, released } = self.carry_out(question, &mut ruling, moves);
        let answer = self.answer(question, &ruling, effects, now);
        let history = keys.as_ref().map(|keys| self.count(question, keys, &answer));
        let history = history.unwrap_or_default();
        let decided = Decided {
            hash: question.hash,
            policy: question.request.policy.clone(),
            account: question.request.account.clone(),
            answer: answer.clone(),
            at: question.at(),
            history_keys: history.iter().map(|(key, _)| key.clone()).collect(),
            moves,
            cancelled_by: None,
            fraud: None,
        };
        self.known.insert(key.clone(), decided);
        self.new.push(New { key, question, released });
        Ok(Outcome::Decided(Fresh { answer, history, breach: ruling.breach }))
    }

    /// Labels a decision and the history that counts it. Told again, it changes nothing.
    pub fn label(&mut self, key: &DecisionKey, fraud: bool) -> Outcome {
        let Some(decided) = self.known.get_mut(key) else {
            return Outcome::Labelled { found: false };
        };
        let was = decided.fraud.replace(fraud);
        if was != Some(fraud) {
            for row in &decided.history_keys {
                let row = RowKey { merchant: key.merchant.clone(), key: row.clone() };
                let history = &mut self.history.entry(row.clone()).or_default().value;
                history.label(decided.at, fraud, was);
                self.rows.insert(row, history.encode());
            }
            self.labelled.insert(key.clone(), fraud);
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
    ) -> (Ruling, Moves) {
        let rules = self.judge.rules;
        let broken = |breach| (rules.safe_answer(question, false, breach), Moves::default());
        let keys = match keys {
            Ok(keys) => keys,
            Err(breach) => return broken(breach.clone()),
        };
        let merchant = &question.merchant;
        let histories = keys.history.iter().map(|(name, key)| {
            let row = RowKey { merchant: merchant.clone(), key: key.clone() };
            (name.clone(), self.history.get(&row).map(|row| row.value.clone()).unwrap_or_default())
        });
        let stock = keys.stock.iter().map(|key| (key.clone(), self.holdings.stock(merchant, key)));
        let (histories, stock) = (histories.collect(), stock.collect());
        let ruling = rules.decide_by_policy(question, &histories, &stock, false, time_max);
        if ruling.breach.is_some() || cancels(&question.request).is_some() {
            return (ruling, Moves::default());
        }
        match rules.effects(question, keys, ruling.verdict, time_max) {
            Ok(moves) => (ruling, moves),
            Err(breach) => broken(breach),
        }
    }

    /// Whether the policy ran out of a time that was less than any policy is owed.
    fn was_cut_short(&self, ruling: &Ruling) -> bool {
        let owed = self.judge.policy_time_max;
        matches!(&ruling.breach, Some(Breach::OutOfTime { time_max, .. }) if *time_max < owed)
    }

    /// Moves what is to be moved, or releases what is to be released. Where that cannot be, the answer
    /// is no, and nothing moves.
    fn carry_out(&mut self, question: &Question, ruling: &mut Ruling, moves: Moves) -> Moved {
        let approved = ruling.verdict == Verdict::Approve && ruling.breach.is_none();
        let done = match cancels(&question.request) {
            Some(id) if approved => self.release(question, id),
            _ if moves.is_empty() => Ok(Moved::default()),
            _ => self
                .holdings
                .apply(&question.merchant, &question.request.account, &moves)
                .map(|effects| Moved { moves, effects, released: None })
                .map_err(Shortage::as_str),
        };
        done.unwrap_or_else(|reason| {
            ruling.verdict = Verdict::Decline;
            ruling.reasons.push(reason.to_owned());
            Moved::default()
        })
    }

    /// Releases what the decision `id` moved, once, for the same policy and account.
    fn release(&mut self, question: &Question, id: &str) -> Result<Moved, &'static str> {
        let Request { policy, account, .. } = &question.request;
        let key = DecisionKey { merchant: question.merchant.clone(), id: id.to_owned() };
        let decided = self.known.get_mut(&key).filter(|decided| {
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
        decided.cancelled_by = Some(question.request.id.clone());
        Ok(Moved { moves: Moves::default(), effects, released: Some(key) })
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

    /// Counts a decision once in each row that its policy named, however often it named it.
    fn count(
        &mut self,
        question: &Question,
        keys: &Keys,
        answer: &Decision,
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
            history.record(question.at(), amount, answer.decision, counterparty);
            let encoded = history.encode();
            self.rows.insert(row, encoded.clone());
            counted.push((key.clone(), encoded));
        }
        counted
    }

    /// All that there is to write.
    pub fn changes(&self) -> Changes<'_> {
        // What a later request of the set changed of a new decision is in its row already.
        let new: BTreeSet<&DecisionKey> = self.new.iter().map(|new| &new.key).collect();
        let labels = self.labelled.iter().filter(|(key, _)| !new.contains(key));
        let mut changes = Changes {
            labels: labels.map(|(key, fraud)| (key, *fraud)).collect(),
            history: self.rows.iter().map(|(key, row)| self.put_history(key, row)).collect(),
            stock: self.holdings.puts_of_stock().collect(),
            balances: self.holdings.puts_of_balances().collect(),
            ..Changes::default()
        };
        let decided =
            |new: &New<'a>| self.known.get(&new.key).map(|decided| (new.question, decided));
        changes.decided = self.new.iter().filter_map(decided).collect();
        changes.decided.sort_unstable_by_key(|(asked, _)| (&asked.merchant, &asked.request.id));
        let released = self.new.iter().filter_map(|new| Some((new.released.as_ref()?, new)));
        let released = released.filter(|(key, _)| !new.contains(key));
        changes.cancelled = released.map(|(key, by)| (key, by.key.id.as_str())).collect();
        changes.cancelled.sort_unstable();
        changes.ledger = self.new.iter().flat_map(|new| self.entries(new)).collect();
        changes
    }

    fn put_history<'s>(&'s self, key: &'s RowKey, row: &'s [u8]) -> Put<'s, [u8]> {
        let was = self.history.get(key).map_or(0, |loaded| loaded.version);
        Put { merchant: &key.merchant, key: &key.key, value: row, was }
    }

    /// What a decision moved, or released, as lines of the ledger.
    fn entries<'s>(&'s self, new: &'s New<'a>) -> impl Iterator<Item = Entry<'s>> {
        let decided = self.known.get(&new.key);
        let made = decided.into_iter().flat_map(|by| by.moves.lines(&by.account));
        let released = new.released.as_ref().and_then(|key| self.known.get(key));
        let undone = released.into_iter().flat_map(|it| it.moves.opposite_lines(&it.account));
        let at = decided.map_or_else(Timestamp::default, |decided| decided.answer.decided_at);
        made.chain(undone).map(move |Line { debit, credit, unit, amount }| Entry {
            merchant: &new.key.merchant,
            id: &new.key.id,
            debit,
            credit,
            unit,
            // Moves are made within ±(2^53 - 1), or not at all.
            amount: amount.cast_signed(),
            at,
        })
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
