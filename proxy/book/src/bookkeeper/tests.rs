//! The three machines as one, over a disk in memory that fails and forgets as told; against a model of what
//! was released and what core was told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use backstop_contract::{Decision, Tier, Verdict};
use proptest::prelude::*;

use super::*;
use crate::place::AdviceId;
use crate::segment::End;
use crate::settings::Fsync;

type Keeper = Bookkeeper<()>;

/// A disk: of each file what the system has, and what survives a loss of power.
#[derive(Clone, Debug, Default)]
struct Disk {
    files: BTreeMap<u32, Vec<u8>>,
    synced: BTreeMap<u32, Vec<u8>>,
    is_broken: bool,
}

impl Disk {
    fn perform(&mut self, action: Action) -> Done {
        let result = if self.is_broken { Err(io::Error::other("broken")) } else { Ok(()) };
        match action {
            Action::Write { segment, offset, bytes } => {
                let file = self.files.get_mut(&segment).unwrap();
                let at = usize::try_from(offset).unwrap();
                // A write that fails may have left a part.
                let count = if self.is_broken { bytes.len() / 2 } else { bytes.len() };
                file[at..at + count].copy_from_slice(&bytes[..count]);
                Done::Wrote(result)
            }
            Action::Sync { segment } => {
                if !self.is_broken {
                    self.synced.insert(segment, self.files[&segment].clone());
                }
                Done::Synced(segment, result)
            }
            Action::Create { segment, bytes, head } => {
                if !self.is_broken {
                    let mut file = head.to_vec();
                    file.resize(usize::try_from(bytes).unwrap(), 0);
                    self.synced.insert(segment, file.clone());
                    self.files.insert(segment, file);
                }
                Done::Created(segment, result)
            }
            Action::Delete { segment } => {
                self.files.remove(&segment);
                self.synced.remove(&segment);
                Done::Deleted(segment)
            }
            Action::Read { positions } => {
                Done::Read(positions.into_iter().map(|it| self.read(it)).collect())
            }
        }
    }

    fn read(&self, position: Position) -> Option<Bytes> {
        let from = position.offset as usize;
        let file = self.files.get(&position.segment)?;
        file.get(from..from + position.length as usize).map(Bytes::copy_from_slice)
    }

    fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }
}

/// A book on such a disk, its clock, and what was promised.
struct World {
    settings: Settings,
    keeper: Keeper,
    disk: Disk,
    under_way: Vec<Action>,
    now: Now,
    epoch: u64,
    seed: u64,
}

fn settings(fsync: Fsync) -> Settings {
    Settings {
        fsync,
        bytes_max: 1 << 15,
        segment_bytes: 1 << 12,
        memory_max: 30,
        batch_max: 5,
        in_flight_max: 2,
        ..Settings::default()
    }
}

impl World {
    fn new(settings: Settings) -> Self {
        let keeper = Keeper::new(Recovery::new(&settings), [1; 16], 1, 7);
        let now = Now { instant: Instant::now(), wall: Timestamp::from_millis(1_000_000) };
        let (disk, under_way) = (Disk::default(), Vec::new());
        Self { settings, keeper, disk, under_way, now, epoch: 1, seed: 7 }
    }

    fn say(&mut self, id: &str, tier: Tier, verdict: Verdict) -> Proposal {
        let entry = Entry {
            merchant: "demo".into(),
            test: false,
            numeric_ids: false,
            hash: hash(),
            received_at: self.now.wall,
            request: Bytes::from_static(b"{}"),
            answer: Decision::by(tier, id.to_owned(), verdict),
        };
        let json = serde_json::to_vec(&entry.answer).unwrap();
        self.keeper.say(key(id), &entry, &json)
    }

    /// Everything that can be done now is done.
    fn settle_down(&mut self) {
        for _ in 0..100_000 {
            self.act();
            if self.under_way.is_empty() {
                let due = self.keeper.next_due(self.now.instant);
                match due.map(|due| due.saturating_duration_since(self.now.instant)) {
                    // What is tried again in a second is not done now.
                    Some(wait) if wait < Duration::from_millis(100) => self.later(wait),
                    _ => return,
                }
            }
            while !self.under_way.is_empty() {
                self.finish_one();
            }
        }
        panic!("never at rest: {:?}", self.keeper.health(self.now.wall));
    }

    fn act(&mut self) {
        let actions = self.keeper.act(self.now);
        self.under_way.extend(actions);
    }

    fn finish_one(&mut self) {
        if !self.under_way.is_empty() {
            let action = self.under_way.remove(0);
            let done = self.disk.perform(action);
            self.keeper.done(done, self.now);
        }
    }

    fn later(&mut self, by: Duration) {
        self.now.instant += by;
        let millis = i64::try_from(by.as_millis()).unwrap();
        self.now.wall = Timestamp::from_millis(self.now.wall.as_millis() + millis);
    }

    /// The process ends here, or with `power` the machine does; and begins again.
    fn restart(&mut self, power: bool) {
        self.under_way.clear();
        self.keeper.take_told();
        self.disk.is_broken = false;
        if power {
            self.disk.files = self.disk.synced.clone();
        }
        let mut recovery = Recovery::new(&self.settings);
        self.disk.files.retain(|segment, bytes| {
            let end = recovery.read(*segment, bytes).unwrap();
            if let End::Clean { at } | End::Torn { at, .. } = end {
                bytes.truncate(at);
                recovery.resize(*segment, at as u64);
            }
            let is_empty = recovery.is_empty(*segment);
            if is_empty {
                recovery.remove(*segment);
            }
            !is_empty
        });
        self.epoch = recovery.next_epoch(Timestamp::from_millis(0));
        self.seed += 1;
        self.keeper = Keeper::new(recovery, [1; 16], self.epoch, self.seed);
    }

    fn verdict(&self, id: &str) -> Option<Verdict> {
        let record = match self.keeper.source(&key(id)) {
            Source::Memory(record) => record,
            Source::Disk(position) => self.disk.read(position)?,
            Source::Nowhere => return None,
        };
        let answer = crate::reading::answer_in(&record)?;
        assert_eq!(answer.key, key(id), "another's record");
        Some(answer.verdict)
    }

    /// Core settles the next batch, if there is one.
    fn ship(&mut self, outcome: &Outcome) -> Vec<(AdviceId, Key)> {
        let Next::Batch(plan) = self.keeper.next_batch(self.now.instant) else { return Vec::new() };
        let settled = plan.advices.iter().map(|it| Settled {
            epoch: it.advice.epoch,
            number: it.advice.number,
            outcome: outcome.clone(),
            why: String::new(),
        });
        let settlement = Settlement { settled: settled.collect() };
        self.keeper.settled(plan.batch, &settlement, self.now.instant);
        plan.advices.iter().map(|it| (it.advice, it.key)).collect()
    }
}

fn key(id: &str) -> Key {
    Key::of("demo", id)
}

fn hash() -> RequestHash {
    RequestHash::from_bytes(&[1; 32]).unwrap()
}

#[test]
fn a_book_fills_again_and_again_within_its_bounds_and_no_debt_is_lost() {
    let mut world = World::new(settings(Fsync::Process));
    for number in 0..2_000 {
        let tier = if number % 100 == 0 { Tier::Edge } else { Tier::Core };
        world.say(&number.to_string(), tier, Verdict::Approve);
        world.settle_down();
        assert!(world.disk.bytes() <= 1 << 15, "{number}: {}", world.disk.bytes());
        assert!(world.keeper.health(world.now.wall).trusted, "{number}");
    }
    assert!(world.keeper.known(&key("1")).is_none(), "core's own go");
    assert_eq!(world.keeper.shipping().len(), 20);
    for number in (0..2_000).step_by(100) {
        assert_eq!(world.verdict(&number.to_string()), Some(Verdict::Approve), "{number}");
    }
    world.restart(false);
    assert_eq!(world.keeper.shipping().len(), 20);
    while !world.keeper.shipping().is_empty() {
        assert!(!world.ship(&Outcome::Match).is_empty());
        world.settle_down();
    }
    world.restart(true);
    assert_eq!(world.keeper.shipping().len(), 0);
}

#[test]
fn a_book_that_may_be_smaller_from_now_on_becomes_so_and_no_debt_is_lost() {
    let mut world = World::new(Settings { bytes_max: 1 << 20, ..settings(Fsync::Process) });
    for number in 0..2_000 {
        let tier = if number % 100 == 0 { Tier::Edge } else { Tier::Core };
        world.say(&number.to_string(), tier, Verdict::Approve);
        world.settle_down();
    }
    assert!(world.disk.bytes() > 1 << 19);
    world.settings = settings(Fsync::Process);
    world.restart(false);
    world.settle_down();
    assert!(world.disk.bytes() <= 1 << 15, "{}", world.disk.bytes());
    for number in (0..2_000).step_by(100) {
        assert_eq!(world.verdict(&number.to_string()), Some(Verdict::Approve), "{number}");
    }
    world.say("after", Tier::Core, Verdict::Approve);
    world.settle_down();
    assert!(world.keeper.health(world.now.wall).trusted);
}

#[test]
fn what_was_set_aside_is_carried_with_its_reason_until_it_is_too_old() {
    let age_max = Duration::from_hours(1);
    let mut world = World::new(Settings { age_max, ..settings(Fsync::Process) });
    world.say("refused", Tier::Edge, Verdict::Decline);
    world.settle_down();
    let [(advice, _)] = world.ship(&Outcome::Refused)[..] else { panic!() };
    for number in 0..500 {
        world.say(&number.to_string(), Tier::Core, Verdict::Approve);
        world.settle_down();
    }
    world.restart(false);
    assert_eq!(world.keeper.shipping().aside_len(), 1);
    assert_eq!(world.keeper.shipping().why_aside(advice), Some(""));
    assert_eq!(world.verdict("refused"), Some(Verdict::Decline));
    world.later(age_max + Duration::from_secs(1));
    for number in 500..1_000 {
        world.say(&number.to_string(), Tier::Core, Verdict::Approve);
        world.settle_down();
    }
    assert_eq!(world.keeper.shipping().aside_len(), 0);
    assert_eq!(world.keeper.health(world.now.wall).forgotten_debts_total, 1, "and it is counted");
}

#[test]
fn what_core_knows_is_forgotten_when_it_is_too_old() {
    let age_max = Duration::from_hours(1);
    let mut world = World::new(Settings { age_max, ..settings(Fsync::Process) });
    for number in 0..40 {
        world.say(&number.to_string(), Tier::Core, Verdict::Approve);
        world.settle_down();
    }
    world.later(age_max + Duration::from_secs(1));
    world.settle_down();
    assert!(world.keeper.known(&key("0")).is_none());
    assert!(world.keeper.known(&key("39")).is_some(), "it stands in the segment that is written");
}

#[test]
fn a_record_that_can_not_be_read_is_set_aside_and_blocks_nothing() {
    let mut world = World::new(settings(Fsync::Process));
    for id in ["a", "b"] {
        world.say(id, Tier::Edge, Verdict::Decline);
    }
    world.settle_down();
    let Next::Batch(plan) = world.keeper.next_batch(world.now.instant) else { panic!() };
    world.keeper.unreadable(&plan.advices[0]);
    world.keeper.put_back(plan.batch);
    assert_eq!(world.ship(&Outcome::Match), [(plan.advices[1].advice, key("b"))]);
    assert_eq!(world.keeper.shipping().aside_len(), 1);
}

/// The disk had not got round to the removal of a segment when the power went. Its settled debt was owed
/// again, and was sent to core with the answer that its id had been given since.
#[test]
fn a_removed_segment_that_is_back_owes_nothing_under_an_id_that_was_answered_since() {
    for tier in [Tier::Edge, Tier::Core] {
        let mut world = World::new(settings(Fsync::Process));
        world.say("a", Tier::Edge, Verdict::Decline);
        world.settle_down();
        // Core's word on it stands in a later one.
        let (first, removed) = world.disk.files.first_key_value().unwrap();
        let (first, removed) = (*first, removed.clone());
        world.ship(&Outcome::Match);
        for number in 0..500 {
            world.say(&number.to_string(), Tier::Core, Verdict::Approve);
            world.settle_down();
        }
        assert!(!world.disk.files.contains_key(&first));
        world.say("a", tier.clone(), Verdict::Approve);
        world.settle_down();
        let before = world.keeper.known(&key("a"));
        let owed: Vec<_> = world.keeper.shipping().owed_after(None).collect();
        assert_eq!(owed.len(), usize::from(tier == Tier::Edge));
        world.disk.files.insert(first, removed.clone());
        world.disk.synced.insert(first, removed);
        world.restart(true);
        assert_eq!(world.keeper.known(&key("a")), before);
        assert_eq!(world.verdict("a"), Some(Verdict::Approve));
        assert_eq!(world.keeper.shipping().owed_after(None).collect::<Vec<_>>(), owed);
        // Where it is alone it is owed, since nobody can tell: core has heard of it, and says so.
        world.disk.files.retain(|segment, _| *segment == first);
        world.restart(false);
        assert_eq!(world.ship(&Outcome::Match).len(), 1);
    }
}

/// What a killed process had written counted as durable at once, though it was synced by nobody.
#[test]
fn what_an_earlier_process_left_is_durable_once_it_is_synced() {
    for is_broken in [false, true] {
        let mut world = World::new(settings(Fsync::Disk));
        world.settle_down();
        world.say("a", Tier::Core, Verdict::Approve);
        world.act();
        world.finish_one();
        assert!(!world.keeper.is_durable(&key("a")), "written, and not synced");
        world.restart(false);
        assert_eq!(world.verdict("a"), Some(Verdict::Approve));
        assert!(!world.keeper.is_durable(&key("a")));
        world.disk.is_broken = is_broken;
        world.settle_down();
        // The system may say of the next sync that it went well.
        world.disk.is_broken = false;
        world.later(Duration::from_secs(2));
        world.settle_down();
        assert_eq!(world.keeper.is_durable(&key("a")), !is_broken);
        assert!(world.keeper.health(world.now.wall).trusted);
        world.restart(true);
        assert_eq!(world.verdict("a").is_some(), !is_broken);
    }
}

/// A stand-in's advice once reached core while its record still waited for a slow disk. The edge was killed,
/// the client asked again and was told something else; core stood by an answer that nobody was given.
#[test]
fn core_hears_of_nothing_that_no_client_was_told() {
    let mut world = World::new(settings(Fsync::Disk));
    world.settle_down();
    for id in ["written", "out of time"] {
        world.say(id, Tier::Edge, Verdict::Decline);
        assert!(!matches!(world.keeper.next_batch(world.now.instant), Next::Batch(_)), "{id}");
        assert_eq!(world.keeper.health(world.now.wall).unsettled, 1, "{id}");
        if id == "written" {
            world.settle_down();
        } else {
            world.keeper.released_early(&key(id));
        }
        assert_eq!(world.ship(&Outcome::Match).len(), 1, "{id}");
    }
}

#[test]
fn the_one_who_asks_first_is_told_when_it_is_written() {
    let mut world = World::new(settings(Fsync::Disk));
    world.settle_down();
    let Answer::Turn { is_first: true, .. } = world.keeper.ask(key("a"), &hash(), || ()) else {
        panic!()
    };
    world.say("a", Tier::Core, Verdict::Approve);
    world.act();
    assert!(world.keeper.telling(&key("a")).is_some());
    world.finish_one();
    assert_eq!(world.keeper.take_told(), [], "written, and not synced");
    world.settle_down();
    assert_eq!(world.keeper.take_told(), [((), true)]);
    assert!(matches!(world.keeper.ask(key("a"), &hash(), || ()), Answer::Known(_)));
}

#[derive(Clone, Debug)]
enum Step {
    Say { id: u16, by_core: bool, approve: bool },
    Act,
    Finish,
    SettleDown,
    Ship(u8),
    Break(bool),
    Later(u16),
    Restart { power: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0_u16..400, any::<bool>(), any::<bool>())
            .prop_map(|(id, by_core, approve)| Step::Say { id, by_core, approve }),
        4 => Just(Step::Act),
        6 => Just(Step::Finish),
        3 => Just(Step::SettleDown),
        2 => (0_u8..4).prop_map(Step::Ship),
        1 => any::<bool>().prop_map(Step::Break),
        1 => (0_u16..2_000).prop_map(Step::Later),
        1 => any::<bool>().prop_map(|power| Step::Restart { power }),
    ];
    prop::collection::vec(step, 0..250)
}

/// What clients were told, and what must still be so.
#[derive(Default)]
struct Promises {
    /// Of each id that was told durably, the verdict.
    durable: BTreeMap<u16, (Verdict, bool)>,
    /// What core has settled: it knows that too.
    settled: BTreeSet<Key>,
}

fn check(world: &World, promises: &Promises) -> Result<(), TestCaseError> {
    let health = world.keeper.health(world.now.wall);
    for (id, (verdict, by_core)) in &promises.durable {
        let known = world.keeper.known(&key(&id.to_string()));
        if let Some(known) = known {
            prop_assert_eq!(known.verdict, *verdict, "{} changed", id);
            let read = world.verdict(&id.to_string());
            prop_assert!(read.is_none_or(|it| it == *verdict));
            let is_kept =
                read.is_some() || health.forgotten_debts_total + health.forgotten_total > 0;
            prop_assert!(is_kept, "{} is known and can not be read", id);
        } else {
            let is_known = *by_core || promises.settled.contains(&key(&id.to_string()));
            prop_assert!(is_known, "the debt {} is lost", id);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    /// By policy disk: what was told as durable survives a loss of power. By policy process: the end of the
    /// process. Whatever fails in between, and in whatever order things end.
    #[test]
    fn what_was_told_as_durable_is_kept_and_never_changes(
        steps in steps(), by_disk in any::<bool>(),
    ) {
        let fsync = if by_disk { Fsync::Disk } else { Fsync::Process };
        let mut world = World::new(settings(fsync));
        let mut promises = Promises::default();
        let mut waiting: BTreeMap<u16, (Verdict, bool)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Say { id, by_core, approve } => {
                    let verdict = if approve { Verdict::Approve } else { Verdict::Decline };
                    let tier = if by_core { Tier::Core } else { Tier::Edge };
                    if world.say(&id.to_string(), tier, verdict) == Proposal::First {
                        waiting.insert(id, (verdict, by_core));
                        // Anew: it was forgotten, which only what core knows may be.
                        let earlier = promises.durable.remove(&id);
                        let was_known = promises.settled.remove(&key(&id.to_string()));
                        let may_be = earlier.is_none_or(|it| it.1 || was_known);
                        prop_assert!(may_be, "{} was told {:?} and is asked anew", id, earlier);
                    }
                }
                Step::Act => world.act(),
                Step::Finish => world.finish_one(),
                Step::SettleDown => world.settle_down(),
                Step::Ship(0) => drop(world.keeper.next_batch(world.now.instant)),
                Step::Ship(_) => {
                    promises.settled.extend(world.ship(&Outcome::Match).into_iter().map(|it| it.1));
                }
                Step::Break(is_broken) => world.disk.is_broken = is_broken,
                Step::Later(millis) => world.later(Duration::from_millis(millis.into())),
                Step::Restart { power } => {
                    // By policy process the last moments are lost with the power, by design.
                    world.restart(power && by_disk);
                    waiting.clear();
                }
            }
            // What stands in a file and nobody waits for has been told as durable.
            waiting.retain(|id, (verdict, by_core)| {
                let known = world.keeper.known(&key(&id.to_string()));
                let is_told = known.is_some_and(|it| it.position.is_some())
                    && (!by_disk || world.keeper.register.in_memory(&key(&id.to_string())).is_none());
                if is_told {
                    promises.durable.insert(*id, (*verdict, *by_core));
                }
                !is_told
            });
            let forgotten = world.keeper.health(world.now.wall).forgotten_total;
            if forgotten == 0 {
                check(&world, &promises)?;
            }
            // Two more where the disk failed, or the process began anew.
            prop_assert!(world.disk.bytes() <= (1 << 15) + (2 << 12));
        }
    }
}
