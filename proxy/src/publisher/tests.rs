//! The publisher as a whole, over a real directory: what is ordered, what is found on the shelf, and a disk
//! that is slow.

use std::time::Duration;

use backstop_contract::rollout::{Step, To};
use backstop_contract::{Cause, Problem, Rollout, Tier, Verdict};
use backstop_lua::ruling::SAFE;
use backstop_settings::audit::tail;
use tokio::time::sleep;

use super::*;
use crate::switch::tests::stacks;

const PROD: Scope = Scope::Stack(Stack::Prod);
const TICK: Duration = Duration::from_millis(10);

/// A directory in which a bundle decides, and others lie on the shelf.
struct Ground {
    folder: tempfile::TempDir,
    publisher: Arc<Publisher>,
    versions: Vec<String>,
}

impl Ground {
    fn new() -> Self {
        Self::with(settings::Switch::default())
    }

    fn with(switch: settings::Switch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (layout, stacks) = (Layout::new(folder.path()), stacks());
        let metrics = Arc::new(Metrics::new().unwrap());
        let switch = Arc::new(Switch::open(&layout, switch, stacks.clone(), metrics.clone()));
        let bundles: Vec<_> = (0..3).map(bundle).collect();
        for bundle in &bundles {
            shelf::store(&layout, bundle, None).unwrap();
        }
        let versions = bundles.iter().map(|it| it.version().to_owned()).collect();
        let rules = Arc::new(Rules::new(bundle(0), MEMORY).unwrap().into());
        let publishing = (settings::Rules::default(), MEMORY);
        let publisher = Publisher::new(layout, publishing, (&switch, &stacks), &rules, &metrics);
        Self { folder, publisher, versions }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.folder.path())
    }

    async fn publish(&self, version: &str) -> Result<Done, StepError> {
        let step = Step::Publish { version: version.to_owned(), to: To::Live, soak_seconds: None };
        let (reason, who) = ("because".to_owned(), "maria".to_owned());
        self.publisher.obey(Rollout { stack: Some(Stack::Prod), step, reason, who }).await
    }

    fn live(&self) -> Option<String> {
        Some(PROD.read_any(&self.layout())?.live.version)
    }

    /// What the audit log says was done.
    fn logged(&self) -> Vec<String> {
        let lines = tail(&self.layout().switch(), usize::MAX).unwrap();
        lines.into_iter().map(|line| line.record.what).collect()
    }

    /// This version gives so many answers, all of them safe ones, and the edge looks.
    async fn breaks(&self, version: &str) {
        let (policy_version, reasons) = (version.to_owned(), vec![SAFE.to_owned()]);
        let by_core = Decision::by(Tier::Core, "1".to_owned(), Verdict::Review);
        let cause = Some(Cause::Error);
        let answer = Decision { policy_version, reasons, cause, ..by_core };
        self.publisher.look().await;
        for _ in 0..settings::Rules::default().answers_min {
            self.publisher.saw(Stack::Prod, &answer);
        }
        self.publisher.look().await;
    }
}

const MEMORY: usize = 8 << 20;

fn bundle(number: usize) -> Bundle {
    let policy = format!(
        "return {{ fields = {{}}, safe = 'review', strict = false, keys = function() return {{}} end, \
         decide = function() return 'approve', {{}}, {number} end }}"
    );
    Bundle::from_texts([("policies/p.lua", policy.as_str())]).unwrap()
}

/// The cache of the version that was last found good began with the empty one, which was then as good as
/// that: it was written as the live version of a stack that could load no such bundle.
#[tokio::test(start_paused = true)]
async fn what_is_no_version_is_never_live() {
    let ground = Ground::new();
    for version in ["", "..", "0123456789ab"] {
        let refused = ground.publish(version).await.unwrap_err();
        assert!(matches!(refused, StepError::Broken(_)), "{version}: {refused}");
        assert_ne!(ground.live().as_deref(), Some(version));
    }
    ground.publish(&ground.versions[1]).await.unwrap();
    assert_eq!(ground.live().as_ref(), Some(&ground.versions[1]));
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_was_good_and_is_gone_from_the_shelf_is_not_published() {
    let ground = Ground::new();
    let version = &ground.versions[1];
    ground.publisher.check(version).await.unwrap();
    std::fs::remove_dir_all(shelf::folder(&ground.layout(), version)).unwrap();
    let refused = ground.publish(version).await.unwrap_err();
    assert!(matches!(refused, StepError::Broken(_)), "{refused}");
    assert_eq!(ground.live().as_ref(), Some(&ground.versions[0]));
}

/// The write of a step went on after the edge had given up waiting: the bundle went live, the author was told
/// that it had not, and the audit log said nothing.
#[tokio::test(start_paused = true)]
async fn a_step_that_outlasts_the_wait_is_in_the_log_once_it_is_on_disk() {
    let (write_time_max, switch) = (Duration::ZERO, settings::Switch::default());
    let ground = Ground::with(settings::Switch { write_time_max, ..switch });
    let hand = || Hand { at: Timestamp::now(), who: "maria".into(), reason: "because".into() };
    let before = Publication::first(&ground.versions[0], Timestamp::now());
    let after = before.live(&ground.versions[1], Duration::ZERO, hand()).unwrap();
    let steps = (&before, &after);
    let taken = ground.publisher.take(PROD, steps, "rules-live", hand(), Map::new()).await;
    let told = Problem::from(taken.unwrap_err());
    assert!(told.remedy.contains("backstop rules status"), "{told:?}");
    assert!(!told.remedy.contains("force"), "no step can be forced: {told:?}");
    let mut looks = 0;
    while ground.logged().is_empty() && looks < 3_000 {
        sleep(TICK).await;
        looks += 1;
    }
    assert_eq!(ground.logged(), ["rules-live"]);
    assert_eq!(ground.live().as_ref(), Some(&ground.versions[1]));
}

#[tokio::test(start_paused = true)]
async fn a_bundle_that_breaks_is_taken_back_once_and_the_one_before_stays_though_it_breaks_too() {
    let ground = Ground::new();
    let [first, second, third] = ground.versions.as_slice() else { panic!() };
    ground.publish(second).await.unwrap();
    // It was live for longer than any trial.
    let mut proved = PROD.read_any(&ground.layout()).unwrap();
    proved.live.since = Timestamp::from_millis(0);
    PROD.write(&ground.layout(), &proved).unwrap();
    ground.publish(third).await.unwrap();
    ground.breaks(third).await;
    assert_eq!(ground.live().as_ref(), Some(second));
    for version in [second, first] {
        ground.breaks(version).await;
        assert_eq!(ground.live().as_ref(), Some(second));
    }
    assert_eq!(&PROD.read_any(&ground.layout()).unwrap().broke, std::slice::from_ref(third));
    assert_eq!(ground.logged(), ["rules-live", "rules-live", "rules-taken-back"]);
    ground.publish(third).await.unwrap();
    assert_eq!(ground.live().as_ref(), Some(third), "there is a way forward");
}
