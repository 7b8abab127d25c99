//! The scribe in pure time: what it does, and what it makes of a disk that fails.

use super::*;
use backstop_contract::{RequestHash, Verdict};

use crate::now::Now;
use crate::record::{TierCode, decode};

/// A scribe, the clock, and what it asked for and said so far.
struct Desk {
    scribe: Scribe,
    now: Now,
    notices: Vec<Notice>,
}

fn settings(fsync: Fsync) -> Settings {
    Settings {
        fsync,
        bytes_max: 1 << 15,
        segment_bytes: 1 << 12,
        queue_max: 4,
        memory_max: 8,
        ..Settings::default()
    }
}

fn broken() -> io::Result<()> {
    Err(io::Error::other("broken"))
}

impl Desk {
    /// With its first segment begun.
    fn new(fsync: Fsync) -> Self {
        let settings = settings(fsync);
        let scribe = Scribe::new(&settings, [1; 16], 9, Shelf::new(&settings), 0);
        let now = Now { instant: Instant::now(), wall: Timestamp::from_millis(1_000) };
        let mut desk = Self { scribe, now, notices: Vec::new() };
        let segment = desk.creation();
        desk.scribe.created(segment, Ok(()), desk.now);
        desk
    }

    fn say(&mut self, id: &str, is_stand_in: bool) -> Subject {
        let tier = if is_stand_in { TierCode::Edge } else { TierCode::Core };
        let answer = Answer {
            key: Key::of("demo", id),
            hash: RequestHash::from_bytes(&[1; 32]).unwrap(),
            advice: None,
            received_at: self.now.wall,
            verdict: Verdict::Decline,
            tier,
            test: false,
            numeric_ids: false,
            merchant: "demo",
            answer: b"{}",
            request: b"",
        };
        self.scribe.say(&answer, is_stand_in).unwrap().1
    }

    fn act(&mut self) -> Vec<Action> {
        let actions = self.scribe.act(self.now);
        self.notices.extend(self.scribe.take_notices());
        actions
    }

    fn creation(&mut self) -> u32 {
        match self.act().as_slice() {
            [Action::Create { segment, .. }] => *segment,
            actions => panic!("{actions:?}"),
        }
    }

    fn wrote(&mut self, result: io::Result<()>) {
        self.scribe.wrote(result, self.now);
        self.notices.extend(self.scribe.take_notices());
    }

    fn synced(&mut self, segment: u32, result: io::Result<()>) {
        self.scribe.synced(segment, result, self.now);
        self.notices.extend(self.scribe.take_notices());
    }

    fn later(&mut self, by: Duration) {
        self.now.instant += by;
        self.now.wall = Timestamp::from_millis(
            self.now.wall.as_millis() + i64::try_from(by.as_millis()).unwrap(),
        );
    }

    /// Who was told, and what, since the last call.
    fn told(&mut self) -> Vec<(Key, bool)> {
        let told = self.notices.iter().filter_map(|it| match it {
            Notice::Told(key, durable) => Some((*key, *durable)),
            _ => None,
        });
        let told = told.collect();
        self.notices.clear();
        told
    }
}

fn key(id: &str) -> Key {
    Key::of("demo", id)
}

fn write(actions: &[Action]) -> Option<(u32, u64, Vec<u8>)> {
    actions.iter().find_map(|it| match it {
        Action::Write { segment, offset, bytes } => Some((*segment, *offset, bytes.clone())),
        _ => None,
    })
}

fn syncs(actions: &[Action]) -> Vec<u32> {
    let of = |it: &Action| match it {
        Action::Sync { segment } => Some(*segment),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn what_comes_during_a_write_is_the_next_write_together() {
    let mut desk = Desk::new(Fsync::Process);
    desk.say("a", false);
    let (segment, offset, bytes) = write(&desk.act()).unwrap();
    desk.say("b", false);
    desk.say("c", true);
    assert_eq!(write(&desk.act()), None, "one at a time");
    desk.wrote(Ok(()));
    assert_eq!(desk.told(), [(key("a"), true)]);
    let (again, next, both) = write(&desk.act()).unwrap();
    assert_eq!((again, next), (segment, offset + bytes.len() as u64));
    let first = decode(&both).unwrap();
    assert_eq!(first.sequence, 3, "what core is owed goes first");
    assert!(decode(&both[padded(first.bytes.len())..]).is_ok());
    desk.wrote(Ok(()));
    assert_eq!(desk.told(), [(key("c"), true), (key("b"), true)]);
}

#[test]
fn numbers_are_contiguous_and_only_stand_ins_have_one() {
    let mut desk = Desk::new(Fsync::Process);
    let subjects = ["a", "b", "c", "d"].map(|id| desk.say(id, id != "b"));
    let numbers = subjects.map(|it| it.advice().map(|it| (it.epoch, it.number)));
    assert_eq!(numbers, [Some((9, 1)), None, Some((9, 2)), Some((9, 3))]);
}

#[test]
fn by_policy_process_a_sync_begins_within_its_time_and_tells_nobody() {
    let mut desk = Desk::new(Fsync::Process);
    desk.say("a", false);
    let (segment, ..) = write(&desk.act()).unwrap();
    desk.wrote(Ok(()));
    desk.told();
    assert_eq!(desk.scribe.next_due(), Some(desk.now.instant + SYNC_AFTER));
    let just = Duration::from_micros(1);
    desk.later(SYNC_AFTER.saturating_sub(just));
    assert!(syncs(&desk.act()).is_empty());
    desk.later(just);
    assert_eq!(syncs(&desk.act()), [segment]);
    desk.synced(segment, Ok(()));
    assert_eq!(desk.notices, [Notice::Safe(Subject::Core(key("a")))]);
    assert_eq!(desk.scribe.next_due(), None);
}

#[test]
fn by_policy_disk_an_answer_counts_once_a_sync_that_began_after_its_write_ended() {
    let mut desk = Desk::new(Fsync::Disk);
    desk.say("a", false);
    let (segment, ..) = write(&desk.act()).unwrap();
    desk.wrote(Ok(()));
    assert_eq!(syncs(&desk.act()), [segment]);
    desk.say("b", false);
    assert!(write(&desk.act()).is_some(), "a sync does not stand before a write");
    desk.wrote(Ok(()));
    assert_eq!(desk.told(), [], "neither is synced");
    desk.synced(segment, Ok(()));
    assert_eq!(desk.told(), [(key("a"), true)], "the second was written after that sync began");
    assert_eq!(syncs(&desk.act()), [segment]);
    desk.synced(segment, Ok(()));
    assert_eq!(desk.told(), [(key("b"), true)]);
}

#[test]
fn past_the_queue_nobody_waits_and_it_is_written_all_the_same() {
    let mut desk = Desk::new(Fsync::Process);
    for id in ["a", "b", "c", "d", "e"] {
        desk.say(id, false);
    }
    let (_, _, bytes) = write(&desk.act()).unwrap();
    assert_eq!(desk.told(), [(key("e"), false)], "the fifth of four");
    desk.wrote(Ok(()));
    let written = desk.notices.iter().filter(|it| matches!(it, Notice::Written(..))).count();
    assert_eq!(written, 5);
    assert!(bytes.len() > 5 * 100);
    assert!(!desk.told().contains(&(key("e"), true)), "told once");
}

/// A disk that failed: of two answers one was written and one was not.
fn failed(fsync: Fsync) -> (Desk, u32) {
    let mut desk = Desk::new(fsync);
    desk.say("a", true);
    let (segment, ..) = write(&desk.act()).unwrap();
    desk.wrote(Ok(()));
    desk.say("b", false);
    desk.act();
    desk.wrote(broken());
    (desk, segment)
}

#[test]
fn after_a_failed_write_answers_are_undurable_at_once_and_kept() {
    let (mut desk, segment) = failed(Fsync::Process);
    assert_eq!(desk.told(), [(key("a"), true), (key("b"), false)]);
    assert!(desk.scribe.trouble().is_some_and(|it| it.why.contains("broken")));
    desk.say("c", true);
    let actions = desk.act();
    assert_eq!(desk.told(), [(key("c"), false)]);
    assert_eq!((write(&actions), syncs(&actions)), (None, vec![]), "{actions:?}");
    let is_deleted = |it: &Action| *it == Action::Delete { segment };
    assert!(!actions.iter().any(is_deleted), "the process may end before it stands elsewhere");
}

#[test]
fn of_a_file_that_took_nothing_nothing_is_left() {
    let mut desk = Desk::new(Fsync::Process);
    desk.say("a", false);
    let actions = desk.act();
    let [Action::Write { segment: 1, .. }, Action::Create { segment: 2, .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    desk.scribe.created(2, Ok(()), desk.now);
    desk.wrote(broken());
    let deletions = [1, 2].map(|segment| Action::Delete { segment });
    assert_eq!(desk.act(), deletions, "a spare that was made before proves nothing");
}

#[test]
fn every_second_a_new_segment_is_tried_and_takes_all_that_was_not_synced() {
    let (mut desk, _) = failed(Fsync::Process);
    // The spare was being made as the first one became the head.
    desk.scribe.created(2, broken(), desk.now);
    desk.say("c", true);
    desk.act();
    desk.told();
    for _ in 0..3 {
        assert_eq!(desk.scribe.next_due(), Some(desk.now.instant + RETRY_AFTER));
        let just = Duration::from_millis(1);
        desk.later(RETRY_AFTER.saturating_sub(just));
        assert_eq!(desk.act(), []);
        desk.later(just);
        let segment = desk.creation();
        desk.scribe.created(segment, broken(), desk.now);
        assert_eq!(desk.act(), []);
    }
    desk.later(RETRY_AFTER);
    let segment = desk.creation();
    desk.scribe.created(segment, Ok(()), desk.now);
    let (to, _, bytes) = write(&desk.act()).unwrap();
    assert_eq!(to, segment);
    assert!(desk.scribe.trouble().is_some(), "not before it is written");
    desk.wrote(Ok(()));
    assert_eq!(desk.scribe.trouble(), None);
    let mut at = 0;
    let mut sequences = Vec::new();
    while let Ok(decoded) = decode(&bytes[at..]) {
        sequences.push(decoded.sequence);
        at += padded(decoded.bytes.len());
    }
    assert_eq!(sequences, [1, 3, 2], "as they were, what core is owed first");
    assert_eq!(desk.told(), [], "they were told");
    desk.say("d", false);
    desk.act();
    desk.wrote(Ok(()));
    assert_eq!(desk.told(), [(key("d"), true)]);
}

#[test]
fn a_failed_sync_is_not_tried_again_and_costs_what_it_was_for() {
    let mut desk = Desk::new(Fsync::Disk);
    desk.say("a", false);
    let (segment, ..) = write(&desk.act()).unwrap();
    desk.wrote(Ok(()));
    desk.act();
    desk.say("b", false);
    assert!(write(&desk.act()).is_some());
    desk.synced(segment, broken());
    let adrift = Notice::Adrift(Subject::Core(key("a")));
    assert!(desk.notices.contains(&adrift));
    desk.wrote(Ok(()));
    assert_eq!(desk.told(), [(key("a"), false), (key("b"), false)], "that write went there too");
    desk.later(Duration::from_millis(500));
    let actions = desk.act();
    assert!(syncs(&actions).is_empty());
    assert_eq!(desk.scribe.waiting(), 2);
}

#[test]
fn a_sync_that_ends_after_its_file_was_given_up_changes_nothing() {
    for result in [Ok(()), broken()] {
        let mut desk = Desk::new(Fsync::Disk);
        desk.say("a", false);
        let (segment, ..) = write(&desk.act()).unwrap();
        desk.wrote(Ok(()));
        assert_eq!(syncs(&desk.act()), [segment]);
        desk.say("b", false);
        desk.act();
        desk.wrote(broken());
        assert_eq!(desk.told(), [(key("a"), false), (key("b"), false)]);
        desk.synced(segment, result);
        assert_eq!((desk.told(), desk.scribe.waiting()), (vec![], 2));
    }
}

#[test]
fn what_memory_can_not_hold_is_forgotten_with_cores_own_first() {
    let (mut desk, _) = failed(Fsync::Process);
    desk.act();
    desk.told();
    // Waiting: "a", a debt, and "b", core's own. Eight are kept.
    for number in 0..7 {
        desk.say(&format!("debt-{number}"), true);
    }
    desk.act();
    let forgotten = |desk: &mut Desk| {
        let all = desk.notices.iter().filter_map(|it| match it {
            Notice::Forgotten(subject) => subject.key(),
            _ => None,
        });
        let all: Vec<_> = all.collect();
        desk.notices.clear();
        all
    };
    assert_eq!(forgotten(&mut desk), [key("b")]);
    desk.say("one-more", true);
    desk.act();
    assert_eq!(forgotten(&mut desk), [key("a")], "then the oldest");
    assert_eq!(desk.scribe.waiting(), 8);
}

#[test]
fn a_disk_that_takes_writes_and_does_not_sync_does_not_fill_the_memory() {
    let mut desk = Desk::new(Fsync::Process);
    for number in 0..20 {
        desk.say(&number.to_string(), false);
        desk.act();
        desk.wrote(Ok(()));
        desk.later(SYNC_AFTER);
    }
    let safe = desk.notices.iter().filter(|it| matches!(it, Notice::Safe(_))).count();
    assert_eq!(safe, 20 - 8, "let go of, beyond what memory holds");
    assert_eq!(desk.told().len(), 20);
    desk.synced(1, Ok(()));
    assert!(desk.notices.len() < 8, "those that came later wait for the next");
}

#[test]
fn a_full_segment_is_followed_by_the_spare_that_was_made_before() {
    let mut desk = Desk::new(Fsync::Process);
    let mut segments = Vec::new();
    for number in 0..100 {
        desk.say(&number.to_string(), false);
        for action in desk.act() {
            match action {
                Action::Write { segment, .. } => segments.push(segment),
                Action::Create { segment, .. } => desk.scribe.created(segment, Ok(()), desk.now),
                Action::Sync { .. } | Action::Delete { .. } | Action::Read { .. } => {}
            }
        }
        desk.wrote(Ok(()));
    }
    assert_eq!(desk.told().len(), 100);
    assert_eq!((segments[0], segments.is_sorted()), (1, true));
    assert!(segments.contains(&2) && segments.contains(&3));
}

#[test]
fn without_a_spare_answers_wait_and_are_undurable_once_it_can_not_be_made() {
    let settings = settings(Fsync::Process);
    let scribe = Scribe::new(&settings, [1; 16], 9, Shelf::new(&settings), 0);
    let now = Now { instant: Instant::now(), wall: Timestamp::from_millis(1_000) };
    let mut desk = Desk { scribe, now, notices: Vec::new() };
    let segment = desk.creation();
    desk.say("a", false);
    assert_eq!((desk.act(), desk.told()), (vec![], vec![]));
    desk.scribe.created(segment, broken(), desk.now);
    assert_eq!(desk.act(), []);
    assert_eq!(desk.told(), [(key("a"), false)]);
}

#[test]
fn closing_syncs_at_once_and_nobody_waits_for_what_comes_after() {
    let mut desk = Desk::new(Fsync::Process);
    desk.say("a", false);
    desk.scribe.close();
    assert!(!desk.scribe.is_at_rest());
    desk.act();
    desk.wrote(Ok(()));
    assert_eq!(syncs(&desk.act()), [1]);
    desk.synced(1, Ok(()));
    assert!(desk.scribe.is_at_rest());
    desk.told();
    desk.say("b", false);
    desk.act();
    assert_eq!(desk.told(), [(key("b"), false)]);
}
