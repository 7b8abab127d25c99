//! A part of the traffic for another stack than the active one. Which part is told by a stable hash, so
//! that an account meets one release on every proxy and after every restart.

use std::fmt;

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::stack::Stack;

/// A part of the traffic, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The stack that gets it.
    pub to: Stack,
    /// How much.
    pub share: Share,
    /// What is hashed.
    #[serde(rename = "of")]
    pub by: By,
}

/// How much of the traffic, of the hashes of [`By`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// So many of a hundred. Whoever is among 10 % is also among 20 %.
    Percent(Percent),
    /// Those that leave `remainder` when they are divided by `divisor`.
    Modulo {
        /// At least 2.
        divisor: u64,
        /// Less than that.
        remainder: u64,
    },
}

/// Over 0 and at most 100, to the hundredth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent {
    hundredths: u16,
}

/// What stays together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// All requests of one account of one merchant.
    #[default]
    Account,
    /// All requests of one merchant.
    Merchant,
}

const WHOLE: u16 = 10_000;

impl Canary {
    /// Whether a request of this account is part of it.
    pub fn takes(&self, merchant: &str, account: &str) -> bool {
        let hash = match self.by {
            By::Account => hash(&[merchant, account]),
            By::Merchant => hash(&[merchant]),
        };
        match self.share {
            Share::Percent(Percent { hundredths }) => hash % u64::from(WHOLE) < hundredths.into(),
            Share::Modulo { divisor, remainder } => hash.checked_rem(divisor) == Some(remainder),
        }
    }
}

/// The first eight bytes of a SHA-256: the same in every process and every release.
fn hash(parts: &[&str]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"backstop canary");
    for part in parts {
        context.update(b"\0");
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    digest.as_ref().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

impl TryFrom<f64> for Percent {
    type Error = &'static str;

    fn try_from(percent: f64) -> Result<Self, Self::Error> {
        let hundredths = (percent * 100.0).round();
        if (1.0..=f64::from(WHOLE)).contains(&hundredths) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
            let hundredths = hundredths as u16;
            Ok(Self { hundredths })
        } else {
            Err("a percentage is from 0.01 to 100")
        }
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.hundredths) / 100.0
    }
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = match self.by {
            By::Account => "accounts",
            By::Merchant => "merchants",
        };
        match self.share {
            Share::Percent(percent) => write!(f, "{} % of {whom}", f64::from(percent))?,
            Share::Modulo { divisor, remainder } => {
                write!(f, "{whom} whose hash % {divisor} is {remainder}")?;
            }
        }
        write!(f, " to {}", self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent: f64) -> Canary {
        let share = Share::Percent(Percent::try_from(percent).unwrap());
        Canary { to: Stack::OldProd, share, by: By::Account }
    }

    fn taken(canary: Canary, accounts: u32) -> u32 {
        (0..accounts).map(|n| u32::from(canary.takes("demo", &format!("customer-{n}")))).sum()
    }

    #[test]
    fn the_hash_is_the_same_in_every_release() {
        // Written down once: a change would move accounts between releases in the middle of a canary.
        assert_eq!(hash(&["demo", "customer-596"]), 0x2607_ad1e_eaec_e754);
        assert_eq!(hash(&["demo"]), 0x0afc_32fc_7332_ce0c);
        assert_ne!(hash(&["de", "mo"]), hash(&["demo", ""]));
    }

    #[test]
    fn a_share_takes_about_as_many_as_it_says() {
        for (canary, expected) in [
            (percent(14.0), 2_800.0),
            (percent(0.5), 100.0),
            (percent(100.0), 20_000.0),
            (
                Canary { share: Share::Modulo { divisor: 7, remainder: 0 }, ..percent(1.0) },
                20_000.0 / 7.0,
            ),
        ] {
            let (taken, spread) = (f64::from(taken(canary, 20_000)), f64::sqrt(expected));
            assert!((taken - expected).abs() <= 4.0 * spread, "{canary}: {taken}");
        }
    }

    #[test]
    fn who_is_in_a_canary_stays_in_it_as_it_grows() {
        for n in 0..5_000 {
            let account = format!("customer-{n}");
            let is_in = |share| percent(share).takes("demo", &account);
            assert!(!is_in(5.0) || is_in(14.0), "{account}");
        }
    }

    #[test]
    fn all_accounts_of_a_merchant_go_together_where_merchants_are_hashed() {
        let canary = Canary { by: By::Merchant, ..percent(50.0) };
        let whole: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .map(|merchant| {
                (0..50)
                    .all(|n| canary.takes(merchant, &n.to_string()) == canary.takes(merchant, "x"))
            })
            .into();
        assert_eq!(whole, [true; 6]);
    }

    #[test]
    fn a_canary_is_kept_as_it_was_said() {
        let modulo = Share::Modulo { divisor: 7, remainder: 0 };
        for canary in [percent(14.0), percent(0.01), Canary { share: modulo, ..percent(1.0) }] {
            let json = serde_json::to_string(&canary).unwrap();
            assert_eq!(serde_json::from_str::<Canary>(&json).unwrap(), canary, "{json}");
        }
        assert_eq!(percent(14.0).to_string(), "14 % of accounts to old-prod");
        for wrong in [0.0, -1.0, 100.01, f64::NAN] {
            assert!(Percent::try_from(wrong).is_err(), "{wrong}");
        }
    }
}
