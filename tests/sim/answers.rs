//! How an edge answers, as `proxy/src/once.rs` does: from its book, else whoever answers first, and in the
//! book before it leaves. Duplicates share one exchange, and each has its own deadline.

use std::collections::BTreeMap;
use std::rc::Rc;

use backstop_book::Entry;
use backstop_book::place::Key;
use backstop_book::record::{Record, decode};
use backstop_book::register::{Answer, Known, Proposal};
use backstop_contract::{Cause, Decision, Question, Tier};
use backstop_core::decide::decision_key;
use bytes::Bytes;

use super::clock::wall;
use super::event::{Alarm, Call, Letter, Message, Moment, Place};
use super::plan::Safety;
use super::rules::{OTHER_RULES, RULE_TIME_MAX, RULES};
use super::world::World;

/// What the edge keeps back for its own answer and the append, in microseconds.
const RESERVE: u64 = 20_000;

/// What those who ask for one id at a time share.
pub type Slot = u64;

/// Everybody who waits at one edge, in one life of it.
#[derive(Default)]
pub struct Asks {
    last: u64,
    waiting: BTreeMap<u64, Ask>,
    /// What was said in a slot, and not yet told.
    said: BTreeMap<Slot, Decision>,
    /// Exchanges with the api, and who began them.
    calls: BTreeMap<Call, u64>,
}

/// One client that waits.
#[derive(Clone)]
struct Ask {
    call: Call,
    question: Rc<Question>,
    deadline: Moment,
    key: Key,
    turn: u64,
    slot: Slot,
}

impl World {
    pub fn edge_hears(&mut self, node: usize, letter: Letter) -> Result<(), String> {
        let Letter { call, message, .. } = letter;
        match message {
            Message::Decide { question, budget } => self.asked(node, call, question, budget)?,
            Message::Decided(answer) => self.heard(node, call, *answer)?,
            Message::Refused => self.refused(node, call)?,
            Message::Settled(settlement) => drop(self.shipped(node, call, Some(&settlement))),
            Message::Failed => {
                if !self.shipped(node, call, None) {
                    self.alone(node, call, Cause::Unavailable)?;
                }
            }
            Message::Settle { .. } => {}
        }
        self.edge_acts(node)
    }

    /// A client asks.
    fn asked(
        &mut self,
        node: usize,
        call: Call,
        question: Rc<Question>,
        budget: u64,
    ) -> Result<(), String> {
        let key = Key::of(&question.merchant, &question.request.id);
        let deadline = self.now + budget;
        let asks = &mut self.edges[node].asks;
        asks.last += 1;
        let number = asks.last;
        self.checker.comes(node, number, &question.request.id, question.hash, deadline);
        let answer = self.edges[node].book().ask(key, &question.hash, || number);
        if matches!(answer, Answer::Turn { is_first: true, .. }) {
            self.is_forgotten(node, &question)?;
        }
        match answer {
            Answer::Other => self.refuse(node, number, call, &question.request.id),
            Answer::Known(known) => self.repeat(node, number, call, &question, key, known),
            Answer::Turn { turn, is_first, waiter: slot } => {
                let ask = Ask { call, question, deadline, key, turn, slot };
                self.edges[node].asks.waiting.insert(number, ask);
                self.wake(Place::Edge(node), budget, Alarm::Deadline(number));
                if is_first {
                    self.exchange(node, number);
                } else {
                    // It asks nobody, and waits for the first as long as it can.
                    let inner = self.new_call();
                    self.edges[node].asks.calls.insert(inner, number);
                    self.wake(Place::Edge(node), budget - RESERVE, Alarm::Timeout(inner));
                }
                Ok(())
            }
        }
    }

    /// The book knows nothing of this id. Where it once did, it forgot only what core knows.
    fn is_forgotten(&mut self, node: usize, question: &Question) -> Result<(), String> {
        if !self.plan.may_forget() {
            return Ok(());
        }
        let key = decision_key(question);
        let booked = self.books.decisions.get(&key).map(|row| row.answer.decision);
        self.checker.forgets(node, &question.request.id, booked)
    }

    /// Asks the active stack.
    fn exchange(&mut self, node: usize, number: u64) {
        let Some(Ask { question, deadline, .. }) = self.edges[node].asks.waiting.get(&number)
        else {
            return;
        };
        let (question, budget) = (Rc::clone(question), deadline.saturating_sub(self.now + RESERVE));
        let inner = self.new_call();
        self.edges[node].asks.calls.insert(inner, number);
        self.wake(Place::Edge(node), budget, Alarm::Timeout(inner));
        let api = Place::Api(self.active);
        self.send(Place::Edge(node), api, inner, Message::Decide { question, budget });
    }

    /// The api has answered; late, it shows that core is there.
    fn heard(&mut self, node: usize, call: Call, answer: Decision) -> Result<(), String> {
        if let Some(number) = self.edges[node].asks.calls.remove(&call) {
            return self.say(node, number, answer);
        }
        if !answer.is_stand_in() {
            self.edges[node].book().wake();
        }
        Ok(())
    }

    pub fn time_is_up(&mut self, node: usize, call: Call) -> Result<(), String> {
        self.alone(node, call, Cause::Deadline)
    }

    /// Nobody else answers this exchange.
    fn alone(&mut self, node: usize, call: Call, cause: Cause) -> Result<(), String> {
        let Some(number) = self.edges[node].asks.calls.remove(&call) else { return Ok(()) };
        let Some(Ask { question, .. }) = self.edges[node].asks.waiting.get(&number) else {
            return Ok(());
        };
        let rules = if node == 0 { &RULES } else { &OTHER_RULES };
        let ruling = rules.decide_by_default(question, RULE_TIME_MAX);
        let answer = Decision {
            reasons: ruling.reasons,
            score: ruling.score,
            cause: Some(cause),
            stack: self.active.to_string(),
            policy_version: rules.version().to_owned(),
            decided_at: wall(self.now),
            ..Decision::by(Tier::Edge, question.request.id.clone(), ruling.verdict)
        };
        self.count("stand-ins by the edge");
        self.say(node, number, answer)
    }

    /// Core knows this id under another body.
    fn refused(&mut self, node: usize, call: Call) -> Result<(), String> {
        let Some(number) = self.edges[node].asks.calls.remove(&call) else { return Ok(()) };
        let Some(ask) = self.edges[node].asks.waiting.remove(&number) else { return Ok(()) };
        self.refuse(node, number, ask.call, &ask.question.request.id)?;
        self.leave(node, &ask);
        Ok(())
    }

    /// Whoever is first now takes it up.
    fn leave(&mut self, node: usize, ask: &Ask) {
        let edge = &mut self.edges[node];
        if edge.book().leave(&ask.key, ask.turn).is_none() {
            return;
        }
        let of_slot = edge.asks.waiting.iter().filter(|(_, it)| it.slot == ask.slot);
        let book = edge.book.as_ref().expect("it is up");
        let first = of_slot.map(|(number, it)| (*number, it.turn));
        let first = first.clone().find(|(_, turn)| book.is_first(&ask.key, *turn));
        if let Some((number, _)) = first {
            self.exchange(node, number);
        }
    }

    /// Proposes an answer for the slot of an ask.
    fn say(&mut self, node: usize, number: u64, answer: Decision) -> Result<(), String> {
        let Some(Ask { question, key, slot, .. }) =
            self.edges[node].asks.waiting.get(&number).cloned()
        else {
            return Ok(());
        };
        let request = if answer.is_stand_in() { question.body.clone() } else { Bytes::new() };
        let json = serde_json::to_vec(&answer).unwrap();
        let entry = Entry {
            merchant: question.merchant.clone(),
            test: question.test,
            numeric_ids: question.numeric_ids,
            hash: question.hash,
            received_at: question.received_at,
            request,
            answer: answer.clone(),
        };
        let edge = &mut self.edges[node];
        if edge.book().say(key, &entry, &json) == Proposal::Second {
            return Ok(());
        }
        edge.asks.said.insert(slot, answer);
        if self.plan.has(Safety::BookBeforeRelease) {
            return Ok(());
        }
        self.release_all(node, slot, true)
    }

    /// What was said in a slot is written down, or can not be.
    pub fn told(&mut self, node: usize, slot: Slot, durable: bool) -> Result<(), String> {
        self.release_all(node, slot, durable)?;
        self.edges[node].asks.said.remove(&slot);
        Ok(())
    }

    fn release_all(&mut self, node: usize, slot: Slot, durable: bool) -> Result<(), String> {
        let asks = &mut self.edges[node].asks;
        let waiting: Vec<u64> =
            asks.waiting.iter().filter(|(_, it)| it.slot == slot).map(|(it, _)| *it).collect();
        for number in waiting {
            self.release(node, number, durable)?;
        }
        Ok(())
    }

    /// The time of one client is up: it is told what was said, written down or not.
    pub fn deadline(&mut self, node: usize, number: u64) -> Result<(), String> {
        self.release(node, number, false)
    }

    fn release(&mut self, node: usize, number: u64, durable: bool) -> Result<(), String> {
        let asks = &mut self.edges[node].asks;
        let Some(ask) = asks.waiting.get(&number) else { return Ok(()) };
        let Some(answer) = asks.said.get(&ask.slot).cloned() else { return Ok(()) };
        let Some(ask) = asks.waiting.remove(&number) else { return Ok(()) };
        let is_final = !answer.is_stand_in();
        let answer = Decision { durable, is_final, ..answer };
        self.leaves(node, number, &ask, answer)
    }

    fn leaves(
        &mut self,
        node: usize,
        number: u64,
        ask: &Ask,
        answer: Decision,
    ) -> Result<(), String> {
        if !answer.durable {
            self.count("released undurable");
        }
        self.say_trace(node, &answer);
        self.checker.leaves((node, number), ask.question.hash, &answer, self.now)?;
        let message = Message::Decided(Box::new(answer));
        self.send(Place::Edge(node), Place::Clients, ask.call, message);
        Ok(())
    }

    fn say_trace(&mut self, node: usize, answer: &Decision) {
        let (id, verdict, by) = (&answer.id, answer.decision, answer.decided_by.clone());
        let durable = answer.durable;
        self.trace(|| format!("edge {node} tells {id}: {verdict:?} by {by:?}, durable: {durable}"));
    }

    /// Answers from the book.
    fn repeat(
        &mut self,
        node: usize,
        number: u64,
        call: Call,
        question: &Rc<Question>,
        key: Key,
        known: Known,
    ) -> Result<(), String> {
        self.count("repeated from the book");
        let source = self.edges[node].book().source(&key);
        let durable = self.edges[node].book().is_durable(&key);
        let record = self.edges[node].read(&source);
        let said = record.as_deref().map(|record| {
            let decoded = decode(record).map_err(|flaw| format!("{source:?}: {flaw:?}"))?;
            let Record::Said(said) = decoded.record else {
                return Err(format!("{source:?} is no answer"));
            };
            serde_json::from_slice::<Decision>(said.answer).map_err(|error| error.to_string())
        });
        let Some(said) = said else {
            return Err(format!("{}: {known:?} can not be read any more", question.request.id));
        };
        let answer = Decision { durable, is_final: known.state.is_final(), ..said? };
        let slot = Slot::MAX;
        let ask = Ask { call, question: Rc::clone(question), deadline: 0, key, turn: 0, slot };
        self.leaves(node, number, &ask, answer)
    }

    fn refuse(&mut self, node: usize, number: u64, call: Call, id: &str) -> Result<(), String> {
        self.count("refused for another body");
        self.checker.refuses((node, number), id, self.now)?;
        self.send(Place::Edge(node), Place::Clients, call, Message::Refused);
        Ok(())
    }
}
