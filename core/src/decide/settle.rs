//! What becomes of an advice in the books: the answer that a client was given goes in, with what it
//! moves, and what core had moved for another answer is undone. [`settlement`] says which.

use std::num::NonZeroU64;

use backstop_contract::advice;
use backstop_contract::{Decision, Question, Standing, Timestamp, Verdict};
use backstop_engine::effects::Forced;
use backstop_engine::settlement::{self, Advised, Known, Step};
use backstop_engine::{Moves, Shortage};
use backstop_lua::{Breach, Keys};

use super::{Booked, New, Outcome, Set, cancels, decision_key};
use crate::store::settled::{AdviceKey, Answers, Discrepancy, SequenceKey};
use crate::store::{Decided, DecisionKey, RowKey};

/// Why an advice is refused: its id was used for another request.
const ID_REUSED: &str = "id_reused";
/// Why an advice is refused: nobody here can say what its answer moves.
const UNKNOWN_POLICY: &str = "unknown_policy";
/// Why an advice is refused: no row can hold it.
pub const UNACCEPTABLE: &str = "unacceptable";

/// An answer that a client was given, and to what.
#[derive(Debug)]
pub struct Advice {
    /// By whom, and under which number.
    pub key: AdviceKey,
    pub question: Question,
    /// As it was released.
    pub answer: Decision,
}

impl Advice {
    /// The answer as the books keep it: what is there is final.
    fn booked(&self) -> Decision {
        let Decision { reasons, score, cause, stack, policy_version, effects, decided_at, .. } =
            self.answer.clone();
        let bare = Decision::by(
            self.answer.decided_by.clone(),
            self.question.request.id.clone(),
            self.answer.decision,
        );
        Decision {
            is_final: true,
            durable: true,
            reasons,
            score,
            cause,
            stack,
            policy_version,
            effects,
            decided_at,
            ..bare
        }
    }

    fn amount(&self) -> u64 {
        self.question.request.money.as_ref().map_or(0, |money| money.amount)
    }
}

impl<'a> Set<'a> {
    /// Settles an advice. Told again, it changes nothing.
    pub fn settle(
        &mut self,
        advice: &'a Advice,
        keys: &Result<Keys, Breach>,
        now: Timestamp,
    ) -> Outcome {
        let key = decision_key(&advice.question);
        let step = self.step(advice);
        let has_policy = self.judge.rules.has_policy(&advice.question.request.policy);
        match step {
            Step::Apply | Step::Correct if !has_policy => {
                return self.refuse(advice, UNKNOWN_POLICY);
            }
            Step::Refuse => return self.refuse(advice, ID_REUSED),
            Step::Apply => self.apply(advice, key, keys),
            Step::Confirm => self.restate(advice, &key, Standing::Match),
            Step::Correct => self.correct(advice, &key, keys, now),
            Step::Clash => self.clash(advice, &key),
            Step::Repeat(_) => {}
        }
        Outcome::Settled { outcome: step.outcome(), why: "" }
    }

    /// Refuses an advice that no row could hold, unless it has been settled before.
    pub fn set_aside(&mut self, advice: &Advice) -> Outcome {
        match self.step(advice) {
            done @ Step::Repeat(_) => Outcome::Settled { outcome: done.outcome(), why: "" },
            _ => self.refuse(advice, UNACCEPTABLE),
        }
    }

    fn step(&self, advice: &Advice) -> Step {
        let Advice { key, question, answer } = advice;
        let advised = Advised { hash: question.hash, verdict: answer.decision, node: &key.node };
        settlement::step(self.known.get(&decision_key(question)).map(known), advised)
    }

    /// Refuses an advice, and puts it on record.
    fn refuse(&mut self, advice: &Advice, why: &'static str) -> Outcome {
        let booked = self.known.get(&decision_key(&advice.question));
        let booked = booked.map(|decided| decided.answer.clone());
        // Nothing of the books is about this request.
        let between = settlement::between(advice.answer.decision, Verdict::Review, advice.amount());
        self.record(advice, advice::Outcome::Refused, booked, between, why.to_owned());
        Outcome::Settled { outcome: advice::Outcome::Refused, why }
    }

    /// Takes note of which advices of a node have arrived.
    pub fn arrive(&mut self, of: &SequenceKey, numbers: &[u64]) -> Outcome {
        let arrivals = &mut self.arrivals.entry(of.clone()).or_default().value;
        for number in numbers.iter().filter_map(|number| NonZeroU64::new(*number)) {
            if let Some(gap) = arrivals.arrived(number) {
                tracing::warn!(node = of.node, epoch = of.epoch, ?gap, "a gap is shown no longer");
            }
        }
        self.arrived.insert(of.clone());
        Outcome::Arrived
    }

    /// Core never heard of it: the answer goes in as if it had been core's.
    fn apply(&mut self, advice: &'a Advice, key: DecisionKey, keys: &Result<Keys, Breach>) {
        let question = &advice.question;
        let answer = advice.booked();
        let (moves, why) = self.post(advice, keys, answer.decided_at);
        let history = keys.as_ref().map(|keys| self.count(question, keys, answer.decision));
        let history = history.unwrap_or_default();
        let decided = Decided {
            hash: question.hash,
            policy: question.request.policy.clone(),
            account: question.request.account.clone(),
            money: question.request.money.clone(),
            answer,
            standing: Standing::Applied,
            released_by: Some(advice.key.node.clone()),
            first: None,
            at: question.at(),
            history_keys: history.into_iter().map(|(key, _)| key).collect(),
            moves,
            cancelled_by: None,
            fraud: None,
        };
        self.known.insert(key.clone(), decided);
        self.new.push(New { key, question });
        if !why.is_empty() {
            self.record(advice, advice::Outcome::Applied, None, 0, why.join("; "));
        }
    }

    /// Core had decided otherwise: what that moved is undone, and what the client was told is done.
    fn correct(
        &mut self,
        advice: &Advice,
        key: &DecisionKey,
        keys: &Result<Keys, Breach>,
        now: Timestamp,
    ) {
        let Some(decided) = self.known.get(key) else { return };
        let (booked, cancelled_by) = (decided.answer.clone(), decided.cancelled_by.clone());
        let undone = match (&cancelled_by, cancels(&advice.question.request)) {
            // What it moved is released, and nothing else is to move for what was called off.
            (Some(cancel), _) => Err(format!("cancelled_by {cancel}")),
            (None, Some(target)) => Ok(self.hold_again(advice, target, booked.decision, now)),
            (None, None) => self.undo(key, now),
        };
        let (moves, why) = match undone {
            Ok(mut why) => {
                let (moves, missing) = self.post(advice, keys, now);
                why.extend(missing);
                (Some(moves), why)
            }
            Err(why) => (None, vec![why]),
        };
        self.correct_history(advice, key, booked.decision);
        self.restate(advice, key, Standing::Overridden);
        if let (Some(moves), Some(decided)) = (moves, self.known.get_mut(key)) {
            decided.moves = moves;
        }
        self.revised.insert(key.clone(), now);
        let told = advice.answer.decision;
        let between = settlement::between(told, booked.decision, advice.amount());
        self.record(advice, advice::Outcome::Overridden, Some(booked), between, why.join("; "));
    }

    /// Clients of two nodes were told two things.
    fn clash(&mut self, advice: &Advice, key: &DecisionKey) {
        let Some(decided) = self.known.get(key) else { return };
        let booked = decided.answer.clone();
        if decided.standing != Standing::Conflict
            && let Some(decided) = self.touch(key, true)
        {
            decided.standing = Standing::Conflict;
        }
        let told = advice.answer.decision;
        let between = settlement::between(told, booked.decision, advice.amount());
        let why = format!("also told {} by node {}", told.as_str(), advice.key.node);
        self.record(advice, advice::Outcome::Conflict, Some(booked), between, why);
    }

    /// The row now says what the client was told; what core had said is kept beside it.
    fn restate(&mut self, advice: &Advice, key: &DecisionKey, standing: Standing) {
        if let Some(decided) = self.touch(key, true) {
            let first = std::mem::replace(&mut decided.answer, advice.booked());
            decided.first = Some(Box::new(first));
            decided.standing = standing;
            decided.released_by = Some(advice.key.node.clone());
        }
    }

    /// Moves what the client was told, as far as there is something to move. Returns what moved, and why
    /// the rest did not.
    fn post(
        &mut self,
        advice: &Advice,
        keys: &Result<Keys, Breach>,
        at: Timestamp,
    ) -> (Moves, Vec<String>) {
        let (question, verdict) = (&advice.question, advice.answer.decision);
        if let Some(id) = cancels(&question.request) {
            let released = match verdict {
                Verdict::Approve => self.release(question, id, at).map(drop),
                Verdict::Decline | Verdict::Review => Ok(()),
            };
            return (Moves::default(), released.err().map(str::to_owned).into_iter().collect());
        }
        let rules = self.judge.rules;
        let wanted = keys
            .as_ref()
            .map_err(Breach::clone)
            .and_then(|keys| rules.effects(question, keys, verdict, self.judge.policy_time_max));
        match wanted {
            Ok(moves) => self.force(&decision_key(question), question, &moves, at),
            Err(breach) => (Moves::default(), vec![breach.to_string()]),
        }
    }

    /// Makes moves as far as they can be made, booked by `by`.
    fn force(
        &mut self,
        by: &DecisionKey,
        question: &Question,
        moves: &Moves,
        at: Timestamp,
    ) -> (Moves, Vec<String>) {
        let account = &question.request.account;
        let Forced { moved, missing, .. } = self.holdings.force(&by.merchant, account, moves);
        if !moved.is_empty() {
            let (by, account, moves) = (by.clone(), account.clone(), moved.clone());
            self.booked.push(Booked { by, account, moves, is_undone: false, at });
        }
        (moved, missing.iter().map(ToString::to_string).collect())
    }

    /// Undoes all that a decision moved, or nothing. `Err`: why nothing.
    fn undo(&mut self, key: &DecisionKey, at: Timestamp) -> Result<Vec<String>, String> {
        let Some(decided) = self.known.get(key).filter(|it| !it.moves.is_empty()) else {
            return Ok(Vec::new());
        };
        let Decided { account, moves, .. } = decided;
        let undone = self.holdings.release(&key.merchant, account, moves);
        undone.map_err(|shortage: Shortage| shortage.as_str().to_owned())?;
        let (by, account, moves) = (key.clone(), account.clone(), moves.clone());
        self.booked.push(Booked { by, account, moves, is_undone: true, at });
        Ok(Vec::new())
    }

    /// Core had approved a cancel that the client was told is none: what it released is held again, as
    /// far as it is still there. Returns why the rest is not.
    fn hold_again(
        &mut self,
        advice: &Advice,
        target: &str,
        decided: Verdict,
        at: Timestamp,
    ) -> Vec<String> {
        let question = &advice.question;
        let by = decision_key(question);
        let target = DecisionKey { merchant: by.merchant.clone(), id: target.to_owned() };
        let is_of_this = |it: &&Decided| it.cancelled_by.as_ref() == Some(&by.id);
        let released = self.known.get(&target).filter(is_of_this);
        let Some(released) = released.filter(|_| decided == Verdict::Approve) else {
            return Vec::new();
        };
        // One that was itself corrected meanwhile, and is approved no longer, has nothing to hold.
        let is_approved = released.answer.decision == Verdict::Approve;
        let moves = if is_approved { released.moves.clone() } else { Moves::default() };
        let (moves, missing) = self.force(&by, question, &moves, at);
        if let Some(released) = self.touch(&target, true) {
            released.moves = moves;
            released.cancelled_by = None;
        }
        missing
    }

    fn correct_history(&mut self, advice: &Advice, key: &DecisionKey, was: Verdict) {
        let Some(decided) = self.known.get(key) else { return };
        let (at, amount, now) = (decided.at, advice.amount(), advice.answer.decision);
        for row in decided.history_keys.clone() {
            let row = RowKey { merchant: key.merchant.clone(), key: row };
            let history = &mut self.history.entry(row.clone()).or_default().value;
            history.correct(at, amount, was, now);
            self.rows.insert(row, history.encode());
        }
    }

    fn record(
        &mut self,
        advice: &Advice,
        kind: advice::Outcome,
        booked: Option<Decision>,
        between: i64,
        why: String,
    ) {
        self.discrepancies.push(Discrepancy {
            key: decision_key(&advice.question),
            advice: advice.key.clone(),
            kind,
            answers: Answers { told: advice.booked(), booked },
            money: advice.question.request.money.clone(),
            between,
            why,
            at: advice.answer.decided_at,
        });
    }
}

/// What settlement has to know of a decision.
fn known(decided: &Decided) -> Known<'_> {
    Known {
        hash: decided.hash,
        standing: decided.standing,
        verdict: decided.answer.decision,
        released_by: decided.released_by.as_deref(),
        decided_first: decided.first.as_ref().map(|first| first.decision),
    }
}
