//! What is asked: payments, claims, bookings and cancels of claims, over many accounts and a few that
//! everybody wants. The same seed asks the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::dice::Dice;

/// Who pays now and then.
const CUSTOMERS: u64 = 2_000;
/// Who pays all the time, and sometimes far more than usual: there core and the edge disagree.
const SPENDERS: u64 = 4;
const TERMINALS: u64 = 300;
/// Over the limit of policy and default alike.
const OVER_LIMIT: u64 = 50_000;
const COLLECTORS: u64 = 60;
/// Articles that never run out; only claims on them are cancelled, so that a cancel which has to be
/// undone finds what it takes again.
const AMPLE: u64 = 4;
const SCARCE: u64 = 6;
const ROOMS: u64 = 8;
const NIGHT: &str = "2015-07-01";
const AMPLE_STOCK: i64 = 100_000_000;
/// How far back a cancel reaches.
const CANCELS_WITHIN: u64 = 400;

/// One request.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: String,
    pub policy: &'static str,
    pub account: String,
    /// Minor units of pounds.
    pub amount: Option<u64>,
    pub terminal: Option<String>,
    /// What it takes of which stock, once it is approved.
    pub take: Option<(String, i64)>,
    /// The number of the request that it cancels.
    pub cancels: Option<usize>,
    attributes: Value,
}

impl Order {
    /// The body of the request.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "id": self.id, "policy": self.policy, "account": self.account,
            "attributes": self.attributes,
        });
        if let Some(amount) = self.amount {
            body["amount"] = amount.into();
            body["currency"] = "GBP".into();
        }
        body
    }

    /// The same id for something else.
    pub fn other_body(&self) -> Value {
        let mut body = self.body();
        body["account"] = format!("{}-other", self.account).into();
        body
    }
}

/// All requests of a seed.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub seed: u64,
}

impl Demand {
    /// The request of this number.
    pub fn order(self, number: usize) -> Order {
        let mut dice = Dice::new(self.seed, number as u64);
        match dice.roll(100) {
            0..55 => payment(number, &mut dice),
            55..78 => claim(number, &mut dice),
            78..92 => booking(number, &mut dice),
            _ => self.cancel(number, &mut dice),
        }
    }

    /// The number of a request, from its id.
    pub fn number(id: &str) -> Option<usize> {
        id.strip_prefix("order-")?.parse().ok()
    }

    /// The body of this number, and one for something else.
    pub fn bodies(self, number: usize) -> (Value, Value) {
        let order = self.order(number);
        (order.body(), order.other_body())
    }

    /// What there is at first, where `expected` requests are: some of it runs out.
    pub fn stock(expected: usize) -> BTreeMap<String, i64> {
        let expected = i64::try_from(expected).unwrap();
        let ample = (0..AMPLE).map(|article| (format!("sku:ample-{article}"), AMPLE_STOCK));
        let scarce = (0..SCARCE).map(|article| (format!("sku:scarce-{article}"), expected / 100));
        let rooms = (0..ROOMS).map(|room| (format!("room:resort:R{room}:{NIGHT}"), expected / 100));
        ample.chain(scarce).chain(rooms).collect()
    }

    /// Of a claim on what is ample, a while ago; where there was none, a payment.
    fn cancel(self, number: usize, dice: &mut Dice) -> Order {
        let back = usize::try_from(1 + dice.roll(CANCELS_WITHIN)).unwrap();
        let cancelled = number.checked_sub(back).and_then(|number| {
            let mut dice = Dice::new(self.seed, number as u64);
            let is_claim = (55..78).contains(&dice.roll(100));
            is_claim.then(|| claim(number, &mut dice)).map(|claim| (number, claim))
        });
        match cancelled {
            Some((of, claim)) if claim.take.as_ref().unwrap().0.contains("ample") => Order {
                take: None,
                cancels: Some(of),
                attributes: json!({ "cancels": claim.id }),
                ..Order { id: id(number), ..claim }
            },
            _ => payment(number, dice),
        }
    }
}

/// It has too few digits for a card number.
fn id(number: usize) -> String {
    format!("order-{number}")
}

fn payment(number: usize, dice: &mut Dice) -> Order {
    let is_spender = dice.is_within(20);
    let account = if is_spender {
        format!("spender-{}", dice.roll(SPENDERS))
    } else {
        format!("customer-{}", dice.roll(CUSTOMERS))
    };
    let amount = match dice.roll(100) {
        0..3 => OVER_LIMIT,
        3..15 if is_spender => 15_000,
        _ => 1_000 + dice.roll(1_000),
    };
    let terminal = format!("t{}", dice.roll(TERMINALS));
    let attributes = json!({ "terminal": terminal });
    Order {
        id: id(number),
        policy: "payment",
        account,
        amount: Some(amount),
        terminal: Some(terminal),
        take: None,
        cancels: None,
        attributes,
    }
}

fn claim(number: usize, dice: &mut Dice) -> Order {
    let account = format!("collector-{}", dice.roll(COLLECTORS));
    let sku = if dice.is_within(50) {
        format!("ample-{}", dice.roll(AMPLE))
    } else {
        format!("scarce-{}", dice.roll(SCARCE))
    };
    let qty = 1 + dice.roll(3);
    Order {
        id: id(number),
        policy: "claim",
        account,
        amount: None,
        terminal: None,
        take: Some((format!("sku:{sku}"), qty.cast_signed())),
        cancels: None,
        attributes: json!({ "sku": sku, "qty": qty }),
    }
}

fn booking(number: usize, dice: &mut Dice) -> Order {
    let room = format!("R{}", dice.roll(ROOMS));
    Order {
        id: id(number),
        policy: "booking",
        account: format!("guest-{}", dice.roll(CUSTOMERS)),
        amount: Some(10_000 + dice.roll(10_000)),
        terminal: None,
        take: Some((format!("room:resort:{room}:{NIGHT}"), 1)),
        cancels: None,
        attributes: json!({ "hotel": "resort", "room_type": room, "arrive_on": NIGHT }),
    }
}
