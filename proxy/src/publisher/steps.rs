//! What authors order, obeyed: the bundle is checked, the step written, and told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};

use backstop_contract::rollout::{Step, To};
use backstop_contract::{Problem, Rollout, Timestamp};
use backstop_lua::publication::{Hand, NoStep, Publication, Scope, Stage};
use backstop_lua::shelf;

use super::{Publisher, StepError};

/// The edge itself follows within this; the order stands in any case.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A step that was made.
#[derive(Debug)]
pub struct Done {
    scope: Scope,
    before: Publication,
    after: Publication,
    took: Duration,
}

impl Publisher {
    /// Makes a step. It is durable when this returns, and the tiers follow within moments; whoever ordered
    /// it may go away.
    pub async fn obey(self: &Arc<Self>, order: Rollout) -> Result<Done, StepError> {
        let publisher = Arc::clone(self);
        let obeying = tokio::spawn(async move { publisher.obey_to_the_end(order).await });
        obeying.await.unwrap_or_else(|gone| Err(StepError::Unwritten(io::Error::other(gone))))
    }

    async fn obey_to_the_end(&self, order: Rollout) -> Result<Done, StepError> {
        let begun = Instant::now();
        let _turn = self.turn.lock().await;
        let active = self.stacks.choice().course.active;
        let scope = Scope::Stack(order.stack.unwrap_or(active));
        let before = self.current(scope).await?;
        let hand =
            Hand { at: Timestamp::now(), who: order.who.clone(), reason: order.reason.clone() };
        let (after, what) = self.next(&before, &order, hand.clone()).await?;
        self.take(scope, (&before, &after), what, hand, Map::new()).await?;
        let took = begun.elapsed();
        self.take_defaults(Timestamp::now()).await;
        // Whoever orders next must find what was put on the shelf for that.
        self.tidy().await;
        self.wait_until_known(scope, after.generation).await;
        Ok(Done { scope, before, after, took })
    }

    /// The publication that an order makes of this one, and what that is called.
    async fn next(
        &self,
        before: &Publication,
        order: &Rollout,
        hand: Hand,
    ) -> Result<(Publication, &'static str), StepError> {
        let (version, to) = match &order.step {
            Step::Publish { version, to, .. } => (version, to),
            Step::RollBack => {
                let after = before.rolled_back(hand, |version| self.is_there(version))?;
                return Ok((after, "rules-rollback"));
            }
        };
        self.check(version).await?;
        let soak = order.step.soak().unwrap_or(self.settings.soak);
        Ok(match to {
            To::Shadow => (before.tried(version, Stage::Shadow, hand)?, "rules-shadow"),
            To::Percent(percent) => {
                (before.tried(version, Stage::Percent(*percent), hand)?, "rules-share")
            }
            To::Live => (before.live(version, soak, hand)?, "rules-live"),
        })
    }

    /// Whether there is a way back to this version.
    pub(super) fn is_there(&self, version: &str) -> bool {
        let found = shelf::take(&self.layout, version);
        if let Err(error) = &found {
            self.faults.say("way back", format_args!("there is no way back to {version}: {error}"));
        }
        found.is_ok()
    }

    /// Whoever asks for a new policy once this order is answered must not be told that there is none.
    async fn wait_until_known(&self, scope: Scope, generation: u64) {
        let deadline = Instant::now() + KNOWN_WITHIN;
        while !self.rules.load().follows(scope, generation) && Instant::now() < deadline {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Lets go of the oldest bundles.
    async fn tidy(&self) {
        let layout = self.layout.clone();
        let tidy = move || shelf::tidy(&layout, Timestamp::now());
        let tidied = tokio::task::spawn_blocking(tidy).await.unwrap_or_else(|it| Err(it.into()));
        if let Err(error) = tidied {
            tracing::warn!(%error, "old bundles could not be removed");
        }
    }
}

impl From<StepError> for Problem {
    fn from(error: StepError) -> Self {
        let detail = error.to_string();
        match error {
            StepError::NoStep(NoStep::NothingBefore(_)) => {
                Self { detail, remedy: "publish another bundle".into(), ..Self::nothing_to_undo() }
            }
            StepError::NoStep(NoStep::Live(_)) => {
                Self::field("/step/publish/version", detail, "publish another version")
            }
            StepError::Broken(_) => {
                Self::field("/step/publish/version", detail, "mend the rules and publish them anew")
            }
            StepError::Unwritten(_) => Self::step_unwritten(detail),
        }
    }
}

impl Done {
    /// The answer to an order.
    pub fn to_json(&self) -> Value {
        json!({
            "said": self.say(),
            "scope": self.scope.as_str(),
            "before": self.before,
            "publication": self.after,
            "took_ms": self.took.as_secs_f64() * 1_000.0,
        })
    }

    fn say(&self) -> String {
        let Self { scope, before, after, .. } = self;
        let mut said = Vec::new();
        let (live, was) = (&after.live.version, &before.live.version);
        if live == was {
            said.push(format!("{scope} decides by {live} as before"));
        } else {
            said.push(format!("{scope} decides by {live}, no longer by {was}"));
        }
        match (&after.candidate, &before.candidate) {
            (Some(candidate), _) => {
                said.push(match candidate.stage {
                    Stage::Shadow => format!("{} is asked in the shadow", candidate.version),
                    Stage::Percent(percent) => {
                        let percent = f64::from(percent);
                        format!("{} decides for {percent} % of accounts", candidate.version)
                    }
                });
            }
            (None, Some(gone)) if gone.version != *live => {
                said.push(format!("{} is not tried any more", gone.version));
            }
            (None, _) => {}
        }
        if live != was && after.live.default_due > Timestamp::now() {
            said.push(format!("the edge takes its defaults at {}", after.live.default_due));
        }
        let millis = self.took.as_secs_f64() * 1_000.0;
        format!("{} (publication {}, after {millis:.1} ms)", said.join("; "), after.generation)
    }
}
