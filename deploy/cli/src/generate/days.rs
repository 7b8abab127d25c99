//! What happens on each day: payments, and the three patterns of fraud among them.

use super::random::Random;
use super::world::{Customer, World};

const SECONDS_A_DAY: f64 = 86_400.0;
/// Payments gather around noon with this deviation, in seconds; what falls outside the day is dropped.
const DEVIATION: f64 = 20_000.0;
/// Pattern 1: an amount over this, in pence.
const OBVIOUS_OVER: u64 = 22_000;
/// Pattern 2: so many terminals in 10,000 are compromised each day, for so many days.
const TERMINALS_A_DAY: f64 = 2.0 / 10_000.0;
const TERMINAL_DAYS: i64 = 28;
/// Pattern 3: so many customers in 5,000 are leaked each day, for so many days; a third of what they
/// pay then is five times as much.
const CUSTOMERS_A_DAY: f64 = 3.0 / 5_000.0;
const CUSTOMER_DAYS: i64 = 14;
const LEAKED_SHARE: f64 = 1.0 / 3.0;
const LEAKED_FACTOR: u64 = 5;

/// Why a payment is fraud, as numbered in the published data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// It is none.
    Honest = 0,
    /// The amount says so.
    Obvious = 1,
    /// The terminal is compromised.
    Terminal = 2,
    /// The customer's card is leaked.
    Customer = 3,
}

/// One payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Of the day.
    pub second: u32,
    /// By number.
    pub customer: u32,
    /// By number.
    pub terminal: u32,
    /// In pence.
    pub amount: u64,
    /// Whether it is fraud, and why.
    pub pattern: Pattern,
}

/// The days of a world, one after the other.
pub struct Days {
    world: World,
    random: Random,
    day: i64,
    /// The first day on which each terminal is sound again.
    terminals_sound: Vec<i64>,
    /// The first day on which each customer's card is safe again.
    customers_safe: Vec<i64>,
}

impl Days {
    /// Begins with day 0. What was compromised before it still is: a world has no first day.
    pub fn new(world: World, random: Random) -> Self {
        let terminals_sound = vec![i64::MIN; world.terminals()];
        let customers_safe = vec![i64::MIN; world.customers.len()];
        let mut days = Self { world, random, day: -TERMINAL_DAYS, terminals_sound, customers_safe };
        while days.day < 0 {
            days.compromise();
            days.day += 1;
        }
        days
    }

    /// The payments of the next day, in the order of time.
    pub fn next_day(&mut self) -> Vec<Payment> {
        self.compromise();
        let mut payments = Vec::new();
        for (number, customer) in (0..).zip(&self.world.customers) {
            for _ in 0..self.random.poisson(customer.payments_a_day) {
                let Some(second) = second_of_day(&mut self.random) else { continue };
                let Some(terminal) = self.world.terminal_near(customer, &mut self.random) else {
                    continue;
                };
                let amount = pence(customer, &mut self.random);
                let pattern = Pattern::Honest;
                payments.push(Payment { second, customer: number, terminal, amount, pattern });
            }
        }
        for payment in &mut payments {
            self.defraud(payment);
        }
        // Stable, so that a seed decides about equal seconds too.
        payments.sort_by_key(|payment| payment.second);
        self.day += 1;
        payments
    }

    fn compromise(&mut self) {
        let terminals = self.random.poisson(TERMINALS_A_DAY * self.terminals_sound.len() as f64);
        let customers = self.random.poisson(CUSTOMERS_A_DAY * self.customers_safe.len() as f64);
        let mut strike = |until: &mut Vec<i64>, times: u32, days: i64| {
            for _ in 0..times {
                let struck = self.random.below(until.len());
                if let Some(until) = until.get_mut(struck) {
                    *until = self.day + days;
                }
            }
        };
        strike(&mut self.terminals_sound, terminals, TERMINAL_DAYS);
        strike(&mut self.customers_safe, customers, CUSTOMER_DAYS);
    }

    /// Where two patterns meet the later one counts, as in the published data.
    fn defraud(&mut self, payment: &mut Payment) {
        let struck = |until: &[i64], number: u32| {
            until.get(number as usize).is_some_and(|until| self.day < *until)
        };
        if payment.amount > OBVIOUS_OVER {
            payment.pattern = Pattern::Obvious;
        }
        if struck(&self.terminals_sound, payment.terminal) {
            payment.pattern = Pattern::Terminal;
        }
        let leaked = struck(&self.customers_safe, payment.customer);
        if leaked && self.random.unit() < LEAKED_SHARE {
            payment.pattern = Pattern::Customer;
            payment.amount *= LEAKED_FACTOR;
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within a day
fn second_of_day(random: &mut Random) -> Option<u32> {
    let second = random.normal(SECONDS_A_DAY / 2.0, DEVIATION);
    (second > 0.0 && second < SECONDS_A_DAY).then_some(second as u32)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a few hundred pounds, over 0
fn pence(customer: &Customer, random: &mut Random) -> u64 {
    let mean = customer.mean_amount;
    let drawn = random.normal(mean, mean / 2.0);
    let pounds = if drawn < 0.0 { random.between(0.0, 2.0 * mean) } else { drawn };
    (pounds * 100.0).round().clamp(1.0, f64::MAX) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(seed: u64) -> Days {
        let mut random = Random::seeded(seed);
        let world = World::new(1_000, 2_000, &mut random);
        Days::new(world, random)
    }

    #[test]
    fn each_pattern_has_its_share_from_the_first_day_on() {
        let mut counts = [0_u32; 4];
        // The first days only, of many worlds: frauds that need weeks to build up would be missing.
        for seed in 0..30 {
            for payment in days(seed).next_day() {
                counts[payment.pattern as usize] += 1;
            }
        }
        let all = f64::from(counts.iter().sum::<u32>());
        // Shares of the published months, after their cold start, are 0.05, 0.56 and 0.28 %.
        for (pattern, (min, max)) in [(1, (0.02, 0.12)), (2, (0.3, 0.9)), (3, (0.1, 0.5))] {
            let percent = f64::from(counts[pattern]) * 100.0 / all;
            assert!(percent > min && percent < max, "pattern {pattern}: {percent} %");
        }
        assert!((1_500.0..2_100.0).contains(&(all / 30.0)), "{all}");
    }

    #[test]
    fn a_pattern_means_what_it_says() {
        let mut days = days(1);
        for _ in 0..40 {
            let day = days.day;
            for payment in days.next_day() {
                let compromised = days.terminals_sound[payment.terminal as usize] > day;
                let leaked = days.customers_safe[payment.customer as usize] > day;
                match payment.pattern {
                    Pattern::Honest => assert!(payment.amount <= OBVIOUS_OVER && !compromised),
                    Pattern::Obvious => assert!(payment.amount > OBVIOUS_OVER && !compromised),
                    Pattern::Terminal => assert!(compromised),
                    Pattern::Customer => assert!(leaked && payment.amount % LEAKED_FACTOR == 0),
                }
            }
        }
    }

    #[test]
    fn a_day_is_in_the_order_of_time() {
        let payments = days(2).next_day();
        assert!(payments.is_sorted_by_key(|payment| payment.second));
        assert!(payments.iter().all(|payment| payment.second < 86_400 && payment.amount > 0));
    }
}
