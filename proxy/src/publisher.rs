//! Which bundle is live, tried, or taken back. Authors order it; the edge writes it down, and the tiers follow
//! the file. It works with every tier dead, and a rollback compiles nothing.
//!
//! | module | holds |
//! |---|---|
//! | [`steps`] | what is ordered, obeyed |
//! | [`trials`] | how often each version broke, as the answers say that pass here |
//! | [`automatic`] | what the edge makes by itself: what breaks is taken back, defaults that have soaked are taken |
//! | [`routine`] | when it looks |
//!
//! A step is written, then it holds, then it stands in the audit log. One edge writes at a time: the one
//! that has the papers of the switch.

pub mod automatic;
pub mod routine;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod trials;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};

use backstop_contract::{Decision, Stack, Timestamp};
use backstop_lua::bundle::Bundle;
use backstop_lua::publication::{Hand, Publication, Scope};
use backstop_lua::{BundleError, InForce, Rules, shelf};
use backstop_process::Faults;
use backstop_settings::audit::Record;
use backstop_settings::sealed::Found;
use backstop_settings::{Layout, settings};

use crate::metrics::Metrics;
use crate::stacks::Stacks;
use crate::switch::Switch;
use crate::switch::papers::Papers;
use trials::Trials;

pub use routine::Routine;
pub use steps::Done;

/// What moves bundles.
pub struct Publisher {
    layout: Layout,
    settings: settings::Rules,
    memory_bytes_max: usize,
    switch: Arc<Switch>,
    stacks: Arc<Stacks>,
    rules: Arc<InForce>,
    metrics: Arc<Metrics>,
    trials: Trials,
    /// One step after the other.
    turn: tokio::sync::Mutex<()>,
    /// What the log repeats at most once a second.
    faults: Faults,
    /// The version that was last found good.
    checked: Mutex<Option<String>>,
    /// Versions that break and that nothing was live before: said once.
    hopeless: Mutex<Vec<String>>,
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// It can not be made of what is published.
    #[error(transparent)]
    NoStep(#[from] backstop_lua::publication::NoStep),
    /// The bundle can not serve.
    #[error(transparent)]
    Broken(#[from] BundleError),
    /// The disk did not take it, or not in time; it may yet.
    #[error("it could not be written: {0}")]
    Unwritten(#[from] io::Error),
}

impl Publisher {
    /// A publisher of this directory, whose edge answers by `rules`; from now on those follow what is
    /// published. A bundle has to do with so much memory.
    pub fn new(
        layout: Layout,
        (settings, memory_bytes_max): (settings::Rules, usize),
        (switch, stacks): (&Arc<Switch>, &Arc<Stacks>),
        rules: &Arc<InForce>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        rules.follow();
        Arc::new(Self {
            layout,
            settings,
            memory_bytes_max,
            switch: switch.clone(),
            stacks: stacks.clone(),
            rules: rules.clone(),
            metrics: metrics.clone(),
            trials: Trials::default(),
            turn: tokio::sync::Mutex::default(),
            faults: Faults::default(),
            checked: Mutex::default(),
            hopeless: Mutex::default(),
        })
    }

    /// Notes what a request was answered by rules.
    pub fn saw(&self, stack: Stack, decision: &Decision) {
        self.trials.saw(stack, decision);
    }

    /// What is published for a scope; before the first time, the bundle that decides there now, for every
    /// scope: from then on no restart reads a draft.
    async fn current(&self, scope: Scope) -> Result<Publication, StepError> {
        let (layout, own) = (self.layout.clone(), self.rules.load_full());
        let reading = move |papers: &mut Papers| {
            for other in Scope::ALL {
                if other.read_any(&layout).is_none() {
                    if let Found::Lost(why) = other.read(&layout) {
                        tracing::error!(%other, "what was published is lost, it begins anew: {why}");
                    }
                    let first = first(&layout, other, own.live().bundle())?;
                    papers.write_if_mine(|| other.write(&layout, &first))?;
                }
            }
            let nothing = || io::Error::other("what is published can not be read");
            Ok(scope.read_any(&layout).ok_or_else(nothing)?)
        };
        self.switch.on_disk(reading).await?
    }

    /// Takes a bundle from the shelf, where no request waits, and compiles it, unless it was the last that
    /// was.
    async fn check(&self, version: &str) -> Result<(), StepError> {
        let is_known = lock(&self.checked).as_deref() == Some(version);
        let (layout, wanted) = (self.layout.clone(), version.to_owned());
        let memory_bytes_max = self.memory_bytes_max;
        let compile = move || {
            let bundle = shelf::take(&layout, &wanted)?;
            if is_known { Ok(()) } else { Rules::new(bundle, memory_bytes_max).map(drop) }
        };
        tokio::task::spawn_blocking(compile).await.map_err(io::Error::other)??;
        *lock(&self.checked) = Some(version.to_owned());
        Ok(())
    }

    /// Writes a publication and says so in the log, both or neither: whoever gives up waiting for the disk
    /// does not know which. The turn is held by the caller.
    async fn take(
        &self,
        scope: Scope,
        (before, after): (&Publication, &Publication),
        what: &str,
        hand: Hand,
        numbers: Map<String, Value>,
    ) -> Result<(), StepError> {
        let (from, to) = moved(before, after);
        let (what, from, to) = (what.to_owned(), from.to_owned(), to.to_owned());
        let mut figures = numbers;
        figures.insert("scope".to_owned(), json!(scope.as_str()));
        figures.insert("publication".to_owned(), json!(after.generation));
        if let Some(candidate) = &after.candidate {
            figures.insert("stage".to_owned(), json!(candidate.stage.to_string()));
        }
        let Hand { at, who, reason } = hand;
        let generation = self.stacks.choice().generation;
        let line = Record { at, who, what, generation, from, to, reason, numbers: figures };
        let (layout, written) = (self.layout.clone(), after.clone());
        let (switch, metrics) = (self.switch.clone(), self.metrics.clone());
        let write = move |papers: &mut Papers| -> io::Result<()> {
            papers.write_if_mine(|| scope.write(&layout, &written))?;
            let Record { from, to, who, what, reason, .. } = &line;
            tracing::warn!(%scope, from, to, written.generation, who, "{what}: {reason}");
            metrics.rules_moved(what);
            switch.remember(line.clone());
            papers.note(line);
            Ok(())
        };
        Ok(self.switch.on_disk(write).await??)
    }

    /// What operators see.
    pub fn status(&self) -> Value {
        let scopes = Scope::ALL.map(|scope| {
            let publication = scope.read_any(&self.layout);
            json!({ "scope": scope.as_str(), "publication": publication })
        });
        let standing = self.rules.load();
        json!({
            "active": self.stacks.choice().course.active,
            "scopes": scopes,
            "edge": { "version": standing.live().version(), "refusal": standing.refusal() },
            "answers": self.trials.to_json(),
        })
    }
}

/// What is behind the locks is whole after a panic, too: each change of it is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is published first: the bundle that the scope decides by.
fn first(layout: &Layout, scope: Scope, own: &Bundle) -> Result<Publication, BundleError> {
    let process = match scope {
        Scope::Stack(stack) => format!("core-{stack}"),
        Scope::Edge => "proxy".to_owned(),
    };
    let bundle =
        shelf::kept(&layout.good_bundle(&process)).unwrap_or_else(|_elsewhere| own.clone());
    shelf::store(layout, &bundle, None)?;
    Ok(Publication::first(bundle.version(), Timestamp::now()))
}

/// From which version to which: of what decides or, where that stays, of what is tried.
fn moved<'a>(before: &'a Publication, after: &'a Publication) -> (&'a str, &'a str) {
    fn latest(it: &Publication) -> &str {
        it.candidate.as_ref().map_or(it.live.version.as_str(), |it| it.version.as_str())
    }
    if before.live.version == after.live.version {
        (latest(before), latest(after))
    } else {
        (&before.live.version, &after.live.version)
    }
}
