//! The route of the rules: what is published, and steps.

use backstop_contract::rollout::PATH;
use backstop_contract::{Problem, Rollout};

use crate::admin::Admin;
use crate::http::{Answer, BodyFault, Incoming};

/// The way there.
pub(super) const RULES: &str = PATH;
/// A version, a reason and a few words.
const ORDER_BYTES_MAX: usize = 16_384;

impl Admin {
    /// `POST` a step; `GET` what is published.
    pub(super) async fn rules(&self, incoming: &mut Incoming<'_>) -> Result<Answer, Problem> {
        let seen = match incoming.method().as_str() {
            "GET" => self.publisher.status(),
            "POST" => {
                let body = incoming.body_within(ORDER_BYTES_MAX).await;
                let body = body.map_err(|fault| match fault {
                    BodyFault::TooLarge => Problem::too_large(ORDER_BYTES_MAX),
                    BodyFault::Cut => Problem::not_json("the body did not come to its end"),
                })?;
                self.publisher.obey(Rollout::receive(body)?).await?.to_json()
            }
            _ => return Err(Problem::method_not_allowed("GET, POST")),
        };
        Ok(Answer::new(200, "application/json", seen.to_string()))
    }
}
