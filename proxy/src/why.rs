//! Why a decision came out as it did and when: the budget ledgers of the latest decisions, and for
//! longer those of the degraded ones. In memory, within named bounds, behind `backstop why`.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use backstop_contract::ledger::Call;
use backstop_contract::{Cause, Decision, Tier, Timestamp};

/// What is kept of one decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Account {
    /// Whose request it was.
    pub merchant: String,
    /// Its id.
    pub id: String,
    /// Who decided.
    pub decided_by: Tier,
    /// Why that tier stood in.
    pub cause: Option<Cause>,
    /// The stack that was asked.
    pub stack: String,
    /// Whether it repeated an earlier answer.
    pub replayed: bool,
    /// When the edge had the request.
    pub received_at: Timestamp,
    /// The budget, in milliseconds.
    pub budget_ms: u64,
    /// What was used of it.
    pub elapsed_ms: f64,
    /// The calls on the way, the innermost first.
    pub calls: Vec<Call>,
}

/// The accounts that are kept.
#[derive(Debug)]
pub struct Accounts {
    recent: Kept,
    degraded: Kept,
}

/// A queue of bounded length.
#[derive(Debug)]
struct Kept {
    accounts: Mutex<VecDeque<Account>>,
    max: usize,
}

impl Kept {
    fn new(max: usize) -> Self {
        Self { accounts: Mutex::new(VecDeque::with_capacity(max)), max }
    }

    fn keep(&self, account: Account) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() == self.max {
            accounts.pop_front();
        }
        accounts.push_back(account);
    }

    fn find(&self, is: impl Fn(&&Account) -> bool) -> Option<Account> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().rev().find(is).cloned()
    }
}

impl Accounts {
    /// Keeps the latest `recent_max` decisions, and the latest `degraded_max` that were stood in for
    /// or late.
    pub fn new(recent_max: usize, degraded_max: usize) -> Self {
        Self { recent: Kept::new(recent_max), degraded: Kept::new(degraded_max) }
    }

    /// Keeps the account of a decision that is about to be released.
    pub fn keep(&self, merchant: &str, received_at: Timestamp, decision: &Decision) {
        let account = Account {
            merchant: merchant.to_owned(),
            id: decision.id.clone(),
            decided_by: decision.decided_by.clone(),
            cause: decision.cause.clone(),
            stack: decision.stack.clone(),
            replayed: decision.replayed,
            received_at,
            budget_ms: decision.budget_ms,
            elapsed_ms: decision.elapsed_ms,
            calls: decision.calls.clone(),
        };
        let is_late = account.elapsed_ms > account.budget_ms as f64;
        let kept = if account.cause.is_some() || is_late { &self.degraded } else { &self.recent };
        kept.keep(account);
    }

    /// The latest account of this id, of this merchant or, where none is named, of any.
    pub fn find(&self, id: &str, merchant: Option<&str>) -> Option<Account> {
        let is = |it: &&Account| it.id == id && merchant.is_none_or(|name| it.merchant == name);
        let (recent, degraded) = (self.recent.find(is), self.degraded.find(is));
        match (&recent, &degraded) {
            (Some(one), Some(other)) if other.received_at > one.received_at => degraded,
            (Some(_), _) => recent,
            (None, _) => degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_contract::{Effects, Verdict};

    fn decision(id: &str, cause: Option<Cause>) -> Decision {
        Decision {
            id: id.into(),
            decision: Verdict::Approve,
            reasons: Vec::new(),
            score: 0,
            decided_by: if cause.is_some() { Tier::Edge } else { Tier::Core },
            is_final: cause.is_none(),
            cause,
            durable: true,
            stack: "prod".into(),
            policy_version: "v".into(),
            effects: Effects::default(),
            budget_ms: 300,
            elapsed_ms: 4.5,
            decided_at: Timestamp::default(),
            replayed: false,
            server_timing: String::new(),
            calls: vec![
                "api.decide 300000 100 10000 0 1000000 289900 4400 answered".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn degraded_decisions_are_kept_for_longer_than_good_ones() {
        let accounts = Accounts::new(2, 3);
        let keep = |id, cause| accounts.keep("m", Timestamp::from_millis(1), &decision(id, cause));
        keep("degraded", Some(Cause::Deadline));
        for id in ["a", "b", "c"] {
            keep(id, None);
        }
        let kept = |id| accounts.find(id, None).is_some();
        assert!(kept("degraded") && kept("b") && kept("c") && !kept("a"));
        for id in ["d", "e", "f"] {
            keep(id, Some(Cause::Error));
        }
        assert!(!kept("degraded") && kept("d"));
    }

    #[test]
    fn the_latest_account_of_an_id_is_found_and_only_that_of_the_merchant_asked_for() {
        let accounts = Accounts::new(8, 8);
        let keep = |merchant, at, cause| {
            accounts.keep(merchant, Timestamp::from_millis(at), &decision("x", cause));
        };
        keep("one", 1, Some(Cause::Deadline));
        keep("one", 2, None);
        keep("two", 3, Some(Cause::Error));
        let found = |merchant| accounts.find("x", merchant).map(|it| it.received_at.as_millis());
        assert_eq!(found(Some("one")), Some(2));
        assert_eq!(
            (found(Some("two")), found(None), found(Some("three"))),
            (Some(3), Some(3), None)
        );
    }
}
