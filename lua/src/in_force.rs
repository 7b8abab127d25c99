//! The rules that a tier decides by now. A publication is picked up without a restart: it is loaded and
//! compiled where nobody waits, and takes the place of the one before whole. Whoever decides takes what
//! stands once, at the beginning, and keeps it: no request sees half of one bundle and half of another.

mod follow;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use backstop_settings::Layout;
use backstop_settings::sealed::Found;

use crate::bundle::{Bundle, BundleError};
use crate::publication::{Publication, Scope, Stage};
use crate::rules::Rules;
use crate::shelf;

/// Where a tier finds its rules.
#[derive(Clone, Debug)]
pub struct Source {
    /// The directory.
    pub layout: Layout,
    /// Whose rules they are.
    pub scope: Scope,
    /// What authors wrote: what decides until something is published.
    pub written: PathBuf,
    /// Where this process keeps the last that were good.
    pub good: PathBuf,
    /// What one virtual machine may hold in a call.
    pub memory_bytes_max: usize,
}

/// The rules of one tier, as they are now.
#[derive(Debug)]
pub struct InForce {
    standing: ArcSwap<Standing>,
    /// Where more may come from; none where nothing is ever published.
    source: Option<Source>,
}

/// What decides at one moment.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The bundle that decides.
    live: Arc<Rules>,
    /// The bundle that is tried, and how far it has come.
    candidate: Option<(Arc<Rules>, Stage)>,
    /// Which publications it is made of; none before the first.
    seen: Vec<(Scope, u64)>,
    /// Policies that the live bundles of other scopes decide for.
    elsewhere: BTreeSet<String>,
    /// Why what is published does not stand.
    refusal: Option<String>,
}

impl Source {
    /// The rules of `process` in this directory; `written` goes before what authors write there.
    pub fn new(
        layout: &Layout,
        (scope, process): (Scope, &str),
        written: Option<PathBuf>,
        memory_bytes_max: usize,
    ) -> Self {
        Self {
            scope,
            written: written.unwrap_or_else(|| layout.rules()),
            good: layout.good_bundle(process),
            layout: layout.clone(),
            memory_bytes_max,
        }
    }
}

impl Standing {
    fn fixed(live: Arc<Rules>) -> Self {
        let (candidate, seen, elsewhere, refusal) = Default::default();
        Self { live, candidate, seen, elsewhere, refusal }
    }

    /// The bundle that decides for this account: the live one, or the one that is tried on it. One that
    /// lacks the policy takes nobody's requests.
    pub fn rules_for(&self, merchant: &str, account: &str, policy: &str) -> &Arc<Rules> {
        match &self.candidate {
            Some((rules, stage)) if rules.has_policy(policy) && stage.takes(merchant, account) => {
                rules
            }
            _ => &self.live,
        }
    }

    /// The bundle that decides where none is tried.
    pub const fn live(&self) -> &Arc<Rules> {
        &self.live
    }

    /// The bundle that is to be asked about what the live one decides.
    pub fn shadow(&self) -> Option<&Arc<Rules>> {
        let (rules, stage) = self.candidate.as_ref()?;
        (*stage == Stage::Shadow).then_some(rules)
    }

    /// The bundle that is tried, and how far it has come.
    pub fn candidate(&self) -> Option<(&Arc<Rules>, Stage)> {
        self.candidate.as_ref().map(|(rules, stage)| (rules, *stage))
    }

    /// Whether requests may ask for this policy.
    pub fn has_policy(&self, name: &str) -> bool {
        self.live.has_policy(name) || self.elsewhere.contains(name)
    }

    /// Whether it is made of this publication, or of a later one.
    pub fn follows(&self, scope: Scope, generation: u64) -> bool {
        self.seen.iter().any(|(its, seen)| *its == scope && *seen >= generation)
    }

    /// Each version that decides or is tried, and how far it has come: `live`, `shadow`, `10%`.
    pub fn versions(&self) -> impl Iterator<Item = (&str, String)> {
        let tried = self.candidate().map(|(rules, stage)| (rules.version(), stage.to_string()));
        std::iter::once((self.live.version(), "live".to_owned())).chain(tried)
    }

    /// Why what is published does not stand here, where it does not.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }
}

impl From<Rules> for InForce {
    /// These rules, for ever.
    fn from(rules: Rules) -> Self {
        Self { standing: ArcSwap::from_pointee(Standing::fixed(Arc::new(rules))), source: None }
    }
}

impl InForce {
    /// The rules to begin with: what is published, or else what was the last good, or, where nothing was
    /// ever published, what is written. Fails only where none of them can serve.
    pub fn open(source: Source) -> Result<Self, BundleError> {
        let standing = begin(&source)?;
        let standing = ArcSwap::from_pointee(standing);
        Ok(Self { standing, source: Some(source) })
    }

    /// What stands now. To be taken once for a request, and kept.
    pub fn load(&self) -> Guard<Arc<Standing>> {
        self.standing.load()
    }

    /// The same, to be kept for longer.
    pub fn load_full(&self) -> Arc<Standing> {
        self.standing.load_full()
    }

    /// Follows what is published, on a thread of its own, for as long as anybody has these rules.
    pub fn follow(self: &Arc<Self>) {
        if let Some(source) = &self.source {
            follow::begin(self, source.clone());
        }
    }

    fn set(&self, standing: Standing) {
        self.standing.store(Arc::new(standing));
    }
}

/// What a tier starts with. Whatever became of its own bundle, it knows the policies of the others.
fn begin(source: &Source) -> Result<Standing, BundleError> {
    let elsewhere = follow::policies_elsewhere(source, &BTreeSet::new());
    Ok(Standing { elsewhere, ..begin_alone(source)? })
}

fn begin_alone(source: &Source) -> Result<Standing, BundleError> {
    let (publication, trouble) = match source.scope.read(&source.layout) {
        Found::Kept(publication) => (Some(publication), None),
        Found::Nothing => (None, None),
        Found::Copy(publication, why) => (Some(publication), Some(why)),
        Found::Lost(why) => (None, Some(why)),
    };
    if let Some(why) = &trouble {
        tracing::error!("which rules are live can not be read: {why}");
    }
    let serve = |bundle: Bundle| Rules::new(bundle, source.memory_bytes_max);
    let broken = match publication {
        None if trouble.is_none() => {
            let rules = Rules::in_force(&source.written, &source.good, source.memory_bytes_max)?;
            return Ok(Standing::fixed(Arc::new(rules)));
        }
        None => None,
        Some(Publication { live, generation, .. }) => {
            match shelf::take(&source.layout, &live.version).and_then(serve) {
                Ok(rules) => {
                    rules.keep(&source.good);
                    let seen = vec![(source.scope, generation)];
                    return Ok(Standing { seen, ..Standing::fixed(Arc::new(rules)) });
                }
                Err(broken) => Some(broken),
            }
        }
    };
    // What was published may still be mended, and is then followed. Until then, the last good.
    match shelf::kept(&source.good).and_then(serve) {
        Ok(rules) => {
            let version = rules.version();
            let why = broken.map_or_else(|| trouble.unwrap_or_default(), |it| it.to_string());
            tracing::error!(
                why,
                version,
                "the published rules are gone or broken: the last good ones are in force"
            );
            let refusal = Some(why);
            Ok(Standing { refusal, ..Standing::fixed(Arc::new(rules)) })
        }
        Err(none) => Err(broken.unwrap_or(none)),
    }
}

impl Rules {
    /// The rules in `written`, which are then kept in `good`; when they are broken, those in `good`,
    /// and the log says so. Fails only where neither can serve, with what is wrong in `written`.
    pub fn in_force(
        written: &Path,
        good: &Path,
        memory_bytes_max: usize,
    ) -> Result<Self, BundleError> {
        let serve = |bundle: Bundle| Self::new(bundle, memory_bytes_max);
        let broken = match Bundle::load(written).and_then(serve) {
            Ok(rules) => {
                rules.keep(good);
                return Ok(rules);
            }
            Err(broken) => broken,
        };
        let Ok(rules) = shelf::kept(good).and_then(serve) else {
            return Err(broken);
        };
        let version = rules.version();
        tracing::error!(%broken, version, "the rules are broken: the last good ones are in force");
        Ok(rules)
    }

    fn keep(&self, good: &Path) {
        if !shelf::kept(good).is_ok_and(|kept| kept.version() == self.version()) {
            self.keep_anew(good);
        }
    }

    fn keep_anew(&self, good: &Path) {
        if let Err(error) = shelf::keep(self.bundle(), good) {
            tracing::warn!(%error, "the good rules could not be kept");
        }
    }
}

#[cfg(test)]
mod tests;
