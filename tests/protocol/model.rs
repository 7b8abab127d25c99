//! The protocol for one key as a machine whose every step can be tried: clients that ask again, edges
//! with a book, a network that loses, repeats and reorders, an api that may stand in, and core.
//!
//! A message stays on the wire once it is there: delivered twice, it was repeated; after another, it was
//! late; dropped before it was delivered, it was lost. What nobody dropped can still arrive.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::core::Core;
use super::edge::Edge;
use super::properties;

/// What a client is told. Three words are enough: every tier may say one that no other says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    Approve,
    Decline,
    Review,
}

/// What core may decide.
const CORES: [Answer; 2] = [Answer::Approve, Answer::Decline];
/// What the api says in core's place.
const APIS: Answer = Answer::Decline;

/// A rule of the protocol that can be left out, to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// An answer is in the book before it leaves.
    BookBeforeRelease,
    /// What was said first stands, whatever comes later.
    FirstProposal,
    /// A decision finds the row of an advice, and repeats it.
    DecideFindsTheRow,
    /// A second advice does not replace what a client was told.
    ReleasedStands,
    /// What is overridden is taken back.
    Compensation,
    /// A restarted edge ships what its book has not settled.
    ShipAfterRestart,
}

/// What travels, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// From an edge: decide. The reply finds only the process that asked.
    Decide { node: usize, life: u8 },
    /// The same, from an edge that has died since.
    Stray,
    /// To that edge, from core or from the api in its place.
    Reply { node: usize, life: u8, answer: Answer, stands_in: bool },
    /// From an edge: this was released.
    Advice { node: usize, life: u8, answer: Answer },
    /// To that edge: it is settled.
    Settled { node: usize, life: u8, outcome: Outcome },
}

/// What core made of an advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Applied,
    Match,
    Overridden,
    Conflict,
}

/// An answer that has left, as the clients remember it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Released {
    pub node: usize,
    /// Which start of the edge released it.
    pub life: u8,
    pub answer: Answer,
    pub durable: bool,
}

/// One moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub edges: Vec<Edge>,
    pub wire: BTreeSet<Message>,
    pub core: Core,
    pub released: BTreeSet<Released>,
    /// How often a client may still ask, an edge be killed, an append fail.
    pub asks: u8,
    pub kills: u8,
    pub full_disks: u8,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A client asks, for the first time or again.
    Ask(usize),
    /// The time is up: the edge answers by itself.
    Deadline(usize, Disk),
    /// What was said reaches the disk: only where that comes late, a step of its own.
    Append(usize),
    /// The first byte leaves.
    Release(usize),
    /// An advice is sent, or sent again.
    Ship(usize),
    /// `kill -9`, and a restart with what was written.
    Kill(usize),
    /// A message arrives, and stays.
    Reply(Message, Disk),
    Decide(Message, Answer),
    StandIn(Message),
    Advise(Message),
    Settle(Message),
    /// A message is lost, or will not be repeated.
    Drop(Message),
}

/// Whether the append succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Takes,
    Fails,
}

/// What is tried: how many edges, how much of each fault, and which rule is left out.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// What each edge says alone: as many as there are.
    pub defaults: Vec<Answer>,
    /// Whether an api may stand in for core.
    pub has_api: bool,
    pub asks: u8,
    pub kills: u8,
    pub full_disks: u8,
    pub without: Option<Safety>,
}

impl Protocol {
    /// Whether a rule is in force.
    pub fn has(&self, safety: Safety) -> bool {
        self.without != Some(safety)
    }

    fn step(&self, now: &State, step: Step) -> Option<State> {
        let mut next = now.clone();
        match step {
            Step::Ask(node) => ask(&mut next, node)?,
            Step::Deadline(node, disk) => {
                let edge = next.edges.get_mut(node)?;
                edge.is_asking().then_some(())?;
                self.say(&mut next, node, *self.defaults.get(node)?, true, disk)?;
            }
            Step::Append(node) => next.edges.get_mut(node)?.append()?,
            Step::Release(node) => {
                let released = next.edges.get_mut(node)?.release(node)?;
                next.released.insert(released);
            }
            Step::Ship(node) => {
                let edge = next.edges.get(node)?;
                let (answer, life) = (edge.to_ship()?, edge.life);
                next.wire.insert(Message::Advice { node, life, answer });
            }
            Step::Kill(node) => {
                next.kills = next.kills.checked_sub(1)?;
                next.edges.get_mut(node)?.restart(self.has(Safety::ShipAfterRestart));
            }
            Step::Reply(Message::Reply { node, life, answer, stands_in }, disk) => {
                (next.edges.get(node)?.life == life).then_some(())?;
                self.say(&mut next, node, answer, stands_in, disk)?;
            }
            Step::Decide(Message::Decide { node, life }, wish) => {
                let answer = next.core.decide(wish, self.has(Safety::DecideFindsTheRow));
                next.wire.insert(Message::Reply { node, life, answer, stands_in: false });
            }
            Step::Decide(Message::Stray, wish) => {
                next.core.decide(wish, self.has(Safety::DecideFindsTheRow));
            }
            Step::StandIn(Message::Decide { node, life }) => {
                next.wire.insert(Message::Reply { node, life, answer: APIS, stands_in: true });
            }
            Step::Advise(Message::Advice { node, life, answer }) => {
                let outcome = next.core.settle(answer, self);
                next.wire.insert(Message::Settled { node, life, outcome });
            }
            Step::Settle(Message::Settled { node, .. }) => next.edges.get_mut(node)?.settle()?,
            Step::Drop(message) => drop(next.wire.remove(&message)),
            Step::Reply(..)
            | Step::Decide(..)
            | Step::StandIn(..)
            | Step::Advise(..)
            | Step::Settle(..) => return None,
        }
        self.forget_what_is_moot(&mut next);
        (next != *now).then_some(next)
    }

    /// Takes off the wire what can change nothing wherever it arrives: the fewer moments, the more of
    /// them can be tried.
    fn forget_what_is_moot(&self, next: &mut State) {
        let State { edges, wire, .. } = next;
        let is_alive = |node: usize, life| edges.get(node).is_some_and(|edge| edge.life == life);
        let strays: Vec<_> = wire
            .extract_if(.., |message| match message {
                Message::Decide { node, life } => !is_alive(*node, *life),
                _ => false,
            })
            .collect();
        wire.extend(strays.iter().map(|_| Message::Stray));
        wire.retain(|message| match message {
            Message::Reply { node, life, .. } => {
                let may_be_heard = !self.has(Safety::FirstProposal)
                    || edges.get(*node).is_some_and(|edge| edge.said.is_none());
                is_alive(*node, *life) && may_be_heard
            }
            Message::Settled { node, life, .. } => {
                is_alive(*node, *life)
                    && edges.get(*node).is_some_and(|edge| edge.to_ship().is_some())
            }
            _ => true,
        });
    }

    fn say(
        &self,
        next: &mut State,
        node: usize,
        answer: Answer,
        stands_in: bool,
        disk: Disk,
    ) -> Option<()> {
        let edge = next.edges.get_mut(node)?;
        if disk == Disk::Fails {
            next.full_disks = next.full_disks.checked_sub(1)?;
            // It may leave from now on, and its advice may: as good as released.
            next.released.insert(Released { node, life: edge.life, answer, durable: false });
        }
        edge.say(answer, stands_in, disk, self)
    }
}

fn ask(next: &mut State, node: usize) -> Option<()> {
    next.asks = next.asks.checked_sub(1)?;
    let edge = next.edges.get_mut(node)?;
    if edge.ask() {
        next.wire.insert(Message::Decide { node, life: edge.life });
    }
    Some(())
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            edges: self.defaults.iter().map(|_| Edge::default()).collect(),
            wire: BTreeSet::new(),
            core: Core::default(),
            released: BTreeSet::new(),
            asks: self.asks,
            kills: self.kills,
            full_disks: self.full_disks,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for node in 0..state.edges.len() {
            steps.extend([
                Step::Ask(node),
                Step::Deadline(node, Disk::Takes),
                Step::Deadline(node, Disk::Fails),
                Step::Append(node),
                Step::Release(node),
                Step::Ship(node),
                Step::Kill(node),
            ]);
        }
        for message in &state.wire {
            let it = || message.clone();
            match message {
                Message::Decide { .. } => {
                    steps.extend(CORES.map(|wish| Step::Decide(it(), wish)));
                    steps.extend(self.has_api.then(|| Step::StandIn(it())));
                }
                Message::Stray => steps.extend(CORES.map(|wish| Step::Decide(it(), wish))),
                Message::Reply { .. } => {
                    steps.extend([Disk::Takes, Disk::Fails].map(|disk| Step::Reply(it(), disk)));
                }
                Message::Advice { .. } => steps.push(Step::Advise(it())),
                Message::Settled { .. } => steps.push(Step::Settle(it())),
            }
            steps.push(Step::Drop(it()));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        self.step(last, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
