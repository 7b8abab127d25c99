//! What hostile callers send: a number is an id, and each id has several bodies. Both follow from the
//! number alone, so that whoever checks the books knows what was asked without having kept it.

use std::collections::{HashMap, HashSet};

use backstop_contract::Question;

use super::*;
use crate::fixture::{cancel, claim, spend, text, wish};

/// Bodies under one id: the usual one, and changed ones.
pub(crate) const BODIES: u64 = 3;
pub(crate) const ARTICLES: [&str; 3] = ["plenty", "scarce", "none"];
pub(crate) const TERMINALS: u64 = 8;
const CUSTOMERS: u64 = 16;
/// A cancel is of one of so many ids before it, some of which are still under way.
const CANCELS_BACK_MAX: u64 = 16;
/// No id before this one is a cancel.
const FIRST_CANCEL: u64 = 8;

/// Numbers that look random and are the same in every run: the `SplitMix64` of Steele, Lea and Flood.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Self(seed);
        // Seeds that are neighbours must not begin with neighbours.
        dice.0 = dice.roll();
        dice
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// One id in one of its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) body: u64,
}

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Claim { article: &'static str, quantity: i64 },
    Spend { coins: i64 },
    Pay { terminal: u64 },
    Cancel { target: u64 },
}

pub(crate) fn id(number: u64) -> String {
    format!("txn-{number:07}")
}

impl Request {
    /// In the body that it has most of the time.
    pub(crate) const fn usual(number: u64) -> Self {
        Self { number, body: 0 }
    }

    /// The same kind for every body of an id, and never the same wish.
    pub(crate) fn wish(self) -> Wish {
        let mut dice = Dice::of(self.number);
        let kind = dice.below(20);
        let mut below = |end| (dice.below(end) + self.body) % end;
        match kind {
            14..=19 if self.number >= FIRST_CANCEL => {
                let back = 1 + below(std::cmp::min(self.number, CANCELS_BACK_MAX));
                Wish::Cancel { target: self.number - back }
            }
            // Thirteen is the one that is declined.
            9..=11 => match below(4).cast_signed() {
                0 => Wish::Spend { coins: 13 },
                coins => Wish::Spend { coins },
            },
            12..=13 => Wish::Pay { terminal: below(TERMINALS) },
            _ => {
                let quantity = below(5).cast_signed();
                let article = dice.pick(&ARTICLES);
                Wish::Claim { article, quantity }
            }
        }
    }

    pub(crate) fn account(self) -> String {
        let mut dice = Dice::of(!self.number);
        match self.wish() {
            Wish::Cancel { .. } if dice.below(8) == 0 => "stranger".to_owned(),
            Wish::Cancel { target } => Self::usual(target).account(),
            Wish::Spend { .. } if dice.below(4) == 0 => "poor".to_owned(),
            _ => format!("customer-{}", dice.below(CUSTOMERS)),
        }
    }

    /// A cancel is a decision of the policy of what it cancels.
    pub(crate) fn policy(self) -> &'static str {
        match self.wish() {
            Wish::Claim { .. } => "chest",
            Wish::Spend { .. } => "spend",
            Wish::Pay { .. } => "payment",
            Wish::Cancel { target } => match Self::usual(target).wish() {
                // A payment without a terminal breaks, and it moved nothing anyway.
                Wish::Pay { .. } => "chest",
                _ => Self::usual(target).policy(),
            },
        }
    }

    pub(crate) fn question(self) -> Question {
        let (id, account) = (id(self.number), self.account());
        match self.wish() {
            Wish::Claim { article, quantity } => claim(&id, &account, article, quantity),
            Wish::Spend { coins } => spend(&id, &account, coins),
            Wish::Pay { terminal } => {
                wish(&id, "payment", &account, &[("terminal", text(&terminal.to_string()))])
            }
            Wish::Cancel { target } => cancel(&id, self.policy(), &account, &super::id(target)),
        }
    }
}

/// What callers were told. It panics where two of them were told different things.
#[derive(Default)]
pub(crate) struct Heard {
    answers: HashMap<u64, (Request, Decision)>,
    /// Ids of which somebody was told that it is decided just now.
    fresh: HashSet<u64>,
    reused: HashSet<Request>,
}

impl Heard {
    /// Takes note of an outcome; `false` where it is none, and the caller has to ask again.
    pub(crate) fn note(&mut self, request: Request, outcome: Result<Outcome, CoreError>) -> bool {
        let answer = match outcome {
            Ok(Outcome::Decided(Fresh { answer, .. })) => {
                assert!(!answer.replayed && self.fresh.insert(request.number), "{request:?} twice");
                answer
            }
            Ok(Outcome::Replayed(answer)) => {
                assert!(answer.replayed, "{request:?}");
                Decision { replayed: false, ..answer }
            }
            Ok(Outcome::IdReused) => {
                self.reused.insert(request);
                return true;
            }
            Err(CoreError::TooLate) | Ok(_) => panic!("nobody asked for that: {request:?}"),
            Err(_) => return false,
        };
        let (first, known) =
            self.answers.entry(request.number).or_insert_with(|| (request, answer.clone()));
        assert_eq!((*first, &*known), (request, &answer), "one id, one answer");
        true
    }

    /// How many ids somebody had a new decision for.
    pub(crate) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// How many changed bodies were refused.
    pub(crate) fn reused(&self) -> usize {
        self.reused.len()
    }

    /// Whatever anybody was told is in the books.
    pub(crate) fn check(&self, books: &Audited) {
        for (number, (request, answer)) in &self.answers {
            let (decided_for, decided) = &books.decided[number];
            assert_eq!((decided_for, &decided.answer), (request, answer));
        }
        for request in &self.reused {
            assert_ne!(books.decided[&request.number].0, *request, "its own id");
        }
    }
}
