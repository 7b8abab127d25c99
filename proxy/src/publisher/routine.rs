//! What the edge does by itself, a few times a second: takes back a bundle that breaks, and takes the
//! defaults of one that has been live long enough.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde_json::{Map, json};
use tokio::time::{MissedTickBehavior, interval};

use backstop_contract::Timestamp;
use backstop_lua::publication::{Hand, Publication, Scope};

use super::trials::{Counts, Failing};
use super::{Publisher, StepError, automatic, lock};
use crate::switch::papers::NOBODY;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The most versions of which it is kept in mind that there is no way back from them.
const HOPELESS_MAX: usize = 16;

/// The publisher as a service of the edge.
pub struct Routine(pub Arc<Publisher>);

#[async_trait]
impl BackgroundService for Routine {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = looks.tick() => self.0.look().await,
            }
        }
    }
}

impl Publisher {
    /// One look.
    pub(super) async fn look(&self) {
        if self.switch.is_closed() {
            return;
        }
        let published = self.published().await;
        self.trials.watch(&published);
        let now = Timestamp::now();
        let (answers_min, percent) = (self.settings.answers_min, self.settings.breaches_percent);
        for failing in self.trials.failing(answers_min, percent) {
            let _turn = self.turn.lock().await;
            self.take_back(failing, now).await;
        }
        if !published.is_empty() {
            let _turn = self.turn.lock().await;
            self.take_defaults(now).await;
        }
    }

    /// What is published, where anything is.
    async fn published(&self) -> Vec<(Scope, Publication)> {
        let layout = self.layout.clone();
        let read = move || {
            let read = |scope: Scope| Some((scope, scope.read_any(&layout)?));
            Scope::ALL.into_iter().filter_map(read).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    /// Goes back to the last good bundle. The turn is held by the caller.
    async fn take_back(&self, Failing { scope, version, counts }: Failing, now: Timestamp) {
        let Some(before) = scope.read_any(&self.layout) else { return };
        let Counts { answers, breaches } = counts;
        let reason = format!(
            "{breaches} of the last {answers} answers by {version} were safe ones: it breaks"
        );
        let hand = Hand { at: now, who: NOBODY.to_owned(), reason };
        let (trial, is_there) = (self.settings.trial, |version: &str| self.is_there(version));
        let after = match automatic::taken_back(&before, &version, trial, hand.clone(), is_there) {
            Some(Ok(after)) => after,
            Some(Err(none)) => return self.say_hopeless(&version, &hand.reason, &none),
            None => return,
        };
        let numbers = Map::from_iter([
            ("answers".to_owned(), json!(answers)),
            ("breaches".to_owned(), json!(breaches)),
        ]);
        match self.take(scope, (&before, &after), "rules-taken-back", hand, numbers).await {
            Ok(()) => {
                self.trials.forget(scope, &version);
                self.take_defaults(now).await;
            }
            Err(error) => tracing::error!(%error, "a bundle that breaks could not be taken back"),
        }
    }

    fn say_hopeless(&self, version: &str, why: &str, none: &dyn std::error::Error) {
        let mut said = lock(&self.hopeless);
        if !said.iter().any(|it| it == version) {
            tracing::error!("{why}; it stays: {none}");
            said.push(version.to_owned());
            let surplus = said.len().saturating_sub(HOPELESS_MAX);
            said.drain(..surplus);
        }
    }

    /// Takes the defaults of the bundle that is live in the active stack, once they have soaked. The turn
    /// is held by the caller.
    pub(super) async fn take_defaults(&self, now: Timestamp) {
        if let Err(error) = self.try_to_take_defaults(now).await {
            self.faults.say("defaults", format_args!("the edge keeps its defaults: {error}"));
        }
    }

    async fn try_to_take_defaults(&self, now: Timestamp) -> Result<(), StepError> {
        let active = self.stacks.choice().course.active;
        let Some(published) = Scope::Stack(active).read_any(&self.layout) else { return Ok(()) };
        let Some(edge) = Scope::Edge.read_any(&self.layout) else { return Ok(()) };
        let is_there = |version: &str| self.is_there(version);
        let Some((after, hand)) = automatic::defaults(&edge, (active, &published), now, is_there)
        else {
            return Ok(());
        };
        self.check(&after.live.version).await?;
        self.take(Scope::Edge, (&edge, &after), "rules-default", hand, Map::new()).await
    }
}
