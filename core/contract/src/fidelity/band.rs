//! Bands of amounts: a fallback that errs on the largest is another matter than one that errs on pence.

use serde::{Deserialize, Serialize};

use crate::currency::decimals;
use crate::request::Money;

/// How much a request is about, in whole units of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Band {
    /// It names no amount.
    #[serde(rename = "none")]
    NoAmount,
    /// Nothing.
    #[serde(rename = "0")]
    Nothing,
    /// Under ten.
    #[serde(rename = "<10")]
    Under10,
    /// From ten, under fifty.
    #[serde(rename = "<50")]
    Under50,
    /// From fifty, under two hundred.
    #[serde(rename = "<200")]
    Under200,
    /// From two hundred, under a thousand.
    #[serde(rename = "<1000")]
    Under1000,
    /// A thousand and more.
    #[serde(rename = ">=1000")]
    Over,
    /// Told apart no more.
    #[serde(rename = "any")]
    Any,
}

/// The bands that end somewhere, by the whole units they stay under.
const UNDER: [(u64, Band); 4] =
    [(10, Band::Under10), (50, Band::Under50), (200, Band::Under200), (1_000, Band::Under1000)];
/// Of a currency that nobody knows.
const DECIMALS_USUAL: u32 = 2;

impl Band {
    /// The band of an amount.
    pub fn of(money: Option<&Money>) -> Self {
        let Some(money) = money else { return Self::NoAmount };
        if money.amount == 0 {
            return Self::Nothing;
        }
        let unit = 10_u64.pow(decimals(money.currency.as_bytes()).unwrap_or(DECIMALS_USUAL));
        let band = UNDER.iter().find(|(under, _)| money.amount < under * unit);
        band.map_or(Self::Over, |(_, band)| *band)
    }

    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAmount => "none",
            Self::Nothing => "0",
            Self::Under10 => "<10",
            Self::Under50 => "<50",
            Self::Under200 => "<200",
            Self::Under1000 => "<1000",
            Self::Over => ">=1000",
            Self::Any => "any",
        }
    }
}
