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

/// What tells one file from the next that has its name.
type Mark = Option<(u64, i64, i64, u64)>;

struct Follower {
    source: Source,
    in_force: Weak<InForce>,
    /// The files as they were when what stands was made of them.
    seen: Vec<Mark>,
    /// Compiled rules: what stands, what a rollback would go back to, and what requests still have.
    kept: Vec<Arc<Rules>>,
    /// What a rollback would go back to.
    earlier: Option<String>,
    /// What was last said to be wrong.
    said: Option<String>,
}

/// Starts to follow. What stands already does so until something newer can.
pub(super) fn begin(in_force: &Arc<InForce>, source: Source) {
    let mut follower = Follower {
        source,
        in_force: Arc::downgrade(in_force),
        seen: Vec::new(),
        kept: vec![Arc::clone(in_force.load().live())],
        earlier: None,
        said: None,
    };
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
    /// One look. Whether anybody is left to follow for.
    fn look(&mut self) -> bool {
        let Some(in_force) = self.in_force.upgrade() else { return false };
        let marks: Vec<Mark> = self.scopes().map(|scope| mark(&self.source, scope)).collect();
        if marks != self.seen {
            let standing = in_force.load_full();
            match self.read(&standing) {
                Ok(Some(next)) => {
                    self.seen = marks;
                    self.said = None;
                    self.take(&in_force, next);
                }
                Ok(None) => self.seen = marks,
                Err(why) => self.refuse(&in_force, &standing, why),
            }
        }
        self.tidy(&in_force.load_full());
        true
    }

    /// The files that matter here. The edge has to know the policies of both stacks.
    fn scopes(&self) -> impl Iterator<Item = Scope> + use<> {
        let scope = self.source.scope;
        Scope::ALL.into_iter().filter(move |it| scope == Scope::Edge || *it == scope)
    }

    /// What is to stand; none where nothing is new. Every part of it is ready.
    fn read(&mut self, standing: &Standing) -> Result<Option<Next>, String> {
        let Some(publication) = self.publication(self.source.scope)? else {
            let elsewhere = self.policies_elsewhere(standing);
            let seen = self.seen_now();
            let is_news = seen != standing.seen;
            let standing = Standing { seen, elsewhere, ..standing.clone() };
            return Ok(is_news.then_some(Next { standing, publication: None }));
        };
        let live = self.rules(&publication.live.version).map_err(|error| error.to_string())?;
        let candidate = match &publication.candidate {
            Some(candidate) => {
                let rules = self.rules(&candidate.version).map_err(|error| error.to_string())?;
                Some((rules, candidate.stage))
            }
            None => None,
        };
        let seen = self.seen_now();
        let elsewhere = self.policies_elsewhere(standing);
        let standing = Standing { live, candidate, seen, elsewhere, refusal: None };
        Ok(Some(Next { standing, publication: Some(publication) }))
    }

    /// What stands is made of these.
    fn seen_now(&self) -> Vec<(Scope, u64)> {
        let read = |scope| Some((scope, self.publication(scope).ok()??.generation));
        self.scopes().filter_map(read).collect()
    }

    fn publication(&self, scope: Scope) -> Result<Option<Publication>, String> {
        match scope.read(&self.source.layout) {
            Found::Kept(publication) => Ok(Some(publication)),
            Found::Nothing => Ok(None),
            Found::Copy(_, why) | Found::Lost(why) => Err(why),
        }
    }

    /// The policies of the stacks, where this is the edge. What can not be read now is as it was.
    fn policies_elsewhere(&self, standing: &Standing) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for scope in self.scopes().filter(|scope| *scope != self.source.scope) {
            match self.publication(scope) {
                Ok(Some(publication)) => {
                    let folder = shelf::folder(&self.source.layout, &publication.live.version);
                    match Bundle::texts_in(folder) {
                        Ok(texts) => names.extend(texts.iter().filter_map(policy_of)),
                        Err(_gone) => names.extend(standing.elsewhere.iter().cloned()),
                    }
                }
                Ok(None) => {}
                Err(_unreadable) => names.extend(standing.elsewhere.iter().cloned()),
            }
        }
        names
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
    fn refuse(&mut self, in_force: &InForce, standing: &Standing, why: String) {
        if self.said.as_ref() == Some(&why) {
            return;
        }
        let version = standing.live.version();
        tracing::error!(why, version, "what is published is refused: what was in force stays");
        in_force.set(Standing { refusal: Some(why.clone()), ..standing.clone() });
        self.said = Some(why);
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

/// The policy that a file of a bundle decides for.
fn policy_of((file, _): &(String, String)) -> Option<String> {
    Some(file.strip_prefix("policies/")?.strip_suffix(".lua")?.to_owned())
}

fn mark(source: &Source, scope: Scope) -> Mark {
    let file = source.layout.publication(scope.as_str());
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}
