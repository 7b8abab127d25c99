//! What the edge counts, under the names of the contract.

use std::time::Duration;

use tokio::time::Instant;

use backstop_book::Health;
use backstop_contract::breaker::State;
use backstop_contract::learned::Bounds;
use backstop_contract::{Cause, Decision, NextTier as _, Stack};
use backstop_lua::{Breach, Standing};
use backstop_process::metrics::{self, Counter, Gauge, Histogram, MetricsError};

use crate::api_client::ApiClient;
use crate::stacks::Stacks;

/// Upper bounds in seconds, dense where budgets lie.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0];

/// The edge's metrics. Label values come from closed sets.
pub struct Metrics {
    registry: metrics::Metrics,
    decisions: Counter,
    seconds: Histogram,
    overruns: Counter,
    stack_active: Gauge,
    generation: Gauge,
    switches: Counter,
    rules: Gauge,
    rules_moved: Counter,
    timeout: Gauge,
    breaker: Gauge,
    peer_up: Gauge,
    breaches: Counter,
    capped: Counter,
    settled: Counter,
    late: Counter,
    probes: Counter,
    mirrored: Counter,
    book: BookMetrics,
}

/// What the book holds, as gauges.
struct BookMetrics {
    entries: Gauge,
    bytes: Gauge,
    horizon: Gauge,
    durable: Gauge,
    undurable: Gauge,
    forgotten: Gauge,
}

impl Metrics {
    /// Registers all of them.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = metrics::Metrics::new();
        Ok(Self {
            decisions: registry.counter(
                "backstop_decisions_total",
                "Decisions released.",
                &["decided_by", "decision", "cause", "stack"],
            )?,
            seconds: registry.histogram(
                "backstop_decision_seconds",
                "From the last byte of the request to the first of the answer.",
                &["tier"],
                &SECONDS,
            )?,
            overruns: registry.counter(
                "backstop_budget_overrun_total",
                "Decisions released after their budget had run out.",
                &[],
            )?,
            stack_active: registry.gauge(
                "backstop_stack_active",
                "1 for the stack that new requests go to.",
                &["stack"],
            )?,
            generation: registry.gauge(
                "backstop_switch_generation",
                "One more with each order of which stack serves.",
                &[],
            )?,
            switches: registry.counter(
                "backstop_switches_total",
                "Choices of which stack serves, by what made them.",
                &["kind"],
            )?,
            rules: registry.gauge(
                "backstop_rules_in_force",
                "1 for the version whose defaults the edge answers by.",
                &["version", "stage"],
            )?,
            rules_moved: registry.counter(
                "backstop_rules_steps_total",
                "Steps of bundles: tried, live, taken back.",
                &["step"],
            )?,
            timeout: registry.gauge(
                "backstop_timeout_seconds",
                "The least and the most that a call to the active stack is waited for.",
                &["operation", "bound"],
            )?,
            breaker: registry.gauge(
                "backstop_breaker_open",
                "1 while calls to a stack are not made, 0.5 while a few are to see how they end.",
                &["operation", "stack"],
            )?,
            peer_up: registry.gauge(
                "backstop_peer_up",
                "1 for an api that requests go to, 0 while it is set aside.",
                &["stack", "peer"],
            )?,
            breaches: registry.counter(
                "backstop_rule_breaches_total",
                "Calls of a default that did what no rule may, and were answered by its safe answer.",
                &["policy", "breach"],
            )?,
            capped: registry.counter(
                "backstop_stand_in_capped_total",
                "Stand-ins that got a safe answer because others had approved as much as they may.",
                &[],
            )?,
            settled: registry.counter(
                "backstop_advices_total",
                "Stand-ins that core was told of, by what it made of them.",
                &["outcome"],
            )?,
            late: registry.counter(
                "backstop_late_answers_total",
                "Decisions that came after their request was answered for, next to what was said then.",
                &["verdict"],
            )?,
            probes: registry.counter(
                "backstop_probes_total",
                "Questions of our own to each stack, rehearsed or written, by whether its core decided in time.",
                &["stack", "kind", "end"],
            )?,
            mirrored: registry.counter(
                "backstop_mirrored_total",
                "Requests that a stack rehearsed while the other served them, by what it said next to that.",
                &["stack", "end"],
            )?,
            book: BookMetrics::new(&registry)?,
            registry,
        })
    }

    /// Where further metrics of this process are registered.
    pub const fn registry(&self) -> &metrics::Metrics {
        &self.registry
    }

    /// Counts a stand-in that was kept from approving.
    pub fn capped(&self) {
        self.capped.with_label_values(&[] as &[&str]).inc();
    }

    /// Counts a choice of which stack serves, by what made it.
    pub fn switched(&self, kind: &str) {
        self.switches.with_label_values(&[kind]).inc();
    }

    /// Counts a step of a bundle.
    pub fn rules_moved(&self, step: &str) {
        self.rules_moved.with_label_values(&[step]).inc();
    }

    /// Shows the rules as they stand now.
    pub fn show_rules(&self, standing: &Standing) {
        self.rules.reset();
        for (version, stage) in standing.versions() {
            self.rules.with_label_values(&[version, stage.as_str()]).set(1.0);
        }
    }

    /// Counts what became of an advice.
    pub fn settled(&self, outcome: &str) {
        self.settled.with_label_values(&[outcome]).inc();
    }

    /// Counts an answer that came too late: `same`, `other`, `unknown` or `unreadable`.
    pub fn late(&self, verdict: &str) {
        self.late.with_label_values(&[verdict]).inc();
    }

    /// Counts a probe of a stack: of this kind, and whether it was a good one.
    pub fn probed(&self, stack: Stack, kind: &str, is_good: bool) {
        let end = if is_good { "good" } else { "bad" };
        self.probes.with_label_values(&[stack.as_str(), kind, end]).inc();
    }

    /// Counts a request that a stack was to rehearse, by what came of it.
    pub fn mirrored(&self, stack: Stack, end: &str) {
        self.mirrored.with_label_values(&[stack.as_str(), end]).inc();
    }

    /// Counts one decision, and how long it took.
    pub fn decided(&self, decision: &Decision, elapsed: Duration, late: bool) {
        let cause = decision.cause.as_ref().map_or("none", Cause::label);
        let tier = decision.decided_by.label();
        let stack = if decision.stack == "prod" { "prod" } else { "old-prod" };
        let labels = [tier, decision.decision.as_str(), cause, stack];
        self.decisions.with_label_values(&labels).inc();
        self.seconds.with_label_values(&["edge"]).observe(elapsed.as_secs_f64());
        if late {
            self.overruns.with_label_values(&[] as &[&str]).inc();
        }
    }

    /// Counts what a default may not do.
    pub fn breach(&self, policy: &str, breach: &Breach) {
        self.breaches.with_label_values(&[policy, breach.as_str()]).inc();
    }

    /// All of them, as Prometheus reads them, with the stacks and the book as they are now.
    pub fn render(&self, stacks: &Stacks, book: &Health) -> String {
        self.book.set(book);
        let (active, now) = (stacks.active(), Instant::now());
        let generation = stacks.choice().generation as f64;
        self.generation.with_label_values(&[] as &[&str]).set(generation);
        for api in stacks.all() {
            let is_active = api.stack() == active.stack();
            self.stack_active.with_label_values(&[api.stack()]).set(f64::from(is_active));
            let open = match api.link().state(now) {
                State::Closed => 0.0,
                State::HalfOpen => 0.5,
                State::Open => 1.0,
            };
            self.breaker.with_label_values(&[ApiClient::OPERATION, api.stack()]).set(open);
            for (peer, is_up) in api.peers_up(now) {
                let labels = [api.stack(), peer.as_str()];
                self.peer_up.with_label_values(&labels).set(f64::from(is_up));
            }
        }
        let Bounds { max, .. } = active.link().bounds(now);
        // At the edge the least wait is none: nobody answers for it.
        for (bound, length) in [("min", Duration::ZERO), ("max", max)] {
            let labels = [ApiClient::OPERATION, bound];
            self.timeout.with_label_values(&labels).set(length.as_secs_f64());
        }
        self.registry.render()
    }
}

impl BookMetrics {
    fn new(registry: &metrics::Metrics) -> Result<Self, MetricsError> {
        let plain = |name, help| registry.gauge(name, help, &[]);
        Ok(Self {
            entries: registry.gauge(
                "backstop_book_entries",
                "Answers that the book can repeat, by who decided and whether core knows of them.",
                &["decided_by", "state"],
            )?,
            bytes: plain("backstop_book_bytes", "What the book takes on disk.")?,
            horizon: plain("backstop_book_horizon_seconds", "How far back the book reaches.")?,
            durable: plain("backstop_book_durable", "1 while answers are written down.")?,
            undurable: plain(
                "backstop_book_undurable",
                "Answers since the start that left before they were written down.",
            )?,
            forgotten: plain(
                "backstop_book_forgotten",
                "Stand-ins since the start whose record was lost before core heard of them.",
            )?,
        })
    }

    fn set(&self, book: &Health) {
        for count in &book.counts {
            let labels = [count.decided_by, count.state];
            self.entries.with_label_values(&labels).set(count.entries as f64);
        }
        let set = |gauge: &Gauge, value| gauge.with_label_values(&[] as &[&str]).set(value);
        set(&self.bytes, book.bytes as f64);
        set(&self.horizon, book.horizon.as_secs_f64());
        set(&self.durable, f64::from(book.trusted));
        set(&self.undurable, book.undurable_total as f64);
        set(&self.forgotten, book.forgotten_debts_total as f64);
    }
}
