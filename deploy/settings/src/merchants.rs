//! `merchants.toml`: who may ask, within which budget, with which keys. No database is needed to know
//! a merchant.
//!
//! Of a key only its SHA-256 is kept. A key is 200 random bits, so a fast hash is enough: there is
//! nothing to guess.

mod edit;
mod key;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use backstop_contract::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::document::Document;
use crate::error::SettingsError;
use crate::settings::{STAND_IN_AMOUNT_MAX, STAND_IN_APPROVALS_MAX};
use crate::value::{duration, number_or_none};

pub use edit::{add, remove, revoke, rotate};
pub use key::Key;

/// Under it no merchant may start: the system's own probes ask under such names.
pub const RESERVED_PREFIX: &str = "backstop-";

/// The merchant of the probes.
pub const PROBE_MERCHANT: &str = "backstop-probe";

/// The longest name.
pub const NAME_CHARS_MAX: usize = 64;

const BUDGET_MIN_MS: u64 = 20;
const BUDGET_MAX_MS: u64 = 10_000;

/// The most keys of one merchant; more are never in use at a time.
pub const KEYS_MAX: usize = 32;

/// Who asks, and how it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merchant {
    /// 1 to 64 of `a-z 0-9 -`.
    pub name: String,
    /// The longest that an answer may take.
    pub budget: Duration,
    /// Its keys are test keys: they may replay the past and force a tier.
    pub test: bool,
    /// Its ids are plain numbers that may look like card numbers and are none.
    pub numeric_ids: bool,
    /// Approvals a minute that stand-ins may give for it; none: what `[edge]` says.
    pub stand_in_approvals_max: Option<u64>,
    /// What they may approve a minute, in minor units of each currency; none: what `[edge]` says.
    pub stand_in_amount_max: Option<u64>,
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptKey {
    /// The part of the key between `bsk_` and its secret.
    pub id: String,
    /// SHA-256 of the whole key, in hexadecimal.
    sha256: String,
    /// When it was made.
    pub created: Timestamp,
}

/// All merchants of one file.
#[derive(Clone, Debug, Default)]
pub struct Merchants {
    merchants: Vec<(Merchant, Vec<KeptKey>)>,
    /// Where in `merchants` a key's owner is, and the key's SHA-256.
    keys: HashMap<String, (usize, [u8; 32])>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    merchant: Vec<RawMerchant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMerchant {
    name: toml::Spanned<String>,
    #[serde(deserialize_with = "duration::<BUDGET_MIN_MS, BUDGET_MAX_MS, _>")]
    budget: Duration,
    #[serde(default)]
    test: bool,
    #[serde(default)]
    numeric_ids: bool,
    #[serde(default, deserialize_with = "number_or_none::<0, STAND_IN_APPROVALS_MAX, _, _>")]
    stand_in_approvals_max: Option<u64>,
    #[serde(default, deserialize_with = "number_or_none::<0, STAND_IN_AMOUNT_MAX, _, _>")]
    stand_in_amount_max: Option<u64>,
    keys: Vec<toml::Spanned<KeptKey>>,
}

impl Merchants {
    /// The merchants in `file`.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        Self::load_with_text(file).map(|(merchants, _text)| merchants)
    }

    /// The largest budget of any of them.
    pub fn largest_budget(&self) -> Duration {
        self.merchants.iter().map(|(merchant, _keys)| merchant.budget).max().unwrap_or_default()
    }

    /// The merchants in `file`, and the very text that they were read from.
    pub fn load_with_text(file: &Path) -> Result<(Self, String), SettingsError> {
        let document = Document::read(file)?;
        let merchants = Self::read(&document)?;
        Ok((merchants, document.text().to_owned()))
    }

    fn read(document: &Document) -> Result<Self, SettingsError> {
        let file: RawFile = document.parse()?;
        let mut all = Self::default();
        let mut names = HashSet::new();
        for raw in file.merchant {
            let name = raw.name.get_ref().clone();
            if let Err(what) = check_name(&name) {
                return Err(document.wrong(&raw.name.span(), what));
            }
            if !names.insert(name.clone()) {
                let what = format!("there are two merchants `{name}`; give one another name");
                return Err(document.wrong(&raw.name.span(), what));
            }
            if let Some(surplus) = raw.keys.get(KEYS_MAX) {
                let what = format!("`{name}` has over {KEYS_MAX} keys; revoke some");
                return Err(document.wrong(&surplus.span(), what));
            }
            let owner = all.merchants.len();
            for key in &raw.keys {
                all.admit(owner, key.get_ref()).map_err(|what| {
                    document.wrong(&key.span(), format!("key of `{name}`: {what}"))
                })?;
            }
            let kept = raw.keys.into_iter().map(toml::Spanned::into_inner).collect();
            let merchant = Merchant {
                name,
                budget: raw.budget,
                test: raw.test,
                numeric_ids: raw.numeric_ids,
                stand_in_approvals_max: raw.stand_in_approvals_max,
                stand_in_amount_max: raw.stand_in_amount_max,
            };
            all.merchants.push((merchant, kept));
        }
        Ok(all)
    }

    fn admit(&mut self, owner: usize, key: &KeptKey) -> Result<(), String> {
        if !key::is_id(&key.id) {
            return Err(format!("`{}` is no key id; make keys with `backstop merchant`", key.id));
        }
        let Some(sha256) = key::from_hex(&key.sha256) else {
            return Err(format!("the sha256 of `{}` is not 64 hexadecimal digits", key.id));
        };
        match self.keys.insert(key.id.clone(), (owner, sha256)) {
            None => Ok(()),
            Some(_) => Err(format!("the id `{}` is used twice", key.id)),
        }
    }

    /// The merchant whose key this is. How long it takes does not tell how near a wrong key came.
    pub fn authenticate(&self, bearer: &str) -> Option<&Merchant> {
        let id = key::id_of(bearer)?;
        let presented = digest(&SHA256, bearer.as_bytes());
        // An unknown id is compared all the same, with what no key hashes to.
        let (owner, kept) = self.keys.get(id).copied().unwrap_or((usize::MAX, [0; 32]));
        let is_same: bool = presented.as_ref().ct_eq(&kept).into();
        self.merchants.get(owner).filter(|_| is_same).map(|(merchant, _)| merchant)
    }

    /// Every merchant with its keys, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&Merchant, &[KeptKey])> {
        self.merchants.iter().map(|(merchant, keys)| (merchant, keys.as_slice()))
    }
}

/// Whether a merchant may be called so; if not, why.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_plain) {
        return Err(format!(
            "`{name}` is no merchant's name; use 1 to {NAME_CHARS_MAX} of a-z, 0-9 and -"
        ));
    }
    if name.starts_with(RESERVED_PREFIX) {
        return Err(format!(
            "`{name}`: names that start with {RESERVED_PREFIX} are Backstop's own"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
