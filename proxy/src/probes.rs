//! Questions of our own to both stacks, about one a second: whether the core of each decides in time. They
//! go on while a stack is dead, and never take the way of a merchant's request.
//!
//! Most are rehearsals, which leave no rows. Some are decisions, which a disk must take as well: one from
//! time to time, and each of them as long as the last one failed, clients are being stood in for, or the
//! stack's breaker is not closed, which they close. A release that knows no rehearsals is judged by those.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use backstop_contract::breaker::State;
use backstop_contract::request::Money;
use backstop_contract::{
    Attributes, Budget, HashKey, Question, Reply, Request, Stack, Tier, Timestamp,
};
use backstop_lua::InForce;
use backstop_settings::merchants::PROBE_MERCHANT;
use backstop_settings::settings;

use crate::metrics::Metrics;
use crate::stacks::Stacks;
use crate::switch::Switch;
use crate::trial::{self, Trial};

/// The policy that probes ask for, where there is one of that name; else the first there is.
const PROBE_POLICY: &str = "payment";
const ACCOUNT: &str = "probe";

/// Probes both stacks.
pub struct Probes {
    /// Whom it probes.
    pub stacks: Arc<Stacks>,
    /// Whom it tells.
    pub switch: Arc<Switch>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Which policies there are.
    pub rules: Arc<InForce>,
    /// Hashes its requests.
    pub hash_key: HashKey,
    /// How often it probes, and how long it waits.
    pub settings: settings::Switch,
}

/// What becomes of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing.
    Rehearsed,
    /// Core writes it.
    Written,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Rehearsed => "rehearsed",
            Self::Written => "written",
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Core decided in time.
    Good,
    /// It did not; who did, and why.
    Bad(String),
    /// The stack is of a release that knows no rehearsals.
    Unknown,
}

/// What was seen of one stack.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When core last wrote a probe in time; none where it failed to since.
    written_at: Option<Instant>,
    is_good: bool,
}

#[async_trait]
impl BackgroundService for Probes {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut ticks = interval(self.settings.probe_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = [Seen { written_at: None, is_good: true }; 2];
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = ticks.tick() => self.probe_both(&mut seen).await,
            }
        }
    }
}

impl Probes {
    async fn probe_both(&self, [prod, old_prod]: &mut [Seen; 2]) {
        let stood_in = self.switch.take_stood_in();
        tokio::join!(
            self.probe(Stack::Prod, prod, stood_in),
            self.probe(Stack::OldProd, old_prod, stood_in)
        );
    }

    async fn probe(&self, stack: Stack, seen: &mut Seen, stood_in: bool) {
        let breaker = self.stacks.of(stack).link().state(Instant::now());
        let is_doubted = stood_in || breaker != State::Closed;
        let kind = seen.next(is_doubted, self.settings.probe_write_every, Instant::now());
        let asked = Instant::now();
        let end = self.ask(stack, kind).await;
        let was_good = seen.is_good;
        let Some(is_good) = seen.ended(kind, &end, Instant::now()) else { return };
        self.metrics.probed(stack, kind.as_str(), is_good);
        self.switch.probed(stack, is_good);
        if stood_in && is_good && kind == Kind::Written {
            self.switch.wrote(stack, asked);
        }
        match end {
            End::Bad(why) if was_good => tracing::warn!(%stack, why, "a probe failed"),
            _ if is_good && !was_good => tracing::info!(%stack, "probes are good again"),
            _ => {}
        }
    }

    async fn ask(&self, stack: Stack, kind: Kind) -> End {
        let (api, budget) = (self.stacks.of(stack), Budget::new(self.settings.probe_time_max));
        let question = self.question();
        let Trial { reply, elapsed } = match kind {
            Kind::Written => trial::run(api, api.link(), &question, budget).await,
            Kind::Rehearsed => {
                let api = api.rehearsing();
                trial::run(&api, api.way(), &question, budget).await
            }
        };
        match reply {
            Reply::Decided(it) if it.decided_by == Tier::Core && elapsed <= budget.length() => {
                End::Good
            }
            Reply::Decided(it) => {
                let cause = it.cause.as_ref().map_or("late", |cause| cause.as_str());
                End::Bad(format!("{} decides ({cause})", it.decided_by.as_str()))
            }
            Reply::Refused(_) if kind == Kind::Rehearsed => End::Unknown,
            Reply::Refused(problem) => End::Bad(problem.detail),
        }
    }

    fn question(&self) -> Question {
        let standing = self.rules.load();
        let rules = standing.live();
        let first = rules.bundle().policies().next();
        let policy = Some(PROBE_POLICY).filter(|name| rules.has_policy(name)).or(first);
        let request = Request {
            id: format!("probe-{}", Uuid::now_v7()),
            policy: policy.unwrap_or(PROBE_POLICY).to_owned(),
            account: ACCOUNT.to_owned(),
            money: Some(Money { amount: 1, currency: "EUR".to_owned() }),
            at: None,
            attributes: Attributes::default(),
        };
        Question {
            merchant: PROBE_MERCHANT.to_owned(),
            test: false,
            numeric_ids: false,
            hash: self.hash_key.hash(&request),
            received_at: Timestamp::now(),
            traceparent: String::new(),
            body: Bytes::from(request.to_json()),
            request,
        }
    }
}

impl Seen {
    /// What the next probe is to be.
    fn next(&self, is_doubted: bool, write_every: Duration, now: Instant) -> Kind {
        let is_due = |at| now.saturating_duration_since(at) >= write_every;
        if is_doubted || self.written_at.is_none_or(is_due) {
            Kind::Written
        } else {
            Kind::Rehearsed
        }
    }

    /// Notes how a probe ended, and says whether the stack is well; none where the probe says nothing.
    fn ended(&mut self, kind: Kind, end: &End, now: Instant) -> Option<bool> {
        match (kind, end) {
            (_, End::Unknown) => return None,
            (Kind::Written, End::Good) => self.written_at = Some(now),
            (Kind::Written, End::Bad(_)) => self.written_at = None,
            (Kind::Rehearsed, _) => {}
        }
        self.is_good = *end == End::Good;
        Some(self.is_good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_written_from_time_to_time_and_as_long_as_there_is_doubt() {
        let (start, bad) = (Instant::now(), || End::Bad("api decides (deadline)".to_owned()));
        let mut seen = Seen { written_at: None, is_good: true };
        // At this second, whether something else gives cause for doubt; the kind, how it ends, and
        // what that says of the stack.
        for (second, is_doubted, kind, end, expected) in [
            (0, false, Kind::Written, bad(), Some(false)),
            (1, false, Kind::Written, End::Good, Some(true)),
            (2, false, Kind::Rehearsed, End::Good, Some(true)),
            (3, true, Kind::Written, End::Good, Some(true)),
            (4, false, Kind::Rehearsed, bad(), Some(false)),
            (5, false, Kind::Rehearsed, End::Unknown, None),
            (12, false, Kind::Rehearsed, End::Good, Some(true)),
            (13, false, Kind::Written, bad(), Some(false)),
            (14, false, Kind::Written, End::Good, Some(true)),
            (15, false, Kind::Rehearsed, End::Good, Some(true)),
        ] {
            let now = start + Duration::from_secs(second);
            assert_eq!(seen.next(is_doubted, Duration::from_secs(10), now), kind, "{second}");
            assert_eq!(seen.ended(kind, &end, now), expected, "{second}");
        }
    }
}
