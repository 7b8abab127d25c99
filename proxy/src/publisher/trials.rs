//! How often each published version broke: an answer that its policy did not give, since it failed or was
//! stopped, says so in its cause and its reason. Requests count in passing, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use backstop_contract::{Cause, Decision, Stack, Tier};
use backstop_lua::publication::{Publication, Scope};
use backstop_lua::ruling::SAFE;

/// What is counted of the versions that are published.
#[derive(Debug, Default)]
pub struct Trials {
    slots: ArcSwap<Vec<Arc<Slot>>>,
    windows: Mutex<Vec<Window>>,
}

/// One version in one scope.
#[derive(Debug)]
struct Slot {
    scope: Scope,
    version: String,
    answers: AtomicU64,
    breaches: AtomicU64,
}

/// The latest answers of one version.
#[derive(Debug)]
struct Window {
    slot: Arc<Slot>,
    /// All that were counted at the last look.
    seen: Counts,
    lately: Counts,
}

/// Answers by a version, and those of them that it did not give itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub answers: u64,
    /// Safe answers, since a rule did what none may.
    pub breaches: u64,
}

/// A version that breaks too often.
#[derive(Debug, PartialEq, Eq)]
pub struct Failing {
    /// Where.
    pub scope: Scope,
    /// Which.
    pub version: String,
    /// How often, of late.
    pub counts: Counts,
}

impl Trials {
    /// Counts an answer.
    pub fn saw(&self, stack: Stack, decision: &Decision) {
        let slots = self.slots.load();
        if slots.is_empty() || decision.replayed {
            return;
        }
        let is_of_edge = decision.decided_by == Tier::Edge;
        let scope = if is_of_edge { Scope::Edge } else { Scope::Stack(stack) };
        let is_it =
            |slot: &&Arc<Slot>| slot.scope == scope && slot.version == decision.policy_version;
        if let Some(slot) = slots.iter().find(is_it) {
            slot.answers.fetch_add(1, Ordering::Relaxed);
            if is_breach(decision) {
                slot.breaches.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// From now on counts what these publications name as live or tried. What goes on keeps its counts.
    pub fn watch(&self, published: &[(Scope, Publication)]) {
        let named = published.iter().flat_map(|(scope, publication)| {
            let tried = publication.candidate.iter().map(|it| it.version.as_str());
            let versions = std::iter::once(publication.live.version.as_str()).chain(tried);
            versions.map(|version| (*scope, version))
        });
        let slots = self.slots.load_full();
        let slot = |(scope, version): (Scope, &str)| {
            let known = slots.iter().find(|it| it.scope == scope && it.version == version);
            known.cloned().unwrap_or_else(|| Arc::new(Slot::new(scope, version)))
        };
        let next: Vec<_> = named.map(slot).collect();
        let is_same = next.len() == slots.len()
            && next.iter().zip(slots.iter()).all(|(next, slot)| Arc::ptr_eq(next, slot));
        if is_same {
            return;
        }
        let mut windows = self.windows();
        windows.retain(|window| next.iter().any(|slot| Arc::ptr_eq(slot, &window.slot)));
        for slot in &next {
            if !windows.iter().any(|window| Arc::ptr_eq(slot, &window.slot)) {
                let (seen, lately) = Default::default();
                windows.push(Window { slot: slot.clone(), seen, lately });
            }
        }
        drop(windows);
        self.slots.store(Arc::new(next));
    }

    /// The versions of which, in at least `answers_min` of late, more than `percent` of a hundred broke.
    pub fn failing(&self, answers_min: u64, percent: u64) -> Vec<Failing> {
        let mut windows = self.windows();
        windows.iter_mut().filter_map(|window| window.look(answers_min, percent)).collect()
    }

    /// Forgets what was counted of a version: it was taken back.
    pub fn forget(&self, scope: Scope, version: &str) {
        let is_other = |slot: &Slot| slot.scope != scope || slot.version != version;
        self.windows().retain(|window| is_other(&window.slot));
        let slots = self.slots.load_full();
        let rest = slots.iter().filter(|slot| is_other(slot)).cloned().collect();
        self.slots.store(Arc::new(rest));
    }

    /// What was counted, for operators.
    pub fn to_json(&self) -> Value {
        let slots = self.slots.load();
        let of_slot = |slot: &Arc<Slot>| {
            let Counts { answers, breaches } = slot.counts();
            let Slot { scope, version, .. } = &**slot;
            json!({
                "scope": scope.as_str(), "version": version, "answers": answers, "breaches": breaches,
            })
        };
        slots.iter().map(of_slot).collect()
    }

    fn windows(&self) -> MutexGuard<'_, Vec<Window>> {
        // A list of counts is whole after a panic, too.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn new(scope: Scope, version: &str) -> Self {
        let (answers, breaches) = Default::default();
        Self { scope, version: version.to_owned(), answers, breaches }
    }

    fn counts(&self) -> Counts {
        // Read first: a breach is counted after its answer.
        let breaches = self.breaches.load(Ordering::Relaxed);
        Counts { answers: self.answers.load(Ordering::Relaxed), breaches }
    }
}

impl Window {
    /// Adds what was counted since the last look, and forgets by halves what is long ago.
    fn look(&mut self, answers_min: u64, percent: u64) -> Option<Failing> {
        let now = self.slot.counts();
        let Counts { answers, breaches } = &mut self.lately;
        *answers += now.answers.saturating_sub(self.seen.answers);
        *breaches += now.breaches.saturating_sub(self.seen.breaches);
        self.seen = now;
        let is_failing = *answers >= answers_min
            && breaches.saturating_mul(100) > answers.saturating_mul(percent);
        if is_failing {
            let Slot { scope, version, .. } = &*self.slot;
            return Some(Failing { scope: *scope, version: version.clone(), counts: self.lately });
        }
        while self.lately.answers >= answers_min.saturating_mul(2) {
            let Counts { answers, breaches } = self.lately;
            self.lately = Counts { answers: answers / 2, breaches: breaches / 2 };
        }
        None
    }
}

/// Whether an answer is the safe one of a rule that broke.
fn is_breach(decision: &Decision) -> bool {
    decision.cause == Some(Cause::Error)
        && decision.reasons.first().is_some_and(|reason| reason == SAFE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_contract::{Timestamp, Verdict};

    const PROD: Scope = Scope::Stack(Stack::Prod);

    fn answer(tier: Tier, version: &str, is_broken: bool) -> Decision {
        let decision = Decision::by(tier, "1".to_owned(), Verdict::Review);
        let reason = if is_broken { SAFE } else { "velocity" };
        let cause = is_broken.then_some(Cause::Error);
        let (policy_version, reasons) = (version.to_owned(), vec![reason.to_owned()]);
        Decision { policy_version, reasons, cause, ..decision }
    }

    fn watching() -> Trials {
        let trials = Trials::default();
        let at = Timestamp::default();
        trials.watch(&[
            (PROD, Publication::first("a", at)),
            (Scope::Edge, Publication::first("b", at)),
        ]);
        trials
    }

    #[test]
    fn a_version_that_breaks_in_more_than_its_share_fails_and_no_other_does() {
        for (broken, is_failing) in [(5, false), (6, true), (100, true)] {
            let trials = watching();
            for number in 0..100 {
                trials.saw(Stack::Prod, &answer(Tier::Core, "a", number < broken));
                // None of these is about prod's version.
                trials.saw(Stack::OldProd, &answer(Tier::Core, "a", true));
                trials.saw(Stack::Prod, &answer(Tier::Core, "c", true));
            }
            let failing = trials.failing(100, 5);
            assert_eq!(failing.len(), usize::from(is_failing), "{broken}");
            if let Some(failing) = failing.first() {
                let counts = Counts { answers: 100, breaches: broken };
                let version = "a".to_owned();
                assert_eq!(*failing, Failing { scope: PROD, version, counts });
            }
        }
    }

    #[test]
    fn a_long_good_past_does_not_hide_what_breaks_now_and_too_few_say_nothing() {
        let trials = watching();
        for _ in 0..10_000 {
            trials.saw(Stack::Prod, &answer(Tier::Api, "a", false));
        }
        for _ in 0..99 {
            trials.saw(Stack::Prod, &answer(Tier::Edge, "b", true));
        }
        assert_eq!(trials.failing(100, 50), []);
        for _ in 0..300 {
            trials.saw(Stack::Prod, &answer(Tier::Api, "a", true));
        }
        assert_eq!(trials.failing(100, 50).len(), 1);
        trials.forget(PROD, "a");
        assert_eq!(trials.failing(100, 50), []);
        trials.saw(Stack::Prod, &answer(Tier::Edge, "b", true));
        assert_eq!(trials.failing(100, 50).first().map(|it| it.scope), Some(Scope::Edge));
    }
}
