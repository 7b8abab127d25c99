//! The sums against a model that keeps nothing but the ledger, and the limits one by one.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn quantities<const N: usize>(pairs: [(&str, u64); N]) -> BTreeMap<String, u64> {
    pairs.map(|(key, quantity)| (key.to_owned(), quantity)).into()
}

fn levels<const N: usize>(pairs: [(&str, i64); N]) -> BTreeMap<String, i64> {
    pairs.map(|(key, level)| (key.to_owned(), level)).into()
}

fn take(quantity: u64) -> Moves {
    Moves { take: quantities([("sku", quantity)]), ..Moves::default() }
}

fn credit(quantity: u64) -> Moves {
    Moves { credit: quantities([("coins", quantity)]), ..Moves::default() }
}

fn debit(quantity: u64) -> Moves {
    Moves { debit: quantities([("coins", quantity)]), ..Moves::default() }
}

/// Thirty in stock, and ten coins in the account `a`.
fn holdings() -> Holdings {
    let mut holdings = Holdings::default();
    holdings.put_stock("sku", 30);
    holdings.put_balance("a", "coins", 10);
    holdings
}

#[test]
fn what_moved_is_shown_as_it_is_then() {
    let mut holdings = holdings();
    let moves = Moves { credit: quantities([("coins", 6), ("gems", 1)]), ..take(30) };
    let after = holdings.apply("a", &moves).unwrap();
    assert_eq!(after.stock, levels([("sku", 0)]));
    assert_eq!(after.balance, levels([("coins", 16), ("gems", 1)]));
    assert_eq!((holdings.stock("sku"), holdings.balance("a", "coins")), (0, 16));
    assert_eq!((holdings.stock("other"), holdings.balance("b", "coins")), (0, 0));
    assert_eq!(holdings.apply("a", &Moves::default()), Ok(Effects::default()));
}

/// One chest was open to all, and its last coin was credited to everybody who asked: the credit did
/// not depend on the take. Whoever comes to an empty chest gets a word, and no coins.
#[test]
fn an_empty_chest_credits_nothing() {
    let mut holdings = holdings();
    let moves = Moves { credit: quantities([("coins", 1)]), ..take(16) };
    assert!(holdings.apply("a", &moves).is_ok());
    let before = holdings.clone();
    assert_eq!(holdings.apply("a", &moves), Err(Shortage::OutOfStock));
    assert_eq!(holdings, before);
}

#[test]
fn both_sides_of_every_limit() {
    let huge = LEVEL_MAX.unsigned_abs();
    for (moves, expected) in [
        (take(30), None),
        (take(31), Some(Shortage::OutOfStock)),
        (take(u64::MAX), Some(Shortage::OutOfStock)),
        (debit(10), None),
        (debit(11), Some(Shortage::InsufficientBalance)),
        (debit(u64::MAX), Some(Shortage::InsufficientBalance)),
        (Moves { credit: quantities([("coins", 1)]), ..debit(11) }, None),
        (
            Moves { credit: quantities([("coins", 1)]), ..debit(12) },
            Some(Shortage::InsufficientBalance),
        ),
        (credit(huge - 10), None),
        (credit(huge - 9), Some(Shortage::OverLimit)),
        (credit(u64::MAX), Some(Shortage::OverLimit)),
        (Moves { debit: quantities([("coins", u64::MAX)]), ..credit(u64::MAX) }, None),
        // Both are short, and the stock speaks first.
        (Moves { debit: quantities([("coins", 11)]), ..take(31) }, Some(Shortage::OutOfStock)),
    ] {
        let mut holdings = holdings();
        let outcome = holdings.apply("a", &moves);
        assert_eq!(outcome.err(), expected, "{moves:?}");
        if expected.is_some() {
            assert_eq!(holdings, self::holdings(), "nothing moves: {moves:?}");
        }
    }
}

#[test]
fn a_balance_becomes_negative_by_a_release_and_no_other_way() {
    let mut holdings = holdings();
    assert!(holdings.apply("a", &credit(5)).is_ok());
    assert!(holdings.apply("a", &debit(15)).is_ok());
    let after = holdings.release("a", &credit(5)).unwrap();
    assert_eq!(after.balance, levels([("coins", -5)]));
    assert_eq!(holdings.apply("a", &debit(1)), Err(Shortage::InsufficientBalance));
    let some = Moves { debit: quantities([("coins", 1)]), ..credit(5) };
    assert_eq!(holdings.apply("a", &some), Err(Shortage::InsufficientBalance));
    assert_eq!(holdings.apply("a", &credit(3)).unwrap().balance, levels([("coins", -2)]));
    let enough = Moves { debit: quantities([("coins", 1)]), ..credit(3) };
    assert_eq!(holdings.apply("a", &enough).unwrap().balance, levels([("coins", 0)]));
}

#[test]
fn a_release_that_would_pass_a_limit_changes_nothing() {
    for moves in [take(LEVEL_MAX.unsigned_abs()), credit(u64::MAX), debit(u64::MAX)] {
        let mut holdings = holdings();
        assert_eq!(holdings.release("a", &moves), Err(Shortage::OverLimit), "{moves:?}");
        assert_eq!(holdings, self::holdings());
    }
}

#[test]
fn an_account_holds_so_many_units_and_no_more() {
    let mut holdings = holdings();
    for unit in 1..UNITS_MAX {
        holdings.put_balance("a", &format!("unit-{unit}"), 1);
    }
    let gems = Moves { credit: quantities([("gems", 1)]), ..Moves::default() };
    assert_eq!(holdings.apply("a", &gems), Err(Shortage::TooManyUnits));
    assert!(holdings.apply("b", &gems).is_ok(), "that is another account");
    holdings.put_balance("a", "one-too-many", 1);
    assert!(holdings.apply("a", &credit(1)).is_ok(), "what it has still moves");

    let names: BTreeMap<_, _> = (0..=UNITS_MAX).map(|unit| (unit.to_string(), 1)).collect();
    let mut moves = Moves { credit: names, ..Moves::default() };
    assert_eq!(holdings.apply("c", &moves), Err(Shortage::TooManyUnits));
    moves.credit.pop_last();
    assert!(holdings.apply("c", &moves).is_ok());
}

/// A client may call its account what it likes. Under this name its ledger would sum to nothing,
/// whatever it was credited.
#[test]
fn the_house_itself_is_credited_nothing() {
    for moves in [credit(1), debit(1)] {
        let mut holdings = holdings();
        assert_eq!(holdings.apply(HOUSE, &moves), Err(Shortage::NoBalance));
        assert_eq!(holdings.release(HOUSE, &moves), Err(Shortage::NoBalance));
    }
    assert!(holdings().apply(HOUSE, &take(1)).is_ok(), "stock has no owner");
}

/// A client was told yes by another tier: what it was promised is posted, but there is no more in stock
/// than there is.
#[test]
fn what_a_client_was_told_is_moved_as_far_as_there_is_something_to_move() {
    let huge = LEVEL_MAX.unsigned_abs();
    let missing = |why, of: &str, quantity| vec![Missing { why, of: of.to_owned(), quantity }];
    for (moves, stock, coins, missing) in [
        (take(30), 0, 10, vec![]),
        (take(31), 0, 10, missing(Shortage::OutOfStock, "sku", 1)),
        (take(u64::MAX), 0, 10, missing(Shortage::OutOfStock, "sku", u64::MAX - 30)),
        (debit(10), 30, 0, vec![]),
        (debit(11), 30, -1, vec![]),
        (debit(huge + 10), 30, -LEVEL_MAX, vec![]),
        (debit(huge + 11), 30, 10, missing(Shortage::OverLimit, "coins", huge + 11)),
        (credit(huge - 10), 30, LEVEL_MAX, vec![]),
        (credit(huge - 9), 30, 10, missing(Shortage::OverLimit, "coins", huge - 9)),
        (Moves { debit: quantities([("coins", 20)]), ..credit(4) }, 30, -6, vec![]),
    ] {
        let mut holdings = holdings();
        let forced = holdings.force("a", &moves);
        assert_eq!((holdings.stock("sku"), holdings.balance("a", "coins")), (stock, coins));
        assert_eq!(forced.missing, missing, "{moves:?}");
        let whole = forced.moved == moves;
        assert_eq!(whole, missing.is_empty(), "{moves:?}");
    }
    let nobody = holdings().force(HOUSE, &credit(1));
    assert_eq!(nobody.missing, missing(Shortage::NoBalance, "coins", 1));
    let missing = nobody.missing.first().unwrap().to_string();
    assert_eq!(missing, "no_balance coins 1");
}

#[test]
fn an_account_that_holds_too_many_units_is_credited_no_other_whatever_a_client_was_told() {
    let mut holdings = Holdings::default();
    for unit in 1..=UNITS_MAX {
        holdings.put_balance("a", &format!("unit-{unit}"), 1);
    }
    let forced = holdings.force("a", &Moves { debit: quantities([("unit-1", 3)]), ..credit(1) });
    assert_eq!(forced.moved.debit, quantities([("unit-1", 3)]));
    assert_eq!(forced.effects.balance, levels([("unit-1", -2)]));
    let why = Shortage::TooManyUnits;
    assert_eq!(forced.missing, [Missing { why, of: "coins".to_owned(), quantity: 1 }]);
}

#[test]
fn the_ledger_runs_from_the_house_and_back() {
    let moves = Moves { debit: quantities([("coins", 1)]), ..credit(6) };
    let line = |debit, credit, amount| Line { debit, credit, unit: "coins", amount };
    let lines: Vec<_> = moves.lines("a").collect();
    assert_eq!(lines, [line(HOUSE, "a", 6), line("a", HOUSE, 1)]);
    let lines: Vec<_> = moves.opposite_lines("a").collect();
    assert_eq!(lines, [line("a", HOUSE, 6), line(HOUSE, "a", 1)]);
}

#[test]
fn a_shortage_has_a_word_of_its_own() {
    let all = [
        Shortage::OutOfStock,
        Shortage::InsufficientBalance,
        Shortage::OverLimit,
        Shortage::TooManyUnits,
        Shortage::NoBalance,
    ];
    let words: std::collections::BTreeSet<_> = all.map(Shortage::as_str).into();
    assert_eq!(words.len(), all.len());
    assert!(words.contains("out_of_stock") && words.contains("insufficient_balance"));
}

#[test]
fn moves_are_kept_as_json_without_what_is_not_there() {
    for (moves, json) in [
        (Moves::default(), "{}"),
        (take(6), r#"{"take":{"sku":6}}"#),
        (
            Moves { debit: quantities([("gems", 2)]), ..credit(1) },
            r#"{"credit":{"coins":1},"debit":{"gems":2}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&moves).unwrap(), json);
        assert_eq!(serde_json::from_str::<Moves>(json).unwrap(), moves);
    }
}

const ACCOUNTS: [&str; 3] = ["a", "b", "c"];
const UNITS: [&str; 2] = ["coins", "gems"];
const SKUS: [&str; 2] = ["sku:1", "sku:2"];
const STOCKED: i64 = 40;

fn some(keys: [&'static str; 2]) -> impl Strategy<Value = BTreeMap<String, u64>> {
    btree_map(select(keys.to_vec()).prop_map(str::to_owned), 1..15_u64, 0..=2)
}

prop_compose! {
    fn any_moves()(take in some(SKUS), credit in some(UNITS), debit in some(UNITS)) -> Moves {
        Moves { take, credit, debit }
    }
}

/// Steps: an account's moves, whether they have to be, and sometimes which of those made so far is
/// released then.
fn steps() -> impl Strategy<Value = Vec<(&'static str, Moves, bool, Option<Index>)>> {
    vec((select(ACCOUNTS.to_vec()), any_moves(), any::<bool>(), any::<Option<Index>>()), 0..40)
}

/// The model: nothing but what was taken and the lines of the ledger, summed when asked.
#[derive(Default)]
struct Books {
    taken: Vec<(String, i64)>,
    /// Account, unit and amount, one for each side of a line.
    sides: Vec<(String, String, i64)>,
}

impl Books {
    fn enter(&mut self, account: &str, moves: &Moves, sign: i64) {
        let taken = moves.take.iter().map(|(key, q)| (key.clone(), sign * q.cast_signed()));
        self.taken.extend(taken);
        let lines: Vec<Line<'_>> = match sign {
            1 => moves.lines(account).collect(),
            _ => moves.opposite_lines(account).collect(),
        };
        for line in lines {
            let amount = line.amount.cast_signed();
            self.sides.push((line.credit.to_owned(), line.unit.to_owned(), amount));
            self.sides.push((line.debit.to_owned(), line.unit.to_owned(), -amount));
        }
    }

    fn taken(&self, key: &str) -> i64 {
        self.taken.iter().filter(|(its, _)| its == key).map(|(_, quantity)| quantity).sum()
    }

    fn balance(&self, account: &str, unit: &str) -> i64 {
        let its = self.sides.iter().filter(|(whose, of, _)| whose == account && of == unit);
        its.map(|(_, _, amount)| amount).sum()
    }
}

fn stocked() -> Holdings {
    let mut holdings = Holdings::default();
    for sku in SKUS {
        holdings.put_stock(sku, STOCKED);
    }
    holdings
}

/// Small, at the limits of levels and of integers, or anything.
fn level() -> impl Strategy<Value = i64> {
    let ends = vec![0, -1, i64::MIN, i64::MAX, -LEVEL_MAX, LEVEL_MAX, LEVEL_MAX + 1];
    prop_oneof![-9..9_i64, select(ends), any::<i64>()]
}

fn quantity() -> impl Strategy<Value = u64> {
    prop_oneof![Just(u64::MAX), level().prop_map(i64::unsigned_abs)]
}

proptest! {
    #[test]
    fn nothing_is_made_and_nothing_is_lost(steps in steps()) {
        let (mut holdings, mut books) = (stocked(), Books::default());
        let mut made: Vec<(&str, Moves)> = Vec::new();
        for (account, moves, is_forced, released) in steps {
            let before = holdings.clone();
            if is_forced {
                let Forced { moved, missing, .. } = holdings.force(account, &moves);
                let short: u64 = missing.iter().map(|missing| missing.quantity).sum();
                let sum = |moves: &Moves| moves.take.values().sum::<u64>();
                prop_assert_eq!(sum(&moved) + short, sum(&moves), "stock alone runs out");
                prop_assert_eq!((&moved.credit, &moved.debit), (&moves.credit, &moves.debit));
                books.enter(account, &moved, 1);
                made.push((account, moved));
            } else if holdings.apply(account, &moves).is_ok() {
                let covers = |unit: &String| holdings.balance(account, unit) >= 0;
                prop_assert!(moves.debit.keys().all(covers), "only what is there is debited");
                books.enter(account, &moves, 1);
                made.push((account, moves));
            } else {
                prop_assert_eq!(&holdings, &before, "all or nothing");
            }
            if let Some(which) = released.filter(|_| !made.is_empty()) {
                let (account, moves) = made.swap_remove(which.index(made.len()));
                holdings.release(account, &moves).unwrap();
                books.enter(account, &moves, -1);
            }
            for sku in SKUS {
                prop_assert!(holdings.stock(sku) >= 0);
                prop_assert_eq!(holdings.stock(sku) + books.taken(sku), STOCKED);
            }
            for unit in UNITS {
                let held = |account| holdings.balance(account, unit);
                for account in ACCOUNTS {
                    prop_assert_eq!(held(account), books.balance(account, unit));
                }
                let all: i64 = ACCOUNTS.map(held).iter().sum();
                prop_assert_eq!(all + books.balance(HOUSE, unit), 0, "the ledger sums to zero");
            }
        }
    }

    #[test]
    fn a_release_is_the_reverse_of_its_moves(
        moves in vec((select(ACCOUNTS.to_vec()), any_moves()), 1..20),
    ) {
        let mut holdings = stocked();
        let mut made = Vec::new();
        for (account, moves) in moves {
            let before = holdings.clone();
            if holdings.apply(account, &moves).is_ok() {
                made.push((account, moves, before));
            }
        }
        for (account, moves, before) in made.into_iter().rev() {
            let after = holdings.release(account, &moves).unwrap();
            let is_as_before = |(key, level): (&String, &i64)| before.stock(key) == *level;
            prop_assert!(after.stock.iter().all(is_as_before));
            for sku in SKUS {
                prop_assert_eq!(holdings.stock(sku), before.stock(sku));
            }
            for (account, unit) in ACCOUNTS.iter().flat_map(|a| UNITS.map(|unit| (a, unit))) {
                prop_assert_eq!(holdings.balance(account, unit), before.balance(account, unit));
            }
        }
    }

    #[test]
    fn no_numbers_overflow(
        level in level(),
        balance in level(),
        quantity in quantity(),
        credited in quantity(),
        debited in quantity(),
    ) {
        let moves = Moves {
            take: quantities([("sku", quantity)]),
            credit: quantities([("coins", credited)]),
            debit: quantities([("coins", debited)]),
        };
        let mut before = Holdings::default();
        before.put_stock("sku", level);
        before.put_balance("a", "coins", balance);
        let forced = Ok(before.clone().force("a", &moves).effects);
        for outcome in
            [before.clone().apply("a", &moves), before.clone().release("a", &moves), forced]
        {
            let levels = outcome.iter().flat_map(|after| after.stock.values().chain(after.balance.values()));
            for level in levels {
                prop_assert!((-LEVEL_MAX..=LEVEL_MAX).contains(level));
            }
        }
    }
}
