//! The clients: what they want decided, and how often they ask for it. They retry with the same id, some
//! at once, some long after they were answered, and now and then with another body.

use std::rc::Rc;

use backstop_contract::request::{Money, Request};
use backstop_contract::{Attributes, HashKey, Question, Value};

use super::clock::wall;
use super::dice::Dice;
use super::event::{Call, Event, Letter, Message, Moment, Place};
use super::plan::Plan;
use super::world::World;

pub const MERCHANT: &str = "demo";
/// What a client gives the edge, in microseconds.
pub const BUDGET: u64 = 300_000;
/// The last attempt, when all is settled.
pub const FINAL: u32 = u32::MAX;
const ATTEMPTS_MAX: u32 = 6;
const SKUS: [&str; 3] = ["85123A", "22423", "47566"];
const ACCOUNTS: [&str; 4] = ["customer-1", "customer-2", "customer-3", "customer-4"];

/// One transaction.
pub struct Demand {
    pub id: String,
    home: usize,
    comes_at: Moment,
    question: Rc<Question>,
    /// What a confused client sends under the same id.
    other: Rc<Question>,
    is_answered: bool,
}

/// What every client wrote down.
pub struct Clients {
    pub demands: Vec<Demand>,
    /// Which demand an exchange is for.
    calls: std::collections::BTreeMap<Call, usize>,
}

impl Clients {
    pub fn new(plan: &Plan, dice: &mut Dice) -> Self {
        let demands = (0..plan.demands).map(|number| demand(number, plan, dice)).collect();
        Self { demands, calls: std::collections::BTreeMap::new() }
    }

    /// The stock that the demands are for, with what there is of it.
    pub fn stock() -> impl Iterator<Item = (String, i64)> {
        let skus = SKUS.iter().zip([4, 12, 40]).map(|(sku, left)| (format!("sku:{sku}"), left));
        skus.chain([("room:grand:double:2018-09-01".to_owned(), 3)])
    }
}

fn demand(number: u64, plan: &Plan, dice: &mut Dice) -> Demand {
    let comes_at = dice.below(plan.lasts * 3 / 4);
    let id = format!("txn-{number}");
    let amount = dice.between(100, 30_000);
    let policy = *dice.pick(&["payment", "claim", "booking", "gift", "spend"]);
    let account = *dice.pick(&ACCOUNTS);
    let cancels = (number > 0 && policy != "payment" && dice.permille(150))
        .then(|| format!("txn-{}", dice.below(number)));
    let sku = *dice.pick(&SKUS);
    let quantity = i64::try_from(dice.between(1, 4)).unwrap();
    let ask = |amount| {
        let mut attributes = vec![("sku", Value::Text(sku)), ("qty", Value::Integer(quantity))];
        attributes.extend([
            ("terminal", Value::Text("3156")),
            ("coins", Value::Integer(2)),
            ("hotel", Value::Text("grand")),
            ("room_type", Value::Text("double")),
            ("arrive_on", Value::Text("2018-09-01")),
        ]);
        attributes.extend(cancels.as_deref().map(|id| ("cancels", Value::Text(id))));
        Rc::new(question(&id, policy, account, amount, attributes, comes_at))
    };
    let (question, other) = (ask(amount), ask(amount + 1));
    let home = usize::try_from(dice.below(plan.edges as u64)).unwrap();
    Demand { home, comes_at, question, other, is_answered: false, id }
}

fn question(
    id: &str,
    policy: &str,
    account: &str,
    amount: u64,
    attributes: Vec<(&str, Value<'_>)>,
    at: Moment,
) -> Question {
    let request = Request {
        id: id.to_owned(),
        policy: policy.to_owned(),
        account: account.to_owned(),
        money: Some(Money { amount, currency: "GBP".to_owned() }),
        at: None,
        attributes: attributes.into_iter().collect::<Attributes>(),
    };
    Question {
        merchant: MERCHANT.to_owned(),
        test: false,
        numeric_ids: false,
        hash: HashKey::new(&[7; 32]).hash(&request),
        received_at: wall(at),
        traceparent: String::new(),
        body: request.to_json().into(),
        request,
    }
}

impl World {
    pub fn foresee_demands(&mut self) {
        for demand in 0..self.clients.demands.len() {
            let comes_at = self.clients.demands[demand].comes_at;
            self.foresee(comes_at, Event::Ask { demand, attempt: 0 });
            // An impatient one: twice at once.
            if self.dice.permille(250) {
                let soon = self.dice.below(BUDGET);
                self.foresee(comes_at + soon, Event::Ask { demand, attempt: ATTEMPTS_MAX });
            }
        }
    }

    /// A client asks, unless it has its answer and no wish to ask again.
    pub fn ask(&mut self, number: usize, attempt: u32) {
        let (answered, home) = {
            let demand = &self.clients.demands[number];
            (demand.is_answered, demand.home)
        };
        if attempt < ATTEMPTS_MAX {
            let wait = self.dice.between(200_000, 1_500_000);
            self.foresee(wait, Event::Ask { demand: number, attempt: attempt + 1 });
            if answered && !self.dice.permille(250) {
                return;
            }
        }
        if self.is_healed && attempt != FINAL {
            return;
        }
        let strays = self.edges.len() > 1 && attempt != FINAL && self.dice.permille(300);
        let edge = if strays { (home + 1) % self.edges.len() } else { home };
        let is_confused = attempt != FINAL && self.dice.permille(40);
        let demand = &self.clients.demands[number];
        let question = Rc::clone(if is_confused { &demand.other } else { &demand.question });
        let call = self.new_call();
        self.clients.calls.insert(call, number);
        let message = Message::Decide { question, budget: BUDGET };
        self.send(Place::Clients, Place::Edge(edge), call, message);
    }

    /// Everybody asks once more.
    pub fn ask_all_again(&mut self) {
        for demand in 0..self.clients.demands.len() {
            self.foresee(1, Event::Ask { demand, attempt: FINAL });
        }
    }

    pub fn tell_client(&mut self, letter: &Letter) {
        let Some(number) = self.clients.calls.get(&letter.call).copied() else { return };
        if let Message::Decided(answer) = &letter.message {
            self.clients.demands[number].is_answered = true;
            assert_eq!(
                answer.id, self.clients.demands[number].id,
                "an answer to another's question"
            );
        }
    }
}
