use std::time::Duration;

use backstop_contract::Timestamp;
use backstop_contract::canary::Percent;

use super::*;
use crate::publication::Hand;

#[test]
fn broken_rules_give_way_to_the_last_good_ones_and_mended_ones_return() {
    let dir = tempfile::tempdir().unwrap();
    let (written, good) = (dir.path().join("rules"), dir.path().join("good"));
    let serve = || Rules::in_force(&written, &good, 8 << 20);
    Bundle::shipped().write_to(&written).unwrap();
    let file = written.join("defaults/payment.lua");
    let sound = std::fs::read_to_string(&file).unwrap();

    std::fs::write(&file, "return {").unwrap();
    let error = serve().unwrap_err().to_string();
    assert!(error.contains("payment.lua:1"), "{error}");

    std::fs::write(&file, &sound).unwrap();
    let version = serve().unwrap().version().to_owned();
    std::fs::write(&file, "return {").unwrap();
    assert_eq!(serve().unwrap().version(), version);

    std::fs::write(&file, format!("{sound}\n-- mended\n")).unwrap();
    assert_ne!(serve().unwrap().version(), version);
}

/// A directory in which a bundle decided, and another lies on the shelf.
pub(super) struct Ground {
    dir: tempfile::TempDir,
    pub written: String,
    pub other: String,
}

impl Ground {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        Bundle::shipped().write_to(layout.rules()).unwrap();
        let (written, other) = (Bundle::shipped(), Self::bundle("gift"));
        shelf::store(&layout, &written, None).unwrap();
        shelf::store(&layout, &other, None).unwrap();
        let (written, other) = (written.version().to_owned(), other.version().to_owned());
        Self { dir, written, other }
    }

    pub fn bundle(name: &str) -> Bundle {
        let shipped = Bundle::shipped();
        let mut texts: Vec<(String, String)> =
            shipped.texts().map(|(file, text)| (file, text.to_owned())).collect();
        let payment = texts.iter().find(|(file, _)| file == "policies/payment.lua").unwrap();
        texts.push((format!("policies/{name}.lua"), payment.1.clone()));
        Bundle::from_texts(texts.iter().map(|(file, text)| (file.as_str(), text.as_str()))).unwrap()
    }

    pub fn layout(&self) -> Layout {
        Layout::new(self.dir.path())
    }

    pub fn source(&self, scope: Scope) -> Source {
        let layout = self.layout();
        let (written, good) = (layout.rules(), layout.good_bundle(scope.as_str()));
        Source { layout, scope, written, good, memory_bytes_max: 8 << 20 }
    }

    fn follow(&self, scope: Scope) -> Arc<InForce> {
        let in_force = Arc::new(InForce::open(self.source(scope)).unwrap());
        in_force.follow();
        in_force
    }

    /// Publishes for prod: what was written is live, the other one as it is told.
    pub fn publish(&self, stage: Option<Stage>) {
        let hand = Hand { at: Timestamp::now(), who: "maria".into(), reason: "because".into() };
        let before = Publication::first(&self.written, Timestamp::now());
        let next = match stage {
            Some(stage) => before.tried(&self.other, stage, hand),
            None => before.live(&self.other, Duration::ZERO, hand),
        };
        PROD.write(&self.layout(), &next.unwrap()).unwrap();
    }
}

pub(super) const PROD: Scope = Scope::Stack(backstop_contract::Stack::Prod);

fn until(what: &str, in_force: &InForce, is_so: impl Fn(&Standing) -> bool) {
    for _ in 0..3_000 {
        if is_so(&in_force.load()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain for: {what}; {:?}", in_force.load());
}

#[test]
fn a_publication_is_picked_up_whole_and_whoever_began_before_keeps_what_stood() {
    let ground = Ground::new();
    let in_force = ground.follow(PROD);
    let before = in_force.load_full();
    assert_eq!(before.live().version(), ground.written);
    assert!(!before.follows(PROD, 0));

    ground.publish(Some(Stage::Shadow));
    until("the shadow", &in_force, |it| it.shadow().is_some());
    let shadow = in_force.load_full();
    assert_eq!(shadow.shadow().unwrap().version(), ground.other);
    assert_eq!(shadow.rules_for("m", "a", "payment").version(), ground.written);
    assert!(!shadow.has_policy("gift"), "nobody may ask for what is only tried");

    let all = Stage::Percent(Percent::try_from(100.0).unwrap());
    ground.publish(Some(all));
    until("all of them", &in_force, |it| {
        it.rules_for("m", "a", "payment").version() == ground.other
    });

    ground.publish(None);
    until("it is live", &in_force, |it| it.live().version() == ground.other);
    assert!(in_force.load().has_policy("gift") && in_force.load().follows(PROD, 1));
    assert_eq!(before.live().version(), ground.written);
    // A restart begins with it, whatever becomes of the draft.
    std::fs::remove_dir_all(ground.layout().rules()).unwrap();
    assert_eq!(InForce::open(ground.source(PROD)).unwrap().load().live().version(), ground.other);
}

#[test]
fn what_can_not_be_used_is_refused_with_its_reason_and_the_last_good_serves_a_restart() {
    let ground = Ground::new();
    let in_force = ground.follow(PROD);
    ground.publish(None);
    until("it is live", &in_force, |it| it.live().version() == ground.other);

    let last = Publication::first("0123456789ab", Timestamp::now());
    PROD.write(&ground.layout(), &last).unwrap();
    until("it is refused", &in_force, |it| it.refusal().is_some());
    assert_eq!(in_force.load().live().version(), ground.other);
    assert!(in_force.load().refusal().unwrap().contains("0123456789ab"));
    for publication in ["good/publication-prod.json", "publication/prod.json"] {
        let restarted = InForce::open(ground.source(PROD)).unwrap().load_full();
        assert_eq!(restarted.live().version(), ground.other);
        assert!(restarted.refusal().is_some());
        std::fs::write(ground.dir.path().join(publication), "{").unwrap();
    }
    ground.publish(None);
    until("it is mended", &in_force, |it| it.refusal().is_none());
}

#[test]
fn the_edge_knows_the_policies_of_both_stacks_and_decides_by_its_own() {
    let ground = Ground::new();
    let in_force = ground.follow(Scope::Edge);
    ground.publish(None);
    until("prod has it", &in_force, |it| it.has_policy("gift"));
    assert_eq!(in_force.load().live().version(), ground.written);
}
