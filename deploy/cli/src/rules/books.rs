//! What a recalled request meets in the books besides what its policy sees: `try` tells of it what core would
//! make of a ruling, and where history is not what it was when the request came.

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::wire::RELEASED;
use backstop_contract::{Timestamp, Verdict};
use backstop_engine::history::KEPT;
use backstop_engine::{History, Holdings, Moves};
use backstop_lua::meter::Asked;
use backstop_lua::{Ruling, Scene};

/// A word and what is said under it, for a line.
pub type Said = (&'static str, String);

/// The books as they are now, without the request.
pub struct Books {
    at: Timestamp,
    account: String,
    holdings: Holdings,
    cancel: String,
    histories: BTreeMap<String, History>,
}

impl Books {
    /// For a request with what it meets: all that its account holds and, of a cancel, core's word for what
    /// becomes of it.
    pub fn of(scene: &Scene, balances: &BTreeMap<String, i64>, cancel: String) -> Self {
        let account = scene.question.request.account.clone();
        let mut holdings = Holdings::default();
        for (key, level) in &scene.stock {
            holdings.put_stock(key, *level);
        }
        for (unit, balance) in balances {
            holdings.put_balance(&account, unit, *balance);
        }
        let (at, histories) = (scene.question.at(), scene.histories.clone());
        Self { at, account, holdings, cancel, histories }
    }

    /// What core makes of a ruling that wants these moves; nothing where it leaves it as it is.
    pub fn carried_out(&self, ruling: &Ruling, moves: &Moves) -> Option<Said> {
        if ruling.breach.is_some() {
            return None;
        }
        let declines = |why: &str| ("core", format!("declines: {why}"));
        if !self.cancel.is_empty() {
            return match self.cancel.as_str() {
                _ if ruling.verdict != Verdict::Approve => None,
                RELEASED => Some(("core", "releases what was moved".to_owned())),
                why => Some(declines(why)),
            };
        }
        if moves.is_empty() {
            return None;
        }
        match self.holdings.clone().apply(&self.account, moves) {
            Err(shortage) => Some(declines(shortage.as_str())),
            Ok(effects) => {
                let left = effects.stock.iter().chain(&effects.balance);
                let left: Vec<_> = left.map(|(of, level)| format!("{level} of {of}")).collect();
                Some(("core", format!("moves it, leaving {}", left.join(", "))))
            }
        }
    }

    /// What tells an author that a history is not as it was at the request's time, of those that `asked`
    /// something: it keeps [`KEPT`] before its newest event, and of a counterparty when it was last met.
    pub fn caveats(&self, asked: &[Asked]) -> Vec<Said> {
        let caveats = self.histories.iter().flat_map(|(name, history)| {
            let asked: Vec<_> = asked.iter().filter(|asked| asked.of == *name).collect();
            self.caveats_of(name, history, &asked)
        });
        caveats.collect()
    }

    fn caveats_of(&self, name: &str, history: &History, asked: &[&Asked]) -> Vec<Said> {
        let newest = history.last_seen(Timestamp::from_millis(i64::MAX));
        let newest = newest.filter(|newest| *newest > self.at);
        let (Some(newest), false) = (newest, asked.is_empty()) else { return Vec::new() };
        let mut later = format!("history.{name} has later events, to {newest}");
        if asked.iter().any(|asked| asked.question.contains(":distinct(")) {
            later.push_str("; distinct leaves out whoever was met again since");
        }
        let mut caveats = vec![("later", later)];
        let reach = asked.iter().map(|asked| asked.reach).max().unwrap_or_default();
        let oldest = before(newest, KEPT);
        if before(self.at, reach) < oldest {
            caveats.push(("short", format!("history.{name} goes back to {oldest} only")));
        }
        caveats
    }
}

fn before(at: Timestamp, length: Duration) -> Timestamp {
    let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(millis))
}

#[cfg(test)]
mod tests;
