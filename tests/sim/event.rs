//! What happens next, and when. Time is virtual, in microseconds since the run began; what happens at
//! the same time happens in the order in which it was foreseen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::rc::Rc;

use backstop_contract::advice::{Advices, Settlement};
use backstop_contract::{Advice, Decision, Question, Settled};
use bytes::Bytes;

/// Microseconds since the run began.
pub type Moment = u64;
/// One exchange between two processes; never used twice.
pub type Call = u64;

/// A process, or the clients all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Clients,
    Edge(usize),
    Api(usize),
    Core(usize),
}

/// What one process says to another.
#[derive(Clone, Debug)]
pub enum Message {
    /// Decide this, within so many microseconds. From a client, the time is the edge's to give.
    Decide {
        question: Rc<Question>,
        budget: u64,
    },
    /// Settle these: `Advices` as JSON.
    Settle {
        advices: Bytes,
    },
    Decided(Box<Decision>),
    /// The request is refused: this id was decided for another body.
    Refused,
    Settled(Rc<Settlement>),
    /// It could not be done, or nobody knows.
    Failed,
}

/// A letter: `call` says which exchange it belongs to.
#[derive(Clone, Debug)]
pub struct Letter {
    pub from: Place,
    pub to: Place,
    pub call: Call,
    pub message: Message,
}

/// What a process wanted to be woken for.
#[derive(Clone, Copy, Debug)]
pub enum Alarm {
    /// The time of this exchange is up.
    Timeout(Call),
    /// The time of a client that waits at the edge is up.
    Deadline(u64),
    /// Core takes up what has queued.
    Begin,
    /// Core commits what it has decided.
    Commit,
    /// The edge's disk has done this.
    Disk(u64),
    /// The edge's book wanted to be woken.
    Book,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    Arrives(Letter),
    /// Only for the life in which it was set.
    Alarm {
        at: Place,
        life: u32,
        alarm: Alarm,
    },
    /// A client asks for this demand.
    Ask {
        demand: usize,
        attempt: u32,
    },
    /// A fault of this kind begins, or ends.
    Fault(Fault),
    Heal(Fault),
}

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill(Place),
    PowerCut(usize),
    Database,
    /// Nothing passes between these two.
    Partition(Place, Place),
    DiskFull(usize),
    DiskSlow(usize),
    SyncFails(usize),
    Switch,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arrives(Letter { from, to, call, message }) => {
                write!(f, "{from:?} to {to:?}, call {call}: {message}")
            }
            Self::Alarm { at, alarm, .. } => write!(f, "{at:?} wakes for {alarm:?}"),
            Self::Ask { demand, attempt: u32::MAX } => write!(f, "demand {demand}, at last"),
            Self::Ask { demand, attempt } => write!(f, "demand {demand}, attempt {attempt}"),
            Self::Fault(fault) => write!(f, "FAULT {fault:?}"),
            Self::Heal(fault) => write!(f, "mended {fault:?}"),
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decide { question, budget } => {
                write!(f, "decide {} within {budget}", question.request.id)
            }
            Self::Settle { advices } => {
                let read: Advices<'_> = serde_json::from_slice(advices).map_err(|_| fmt::Error)?;
                let shown = |it: &Advice<'_>| format!("{}/{} {}", it.epoch, it.number, it.request);
                write!(f, "settle {:?}", read.advices.iter().map(shown).collect::<Vec<_>>())
            }
            Self::Decided(answer) => {
                let Decision { id, decision, decided_by, cause, is_final, .. } = &**answer;
                write!(f, "{id}: {decision:?} by {decided_by:?}, {cause:?}, final: {is_final}")
            }
            Self::Settled(settlement) => {
                let shown = |it: &Settled| format!("{}/{} {:?}", it.epoch, it.number, it.outcome);
                write!(f, "{:?}", settlement.settled.iter().map(shown).collect::<Vec<_>>())
            }
            Self::Refused | Self::Failed => write!(f, "{self:?}"),
        }
    }
}

/// What is foreseen.
#[derive(Default)]
pub struct Agenda {
    queue: BinaryHeap<Reverse<(Moment, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    foreseen: u64,
}

impl Agenda {
    pub fn add(&mut self, at: Moment, event: Event) {
        self.foreseen += 1;
        self.queue.push(Reverse((at, self.foreseen)));
        self.events.insert(self.foreseen, event);
    }

    /// What comes next, if it comes before then.
    pub fn next_before(&mut self, until: Moment) -> Option<(Moment, Event)> {
        self.queue.peek().filter(|next| next.0.0 < until)?;
        let Reverse((at, number)) = self.queue.pop()?;
        self.events.remove(&number).map(|event| (at, event))
    }
}
