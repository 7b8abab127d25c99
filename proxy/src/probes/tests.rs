//! What a probe is, when it is written, and what each end of it tells the switch.

use backstop_contract::{Decision, Verdict};
use backstop_lua::{Bundle, Rules};
use backstop_settings::Layout;

use super::*;
use crate::switch::Timing;
use crate::trial::false_stacks::{FalseStacks, Manner};

#[test]
fn a_probe_is_written_from_time_to_time_and_as_long_as_there_is_doubt() {
    let (start, bad) = (Instant::now(), || End::Bad("api decides (deadline)".to_owned()));
    let mut seen = Seen { written_at: None, is_good: true };
    // At this second, whether something else gives cause for doubt; the kind, how it ends, and
    // what that says of the stack.
    for (second, is_doubted, kind, end, expected) in [
        (0, false, Kind::Written, bad(), Some(false)),
        (1, false, Kind::Written, End::Good, Some(true)),
        (2, false, Kind::Rehearsed, End::Good, Some(true)),
        (3, true, Kind::Written, End::Good, Some(true)),
        (4, false, Kind::Rehearsed, bad(), Some(false)),
        (5, false, Kind::Rehearsed, End::Unknown, None),
        (6, false, Kind::Rehearsed, End::Full, None),
        (12, false, Kind::Rehearsed, End::Good, Some(true)),
        (13, false, Kind::Written, bad(), Some(false)),
        (14, false, Kind::Written, End::Good, Some(true)),
        (15, false, Kind::Rehearsed, End::Good, Some(true)),
    ] {
        let now = start + Duration::from_secs(second);
        assert_eq!(seen.next(is_doubted, Duration::from_secs(10), now), kind, "{second}");
        assert_eq!(seen.ended(kind, &end, now), expected, "{second}");
    }
}

/// Both stacks, and what probes them.
struct Bench {
    stacks: FalseStacks,
    probes: Probes,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let (stacks, folder) = (FalseStacks::start(), tempfile::tempdir().unwrap());
        // A busy machine is to make no probe a bad one.
        let settings = settings::Switch {
            probe_time_max: Duration::from_mins(1),
            ..settings::Switch::default()
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let layout = Layout::new(folder.path());
        let switch =
            Switch::open(&layout, settings.clone(), stacks.stacks.clone(), metrics.clone());
        let rules = Rules::new(Bundle::shipped(), 8 << 20).unwrap();
        let probes = Probes {
            stacks: stacks.stacks.clone(),
            switch: Arc::new(switch),
            metrics,
            rules: Arc::new(rules.into()),
            hash_key: HashKey::new(&[7; 32]),
            node: "node-1".to_owned(),
            settings,
        };
        Self { stacks, probes, _folder: folder }
    }

    /// One that was just written, and was good.
    fn seen() -> Seen {
        Seen { written_at: Some(Instant::now()), is_good: true }
    }

    /// A client of prod was stood in for, that had so much time.
    fn stand_in(&self, budget: Duration) {
        let decision = Decision::by(Tier::Edge, "txn-1".to_owned(), Verdict::Approve);
        let decision = Decision { cause: Some(Cause::Deadline), ..decision };
        let timing = Timing { elapsed: budget, budget, ceiling: budget };
        assert!(self.probes.switch.saw(Stack::Prod, &decision, timing));
    }
}

/// The store that both stacks share took 400 ms for a commit, and merchants had 300. The stack at rest only
/// reads for them, and its probes had a second: it looked well, and was no better.
#[tokio::test]
async fn a_probe_that_is_written_too_late_for_clients_proves_nothing() {
    let bench = Bench::new();
    let slow = Manner { after: Duration::from_millis(400), ..Manner::default() };
    // The answer of the stack, the least time of a client, and so many writes in a row then.
    for (manner, budget, writes) in [
        (Manner::default(), Some(30_000), 1),
        (Manner::default(), Some(30_000), 2),
        (Manner::default(), None, 2),
        (slow, Some(300), 0),
        (Manner::default(), Some(30_000), 1),
        (Manner { cause: Some(Cause::Error), ..Manner::default() }, Some(30_000), 0),
    ] {
        bench.stacks.set(Stack::OldProd, manner.clone());
        if let Some(budget) = budget {
            bench.stand_in(Duration::from_secs(40));
            bench.stand_in(Duration::from_millis(budget));
        }
        bench.probes.probe(Stack::OldProd, &mut Bench::seen()).await;
        let signs = bench.probes.switch.signs(Stack::OldProd);
        assert_eq!(signs.writes, writes, "{manner:?} {budget:?}");
    }
}

#[tokio::test]
async fn what_a_probe_meets_tells_whether_the_stack_is_well_and_knows_rehearsals() {
    let bench = Bench::new();
    // The answer of the stack; whether it is well then, and refuses rehearsals.
    for (manner, is_well, refuses) in [
        (Manner::default(), true, false),
        (Manner { is_old: true, ..Manner::default() }, true, true),
        // Limits of our own say nothing of the stack.
        (Manner { cause: Some(Cause::Overload), ..Manner::default() }, true, true),
        (Manner { cause: Some(Cause::Deadline), ..Manner::default() }, false, true),
        (Manner::default(), true, false),
        (Manner { is_old: true, ..Manner::default() }, true, true),
    ] {
        bench.stacks.set(Stack::OldProd, manner.clone());
        bench.probes.probe(Stack::OldProd, &mut Bench::seen()).await;
        let signs = bench.probes.switch.signs(Stack::OldProd);
        let seen = (signs.good_since.is_some(), signs.refuses_rehearsals);
        assert_eq!(seen, (is_well, refuses), "{manner:?}");
    }
    assert!(bench.stacks.asked(Stack::OldProd).iter().all(|(path, _)| path == "/v1/rehearsals"));
    let status = bench.probes.switch.status();
    let said = status["said"].as_str().unwrap();
    assert!(said.contains("the edge does not go to old-prod by itself"), "{said}");
}

/// Both cores put the row of one account at the same moment: one of them loaded and committed its whole set
/// again, with the requests of merchants in it, once in ten seconds and once a second in doubt.
#[tokio::test]
async fn no_two_cores_are_asked_about_one_account() {
    let bench = Bench::new();
    for stack in Stack::ALL {
        bench.probes.probe(stack, &mut Seen { written_at: None, is_good: true }).await;
    }
    let asked = Stack::ALL.map(|stack| bench.stacks.asked(stack).remove(0));
    let written = |account: &str| ("/v1/decisions".to_owned(), account.to_owned());
    assert_eq!(asked, [written("probe-prod-1"), written("probe-old-prod-1")]);
    let nodes = ["0193c2a4-7b1e-7cc3-98c4-dc0c0c07398f", "0193c2a4-7b1e-7cc3-98c4-dc0c0c073990"];
    assert_ne!(account(Stack::Prod, nodes[0]), account(Stack::Prod, nodes[1]));
}
