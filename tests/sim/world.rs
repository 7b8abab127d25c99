//! Everything there is in one run, the clock that moves it on, and the network between its parts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::api::Api;
use super::books::Books;
use super::checker::Checker;
use super::clients::Clients;
use super::clock::Clock;
use super::core::Core;
use super::dice::Dice;
use super::edge::Edge;
use super::event::{Agenda, Alarm, Call, Event, Letter, Message, Moment, Place};
use super::plan::Plan;

/// Stacks, each with an api and a core of its own, on one database.
pub const STACKS: usize = 2;
/// As much of what happened last is shown with a failure.
const TRACE_LINES: usize = 400;
/// Seconds after all has healed.
const SETTLED_WITHIN: u64 = 60;
/// One hop, usually.
const HOP: u64 = 400;
/// Longer than any budget.
const DELAY_MAX: u64 = 1_000_000;

pub struct World {
    pub now: Moment,
    pub plan: Plan,
    pub dice: Dice,
    pub clock: Clock,
    agenda: Agenda,
    calls: Call,
    pub clients: Clients,
    pub edges: Vec<Edge>,
    pub apis: Vec<Api>,
    pub cores: Vec<Core>,
    pub books: Books,
    pub is_database_up: bool,
    /// The one that serves.
    pub active: usize,
    /// Pairs between which nothing passes.
    pub cut: BTreeSet<(Place, Place)>,
    /// No fault begins any more.
    pub is_healed: bool,
    pub checker: Checker,
    trace: VecDeque<String>,
    /// Of all that happened, to tell two runs apart.
    pub digest: u64,
    pub events: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut dice = Dice::of(plan.seed);
        let clock = Clock::new();
        let clients = Clients::new(&plan, &mut dice);
        let books = Books::stocked(&clients);
        Self {
            now: 0,
            edges: (0..plan.edges).map(|node| Edge::new(node, &plan)).collect(),
            apis: (0..STACKS).map(Api::new).collect(),
            cores: (0..STACKS).map(Core::new).collect(),
            checker: Checker::new(&plan),
            books,
            clients,
            plan,
            dice,
            clock,
            agenda: Agenda::default(),
            calls: 0,
            is_database_up: true,
            active: 0,
            cut: BTreeSet::new(),
            is_healed: false,
            trace: VecDeque::new(),
            events: 0,
            digest: 0,
            counts: BTreeMap::new(),
        }
    }

    /// Runs until everything is settled, or something is wrong.
    pub fn run(&mut self) -> Result<(), String> {
        for node in 0..self.edges.len() {
            self.start_edge(node)?;
        }
        self.foresee_demands();
        self.foresee_faults();
        self.run_until(self.plan.lasts)?;
        self.heal()?;
        self.run_until_settled()?;
        self.ask_all_again();
        self.run_until(self.now + 5_000_000)?;
        self.check_at_rest()?;
        self.counts.insert("forgotten by a small book", self.checker.forgotten);
        self.counts.insert(
            "lost in a crash, as it may, and said otherwise",
            self.checker.differs_after_loss,
        );
        Ok(())
    }

    /// Until core has settled all that it is owed; longer than that takes is too long.
    fn run_until_settled(&mut self) -> Result<(), String> {
        for _ in 0..SETTLED_WITHIN {
            self.run_until(self.now + 1_000_000)?;
            if self.edges.iter().all(|edge| edge.unsettled() == 0) {
                return Ok(());
            }
        }
        Err("what core is owed is never settled".to_owned())
    }

    /// Until then, whatever happens.
    pub fn run_until(&mut self, until: Moment) -> Result<(), String> {
        while let Some((at, event)) = self.agenda.next_before(until) {
            self.now = at;
            self.events += 1;
            self.digest = (self.digest ^ at).wrapping_mul(0x0100_0000_01b3);
            self.trace(|| event.to_string());
            self.happen(event)?;
            for (node, edge) in self.edges.iter().enumerate() {
                self.checker.fares(node, edge.is_well(), at);
            }
            self.checker.look(&self.books, self.now)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrives(letter) => self.arrive(letter),
            Event::Alarm { at, life, alarm } => self.ring(at, life, alarm),
            Event::Ask { demand, attempt } => {
                self.ask(demand, attempt);
                Ok(())
            }
            Event::Fault(fault) => {
                self.strike(fault);
                Ok(())
            }
            Event::Heal(fault) => self.mend(fault),
        }
    }

    fn arrive(&mut self, letter: Letter) -> Result<(), String> {
        let (from, to) = (letter.from, letter.to);
        if self.is_cut(from, to) {
            return Ok(());
        }
        if !self.is_up(to) {
            // A port that is closed says so at once, unless the machine is gone.
            let is_asking =
                matches!(letter.message, Message::Decide { .. } | Message::Settle { .. });
            if is_asking && from != Place::Clients && self.dice.permille(700) {
                self.send(to, from, letter.call, Message::Failed);
            }
            return Ok(());
        }
        match to {
            Place::Clients => self.tell_client(&letter),
            Place::Edge(node) => self.edge_hears(node, letter)?,
            Place::Api(stack) => self.api_hears(stack, letter),
            Place::Core(stack) => self.core_hears(stack, letter),
        }
        Ok(())
    }

    fn ring(&mut self, at: Place, life: u32, alarm: Alarm) -> Result<(), String> {
        if !self.is_up(at) || self.life(at) != life {
            return Ok(());
        }
        match at {
            Place::Clients => Ok(()),
            Place::Edge(node) => self.edge_wakes(node, alarm),
            Place::Api(stack) => {
                self.api_wakes(stack, alarm);
                Ok(())
            }
            Place::Core(stack) => {
                self.core_wakes(stack, alarm);
                Ok(())
            }
        }
    }

    pub fn is_up(&self, place: Place) -> bool {
        match place {
            Place::Clients => true,
            Place::Edge(node) => self.edges[node].is_up(),
            Place::Api(stack) => self.apis[stack].is_up,
            Place::Core(stack) => self.cores[stack].is_up,
        }
    }

    fn life(&self, place: Place) -> u32 {
        match place {
            Place::Clients => 0,
            Place::Edge(node) => self.edges[node].life,
            Place::Api(stack) => self.apis[stack].life,
            Place::Core(stack) => self.cores[stack].life,
        }
    }

    /// A name for an exchange.
    pub fn new_call(&mut self) -> Call {
        self.calls += 1;
        self.calls
    }

    /// Sends, through a network that loses, repeats and reorders.
    pub fn send(&mut self, from: Place, to: Place, call: Call, message: Message) {
        let faults = self.plan.faults.clone();
        let may_fail = !self.is_healed;
        if may_fail && (self.is_cut(from, to) || self.dice.permille(faults.drop)) {
            return self.trace(|| format!("lost: {from:?} to {to:?}, call {call}"));
        }
        let copies = if may_fail && self.dice.permille(faults.duplicate) { 2 } else { 1 };
        let letter = Letter { from, to, call, message };
        for _ in 0..copies {
            let held = may_fail && self.dice.permille(faults.delay);
            let way = if held { self.dice.between(HOP, DELAY_MAX) } else { self.dice.wait(HOP) };
            self.foresee(way, Event::Arrives(letter.clone()));
        }
    }

    pub fn foresee(&mut self, wait: u64, event: Event) {
        self.agenda.add(self.now + wait, event);
    }

    /// Wakes a process, if it still lives then.
    pub fn wake(&mut self, at: Place, wait: u64, alarm: Alarm) {
        let life = self.life(at);
        self.foresee(wait, Event::Alarm { at, life, alarm });
    }

    fn is_cut(&self, from: Place, to: Place) -> bool {
        self.cut.contains(&(from, to)) || self.cut.contains(&(to, from))
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Adds to what is shown with a failure.
    pub fn trace(&mut self, line: impl FnOnce() -> String) {
        if !self.plan.is_traced {
            return;
        }
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {}", self.now, line()));
    }

    pub fn last_lines(&self) -> impl Iterator<Item = &String> {
        self.trace.iter()
    }
}
