//! The routes of an operator: health, readiness, metrics, and which stack serves.

use std::sync::Arc;

use serde_json::json;
use subtle::ConstantTimeEq as _;

use backstop_contract::Problem;
use backstop_contract::class::Confidential;

use crate::http::{Answer, Incoming, Routes};
use crate::metrics::Metrics;
use crate::stacks::Stacks;

/// Answers operators, on a listener of its own.
pub struct Admin {
    /// Which stack serves.
    pub stacks: Arc<Stacks>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The bundle whose defaults the edge answers with alone.
    pub policy_version: String,
    /// What a request must carry, but for health, readiness and metrics.
    pub token: Confidential<String>,
}

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
            "/metrics" => Answer::new(200, "text/plain; version=0.0.4", self.metrics.render()),
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
        let sent = header.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let same: bool = sent.as_bytes().ct_eq(self.token.expose().as_bytes()).into();
        if same { Ok(()) } else { Err(Problem::unauthorized()) }
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
        let active = self.stacks.active().stack();
        let stacks: Vec<_> = self
            .stacks
            .all()
            .iter()
            .map(|api| json!({ "stack": api.stack(), "active": api.stack() == active }))
            .collect();
        json!({ "active": active, "stacks": stacks }).to_string()
    }
}
