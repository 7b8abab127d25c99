//! Questions of our own to both stacks, about one a second: whether the core of each decides in time. They
//! go on while a stack is dead, and never take the way of a merchant's request.
//!
//! Most are rehearsals, which leave no rows. Some are decisions, which a disk must take as well: one from
//! time to time, and each of them as long as the last one failed, clients are being stood in for, or the
//! stack's breaker is not closed, which they close. By those alone a release that knows no rehearsals is
//! ready for an order; the edge does not go to it by itself, since it can prove nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use uuid::Uuid;

use backstop_contract::breaker::State;
use backstop_contract::request::Money;
use backstop_contract::{
    Attributes, Budget, Cause, HashKey, Question, Reply, Request, Stack, Tier, Timestamp,
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
    /// This edge, among those that probe the same stacks.
    pub node: String,
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
    /// So much is being rehearsed that there was no room for it.
    Full,
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
        // By turns: where a policy has a row for all accounts together, both cores put that one.
        let (prod, old_prod) = (Instant::now(), Instant::now() + self.settings.probe_every / 2);
        let both = async {
            tokio::join!(
                self.keep_probing(Stack::Prod, prod),
                self.keep_probing(Stack::OldProd, old_prod)
            )
        };
        tokio::select! {
            _ = shutdown.changed() => {}
            _ = both => {}
        }
    }
}

impl Probes {
    async fn keep_probing(&self, stack: Stack, start: Instant) {
        let mut ticks = interval_at(start, self.settings.probe_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Seen { written_at: None, is_good: true };
        loop {
            ticks.tick().await;
            self.probe(stack, &mut seen).await;
        }
    }

    async fn probe(&self, stack: Stack, seen: &mut Seen) {
        let stood_in = self.switch.take_stood_in(stack);
        let breaker = self.stacks.of(stack).link().state(Instant::now());
        let is_doubted = stood_in.is_some() || breaker != State::Closed;
        let kind = seen.next(is_doubted, self.settings.probe_write_every, Instant::now());
        let asked = Instant::now();
        let (end, elapsed) = self.ask(stack, kind).await;
        if let (Kind::Rehearsed, End::Good | End::Unknown) = (kind, &end) {
            self.switch.rehearses(stack, end == End::Good);
        }
        let was_good = seen.is_good;
        let Some(is_good) = seen.ended(kind, &end, Instant::now()) else { return };
        self.metrics.probed(stack, kind.as_str(), is_good);
        self.switch.probed(stack, is_good);
        if let (Kind::Written, Some(least)) = (kind, stood_in) {
            // It may take longer than clients wait. A disk that both stacks share, and that is too slow
            // for those, would else look well from here.
            if is_good && elapsed <= least {
                self.switch.wrote(stack, asked);
            } else {
                self.switch.wrote_late(stack);
            }
        }
        match end {
            End::Bad(why) if was_good => tracing::warn!(%stack, why, "a probe failed"),
            _ if is_good && !was_good => tracing::info!(%stack, "probes are good again"),
            _ => {}
        }
    }

    /// How it ended, and after how long.
    async fn ask(&self, stack: Stack, kind: Kind) -> (End, Duration) {
        let (api, budget) = (self.stacks.of(stack), Budget::new(self.settings.probe_time_max));
        let question = self.question(stack);
        let Trial { reply, elapsed } = match kind {
            Kind::Written => trial::run(api, api.link(), &question, budget).await,
            Kind::Rehearsed => {
                let api = api.rehearsing();
                trial::run(&api, api.way(), &question, budget).await
            }
        };
        let end = match reply {
            Reply::Decided(it) if it.decided_by == Tier::Core && elapsed <= budget.length() => {
                End::Good
            }
            Reply::Decided(it) if kind == Kind::Rehearsed && it.cause == Some(Cause::Overload) => {
                End::Full
            }
            Reply::Decided(it) => {
                let cause = it.cause.as_ref().map_or("late", |cause| cause.as_str());
                End::Bad(format!("{} decides ({cause})", it.decided_by.as_str()))
            }
            Reply::Refused(_) if kind == Kind::Rehearsed => End::Unknown,
            Reply::Refused(problem) => End::Bad(problem.detail),
        };
        (end, elapsed)
    }

    fn question(&self, stack: Stack) -> Question {
        let standing = self.rules.load();
        let rules = standing.live();
        let first = rules.bundle().policies().next();
        let policy = Some(PROBE_POLICY).filter(|name| rules.has_policy(name)).or(first);
        let request = Request {
            id: format!("probe-{}", Uuid::now_v7()),
            policy: policy.unwrap_or(PROBE_POLICY).to_owned(),
            account: account(stack, &self.node),
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

/// Whom the probes of a stack by this edge are about, and no others: cores that decide for the same account
/// put the same row of history, and all but the first decide anew, with every client whose request shares
/// the commit.
fn account(stack: Stack, node: &str) -> String {
    // The end of its name tells a node; the whole has digits enough to be taken for a card number.
    let (_, end) = node.rsplit_once('-').unwrap_or(("", node));
    format!("probe-{stack}-{end}")
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
            (_, End::Unknown | End::Full) => return None,
            (Kind::Written, End::Good) => self.written_at = Some(now),
            (Kind::Written, End::Bad(_)) => self.written_at = None,
            (Kind::Rehearsed, _) => {}
        }
        self.is_good = *end == End::Good;
        Some(self.is_good)
    }
}

#[cfg(test)]
mod tests;
