//! The questions that the api answers, without a word of HTTP: may it go through, what was decided, what
//! was learned of it since, and what is left of stock and balances. What the edge asks for itself, to
//! settle and to reconcile, is in [`settle`](crate::settle) and here at the end.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use backstop_contract::label::Label;
use backstop_contract::ledger::millis;
use backstop_contract::reconciliation::{Ids, LINES_MAX, Records, Span, Statement};
use backstop_contract::request::Force;
use backstop_contract::stock::{self, Stock};
use backstop_contract::validity::{self, Terms};
use backstop_contract::{
    Budget, Cause, Deadline, Fallback as _, Problem, Question, Reply, Request, decide, wire,
};
use backstop_lua::{InForce, Standing};
use backstop_process::{Faults, Fidelity};
use backstop_settings::Api;

use crate::core_client::CoreClient;
use crate::fallback::StandIn;
use crate::hop::Hop;
use crate::metrics::Metrics;
use crate::record::{Balance, Record};
use crate::seen::Known;
use crate::timing::server_timing;

/// The api of one stack.
pub struct Tier {
    /// The next tier.
    pub core: CoreClient,
    /// Answers when core does not.
    pub stand_in: Arc<StandIn>,
    /// How often that agrees with core.
    pub fidelity: Arc<Fidelity<Known>>,
    /// Which policies there are.
    pub rules: Arc<InForce>,
    /// What this tier counts.
    pub metrics: Metrics,
    /// `[api]` of `backstop.toml`.
    pub settings: Api,
    /// A place for each message of advices that may be worked on.
    pub advices: Semaphore,
    /// What the log repeats at most once a second.
    pub faults: Faults,
}

/// A reply and what it took.
pub struct Answer {
    /// The decision, or why there can be none.
    pub reply: Reply,
    /// The value of `Server-Timing`.
    pub timing: String,
    /// What was asked of core, for the edge's ledger.
    pub calls: String,
    /// The trace it belongs to; empty when there is none.
    pub traceparent: String,
}

impl Tier {
    /// Decides, or refuses what no tier could decide. `received` is when the request came in here.
    pub async fn decide(&self, hop: Hop, body: Bytes, received: Instant) -> Answer {
        let standing = self.rules.load_full();
        let question = match Self::question(&hop, &standing, body) {
            Ok(question) => question,
            Err(problem) => return self.answer(&hop, Reply::Refused(problem), received),
        };
        let (deadline, stand_in) =
            (Deadline::after(received, hop.budget), self.stand_in.by(standing));
        let reply = if question.test && question.request.force() == Some(Force::Api) {
            Reply::Decided(stand_in.decide(&question, Cause::Forced, deadline))
        } else {
            decide(&self.core, &stand_in, &question, deadline, self.core.link()).await
        };
        self.answer(&hop, reply, received)
    }

    /// What this stack would decide: as [`Self::decide`], but that nothing comes of it.
    pub async fn rehearse(&self, hop: Hop, body: Bytes, received: Instant) -> Answer {
        let standing = self.rules.load_full();
        let question = match Self::question(&hop, &standing, body) {
            Ok(question) => question,
            Err(problem) => return self.answer(&hop, Reply::Refused(problem), received),
        };
        let (core, deadline) = (self.core.rehearsing(), Deadline::after(received, hop.budget));
        let stand_in = self.stand_in.by(standing);
        let reply = decide(&core, &stand_in, &question, deadline, core.way()).await;
        if let Reply::Decided(decision) = &reply {
            self.metrics.rehearsed(decision);
        }
        finish(&hop, reply, received)
    }

    fn question(hop: &Hop, standing: &Standing, body: Bytes) -> Result<Question, Problem> {
        Ok(Question {
            merchant: hop.merchant.clone(),
            test: hop.test,
            numeric_ids: hop.numeric_ids,
            request: Self::check(hop, standing, &body)?,
            hash: hop.hash,
            received_at: hop.received_at,
            traceparent: hop.traceparent.clone(),
            body,
        })
    }

    /// The edge has taken the card numbers out of the body; its hop is trusted.
    fn check(hop: &Hop, standing: &Standing, body: &[u8]) -> Result<Request, Problem> {
        let policies = |name: &str| standing.has_policy(name);
        let (now, test, numeric_ids) = (hop.received_at, hop.test, hop.numeric_ids);
        validity::check_again(body, &Terms { now, test, numeric_ids, policies: &policies })
    }

    fn answer(&self, hop: &Hop, reply: Reply, received: Instant) -> Answer {
        if let Reply::Decided(decision) = &reply {
            self.metrics.decided(decision, received.elapsed());
        }
        finish(hop, reply, received)
    }

    /// The record of a decision.
    pub async fn find(
        &self,
        merchant: String,
        id: String,
        budget: Budget,
    ) -> Result<Record, Problem> {
        match self.core.find(wire::FindRequest { merchant, id }, budget).await {
            Ok(Some((decision, rest))) => Ok(Record::new(decision, rest)),
            Ok(None) => Err(Problem::unknown_id()),
            Err(_cause) => Err(Problem::unavailable()),
        }
    }

    /// Puts a label on a decision.
    pub async fn label(
        &self,
        merchant: String,
        id: String,
        label: Label,
        budget: Budget,
    ) -> Result<(), Problem> {
        let message = wire::LabelRequest { merchant, id, fraud: label.fraud };
        match self.core.label(message, budget).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::unknown_id()),
            Err(_cause) => Err(Problem::unavailable()),
        }
    }

    /// What is left of a stock; with `set`, that is made so first.
    pub async fn stock(
        &self,
        merchant: String,
        key: String,
        set: Option<Stock>,
        budget: Budget,
    ) -> Result<Stock, Problem> {
        if key.is_empty() || key.len() > stock::KEY_BYTES_MAX || key.contains('\0') {
            return Err(Problem::unknown_stock());
        }
        let remaining = set.map(|stock| stock.remaining);
        match self.core.stock(wire::StockRequest { merchant, key, remaining }, budget).await {
            Ok(Some(remaining)) => Ok(Stock { remaining }),
            Ok(None) => Err(Problem::unknown_stock()),
            Err(_cause) => Err(Problem::unavailable()),
        }
    }

    /// What an account has of each unit.
    pub async fn balance(
        &self,
        merchant: String,
        account: String,
        budget: Budget,
    ) -> Result<Balance, Problem> {
        let message = wire::BalancesRequest { merchant, account: account.clone() };
        match self.core.balances(message, budget).await {
            Ok(Some(balance)) => Ok(Balance { account, balance }),
            Ok(None) => Err(Problem::unknown_account()),
            Err(_cause) => Err(Problem::unavailable()),
        }
    }

    /// What the merchant was told in this span, and what became of it.
    pub async fn statement(
        &self,
        merchant: String,
        span: Span,
        budget: Budget,
    ) -> Result<Statement, Problem> {
        let lines_max = u32::try_from(LINES_MAX).unwrap_or(u32::MAX);
        let statement = self.core.statement(merchant, span, lines_max, budget).await;
        statement.map_err(|_cause| Problem::unavailable())
    }

    /// The records of those of the merchant's ids that there are.
    pub async fn records(
        &self,
        merchant: String,
        ids: Ids,
        budget: Budget,
    ) -> Result<Records, Problem> {
        let message = wire::FindManyRequest { merchant, ids: ids.ids };
        let records = self.core.find_many(message, budget).await;
        records.map(|records| Records { records }).map_err(|_cause| Problem::unavailable())
    }

    /// The metrics as of now, in the text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        self.fidelity.show();
        self.metrics.show_rules(&self.rules.load());
        let bounds = self.core.link().bounds(Instant::now());
        self.metrics.render(self.core.calls_in_flight(), bounds)
    }
}

/// The reply with what it took.
fn finish(hop: &Hop, mut reply: Reply, received: Instant) -> Answer {
    let elapsed = received.elapsed();
    let mut calls = Vec::new();
    if let Reply::Decided(decision) = &mut reply {
        decision.budget_ms = whole_millis(hop.budget);
        decision.elapsed_ms = millis(elapsed);
        calls = std::mem::take(&mut decision.calls);
    }
    let timing = server_timing(&calls, elapsed);
    let calls = calls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Answer { reply, timing, calls, traceparent: hop.traceparent.clone() }
}

fn whole_millis(budget: Budget) -> u64 {
    // A budget is an hour at most.
    u64::try_from(budget.length().as_millis()).unwrap_or(u64::MAX)
}
