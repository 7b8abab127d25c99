//! The routes of an operator: health, readiness, metrics, and which stack serves.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use tokio::time::Instant;

use backstop_contract::Problem;
use backstop_contract::breaker::State;
use backstop_contract::class::Confidential;

use crate::http::{Answer, Incoming, Routes};
use crate::metrics::Metrics;
use crate::stacks::Stacks;
use crate::why::Accounts;

/// Answers operators, on a listener of its own.
pub struct Admin {
    /// Which stack serves.
    pub stacks: Arc<Stacks>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The bundle whose defaults the edge answers with alone.
    pub policy_version: String,
    /// Why the latest decisions came out as they did.
    pub accounts: Arc<Accounts>,
    /// What a request must carry, but for health, readiness and metrics.
    pub token: Confidential<String>,
}

const WHY: &str = "/admin/why/";
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

impl Routes for Admin {
    async fn answer(&self, incoming: &mut Incoming<'_>) -> Option<Answer> {
        Some(self.try_answer(incoming).unwrap_or_else(Answer::from))
    }
}

impl Admin {
    fn try_answer(&self, incoming: &Incoming<'_>) -> Result<Answer, Problem> {
        let path = incoming.path();
        if !OPEN.contains(&path) {
            self.authorize(incoming.header("authorization"))?;
        }
        let answer = match path {
            "/healthz" => Answer::new(200, "text/plain", "ok\n"),
            "/readyz" => Answer::new(200, "application/json", self.readiness()),
            "/metrics" => {
                Answer::new(200, "text/plain; version=0.0.4", self.metrics.render(&self.stacks))
            }
            path if path.starts_with(WHY) => self.why(path, incoming.query())?,
            "/admin/stacks" => Answer::new(200, "application/json", self.stacks_json()),
            _ => return Err(Problem::not_found()),
        };
        if incoming.method() == "GET" {
            Ok(answer)
        } else {
            Err(Problem::method_not_allowed("GET"))
        }
    }

    fn authorize(&self, header: Option<&str>) -> Result<(), Problem> {
        let sent = header.and_then(|value| value.strip_prefix("Bearer "));
        let sent = sent.ok_or_else(Problem::unauthorized)?;
        let same: bool = sent.as_bytes().ct_eq(self.token.expose().as_bytes()).into();
        if same { Ok(()) } else { Err(Problem::unauthorized()) }
    }

    /// The account of the decision that the rest of the path names; `?merchant=` narrows it down.
    fn why(&self, path: &str, query: Option<&str>) -> Result<Answer, Problem> {
        let id = percent_decode_str(path.strip_prefix(WHY).unwrap_or_default()).decode_utf8_lossy();
        let merchant = query.and_then(|query| query.strip_prefix("merchant="));
        let account = self.accounts.find(&id, merchant).ok_or_else(Problem::forgotten)?;
        let json = serde_json::to_vec(&account).unwrap_or_default();
        Ok(Answer::new(200, "application/json", json))
    }

    /// The edge is ready when it can answer alone. It can, or it would not have started: what lies
    /// behind it does not count, or a balancer would remove the layer that exists for the outage.
    fn readiness(&self) -> String {
        json!({
            "ready": true,
            "level": "no book",
            "active": self.stacks.active().stack(),
            "policy_version": self.policy_version,
        })
        .to_string()
    }

    fn stacks_json(&self) -> String {
        let (active, now) = (self.stacks.active().stack(), Instant::now());
        let stacks: Vec<_> = self
            .stacks
            .all()
            .iter()
            .map(|api| {
                let breaker = match api.link().state(now) {
                    State::Closed => "closed",
                    State::HalfOpen => "half-open",
                    State::Open => "open",
                };
                let is_active = api.stack() == active;
                json!({ "stack": api.stack(), "active": is_active, "breaker": breaker })
            })
            .collect();
        json!({ "active": active, "stacks": stacks }).to_string()
    }
}
