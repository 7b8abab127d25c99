//! Following what is published: a look at one small file a few times a second. What is new is compiled
//! here, beside the requests, and what is old is dropped here, too.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use backstop_settings::sealed::Found;

use super::{InForce, Source, Standing};
use crate::bundle::{Bundle, BundleError};
use crate::publication::{Publication, Scope};
use crate::rules::Rules;
use crate::shelf;

/// How often it is looked whether anything is new.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What was refused is tried again after so many looks, though its files are the same: what it lacked may
/// be there by now.
const RETRY_AFTER_LOOKS: u32 = 30;

/// What tells one file from the next that has its name.
type Mark = Option<(u64, i64, i64, u64)>;

struct Follower {
    source: Source,
    in_force: Weak<InForce>,
    /// The files as they were when they were last read.
    seen: Vec<Mark>,
    /// Compiled rules: what stands, what a rollback would go back to, and what requests still have.
    kept: Vec<Arc<Rules>>,
    /// What a rollback would go back to.
    earlier: Option<String>,
    /// What is wrong with the last that was read.
    said: Option<String>,
    /// Looks until that is tried again.
    patience: u32,
}

/// Starts to follow. What stands already does so until something newer can.
pub(super) fn begin(in_force: &Arc<InForce>, source: Source) {
    let mut follower = Follower::new(in_force, source);
    let following = move || {
        while follower.look() {
            thread::sleep(LOOK_EVERY);
        }
    };
    if let Err(error) = thread::Builder::new().name("rules".to_owned()).spawn(following) {
        tracing::error!(%error, "what is published will not be followed");
    }
}

impl Follower {
    fn new(in_force: &Arc<InForce>, source: Source) -> Self {
        let (seen, earlier, said, patience) = Default::default();
        let kept = vec![Arc::clone(in_force.load().live())];
        Self { source, in_force: Arc::downgrade(in_force), seen, kept, earlier, said, patience }
    }

    /// One look. Whether anybody is left to follow for.
    fn look(&mut self) -> bool {
        let Some(in_force) = self.in_force.upgrade() else { return false };
        let scope = self.source.scope;
        let marks: Vec<Mark> = scopes(scope).map(|it| mark(&self.source, it)).collect();
        self.patience = self.patience.saturating_sub(1);
        let is_due = self.said.is_some() && self.patience == 0;
        if marks != self.seen || is_due {
            self.seen = marks;
            let around = self.around(&in_force.load());
            match self.read(around.clone()) {
                Ok(next) => {
                    self.said = None;
                    self.take(&in_force, next);
                }
                Err(why) => self.refuse(&in_force, around, why),
            }
        }
        self.tidy(&in_force.load_full());
        true
    }

    /// What stands, beside what the others have published since. It holds whatever becomes of the own bundle.
    fn around(&self, standing: &Standing) -> Standing {
        let Source { layout, scope: own, .. } = &self.source;
        let others = scopes(*own).filter(|scope| scope != own);
        let of_others = others.filter_map(|it| Some((it, it.read_any(layout)?.generation)));
        let of_own = standing.seen.iter().copied().filter(|(scope, _)| scope == own);
        let seen = of_own.chain(of_others).collect();
        let elsewhere = policies_elsewhere(&self.source, &standing.elsewhere);
        Standing { seen, elsewhere, ..standing.clone() }
    }

    /// What is to stand. Every part of it is ready.
    fn read(&mut self, around: Standing) -> Result<Next, String> {
        let own = self.source.scope;
        let Some(publication) = self.publication(&around)? else {
            return Ok(Next { standing: around, publication: None });
        };
        let live = self.rules(&publication.live.version).map_err(|error| error.to_string())?;
        let candidate = match &publication.candidate {
            Some(candidate) => {
                let rules = self.rules(&candidate.version).map_err(|error| error.to_string())?;
                Some((rules, candidate.stage))
            }
            None => None,
        };
        let Standing { mut seen, elsewhere, .. } = around;
        seen.retain(|(scope, _)| *scope != own);
        seen.push((own, publication.generation));
        let standing = Standing { live, candidate, seen, elsewhere, refusal: None };
        Ok(Next { standing, publication: Some(publication) })
    }

    /// What is published here. A copy may be one behind what stands: then that stays.
    fn publication(&self, around: &Standing) -> Result<Option<Publication>, String> {
        let own = self.source.scope;
        match own.read(&self.source.layout) {
            Found::Kept(publication) => Ok(Some(publication)),
            Found::Copy(copy, _) if !around.follows(own, copy.generation.saturating_add(1)) => {
                Ok(Some(copy))
            }
            Found::Nothing => Ok(None),
            Found::Copy(_, why) | Found::Lost(why) => Err(why),
        }
    }

    /// The rules of a version: those in hand, or compiled now.
    fn rules(&mut self, version: &str) -> Result<Arc<Rules>, BundleError> {
        if let Some(kept) = self.kept.iter().find(|rules| rules.version() == version) {
            return Ok(Arc::clone(kept));
        }
        let bundle = shelf::take(&self.source.layout, version)?;
        let rules = Arc::new(Rules::new(bundle, self.source.memory_bytes_max)?);
        self.kept.push(Arc::clone(&rules));
        Ok(rules)
    }

    fn take(&mut self, in_force: &InForce, Next { standing, publication }: Next) {
        let (live, before) = (Arc::clone(&standing.live), in_force.load_full());
        let candidate = publication.as_ref().and_then(|it| it.candidate.as_ref());
        let is_new = before.live.version() != live.version();
        let was_tried =
            before.candidate().map(|(rules, stage)| (rules.version().to_owned(), stage));
        let is_tried = candidate.map(|it| (it.version.clone(), it.stage));
        if is_new || was_tried != is_tried {
            let tried = candidate.map(|it| format!("{} ({})", it.version, it.stage));
            tracing::info!(version = live.version(), tried, "rules are in force");
        }
        in_force.set(standing);
        if is_new {
            live.keep_anew(&self.source.good);
        }
        // A rollback finds it ready. Where it is not there any more, the rollback will say so.
        let earlier = publication.as_ref().and_then(|it| it.earlier.last());
        self.earlier = earlier.map(|it| it.version.clone());
        if let Some(earlier) = self.earlier.clone() {
            let _ready_or_not = self.rules(&earlier);
        }
    }

    /// Leaves what stands, and says why once.
    fn refuse(&mut self, in_force: &InForce, around: Standing, why: String) {
        if self.said.as_ref() != Some(&why) {
            let version = around.live.version();
            tracing::error!(why, version, "what is published is refused: what was in force stays");
        }
        in_force.set(Standing { refusal: Some(why.clone()), ..around });
        self.said = Some(why);
        self.patience = RETRY_AFTER_LOOKS;
    }

    /// Lets go of what nobody needs: here, and not where a request ends.
    fn tidy(&mut self, standing: &Standing) {
        let earlier = self.earlier.as_deref();
        self.kept.retain(|rules| {
            Arc::ptr_eq(rules, &standing.live)
                || standing.candidate().is_some_and(|(it, _)| Arc::ptr_eq(rules, it))
                || earlier == Some(rules.version())
                || Arc::strong_count(rules) > 1
        });
    }
}

/// What is to stand, and the publication that says so.
struct Next {
    standing: Standing,
    /// None before the first.
    publication: Option<Publication>,
}

/// The files that matter to this one. The edge has to know the policies of both stacks.
fn scopes(own: Scope) -> impl Iterator<Item = Scope> {
    Scope::ALL.into_iter().filter(move |it| own == Scope::Edge || *it == own)
}

/// The policies that the live bundles of the others decide for. What can not be read now is as it was
/// `before`.
pub(super) fn policies_elsewhere(source: &Source, before: &BTreeSet<String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for scope in scopes(source.scope).filter(|scope| *scope != source.scope) {
        let (publication, is_last) = match scope.read(&source.layout) {
            Found::Nothing => continue,
            Found::Kept(publication) => (Some(publication), true),
            Found::Copy(publication, _) => (Some(publication), false),
            Found::Lost(_) => (None, false),
        };
        let folder = publication.map(|it| shelf::folder(&source.layout, &it.live.version));
        let texts = folder.and_then(|folder| Bundle::texts_in(folder).ok());
        if texts.is_none() || !is_last {
            names.extend(before.iter().cloned());
        }
        names.extend(texts.iter().flatten().filter_map(policy_of));
    }
    names
}

/// The policy that a file of a bundle decides for.
fn policy_of((file, _): &(String, String)) -> Option<String> {
    Some(file.strip_prefix("policies/")?.strip_suffix(".lua")?.to_owned())
}

fn mark(source: &Source, scope: Scope) -> Mark {
    let file = source.layout.publication(scope.as_str());
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

#[cfg(test)]
mod tests;
