//! The mirrored trickle: some of the requests that one stack serves are rehearsed by the other, beside their
//! way, and what both made of them is compared. It shows how the other would fare, and keeps it warm. Few
//! are enough for that while all is well; the switch asks for more while the stack that serves is in doubt.
//!
//! The other stack rehearses after the request was answered, on the same books; core leaves the request's
//! own decision out of what its policy sees. What else has happened in between is seen: far less than the
//! shares by which stacks may differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::Instant;

use backstop_contract::{Budget, Cause, Decision, Question, Reply, Stack, Tier, Verdict};
use backstop_settings::settings;

use crate::metrics::Metrics;
use crate::stacks::Stacks;
use crate::switch::Switch;
use crate::switch::evidence::{Counts, Mirrored};
use crate::trial::{self, Trial};

/// Where requests are offered to be mirrored.
pub struct Mirror {
    pace: Pace,
    /// Knows how many there are to be.
    switch: Arc<Switch>,
    offers: mpsc::Sender<Offer>,
    metrics: Arc<Metrics>,
}

/// A request that was answered, for the other stack.
#[derive(Debug)]
pub struct Offer {
    question: Question,
    to: Stack,
    /// What core decided, where it did.
    served: Option<Verdict>,
    budget: Budget,
}

/// Rehearses what was offered.
pub struct Mirroring {
    /// Who rehearses.
    pub stacks: Arc<Stacks>,
    /// Who is told.
    pub switch: Arc<Switch>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What was offered.
    pub offers: Mutex<mpsc::Receiver<Offer>>,
    /// So many at a time.
    pub in_flight_max: usize,
}

impl Mirror {
    /// A mirror that takes as much as these settings say, and where its offers come out.
    pub fn new(
        settings: &settings::Switch,
        switch: Arc<Switch>,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Receiver<Offer>) {
        let (offers, offered) = mpsc::channel(settings.mirror_waiting_max);
        (Self { pace: Pace::new(settings, Instant::now()), switch, offers, metrics }, offered)
    }

    /// Offers a request that this stack served. Most are left alone; one for which there is no room is
    /// counted, and not waited for.
    pub fn offer(&self, stack: Stack, question: &Question, decision: &Decision, budget: Budget) {
        if !self.pace.takes(self.switch.mirror_percent(), Instant::now()) {
            return;
        }
        let (question, to, served) = (question.clone(), stack.other(), by_core(decision));
        if self.offers.try_send(Offer { question, to, served, budget }).is_err() {
            self.metrics.mirrored(to, "dropped");
        }
    }
}

/// Which of the requests are taken.
struct Pace {
    /// One is taken when the last was so long ago; none where there is no such time.
    gap_max: Option<u64>,
    /// None is taken sooner.
    gap_min: u64,
    /// So much is to be taken, in hundredths of a request.
    due: AtomicU64,
    origin: Instant,
    /// When the last one was taken, or ought to have been, in microseconds.
    last: AtomicU64,
}

/// Of a request that is due.
const WHOLE: u64 = 100;
/// Requests do not come at even distances: what is due too soon after another is taken later. No more than
/// this, so that what was due in a surge is not taken for long after it.
const DUE_MAX: u64 = 10 * WHOLE;

impl Pace {
    fn new(settings: &settings::Switch, now: Instant) -> Self {
        const SECOND: u64 = 1_000_000;
        Self {
            gap_max: SECOND.checked_div(settings.mirror_rate_min),
            gap_min: SECOND / std::cmp::max(settings.mirror_rate_max, 1),
            due: AtomicU64::new(0),
            origin: now,
            last: AtomicU64::new(0),
        }
    }

    /// Whether this one is, where so many of a hundred are.
    fn takes(&self, percent: u64, now: Instant) -> bool {
        let due = self.due.fetch_add(percent, Ordering::Relaxed) + percent;
        if due > DUE_MAX {
            self.due.fetch_min(DUE_MAX, Ordering::Relaxed);
        }
        let elapsed = micros(now.saturating_duration_since(self.origin));
        let last = self.last.load(Ordering::Relaxed);
        let gap = elapsed.saturating_sub(last);
        let is_overdue = self.gap_max.is_some_and(|gap_max| gap >= gap_max);
        if !is_overdue && (due < WHOLE || gap < self.gap_min) {
            return false;
        }
        // One that comes a little late takes nothing from the gap to the next.
        let late = gap.saturating_sub(self.gap_min);
        let at = if late < self.gap_min { elapsed - late } else { elapsed };
        // Of two that come at once, one is taken.
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let is_taken = self.last.compare_exchange(last, at, set, get).is_ok();
        if is_taken {
            let _was = self.due.fetch_update(set, get, |due| due.checked_sub(WHOLE));
        }
        is_taken
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[async_trait]
impl BackgroundService for Mirroring {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut offers = self.offers.lock().await;
        let places = Arc::new(Semaphore::new(self.in_flight_max));
        loop {
            // Room first: what waits for it waits in the queue, which has an end.
            let next = async {
                let place = places.clone().acquire_owned().await.ok()?;
                Some((offers.recv().await?, place))
            };
            let (offer, place) = tokio::select! {
                _ = shutdown.changed() => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let (stacks, switch) = (self.stacks.clone(), self.switch.clone());
            let metrics = self.metrics.clone();
            tokio::spawn(async move {
                let (to, end) = (offer.to, offer.rehearse(&stacks, &switch).await);
                metrics.mirrored(to, end);
                drop(place);
            });
        }
    }
}

impl Offer {
    /// Has it rehearsed, tells the switch, and says in a word what came of it.
    async fn rehearse(self, stacks: &Stacks, switch: &Switch) -> &'static str {
        let Self { question, to, served, budget } = self;
        let api = stacks.of(to).rehearsing();
        let Trial { reply, elapsed } = trial::run(&api, api.way(), &question, budget).await;
        let decision = match reply {
            Reply::Decided(decision) => decision,
            // Its release knows no rehearsals.
            Reply::Refused(_) => return "refused",
        };
        // As much is being rehearsed as may be, which says nothing of how the stack decides.
        if decision.cause == Some(Cause::Overload) {
            return "full";
        }
        let (is_late, verdict) = (elapsed > budget.length(), by_core(&decision));
        let Decision { decided_by, cause, decision, .. } = &decision;
        if let Some(answer) = Counts::of(decided_by, cause.as_ref(), is_late, *decision) {
            switch.mirrored(to, Mirrored { answer, served, verdict });
        }
        match (verdict, served) {
            (None, _) => "stand-in",
            (Some(_), None) => "unpaired",
            (Some(one), Some(other)) if one == other => "same",
            (Some(_), Some(_)) => "other",
        }
    }
}

/// What core decided by its policy, where it did.
fn by_core(decision: &Decision) -> Option<Verdict> {
    let is_by_core = decision.decided_by == Tier::Core && decision.cause.is_none();
    is_by_core.then_some(decision.decision)
}

#[cfg(test)]
mod tests {
    use backstop_contract::{Attributes, HashKey, Request, Timestamp};
    use backstop_settings::Layout;

    use super::*;
    use crate::trial::false_stacks::{FalseStacks, Manner};

    /// So many are taken of this many a second in ten seconds.
    fn taken(percent: u64, rates: (u64, u64), requests: u64) -> u64 {
        let settings = settings::Switch {
            mirror_rate_min: rates.0,
            mirror_rate_max: rates.1,
            ..settings::Switch::default()
        };
        let start = Instant::now();
        let pace = Pace::new(&settings, start);
        let at = |number| {
            start
                + Duration::from_secs(1) * u32::try_from(number).unwrap()
                    / u32::try_from(requests).unwrap()
        };
        (1..=10 * requests).filter(|number| pace.takes(percent, at(*number))).count() as u64
    }

    #[test]
    fn a_share_is_taken_and_never_too_few_or_too_many() {
        for (percent, rates, requests, expected) in [
            (5, (0, 1_000), 1_000, 500..=500),
            (5, (2, 100), 1_000, 500..=510),
            (7, (0, 100_000), 200, 140..=140),
            (5, (2, 100), 10, 20..=24),
            (5, (2, 100), 1, 10..=10),
            (5, (2, 10), 1_000, 99..=100),
            (100, (2, 1_000), 500, 4_999..=5_000),
            (0, (2, 100), 1_000, 20..=20),
            (0, (0, 100), 1_000, 0..=0),
        ] {
            let taken = taken(percent, rates, requests);
            assert!(expected.contains(&taken), "{percent} % of {requests}/s, {rates:?}: {taken}");
        }
    }

    /// A third of what was to be taken was lost, as requests that come by chance often come soon after another.
    #[test]
    fn what_is_due_too_soon_after_another_is_taken_later() {
        let (settings, start) = (settings::Switch::default(), Instant::now());
        for (percent, expected) in [(5, 4_900..=5_100), (10, 9_800..=10_000), (20, 9_990..=10_010)]
        {
            let (pace, mut at, mut seed) = (Pace::new(&settings, start), 0.0, 7_u64);
            let mut taken = 0;
            // A thousand a second for a hundred seconds, each independent of all others.
            while at < 100.0 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let unit = ((seed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                at -= unit.ln() / 1_000.0;
                taken += u32::from(pace.takes(percent, start + Duration::from_secs_f64(at)));
            }
            println!("{percent} %: {taken}");
            assert!(expected.contains(&taken), "{percent} %: {taken}");
        }
        // And what was due in a surge is soon forgotten.
        let pace = Pace::new(&settings, start);
        let surge = (0..10_000).filter(|_| pace.takes(10, start + Duration::from_secs(1))).count();
        let at = |millis| start + Duration::from_secs(1) + Duration::from_millis(millis);
        let after = (1..=400).filter(|millis| pace.takes(1, at(*millis))).count();
        assert!(surge == 1 && (10..=14).contains(&after), "{surge} {after}");
    }

    /// As the switch asks for more, or fewer.
    #[test]
    fn the_share_may_change_at_any_time() {
        let start = Instant::now();
        let pace = Pace::new(&settings::Switch::default(), start);
        let taken = |seconds: std::ops::Range<u32>, percent| {
            let at = |number| start + Duration::from_secs(1) * number / 1_000;
            let requests = seconds.start * 1_000 + 1..=seconds.end * 1_000;
            requests.filter(|number| pace.takes(percent, at(*number))).count()
        };
        for (seconds, percent, expected) in [
            (0..10, 1, 100..=101),
            (10..11, 10, 99..=101),
            (11..21, 1, 99..=101),
            (21..22, 0, 2..=2),
        ] {
            let taken = taken(seconds, percent);
            assert!(expected.contains(&taken), "{percent} %: {taken}");
        }
    }

    fn question() -> Question {
        let request = Request {
            id: "txn-1".to_owned(),
            policy: "payment".to_owned(),
            account: "customer-1".to_owned(),
            money: None,
            at: None,
            attributes: Attributes::default(),
        };
        Question {
            merchant: "demo".to_owned(),
            test: false,
            numeric_ids: false,
            hash: HashKey::new(&[7; 32]).hash(&request),
            received_at: Timestamp::now(),
            traceparent: String::new(),
            body: request.to_json().into(),
            request,
        }
    }

    /// Core refused the seventeenth rehearsal at a time, and each refusal counted as if old-prod were ill.
    #[tokio::test]
    async fn what_the_other_stack_says_counts_but_for_limits_of_our_own() {
        let (old_prod, folder) = (FalseStacks::start(), tempfile::tempdir().unwrap());
        let (stacks, metrics) = (old_prod.stacks.clone(), Arc::new(Metrics::new().unwrap()));
        let layout = Layout::new(folder.path());
        let switch = Switch::open(&layout, settings::Switch::default(), stacks.clone(), metrics);
        let by_api = |cause| Manner { cause: Some(cause), ..Manner::default() };
        let (approved, declined) = (Some(Verdict::Approve), Some(Verdict::Decline));
        // What it answers, and core had decided for the client; the end, and how many answers count so
        // far, and how many of them as bad.
        for (manner, served, end, decisions, bad) in [
            (Manner::default(), approved, "same", 1, 0),
            (Manner::default(), declined, "other", 2, 0),
            (Manner::default(), None, "unpaired", 3, 0),
            (by_api(Cause::Overload), approved, "full", 3, 0),
            (by_api(Cause::Error), approved, "stand-in", 4, 1),
            (Manner { is_old: true, ..Manner::default() }, approved, "refused", 4, 1),
        ] {
            old_prod.set(Stack::OldProd, manner);
            let (question, to) = (question(), Stack::OldProd);
            // A busy machine is to make nobody late.
            let budget = Budget::new(Duration::from_mins(1));
            let offer = Offer { question, to, served, budget };
            assert_eq!(offer.rehearse(&stacks, &switch).await, end);
            let counted = &switch.status()["stacks"][1]["mirrored"];
            assert_eq!(
                (&counted["decisions"], &counted["bad"]),
                (&decisions.into(), &bad.into()),
                "{end}"
            );
        }
    }
}
