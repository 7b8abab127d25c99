//! The budget ledger of a decision: for each call on its way, the formula with its real numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::budget::{Budget, Limits};
use crate::decision::Cause;

/// One call to the next tier: `timeout = clamp(budget - elapsed - reserve, min, max)`, and what came
/// of it. Lengths are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// What was asked of whom, such as `api.decide`.
    pub operation: String,
    /// The budget of the tier that asked.
    pub budget: f64,
    /// What had gone of it when it asked.
    pub elapsed: f64,
    /// What it kept back.
    pub reserve: f64,
    /// The least that such a call was given then.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// What this call was given.
    pub timeout: f64,
    /// What it took, or how long it was waited for.
    pub took: f64,
    /// `answered`, or the cause of the stand-in.
    pub outcome: String,
}

/// The numbers of one call, before they are written down.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The budget of the tier that asked.
    pub budget: Budget,
    /// What had gone of it.
    pub elapsed: Duration,
    /// The limits in force.
    pub limits: Limits,
    /// What the call was given.
    pub timeout: Budget,
    /// What it took.
    pub took: Duration,
}

impl Call {
    /// Writes down a call that ended; no cause means that it was answered.
    pub fn new(operation: &str, asked: Asked, cause: Option<&Cause>) -> Self {
        Self {
            operation: operation.to_owned(),
            budget: millis(asked.budget.length()),
            elapsed: millis(asked.elapsed),
            reserve: millis(asked.limits.reserve()),
            min: millis(asked.limits.min()),
            max: millis(asked.limits.max()),
            timeout: millis(asked.timeout.length()),
            took: millis(asked.took),
            outcome: cause.map_or("answered", Cause::as_str).to_owned(),
        }
    }
}

/// To the microsecond: more digits would only be noise.
pub fn millis(length: Duration) -> f64 {
    length.as_micros() as f64 / 1000.0
}

/// One line, as it crosses the wire between api and edge: in whole microseconds, which cost less to write
/// and read than fractions.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, budget, elapsed, reserve, min, max, timeout, took, outcome } = self;
        f.write_str(operation)?;
        for length in [budget, elapsed, reserve, min, max, timeout, took] {
            write!(f, " {}", micros(*length))?;
        }
        write!(f, " {outcome}")
    }
}

/// Whole microseconds, which is what [`millis`] made of them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn micros(millis: f64) -> u64 {
    // Lengths are hours at most, and never negative.
    (millis * 1000.0).round() as u64
}

/// The line is not one of a ledger.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a line of a budget ledger")]
pub struct NotACall;

impl FromStr for Call {
    type Err = NotACall;

    fn from_str(line: &str) -> Result<Self, NotACall> {
        let words: Vec<_> = line.split(' ').collect();
        let [operation, numbers @ .., outcome] = words.as_slice() else { return Err(NotACall) };
        let numbers: Vec<f64> = numbers
            .iter()
            .map(|word| word.parse().map(|micros: u32| f64::from(micros) / 1000.0))
            .collect::<Result<_, _>>()
            .map_err(|_| NotACall)?;
        let &[budget, elapsed, reserve, min, max, timeout, took] = numbers.as_slice() else {
            return Err(NotACall);
        };
        let (operation, outcome) = ((*operation).to_owned(), (*outcome).to_owned());
        Ok(Self { operation, budget, elapsed, reserve, min, max, timeout, took, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_the_wire() {
        let ms = Duration::from_millis;
        let asked = Asked {
            budget: Budget::new(ms(300)),
            elapsed: Duration::from_micros(123),
            limits: Limits::new(ms(10), ms(0), ms(1000)).unwrap(),
            timeout: Budget::new(Duration::from_micros(289_877)),
            took: Duration::from_micros(4321),
        };
        let call = Call::new("api.decide", asked, Some(&Cause::Deadline));
        assert_eq!(call.to_string(), "api.decide 300000 123 10000 0 1000000 289877 4321 deadline");
        assert_eq!(call.to_string().parse(), Ok(call));
        for wrong in ["", "x", "x 1 2 3 y", "x a b c d e f g y", "x 1 2 3 4 5 6 7 8 y"] {
            assert_eq!(wrong.parse::<Call>(), Err(NotACall), "{wrong}");
        }
    }
}
