//! Requests that nobody sent: every attribute present and absent, of every type, around every number
//! and text that the rule itself names. The same rule meets the same ones every time.

use std::collections::BTreeSet;
use std::time::Duration;

use backstop_contract::request::Money;
use backstop_contract::validity::{ATTRIBUTES_MAX, INTEGER_MAX, TEXT_BYTES_MAX};
use backstop_contract::{Attributes, EventTime, Request, Timestamp, Value, Verdict};
use backstop_engine::History;
use backstop_lua::{Rules, Scene};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// 2018-08-01T12:00:00Z: windows end there, give or take a week.
const NOON: i64 = 1_533_124_800_000;
const HOUR: i64 = 3_600_000;
/// The one policy whose requests may come without an amount.
const MONEY_OPTIONAL: &str = "claim";

/// What requests are made of.
#[derive(Clone, Debug, Default)]
pub struct Matter {
    /// The policy that they ask for.
    pub policy: String,
    /// The attributes that the rule reads.
    pub fields: Vec<String>,
    /// Texts that the rule names.
    pub texts: BTreeSet<String>,
    /// Numbers that the rule names.
    pub numbers: Vec<f64>,
}

/// What the requests of a policy are made of, as far as its files say.
pub fn matter(rules: &Rules, policy: &str) -> Matter {
    let says = [rules.policy_says(policy), rules.default_says(policy)];
    let fields: BTreeSet<String> =
        says.iter().flatten().flat_map(|says| says.fields).cloned().collect();
    let fields = fields.into_iter().collect();
    Matter { policy: policy.to_owned(), fields, ..Matter::default() }
}

/// So many scenes; the first has none of the attributes, the next each of them alone.
pub fn scenes(matter: &Matter, count: usize) -> Vec<Scene> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(7));
    (0..count).map(|number| scene(matter, number, &mut dice)).collect()
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        let bound = std::cmp::max(bound, 1) as u64;
        usize::try_from(self.0.next_u64() % bound).unwrap_or_default()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let place = self.below(from.len());
        from.get(place)
    }
}

fn scene(matter: &Matter, number: usize, dice: &mut Dice) -> Scene {
    let at = Timestamp::from_millis(NOON + HOUR * i64::try_from(dice.below(168)).unwrap_or(0));
    let texts: Vec<&str> = matter.texts.iter().map(String::as_str).collect();
    let long = "x".repeat(TEXT_BYTES_MAX);
    let fields = matter.fields.iter().take(ATTRIBUTES_MAX).enumerate();
    let present = fields.filter_map(|(place, name)| {
        let is_there = match number {
            0 => false,
            number if number <= matter.fields.len() => place + 1 == number,
            _ => !dice.one_in(4),
        };
        is_there.then(|| (name.as_str(), value(dice, &texts, &matter.numbers, &long)))
    });
    let attributes = present.collect::<Attributes>();
    let has_money = matter.policy != MONEY_OPTIONAL || dice.one_in(2);
    let account = format!("customer-{}", dice.below(1_000));
    let request = Request {
        id: format!("made-{number}"),
        policy: matter.policy.clone(),
        account,
        money: has_money.then(|| Money {
            amount: amount(dice, &matter.numbers),
            currency: if dice.one_in(8) { "JPY".to_owned() } else { "GBP".to_owned() },
        }),
        at: (!dice.one_in(4)).then(|| EventTime { timestamp: at, text: at.to_string() }),
        attributes,
    };
    let mut scene = Scene::bare(request);
    scene.question.received_at = at;
    scene.otherwise = history(dice, at);
    scene.level = [None, Some(0), Some(1), Some(1_000)].get(dice.below(4)).copied().flatten();
    scene
}

fn value<'a>(dice: &mut Dice, texts: &[&'a str], numbers: &[f64], long: &'a str) -> Value<'a> {
    const PLAIN: [&str; 4] = ["3156", "resort", "2015-07-01", ""];
    match dice.below(12) {
        0 => Value::Flag(true),
        1 => Value::Flag(false),
        2 => Value::Text(long),
        3 => Value::Number(0.5),
        4 => Value::Integer(-1),
        5 | 6 => Value::Integer(i64::try_from(amount(dice, numbers)).unwrap_or(1)),
        7 | 8 => Value::Text(dice.pick(&PLAIN).copied().unwrap_or_default()),
        _ => Value::Text(dice.pick(texts).copied().unwrap_or("3156")),
    }
}

/// An amount at, next to or far from a number that the rule names.
fn amount(dice: &mut Dice, numbers: &[f64]) -> u64 {
    let named = dice.pick(numbers).copied().filter(|number| *number >= 0.0).unwrap_or(100.0);
    // Saturates, and is bounded next.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let named = std::cmp::min(named as u64, INTEGER_MAX);
    match dice.below(6) {
        0 => 0,
        1 => named,
        2 => std::cmp::min(named + 1, INTEGER_MAX),
        3 => named.saturating_sub(1),
        4 => INTEGER_MAX,
        _ => dice.below(100_000) as u64,
    }
}

/// None, a quiet past, a busy one, or one full of fraud.
fn history(dice: &mut Dice, now: Timestamp) -> History {
    let mut history = History::default();
    let (events, fraud_in) = [(0, 0), (3, 0), (60, 0), (60, 4), (400, 2)]
        .get(dice.below(5))
        .copied()
        .unwrap_or_default();
    let span = if dice.one_in(2) { Duration::from_hours(40 * 24) } else { Duration::from_hours(1) };
    let span = usize::try_from(span.as_millis()).unwrap_or(1);
    for event in 0..events {
        let ago = i64::try_from(dice.below(span)).unwrap_or(0);
        let at = Timestamp::from_millis(now.as_millis() - ago);
        let amount = dice.below(10_000) as u64;
        history.record(at, amount, Verdict::Approve, Some(&format!("terminal:{}", event % 90)));
        if fraud_in > 0 && dice.one_in(fraud_in) {
            history.label(at, true, None);
        }
    }
    history
}
