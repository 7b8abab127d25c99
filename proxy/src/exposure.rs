//! How much stand-ins may approve for a merchant in a minute. What they approve, nobody has checked
//! against the books: the loss that an outage can cost is a setting, not an accident.
//!
//! Minutes are counted from the first approval in each. All stand-ins count, the api's too, since the
//! edge is where answers are released.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstop_contract::request::Money;
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_mins(1);

/// What stand-ins may approve in a minute, for one merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// How often.
    pub approvals_max: u64,
    /// How much, in minor units of each currency.
    pub amount_max: u64,
}

/// What stand-ins have approved lately, for every merchant that had any.
#[derive(Debug, Default)]
pub struct Exposures {
    by_merchant: Mutex<HashMap<String, Exposure>>,
}

/// What they have approved in the current minute.
#[derive(Debug)]
struct Exposure {
    began: Instant,
    approvals: u64,
    /// A merchant sells in few currencies.
    amounts: Vec<(String, u64)>,
}

/// Leave to approve one request. Unless it is used, it is given back.
#[derive(Debug)]
#[must_use]
pub struct Leave<'a> {
    exposures: &'a Exposures,
    merchant: &'a str,
    money: Option<&'a Money>,
    is_used: bool,
}

impl Exposures {
    /// Leave for a stand-in to approve this much for the merchant; `None` beyond its caps.
    pub fn leave<'a>(
        &'a self,
        merchant: &'a str,
        money: Option<&'a Money>,
        caps: Caps,
        now: Instant,
    ) -> Option<Leave<'a>> {
        let is_within = self.change(merchant, now, |exposure| exposure.add(money, caps));
        // Made only where there is leave: one that is dropped gives it back.
        if is_within {
            Some(Leave { exposures: self, merchant, money, is_used: false })
        } else {
            None
        }
    }

    fn change<R>(
        &self,
        merchant: &str,
        now: Instant,
        change: impl FnOnce(&mut Exposure) -> R,
    ) -> R {
        // Each change is whole, even after a panic in another. There are as many entries as merchants.
        let mut all = self.by_merchant.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(exposure) = all.get_mut(merchant) {
            if now.duration_since(exposure.began) >= MINUTE {
                *exposure = Exposure::new(now);
            }
            return change(exposure);
        }
        change(all.entry(merchant.to_owned()).or_insert_with(|| Exposure::new(now)))
    }
}

impl Exposure {
    const fn new(began: Instant) -> Self {
        Self { began, approvals: 0, amounts: Vec::new() }
    }

    /// Adds an approval, if that stays within the caps.
    fn add(&mut self, money: Option<&Money>, caps: Caps) -> bool {
        if self.approvals >= caps.approvals_max {
            return false;
        }
        if let Some(money) = money {
            let sum = self.amount(&money.currency).saturating_add(money.amount);
            if sum > caps.amount_max {
                return false;
            }
            match self.amounts.iter_mut().find(|(currency, _)| *currency == money.currency) {
                Some((_, amount)) => *amount = sum,
                None => self.amounts.push((money.currency.clone(), sum)),
            }
        }
        self.approvals += 1;
        true
    }

    fn amount(&self, currency: &str) -> u64 {
        let found = self.amounts.iter().find(|(it, _)| it == currency);
        found.map_or(0, |(_, amount)| *amount)
    }

    fn take_back(&mut self, money: Option<&Money>) {
        self.approvals = self.approvals.saturating_sub(1);
        let Some(money) = money else { return };
        let found = self.amounts.iter_mut().find(|(currency, _)| *currency == money.currency);
        if let Some((_, amount)) = found {
            *amount = amount.saturating_sub(money.amount);
        }
    }
}

impl Leave<'_> {
    /// The request was approved.
    pub fn used(mut self) {
        self.is_used = true;
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            self.exposures.change(self.merchant, Instant::now(), |it| it.take_back(self.money));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { approvals_max: 3, amount_max: 1000 };

    fn gbp(amount: u64) -> Money {
        Money { amount, currency: "GBP".to_owned() }
    }

    fn approves(
        exposures: &Exposures,
        merchant: &str,
        money: Option<&Money>,
        now: Instant,
    ) -> bool {
        exposures.leave(merchant, money, CAPS, now).map(Leave::used).is_some()
    }

    #[test]
    fn no_more_is_approved_in_a_minute_than_the_caps_allow() {
        let (exposures, start) = (Exposures::default(), Instant::now());
        let approves = |amount, at| approves(&exposures, "m", Some(&gbp(amount)), start + at);
        assert!(approves(600, Duration::ZERO));
        assert!(!approves(401, Duration::from_secs(1)), "the sum would be over the cap");
        assert!(approves(400, Duration::from_secs(2)));
        assert!(!approves(1, Duration::from_secs(3)));
        assert!(approves(0, Duration::from_secs(4)));
        assert!(!approves(0, MINUTE.saturating_sub(Duration::from_millis(1))), "three is the most");
        assert!(approves(1000, MINUTE), "a new minute");
    }

    #[test]
    fn merchants_and_currencies_are_counted_each_by_itself() {
        let (exposures, now) = (Exposures::default(), Instant::now());
        let euro = Money { amount: 1000, currency: "EUR".to_owned() };
        assert!(approves(&exposures, "m", Some(&gbp(1000)), now));
        assert!(approves(&exposures, "m", Some(&euro), now));
        assert!(!approves(&exposures, "m", Some(&gbp(1)), now));
        assert!(approves(&exposures, "other", Some(&gbp(1000)), now));
        assert!(approves(&exposures, "m", None, now));
    }

    #[test]
    fn leave_that_was_not_used_is_given_back() {
        let (exposures, now) = (Exposures::default(), Instant::now());
        let money = gbp(1000);
        for _ in 0..10 {
            drop(exposures.leave("m", Some(&money), CAPS, now));
        }
        assert!(approves(&exposures, "m", Some(&money), now));
    }
}
