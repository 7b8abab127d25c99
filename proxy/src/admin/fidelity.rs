//! How often the fallbacks agree with core: the edge's own, and that of the api that serves.

use serde_json::json;

use backstop_contract::Problem;
use backstop_contract::fidelity::Report;

use crate::admin::Admin;
use crate::http::Answer;
use crate::pass_on::ask_api;

/// The same path here and at the api.
pub(super) const FIDELITY: &str = "/admin/fidelity";

impl Admin {
    /// The edge's figures, and the api's where it tells them: of several apis of the stack one is asked.
    pub(super) async fn fidelity(&self) -> Answer {
        let told = ask_api(&self.stacks, FIDELITY).await;
        let api = told.and_then(|body| {
            serde_json::from_slice::<Report>(&body).map_err(|_newer| Problem::unavailable())
        });
        let why = api.as_ref().err().map(|problem| problem.detail.clone());
        let report = json!({
            "stack": self.stacks.active().stack(),
            "edge": self.fidelity.report(),
            "api": api.ok(),
            "api_silent": why,
        });
        Answer::new(200, "application/json", report.to_string())
    }
}
