//! What a decision moves: stock out, units of account in and out. Plain sums; where they are kept is
//! core's business.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use backstop_contract::Effects;
use backstop_contract::validity::INTEGER_MAX;
use serde::{Deserialize, Serialize};

/// The most units that one account may hold balances in.
pub const UNITS_MAX: usize = 64;
/// The furthest a level or a balance may be from zero: what every JSON reader holds exactly.
pub const LEVEL_MAX: i64 = INTEGER_MAX.cast_signed();
/// The other side of every credit and debit. It has a ledger, and no balance: it would be the hottest
/// row of all.
pub const HOUSE: &str = "@house";

/// What a policy wants to move for a decision. Each is a quantity by key, and never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moves {
    /// Taken out of stock, by the key of the stock.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub take: BTreeMap<String, u64>,
    /// Credited to the account of the request, by unit such as `coins`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub credit: BTreeMap<String, u64>,
    /// Debited from the account of the request, by unit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub debit: BTreeMap<String, u64>,
}

impl Moves {
    /// Whether nothing is to be moved.
    pub fn is_empty(&self) -> bool {
        self.take.is_empty() && self.credit.is_empty() && self.debit.is_empty()
    }

    /// The lines of the ledger when these moves are applied for an account, in the order of units.
    pub fn lines<'a>(&'a self, account: &'a str) -> impl Iterator<Item = Line<'a>> {
        lines(&self.credit, HOUSE, account).chain(lines(&self.debit, account, HOUSE))
    }

    /// The lines that undo them: the same amounts, the other way.
    pub fn opposite_lines<'a>(&'a self, account: &'a str) -> impl Iterator<Item = Line<'a>> {
        self.lines(account).map(|line| Line { debit: line.credit, credit: line.debit, ..line })
    }
}

fn lines<'a>(
    amounts: &'a BTreeMap<String, u64>,
    debit: &'a str,
    credit: &'a str,
) -> impl Iterator<Item = Line<'a>> {
    amounts.iter().map(move |(unit, amount)| Line { debit, credit, unit, amount: *amount })
}

/// One line of the ledger: an amount from one account to another, so that the whole sums to zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The account it leaves.
    pub debit: &'a str,
    /// The account it goes to.
    pub credit: &'a str,
    /// What the amount is counted in.
    pub unit: &'a str,
    /// More than zero.
    pub amount: u64,
}

/// Why moves can not be made. Then none of them is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// A take is over what is left.
    #[error("there is less in stock than is to be taken")]
    OutOfStock,
    /// A debit is over the balance.
    #[error("the balance is less than is to be debited")]
    InsufficientBalance,
    /// A level or a balance would pass [`LEVEL_MAX`].
    #[error("a level or a balance would be over {LEVEL_MAX}")]
    OverLimit,
    /// The account would hold more than [`UNITS_MAX`] units.
    #[error("the account would hold over {UNITS_MAX} units")]
    TooManyUnits,
    /// The account is [`HOUSE`], which has no balance.
    #[error("{HOUSE} has no balance")]
    NoBalance,
}

impl Shortage {
    /// The word among the reasons of the answer.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfStock => "out_of_stock",
            Self::InsufficientBalance => "insufficient_balance",
            Self::OverLimit => "over_limit",
            Self::TooManyUnits => "too_many_units",
            Self::NoBalance => "no_balance",
        }
    }
}

/// What was made of moves that had to be made as far as they can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forced {
    /// What did move.
    pub moved: Moves,
    /// How it stands then.
    pub effects: Effects,
    /// What did not move, in the order of keys, stock first.
    pub missing: Vec<Missing>,
}

/// A move that was not made, or not in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Why not.
    pub why: Shortage,
    /// The stock, or the unit of account.
    pub of: String,
    /// How much of it.
    pub quantity: u64,
}

/// As `out_of_stock sku:85123A 6`: for people.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.why.as_str(), self.of, self.quantity)
    }
}

/// The stock and the balances of one merchant, as far as they were loaded. What was not is zero.
///
/// Every unit of an account must be loaded before something moves on it, or the account could come to
/// hold too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    stock: BTreeMap<String, i64>,
    /// By account, then by unit.
    balances: BTreeMap<String, BTreeMap<String, i64>>,
}

/// Which way moves are made.
#[derive(Clone, Copy)]
enum Way {
    Forth,
    Back,
}

impl Holdings {
    /// Puts the level of a stock as it was loaded, or set.
    pub fn put_stock(&mut self, key: &str, level: i64) {
        put(&mut self.stock, key, level);
    }

    /// Puts the balance of an account as it was loaded.
    pub fn put_balance(&mut self, account: &str, unit: &str, balance: i64) {
        put(self.balances_of(account), unit, balance);
    }

    /// What is left of a stock.
    pub fn stock(&self, key: &str) -> i64 {
        self.stock.get(key).copied().unwrap_or_default()
    }

    /// What an account holds in a unit.
    pub fn balance(&self, account: &str, unit: &str) -> i64 {
        let balances = self.balances.get(account);
        balances.and_then(|balances| balances.get(unit)).copied().unwrap_or_default()
    }

    /// All that an account holds, by unit.
    pub fn balances(&self, account: &str) -> BTreeMap<String, i64> {
        self.balances.get(account).cloned().unwrap_or_default()
    }

    /// Makes all the moves of a decision for an account, or none of them. What is credited may pay for
    /// what is debited. Returns what moved, as it is now.
    pub fn apply(&mut self, account: &str, moves: &Moves) -> Result<Effects, Shortage> {
        self.make(account, moves, Way::Forth)
    }

    /// Undoes all the moves of a decision, or, where that would pass a limit, none of them. What was
    /// credited goes back even when it is spent: so a balance becomes negative.
    pub fn release(&mut self, account: &str, moves: &Moves) -> Result<Effects, Shortage> {
        self.make(account, moves, Way::Back)
    }

    /// Makes the moves of a decision that a client was told already: a debit takes a balance below zero,
    /// of stock what there is is taken. What passes a limit is left out.
    pub fn force(&mut self, account: &str, moves: &Moves) -> Forced {
        let mut forced = Forced::default();
        self.force_stock(&moves.take, &mut forced);
        let units: BTreeSet<&String> = moves.credit.keys().chain(moves.debit.keys()).collect();
        for unit in units {
            self.force_balance(account, unit, moves, &mut forced);
        }
        forced
    }

    fn force_stock(&mut self, take: &BTreeMap<String, u64>, forced: &mut Forced) {
        for (key, wanted) in take {
            let level = self.stock(key);
            let there = std::cmp::min(*wanted, u64::try_from(level).unwrap_or(0));
            let left = level.saturating_sub_unsigned(there);
            let (taken, why) = match within_limit(i128::from(left)) {
                Ok(_) => (there, Shortage::OutOfStock),
                Err(why) => (0, why),
            };
            if taken < *wanted {
                let quantity = wanted - taken;
                forced.missing.push(Missing { why, of: key.clone(), quantity });
            }
            if taken > 0 {
                put(&mut self.stock, key, left);
                forced.effects.stock.insert(key.clone(), left);
                forced.moved.take.insert(key.clone(), taken);
            }
        }
    }

    /// A unit moves in full or not at all.
    fn force_balance(&mut self, account: &str, unit: &str, moves: &Moves, forced: &mut Forced) {
        let (credit, debit) = (moves.credit.get(unit).copied(), moves.debit.get(unit).copied());
        match self.balance_forced(account, unit, credit, debit) {
            Ok(balance) => {
                put(self.balances_of(account), unit, balance);
                forced.effects.balance.insert(unit.to_owned(), balance);
                forced.moved.credit.extend(credit.map(|credit| (unit.to_owned(), credit)));
                forced.moved.debit.extend(debit.map(|debit| (unit.to_owned(), debit)));
            }
            Err(why) => {
                let quantity = credit.unwrap_or(0).abs_diff(debit.unwrap_or(0));
                forced.missing.push(Missing { why, of: unit.to_owned(), quantity });
            }
        }
    }

    fn balance_forced(
        &self,
        account: &str,
        unit: &str,
        credit: Option<u64>,
        debit: Option<u64>,
    ) -> Result<i64, Shortage> {
        if account == HOUSE {
            return Err(Shortage::NoBalance);
        }
        let [credit, debit] = [credit, debit].map(|amount| i128::from(amount.unwrap_or(0)));
        let balance = i128::from(self.balance(account, unit)) + credit - debit;
        let balance = within_limit(balance)?;
        self.check_units(account, &[(unit.to_owned(), balance)].into())?;
        Ok(balance)
    }

    fn make(&mut self, account: &str, moves: &Moves, way: Way) -> Result<Effects, Shortage> {
        let stock = self.levels_after(moves, way)?;
        let balance = self.balances_after(account, moves, way)?;
        for (key, level) in &stock {
            put(&mut self.stock, key, *level);
        }
        for (unit, amount) in &balance {
            put(self.balances_of(account), unit, *amount);
        }
        Ok(Effects { stock, balance })
    }

    fn levels_after(&self, moves: &Moves, way: Way) -> Result<BTreeMap<String, i64>, Shortage> {
        let after = |(key, quantity): (&String, &u64)| {
            let (level, quantity) = (i128::from(self.stock(key)), i128::from(*quantity));
            let after = match way {
                Way::Forth if level < quantity => return Err(Shortage::OutOfStock),
                Way::Forth => level - quantity,
                Way::Back => level + quantity,
            };
            Ok((key.clone(), within_limit(after)?))
        };
        moves.take.iter().map(after).collect()
    }

    fn balances_after(
        &self,
        account: &str,
        moves: &Moves,
        way: Way,
    ) -> Result<BTreeMap<String, i64>, Shortage> {
        if moves.credit.is_empty() && moves.debit.is_empty() {
            return Ok(BTreeMap::new());
        }
        if account == HOUSE {
            return Err(Shortage::NoBalance);
        }
        let mut after = BTreeMap::new();
        for unit in moves.credit.keys().chain(moves.debit.keys()) {
            let of = |amounts: &BTreeMap<String, u64>| {
                i128::from(amounts.get(unit).copied().unwrap_or_default())
            };
            let (balance, credit, debit) =
                (i128::from(self.balance(account, unit)), of(&moves.credit), of(&moves.debit));
            let balance = match way {
                Way::Forth => balance + credit - debit,
                Way::Back => balance - credit + debit,
            };
            // A balance that a release left negative may be credited, and not debited.
            if matches!(way, Way::Forth) && debit > 0 && balance < 0 {
                return Err(Shortage::InsufficientBalance);
            }
            after.insert(unit.clone(), within_limit(balance)?);
        }
        self.check_units(account, &after)?;
        Ok(after)
    }

    fn balances_of(&mut self, account: &str) -> &mut BTreeMap<String, i64> {
        self.balances.entry(account.to_owned()).or_default()
    }

    /// An account that holds too many already may still move what it has.
    fn check_units(&self, account: &str, after: &BTreeMap<String, i64>) -> Result<(), Shortage> {
        let held = self.balances.get(account);
        let is_held = |unit: &String| held.is_some_and(|held| held.contains_key(unit));
        let new = after.keys().filter(|unit| !is_held(unit)).count();
        if new > 0 && held.map_or(0, BTreeMap::len) + new > UNITS_MAX {
            return Err(Shortage::TooManyUnits);
        }
        Ok(())
    }
}

/// The sums of whole 64-bit numbers are exact in 128 bits, so that nothing wraps on its way here.
fn within_limit(sum: i128) -> Result<i64, Shortage> {
    let sum = i64::try_from(sum).map_err(|_beyond| Shortage::OverLimit)?;
    if sum.unsigned_abs() > INTEGER_MAX { Err(Shortage::OverLimit) } else { Ok(sum) }
}

/// Copies the key only where there is none yet.
fn put(levels: &mut BTreeMap<String, i64>, key: &str, level: i64) {
    match levels.get_mut(key) {
        Some(known) => *known = level,
        None => drop(levels.insert(key.to_owned(), level)),
    }
}
