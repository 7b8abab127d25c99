//! What a follower does look by look, without its thread.

use backstop_contract::Timestamp;

use super::*;
use crate::in_force::tests::{Ground, PROD};

fn following(ground: &Ground, scope: Scope) -> (Arc<InForce>, Follower) {
    let in_force = Arc::new(InForce::open(ground.source(scope)).unwrap());
    let follower = Follower::new(&in_force, ground.source(scope));
    (in_force, follower)
}

/// A publication that could not be used was read and compiled ten times a second, for ever.
#[test]
fn what_was_refused_is_tried_again_now_and_then_and_at_once_when_its_file_is_new() {
    let ground = Ground::new();
    let (in_force, mut follower) = following(&ground, PROD);
    let missing = shelf::folder(&ground.layout(), &ground.other);
    let elsewhere = ground.layout().root().join("elsewhere");
    fs::rename(&missing, &elsewhere).unwrap();
    ground.publish(None);
    follower.look();
    assert!(in_force.load().refusal().is_some());
    fs::rename(&elsewhere, &missing).unwrap();
    for _ in 1..RETRY_AFTER_LOOKS {
        follower.look();
        assert!(in_force.load().refusal().is_some(), "it was tried again at once");
    }
    follower.look();
    assert_eq!(
        (in_force.load().refusal(), in_force.load().live().version()),
        (None, &*ground.other)
    );

    fs::rename(&missing, &elsewhere).unwrap();
    let gone = Publication::first("0123456789ab", Timestamp::now());
    PROD.write(&ground.layout(), &gone).unwrap();
    follower.look();
    assert!(in_force.load().refusal().is_some());
    fs::rename(&elsewhere, &missing).unwrap();
    ground.publish(None);
    follower.look();
    assert_eq!(in_force.load().refusal(), None);
}

fn torn(ground: &Ground) {
    fs::write(ground.layout().publication("edge"), "{").unwrap();
}

fn lost(ground: &Ground) {
    torn(ground);
    fs::write(ground.layout().good_publication("edge"), "{").unwrap();
}

fn gone(ground: &Ground) {
    let publication = Publication::first("0123456789ab", Timestamp::now());
    Scope::Edge.write(&ground.layout(), &publication).unwrap();
}

/// What befalls the edge's own rules, and whether it then refuses what is published for it.
type Trouble = (&'static str, fn(&Ground), bool);
const TROUBLES: [Trouble; 4] =
    [("none", |_| (), false), ("torn", torn, false), ("lost", lost, true), ("gone", gone, true)];

/// An edge that was started again while its own publication could not be read, or its own bundle was gone,
/// knew only its own policies: it refused requests that core would have decided.
#[test]
fn an_edge_knows_the_policies_of_the_stacks_whatever_becomes_of_its_own_bundle() {
    for (name, befall, is_refused) in TROUBLES {
        let ground = Ground::new();
        let own = Publication::first(&ground.written, Timestamp::now());
        Scope::Edge.write(&ground.layout(), &own).unwrap();
        // It keeps what it begins with.
        drop(InForce::open(ground.source(Scope::Edge)).unwrap());
        ground.publish(None);
        befall(&ground);

        let (in_force, mut follower) = following(&ground, Scope::Edge);
        assert!(in_force.load().has_policy("gift"), "{name}: at the start");
        follower.look();
        let standing = in_force.load_full();
        assert!(standing.has_policy("gift"), "{name}: after a look");
        assert_eq!(standing.refusal().is_some(), is_refused, "{name}: {standing:?}");
        assert!(standing.follows(PROD, 1), "{name}");
        assert_eq!(standing.live().version(), ground.written, "{name}");

        // A policy that is published from now on is known, too.
        let late = Ground::bundle("late");
        shelf::store(&ground.layout(), &late, None).unwrap();
        let publication = Publication::first(late.version(), Timestamp::now());
        Scope::of_stack("old-prod").write(&ground.layout(), &publication).unwrap();
        follower.look();
        assert!(in_force.load().has_policy("late"), "{name}");
    }
}

#[test]
fn a_copy_that_is_behind_what_stands_does_not_take_its_place() {
    let ground = Ground::new();
    let (in_force, mut follower) = following(&ground, PROD);
    ground.publish(None);
    follower.look();
    let layout = ground.layout();
    let behind = Publication::first(&ground.written, Timestamp::now());
    backstop_settings::sealed::write(&layout.good_publication("prod"), &behind).unwrap();
    fs::write(layout.publication("prod"), "{").unwrap();
    follower.look();
    assert!(in_force.load().refusal().is_some());
    assert_eq!(in_force.load().live().version(), ground.other);
}
