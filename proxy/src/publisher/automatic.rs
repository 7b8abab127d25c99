//! What the edge makes by itself of what is published: a version that breaks is taken back, and defaults
//! are taken that have soaked. Functions of what is published and the time; the routine writes what they say.

use std::time::Duration;

use backstop_contract::{Stack, Timestamp};
use backstop_lua::publication::{Hand, NoStep, Publication};

use crate::switch::papers::NOBODY;

/// What is published once this version, which breaks, is taken back. None where it neither is tried nor
/// has been live for less than its trial: nobody knows that an older one would do better.
pub fn taken_back(
    before: &Publication,
    version: &str,
    trial: Duration,
    hand: Hand,
    is_there: impl Fn(&str) -> bool,
) -> Option<Result<Publication, NoStep>> {
    let is_tried = before.candidate.as_ref().is_some_and(|it| it.version == version);
    let is_live = before.live.version == version;
    let after = if is_tried {
        before.rolled_back(hand, is_there)
    } else if is_live && before.live.since.distance(hand.at) <= trial {
        // What is tried beside a live bundle that breaks may be what mends it.
        before.back(hand, |it| !has_broken(before, it) && is_there(it))
    } else {
        return None;
    };
    Some(after.map(|after| after.without(version)))
}

/// What the edge takes its defaults from next, and who says so; none where it stays with those it has. It
/// follows the stack that serves: what has soaked there, and away from what was taken back there.
pub fn defaults(
    edge: &Publication,
    (active, published): (Stack, &Publication),
    now: Timestamp,
    is_there: impl Fn(&str) -> bool,
) -> Option<(Publication, Hand)> {
    let (live, own) = (&published.live, &edge.live.version);
    let hand = |reason| Hand { at: now, who: NOBODY.to_owned(), reason };
    if live.version == *own {
        return None;
    }
    let (after, hand) = if live.default_due <= now && !has_broken(edge, &live.version) {
        let hand = hand(format!("it is live in {active} since {}", live.since));
        let is_back = edge.earlier.last().is_some_and(|it| it.version == live.version);
        let after = if is_back {
            edge.back(hand.clone(), |it| it == live.version)
        } else {
            edge.live(&live.version, Duration::ZERO, hand.clone())
        };
        (after, hand)
    } else if published.withdrawn.as_ref() == Some(own) {
        let hand = hand(format!("{own} was taken back in {active}"));
        (edge.back(hand.clone(), |it| !has_broken(edge, it) && is_there(it)), hand)
    } else {
        return None;
    };
    Some((after.ok()?, hand))
}

fn has_broken(publication: &Publication, version: &str) -> bool {
    publication.broke.iter().any(|it| it == version)
}

#[cfg(test)]
mod tests {
    use backstop_contract::canary::Percent;
    use backstop_lua::publication::Stage;

    use super::*;

    const TRIAL: Duration = Duration::from_millis(100);
    const SOAK: Duration = Duration::from_millis(50);
    /// The last moment of each case.
    const NOW: i64 = 1_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn hand(millis: i64) -> Hand {
        Hand { at: at(millis), who: "maria".to_owned(), reason: "because".to_owned() }
    }

    /// These versions went live then, one after the other.
    fn live(releases: &[(&str, i64)]) -> Publication {
        let ((first, since), others) = releases.split_first().unwrap();
        let first = Publication::first(first, at(*since));
        others.iter().fold(first, |before, (version, since)| {
            before.live(version, SOAK, hand(*since)).unwrap()
        })
    }

    fn trying(version: &str, before: &Publication) -> Publication {
        before.tried(version, Stage::Percent(Percent::try_from(10.0).unwrap()), hand(NOW)).unwrap()
    }

    /// Each of these versions breaks, and is taken back while anything can be: what is live, then.
    fn after_all_broke(mut now: Publication, broken: &[&str]) -> (String, usize) {
        let mut steps = 0;
        while let Some(version) = broken.iter().find(|it| {
            taken_back(&now, it, TRIAL, hand(NOW), |_| true).is_some_and(|after| after.is_ok())
        }) {
            now = taken_back(&now, version, TRIAL, hand(NOW), |_| true).unwrap().unwrap();
            steps += 1;
        }
        (now.live.version, steps)
    }

    /// A release of weeks ago broke on a few in a hundred requests, and so did the next one. That was taken
    /// back, the old one was on trial anew, and release after release was taken back to the oldest there was.
    #[test]
    fn a_version_is_taken_back_while_it_is_new_and_the_old_one_behind_it_stays() {
        let old = [("z", 1), ("a", 2), ("b", 950)];
        for (releases, broken, expected) in [
            (&old[..], &["b"][..], ("a", 1)),
            (&old, &["b", "a"], ("a", 1)),
            (&old, &["a", "z"], ("b", 0)),
            // Two that are new, and both break: the one before them has proved itself.
            (&[("z", 1), ("a", 940), ("b", 950)], &["b", "a"], ("z", 2)),
            (&[("z", 1), ("a", 899)], &["a"], ("a", 0)),
            (&[("z", 1), ("a", 900)], &["a"], ("z", 1)),
            (&[("a", 950)], &["a"], ("a", 0)),
            // What broke before is no way back.
            (&[("z", 1), ("a", 940), ("b", 950), ("a", 960)], &["a", "b"], ("z", 2)),
        ] {
            let (version, steps) = after_all_broke(live(releases), broken);
            assert_eq!((version.as_str(), steps), expected, "{releases:?} {broken:?}");
        }
    }

    #[test]
    fn what_is_tried_goes_alone_and_stays_where_only_the_live_one_breaks() {
        let both = trying("c", &live(&[("a", 1), ("b", 950)]));
        let back = |version| taken_back(&both, version, TRIAL, hand(NOW), |_| true);
        let without_c = back("c").unwrap().unwrap();
        assert_eq!((without_c.live.version.as_str(), &without_c.candidate), ("b", &None));
        assert_eq!(without_c.broke, ["c"]);
        let without_b = back("b").unwrap().unwrap();
        assert_eq!((without_b.live.version.as_str(), &without_b.candidate), ("a", &both.candidate));
        assert_eq!(back("d"), None);
        // The one before is tried again: it does not stand twice.
        let again = trying("a", &live(&[("a", 1), ("b", 950)]));
        let after = taken_back(&again, "b", TRIAL, hand(NOW), |_| true).unwrap().unwrap();
        assert_eq!((after.live.version.as_str(), after.candidate), ("a", None));
        let gone = taken_back(&both, "b", TRIAL, hand(NOW), |_| false);
        assert_eq!(gone, Some(Err(NoStep::NothingBefore("b".to_owned()))));
    }

    /// A bundle was live in old-prod and had to soak when old-prod began to serve. The edge's own was in
    /// neither of its lists, and so it was rolled back four times a second to the oldest that it had.
    #[test]
    fn the_edge_takes_what_has_soaked_and_leaves_only_what_was_taken_back() {
        let edge = live(&[("z", 1), ("a", 2)]);
        let back = live(&[("z", 1), ("a", 2)]).back(hand(NOW), |_| true).unwrap();
        let soaking = live(&[("o", 1), ("m", 951), ("n", 960)]);
        let many: Vec<_> = (1..=12).map(|it| (it.to_string(), 950 + it)).collect();
        let many: Vec<_> = many.iter().map(|(it, since)| (it.as_str(), *since)).collect();
        let cases = [
            ("it has soaked", live(&[("a", 1), ("b", 950)]), Some("b")),
            ("it soaks", live(&[("a", 1), ("b", 951)]), None),
            ("it is the edge's", live(&[("z", 1), ("a", 951)]), None),
            ("another stack serves now", live(&[("o", 1), ("n", 951)]), None),
            ("there were many since", live(&many), None),
            ("it was taken back, and the one before has soaked", back, Some("z")),
            (
                "it was taken back, and the one before soaks",
                live(&[("o", 1), ("n", 951), ("a", 952)]).back(hand(NOW), |_| true).unwrap(),
                Some("z"),
            ),
            ("another was taken back", soaking.back(hand(NOW), |_| true).unwrap(), None),
        ];
        for (name, published, expected) in cases {
            let next = defaults(&edge, (Stack::OldProd, &published), at(NOW), |_| true);
            let next = next.map(|(after, _)| after);
            let version = next.as_ref().map(|after| after.live.version.as_str());
            assert_eq!(version, expected, "{name}");
            // It stays there.
            if let Some(after) = next {
                let further = defaults(&after, (Stack::OldProd, &published), at(NOW), |_| true);
                assert!(further.is_none(), "{name}: {further:?}");
            }
        }
    }

    /// The edge remembered one version that broke. A second one took its place, the first was taken again,
    /// broke again, and so on, each time with a line in the audit log.
    #[test]
    fn no_version_that_broke_at_the_edge_is_its_default_again() {
        let edge = live(&[("z", 1), ("u", 2)]).without("v").without("u");
        let edge = edge.back(hand(3), |_| true).unwrap();
        for (version, expected) in [("v", None), ("u", None), ("w", Some("w"))] {
            let published = live(&[(version, 1)]);
            let next = defaults(&edge, (Stack::Prod, &published), at(NOW), |_| true);
            let version = next.map(|(after, _)| after.live.version);
            assert_eq!(version.as_deref(), expected);
        }
    }
}
