//! Which bundle is live, which one is tried, and what was live before: one small file for each stack, and
//! one for the edge. The edge writes them; each tier reads its own, and so can anybody with nothing running.
//!
//! A step makes the next publication of this one. It is written, then it holds, then it is told.

use std::fmt;
use std::io;
use std::time::Duration;

use backstop_contract::canary::{By, Canary, Percent, Share};
use backstop_contract::{Stack, Timestamp};
use backstop_settings::sealed::{self, Found};
use backstop_settings::{Layout, STACKS};
use serde::{Deserialize, Serialize};

/// Bundles that were live before, and that a rollback can go back to.
pub const EARLIER_MAX: usize = 8;
/// Versions that broke, and are kept in mind.
pub const BROKE_MAX: usize = 16;
/// What keeps this share apart from the one that a canary sends to the other stack.
const SALT: &str = "rules of ";

/// Whose rules they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of a stack, its core and its api.
    Stack(Stack),
    /// Those that the edge answers with alone.
    Edge,
}

/// What is published for one scope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// One more with each step.
    pub generation: u64,
    /// The bundle that decides.
    pub live: Release,
    /// The one that is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// What was live before, the latest last.
    #[serde(default)]
    pub earlier: Vec<Release>,
    /// The versions that were taken back because they broke, the latest last. None of them goes live by
    /// itself again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broke: Vec<String>,
    /// What was live until the last step took it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
}

/// A bundle that is live, or was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The version of the bundle.
    pub version: String,
    /// Since when it was published. A rollback to it leaves that, so that no trial of it begins anew.
    pub since: Timestamp,
    /// Who published it, or went back to it.
    pub who: String,
    /// Why.
    pub reason: String,
    /// From then on the edge may answer by its defaults.
    pub default_due: Timestamp,
}

/// A bundle that is tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The version of the bundle.
    pub version: String,
    /// How far it has come.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// Who published it.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// How far a candidate has come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is asked about what the live one decided, and nobody hears what it says.
    Shadow,
    /// It decides for so many of a hundred accounts.
    Percent(Percent),
}

/// Who makes a step, when and why.
#[derive(Clone, Debug)]
pub struct Hand {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// Why a step can not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStep {
    /// It would change nothing.
    #[error("{0} is live already")]
    Live(String),
    /// There is nothing to go back to.
    #[error("nothing was live before {0}, and nothing is tried")]
    NothingBefore(String),
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Stack(Stack::Prod), Self::Stack(Stack::OldProd), Self::Edge];

    /// The scope of a stack by its name.
    pub fn of_stack(stack: &str) -> Self {
        let is_second = STACKS.iter().position(|it| *it == stack) == Some(1);
        Self::Stack(if is_second { Stack::OldProd } else { Stack::Prod })
    }

    /// The word in files and in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stack(stack) => stack.as_str(),
            Self::Edge => "edge",
        }
    }

    /// What is published for it in this directory.
    pub fn read(self, layout: &Layout) -> Found<Publication> {
        let name = self.as_str();
        sealed::read(&layout.publication(name), &layout.good_publication(name))
    }

    /// The same, or its copy; none where there is neither.
    pub fn read_any(self, layout: &Layout) -> Option<Publication> {
        match self.read(layout) {
            Found::Kept(publication) | Found::Copy(publication, _) => Some(publication),
            Found::Nothing | Found::Lost(_) => None,
        }
    }

    /// Publishes. Durable when it returns; what was published stays where it fails.
    pub fn write(self, layout: &Layout, publication: &Publication) -> io::Result<()> {
        let name = self.as_str();
        sealed::write(&layout.publication(name), publication)?;
        // Where this fails, the copy is one behind.
        let _one_behind = sealed::write(&layout.good_publication(name), publication);
        Ok(())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Publication {
    /// What is published where nothing was yet, and this bundle decided.
    pub fn first(version: &str, at: Timestamp) -> Self {
        let live = Release {
            version: version.to_owned(),
            since: at,
            who: String::new(),
            reason: "it decided before anything was published".to_owned(),
            default_due: at,
        };
        let (candidate, earlier, broke, withdrawn) = Default::default();
        Self { generation: 0, live, candidate, earlier, broke, withdrawn }
    }

    /// With this bundle tried, in the place of whatever was tried before.
    pub fn tried(&self, version: &str, stage: Stage, hand: Hand) -> Result<Self, NoStep> {
        if self.live.version == version {
            return Err(NoStep::Live(version.to_owned()));
        }
        let Hand { at: since, who, reason } = hand;
        let candidate = Candidate { version: version.to_owned(), stage, since, who, reason };
        Ok(Self { candidate: Some(candidate), ..self.next() })
    }

    /// With this bundle live, and nothing tried. The edge takes its defaults after `soak`.
    pub fn live(&self, version: &str, soak: Duration, hand: Hand) -> Result<Self, NoStep> {
        if self.live.version == version {
            return Err(NoStep::Live(version.to_owned()));
        }
        let Hand { at: since, who, reason } = hand;
        let default_due = later(since, soak);
        let live = Release { version: version.to_owned(), since, who, reason, default_due };
        let mut next = self.next();
        next.earlier.push(std::mem::replace(&mut next.live, live));
        let surplus = next.earlier.len().saturating_sub(EARLIER_MAX);
        next.earlier.drain(..surplus);
        Ok(Self { candidate: None, withdrawn: None, ..next })
    }

    /// With the last step taken back: nothing tried any more, or else what was live before and is good.
    pub fn rolled_back(&self, hand: Hand, is_good: impl Fn(&str) -> bool) -> Result<Self, NoStep> {
        if self.candidate.is_some() {
            return Ok(Self { candidate: None, ..self.next() });
        }
        self.back(hand, is_good)
    }

    /// With the latest bundle live again that was live before and is good, whatever is tried.
    pub fn back(&self, hand: Hand, is_good: impl Fn(&str) -> bool) -> Result<Self, NoStep> {
        let mut next = self.next();
        let is_way = |it: &Release| it.version != self.live.version && is_good(&it.version);
        let place = next.earlier.iter().rposition(is_way);
        let Some(before) = place.and_then(|place| next.earlier.drain(place..).next()) else {
            return Err(NoStep::NothingBefore(self.live.version.clone()));
        };
        let Hand { who, reason, .. } = hand;
        // What has soaked before need not soak again; what had not, goes on.
        next.live = Release { who, reason, ..before };
        next.candidate = next.candidate.filter(|it| it.version != next.live.version);
        Ok(Self { withdrawn: Some(self.live.version.clone()), ..next })
    }

    /// With this version known to have broken.
    #[must_use]
    pub fn without(mut self, version: &str) -> Self {
        self.broke.retain(|it| it != version);
        self.broke.push(version.to_owned());
        let surplus = self.broke.len().saturating_sub(BROKE_MAX);
        self.broke.drain(..surplus);
        self
    }

    /// Every version that it names.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        let tried = self.candidate.iter().map(|it| it.version.as_str());
        let before = self.earlier.iter().map(|it| it.version.as_str());
        std::iter::once(self.live.version.as_str()).chain(tried).chain(before)
    }

    fn next(&self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self.clone() }
    }
}

impl Stage {
    /// Whether the candidate decides for this account.
    pub fn takes(self, merchant: &str, account: &str) -> bool {
        let Self::Percent(percent) = self else { return false };
        let share = Share::Percent(percent);
        let share = Canary { to: Stack::default(), share, by: By::Account };
        share.takes(&format!("{SALT}{merchant}"), account)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadow => f.write_str("shadow"),
            Self::Percent(percent) => write!(f, "{}%", f64::from(*percent)),
        }
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand(millis: i64) -> Hand {
        let at = Timestamp::from_millis(millis);
        Hand { at, who: "maria".to_owned(), reason: "because".to_owned() }
    }

    fn first() -> Publication {
        Publication::first("a", Timestamp::from_millis(1))
    }

    fn any(_version: &str) -> bool {
        true
    }

    fn percent(percent: f64) -> Stage {
        Stage::Percent(Percent::try_from(percent).unwrap())
    }

    #[test]
    fn a_bundle_goes_from_shadow_to_a_share_to_live_and_back_step_by_step() {
        let shadow = first().tried("b", Stage::Shadow, hand(2)).unwrap();
        let share = shadow.tried("b", percent(10.0), hand(3)).unwrap();
        let live = share.live("b", Duration::from_millis(7), hand(4)).unwrap();
        assert_eq!((live.live.version.as_str(), &live.candidate), ("b", &None));
        assert_eq!(live.live.default_due, Timestamp::from_millis(11));
        assert_eq!(live.live("b", Duration::ZERO, hand(5)), Err(NoStep::Live("b".into())));
        assert_eq!(share.rolled_back(hand(6), any).unwrap().candidate, None);
        let back = live.rolled_back(hand(7), any).unwrap();
        assert_eq!((back.live.version.as_str(), back.generation), ("a", 4));
        assert_eq!((back.live.since, back.live.who.as_str()), (first().live.since, "maria"));
        assert_eq!(back.withdrawn.as_deref(), Some("b"));
        let twice = live.live("c", Duration::ZERO, hand(5)).unwrap();
        let soaking = twice.rolled_back(hand(6), any).unwrap();
        assert_eq!(soaking.live.default_due, Timestamp::from_millis(11));
        assert_eq!(twice.rolled_back(hand(6), |it| it != "b").unwrap().live.version, "a");
        assert_eq!(back.rolled_back(hand(8), any), Err(NoStep::NothingBefore("a".into())));
        let again = back.live("b", Duration::ZERO, hand(9)).unwrap();
        assert_eq!(again.withdrawn, None);
    }

    #[test]
    fn what_broke_is_kept_in_mind_up_to_a_bound() {
        let mut now = first();
        for number in 0..2 * BROKE_MAX {
            now = now.without(&number.to_string()).without("again");
        }
        assert_eq!((now.broke.len(), now.broke.last().unwrap().as_str()), (BROKE_MAX, "again"));
        assert_eq!(now.broke.iter().filter(|it| *it == "again").count(), 1);
    }

    #[test]
    fn what_was_live_before_is_bounded_and_the_latest_is_gone_back_to_first() {
        let mut now = first();
        for number in 0..20 {
            now = now.live(&number.to_string(), Duration::ZERO, hand(number)).unwrap();
        }
        assert_eq!(now.versions().count(), 1 + EARLIER_MAX);
        assert_eq!(now.rolled_back(hand(21), any).unwrap().live.version, "18");
    }

    #[test]
    fn a_share_is_stable_grows_and_is_not_that_of_a_canary() {
        let account = |n: u32| format!("customer-{n}");
        let taken =
            |stage: Stage| (0..10_000).filter(|n| stage.takes("demo", &account(*n))).count();
        assert!((800..1_200).contains(&taken(percent(10.0))), "{}", taken(percent(10.0)));
        assert_eq!((taken(percent(100.0)), taken(Stage::Shadow)), (10_000, 0));
        let in_both = (0..10_000).filter(|n| {
            let canary = Canary {
                to: Stack::OldProd,
                share: Share::Percent(Percent::try_from(10.0).unwrap()),
                by: By::Account,
            };
            let (small, large) = (percent(10.0), percent(20.0));
            let is_in = small.takes("demo", &account(*n));
            assert!(!is_in || large.takes("demo", &account(*n)));
            is_in && canary.takes("demo", &account(*n))
        });
        assert!(in_both.count() < 200);
    }

    #[test]
    fn what_is_published_is_read_as_it_was_written_and_of_a_newer_release_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, scope) = (Layout::new(dir.path()), Scope::of_stack("old-prod"));
        assert_eq!(scope.read(&layout), Found::Nothing);
        let tried = first().tried("b", percent(12.5), hand(2)).unwrap();
        scope.write(&layout, &tried).unwrap();
        assert_eq!(scope.read(&layout), Found::Kept(tried.clone()));
        std::fs::write(layout.publication("old-prod"), "{").unwrap();
        assert_eq!(scope.read_any(&layout), Some(tried.clone()));
        let mut newer = serde_json::to_value(&tried).unwrap();
        newer["moon"] = true.into();
        assert_eq!(serde_json::from_value::<Publication>(newer).unwrap(), tried);
    }
}
