//! The book on real files: what is said, said again after a crash, and settled.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Asked, Book, BookError, Entry, Fsync, Settings};
use backstop_contract::{Outcome, Tier, Timestamp, Verdict};
use tokio::time::Instant;

use super::support::{
    MERCHANT, TIME, entry, hash, recalled, say, settle_next, small, soon, stand_in, turn, until,
    within,
};

fn open(folder: &Path) -> Book {
    Book::open(folder, Settings::default()).unwrap().0
}

/// Asks for it again until it is.
async fn is_durable_soon(book: &Book, id: &str) {
    let started = Instant::now();
    while !recalled(book, id).await.answer.durable {
        assert!(started.elapsed() < Duration::from_secs(30), "{id} is not durable");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The files of the book, the oldest first.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|it| it.extension().is_some_and(|it| it == "book")).collect();
    segments.sort();
    segments
}

#[tokio::test]
async fn an_answer_is_repeated_and_another_request_of_its_id_is_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let said = say(&book, "txn-1", Tier::Core, Verdict::Approve).await;
    assert!(said.is_first && said.answer.durable && said.answer.is_final && !said.answer.replayed);
    let again = recalled(&book, "txn-1").await;
    assert!(!again.is_first && again.answer.replayed);
    let mut expected = said.answer.clone();
    expected.replayed = true;
    assert_eq!(again.answer, expected);
    assert!(matches!(book.ask(MERCHANT, "txn-1", &hash(2)), Asked::Other));
    assert!(matches!(book.ask("other", "txn-1", &hash(1)), Asked::Turn(_)), "another merchant's");
}

#[tokio::test]
async fn what_was_said_survives_a_process_that_just_ends() {
    for fsync in [Fsync::Process, Fsync::Disk] {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { fsync, ..Settings::default() };
        let (book, opened) = Book::open(folder.path(), settings).unwrap();
        assert_eq!((opened.segments, opened.entries), (0, 0));
        let first_epoch = opened.epoch;
        let node = book.node().to_owned();
        let core = say(&book, "core", Tier::Core, Verdict::Approve).await;
        let edge = stand_in(&book, "edge").await;
        // No close: what a process that is killed leaves behind.
        drop(book);
        let (book, opened) = Book::open(folder.path(), settings).unwrap();
        assert_eq!((opened.entries, opened.unsettled), (2, 1));
        assert!(opened.epoch > first_epoch && opened.node == node);
        for said in [core, edge] {
            let again = recalled(&book, &said.answer.id).await.answer;
            assert_eq!(
                (again.decision, again.decided_by),
                (said.answer.decision, said.answer.decided_by)
            );
            assert_eq!(again.is_final, said.answer.is_final);
            assert_eq!(again.reasons, said.answer.reasons);
            // What a killed process wrote may not be synced; that it is now, nobody waited for.
            assert!(again.durable || fsync == Fsync::Disk);
            is_durable_soon(&book, &said.answer.id).await;
        }
    }
}

#[tokio::test]
async fn concurrent_duplicates_are_told_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let (first, second, third) = (turn(&book, "a"), turn(&book, "a"), turn(&book, "a"));
    assert!(first.is_first() && !second.is_first());
    let late = entry("a", Tier::Core, Verdict::Approve);
    let (heard, at_its_deadline, answered) = tokio::join!(
        third.heard(),
        second.say(entry("a", Tier::Edge, Verdict::Decline), soon()),
        async {
            // The duplicate whose deadline came first has said its own by now.
            first.say(late, soon()).await
        },
    );
    assert!(at_its_deadline.is_first && !answered.is_first && !heard.is_first);
    for said in [&heard, &answered] {
        assert_eq!(said.answer.decision, Verdict::Decline);
        assert!(said.answer.durable && said.answer.replayed);
    }
}

#[tokio::test]
async fn a_turn_without_a_word_passes_on() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let (first, second) = (turn(&book, "a"), turn(&book, "a"));
    let passes_on = async {
        tokio::task::yield_now().await;
        drop(first);
    };
    tokio::join!(second.becomes_first(), passes_on);
    assert!(second.is_first());
    drop(second);
    assert!(turn(&book, "a").is_first(), "nobody is left of those before");
}

#[tokio::test]
async fn a_future_that_is_dropped_cancels_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let turn = turn(&book, "a");
    {
        let say = turn.say(entry("a", Tier::Edge, Verdict::Decline), soon());
        tokio::pin!(say);
        // Polled once.
        let _ = tokio::time::timeout(Duration::ZERO, &mut say).await;
    }
    assert_eq!(turn.heard().await.answer.decision, Verdict::Decline);
}

#[tokio::test]
async fn past_the_deadline_an_answer_goes_out_undurable_and_is_written_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { fsync: Fsync::Disk, ..Settings::default() };
    let (book, _) = Book::open(folder.path(), settings).unwrap();
    // A sync takes longer than no time, unless this thread has to stand aside for as long.
    let mut ids = (0..1_000).map(|number| format!("txn-{number}"));
    let id = loop {
        let id = ids.next().expect("every one of them was synced in no time");
        let entry = entry(&id, Tier::Edge, Verdict::Decline);
        let said = turn(&book, &id).say(entry, within(Duration::ZERO)).await;
        assert!(said.is_first);
        if !said.answer.durable {
            break id;
        }
    };
    assert!(book.find(MERCHANT, &id).await.unwrap().said.answer.durable);
    assert_eq!(book.health().undurable_total, 1);
}

#[tokio::test]
async fn a_stand_in_is_shipped_as_it_was_written_and_is_final_once_settled() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let said = stand_in(&book, "a").await;
    assert!(!said.answer.is_final);
    assert_eq!(book.find(MERCHANT, "a").await.unwrap().settled, None);
    say(&book, "core", Tier::Core, Verdict::Approve).await;
    let batch = book.next_batch().await;
    let json: serde_json::Value = serde_json::from_slice(&batch.to_json()).unwrap();
    assert_eq!(batch.len(), 1, "core's own answers are no advices");
    assert_eq!(json["advices"][0]["number"], 1);
    assert_eq!(json["advices"][0]["request"]["account"], "customer-596");
    assert_eq!(json["advices"][0]["answer"]["decision"], "decline");
    drop(batch);
    assert_eq!(settle_next(&book, &Outcome::Overridden).await, ["a"], "a dropped batch goes back");
    let found = book.find(MERCHANT, "a").await.unwrap();
    assert!(found.said.answer.is_final);
    assert_eq!(found.settled, Some(Outcome::Overridden));
    // And after a restart.
    book.close().await;
    drop(book);
    let (book, opened) = Book::open(folder.path(), Settings::default()).unwrap();
    assert_eq!((opened.unsettled, opened.set_aside), (0, 0));
    assert_eq!(book.find(MERCHANT, "a").await.unwrap().settled, Some(Outcome::Overridden));
}

#[tokio::test]
async fn what_core_refuses_is_set_aside_and_blocks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { batch_max: 1, ..Settings::default() };
    let (book, _) = Book::open(folder.path(), settings).unwrap();
    for id in ["a", "b"] {
        stand_in(&book, id).await;
    }
    assert_eq!(settle_next(&book, &Outcome::Refused).await, ["a"]);
    assert_eq!(book.health().set_aside, 1);
    book.close().await;
    drop(book);
    let (book, opened) = Book::open(folder.path(), settings).unwrap();
    assert_eq!((opened.unsettled, opened.set_aside), (1, 1));
    let whole = (Timestamp::from_millis(0), Timestamp::from_millis(i64::MAX));
    let debts = book.unsettled(MERCHANT, whole.0, whole.1, 10).await;
    let told: Vec<_> = debts.iter().map(|it| (it.id.as_str(), it.why.as_str())).collect();
    assert_eq!(told, [("b", ""), ("a", "no such policy")]);
    let money = debts[0].money.as_ref().unwrap();
    assert_eq!((money.amount, money.currency.as_str()), (5716, "GBP"));
    assert_eq!(book.unsettled("other", whole.0, whole.1, 10).await, []);
    assert_eq!(book.unsettled(MERCHANT, whole.0, TIME, 10).await, [], "the end is not included");
    assert_eq!(book.unsettled(MERCHANT, TIME, whole.1, 1).await.len(), 1);
    assert_eq!(settle_next(&book, &Outcome::Applied).await, ["b"]);
    let found = book.find(MERCHANT, "a").await.unwrap();
    assert_eq!((found.settled, found.said.answer.is_final), (Some(Outcome::Refused), false));
}

#[tokio::test]
async fn a_batch_that_failed_comes_again_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    stand_in(&book, "a").await;
    let batch = book.next_batch().await;
    book.failed(batch);
    book.wake();
    let batch = book.next_batch().await;
    drop((batch, book));
    let book = open(folder.path());
    assert_eq!(settle_next(&book, &Outcome::Match).await, ["a"]);
    // What was settled in a life without answers of its own is settled in the next.
    book.close().await;
    drop(book);
    let (_, opened) = Book::open(folder.path(), Settings::default()).unwrap();
    assert_eq!((opened.entries, opened.unsettled), (1, 0));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_the_rest_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    stand_in(&book, "a").await;
    stand_in(&book, "b").await;
    book.close().await;
    drop(book);
    // What a process leaves that dies in the middle of an append.
    let path = &segments(folder.path())[0];
    let bytes = fs::read(path).unwrap();
    let end = bytes.iter().rposition(|it| *it != 0).unwrap() + 1;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0; 40], (end - 40) as u64).unwrap();
    drop(file);
    let (book, opened) = Book::open(folder.path(), Settings::default()).unwrap();
    assert_eq!((opened.entries, opened.unsettled, opened.corrupt.len()), (1, 1, 0));
    assert!(opened.cut_bytes > 0);
    assert_eq!(recalled(&book, "a").await.answer.decision, Verdict::Decline);
    assert!(turn(&book, "b").is_first(), "its append never ended: nobody was told");
    drop(book);
    let (_, opened) = Book::open(folder.path(), Settings::default()).unwrap();
    assert_eq!((opened.entries, opened.cut_bytes), (1, 0), "once cut, it is clean");
}

#[tokio::test]
async fn a_damaged_middle_is_set_aside_and_what_is_readable_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    for id in ["a", "b", "c"] {
        stand_in(&book, id).await;
    }
    assert_eq!(settle_next(&book, &Outcome::Match).await.len(), 3);
    stand_in(&book, "d").await;
    book.close().await;
    drop(book);
    let path = &segments(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(10).position(|it| it == br#"{"id":"b","#).unwrap();
    bytes[at + 3] ^= 1;
    fs::write(path, &bytes).unwrap();
    for round in 0..2 {
        let (book, opened) = Book::open(folder.path(), Settings::default()).unwrap();
        assert_eq!((opened.entries, opened.unsettled), (3, 1), "round {round}");
        assert_eq!(opened.corrupt.len(), 1 - round, "once set aside, it is whole");
        assert_eq!(opened.lost_bytes > 0, round == 0);
        assert_eq!(book.health().corrupt_files, 1);
        for id in ["a", "c", "d"] {
            assert_eq!(recalled(&book, id).await.answer.decision, Verdict::Decline);
        }
        assert!(turn(&book, "b").is_first());
    }
    let kept = fs::read(path.with_extension("corrupt")).unwrap();
    assert_eq!(kept, bytes, "as it was found");
}

#[tokio::test]
async fn what_stands_behind_room_that_was_never_written_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    say(&book, "txn-1", Tier::Core, Verdict::Approve).await;
    drop(book);
    let head = fs::File::options().read(true).write(true).open(&segments(folder.path())[0]);
    let (head, mut record) = (head.unwrap(), vec![0; 1 << 12]);
    assert_eq!(head.metadata().unwrap().len(), Settings::default().segment_bytes);
    head.read_exact_at(&mut record, 0).unwrap();
    // A disk that wrote the later of two records before the power went.
    head.write_all_at(&record, 1 << 25).unwrap();
    let (book, opened) = Book::open(folder.path(), Settings::default()).unwrap();
    assert_eq!((opened.corrupt.len(), opened.entries), (1, 1));
    assert!(opened.lost_bytes > 1 << 24);
    assert_eq!(recalled(&book, "txn-1").await.answer.decision, Verdict::Approve);
}

#[tokio::test]
async fn setting_aside_that_was_interrupted_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    stand_in(&book, "a").await;
    book.close().await;
    drop(book);
    let path = segments(folder.path()).remove(0);
    // Between the two renames, then before the first.
    fs::rename(&path, path.with_extension("new")).unwrap();
    for leftover in [false, true] {
        if leftover {
            fs::write(path.with_extension("new"), b"half").unwrap();
        }
        let book = open(folder.path());
        assert_eq!(recalled(&book, "a").await.answer.decision, Verdict::Decline);
        assert!(path.exists() && !path.with_extension("new").exists());
    }
}

#[tokio::test]
async fn one_process_at_a_time_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let error = Book::open(folder.path(), Settings::default()).unwrap_err();
    assert!(matches!(error, BookError::Locked { .. }));
    let path = folder.path().join("lock");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    drop(book);
    open(folder.path());
}

#[tokio::test]
async fn nobody_else_reads_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/book");
    let book = open(&folder);
    stand_in(&book, "a").await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_file_of_a_newer_release_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    stand_in(&book, "a").await;
    drop(book);
    let path = &segments(folder.path())[0];
    let mut bytes = fs::read(path).unwrap();
    // The head of the segment, as a release with another format would write it.
    bytes[12] = 2;
    let length = usize::try_from(u32::from_le_bytes(bytes[4..8].try_into().unwrap())).unwrap();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..8]), &bytes[12..length]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    fs::write(path, &bytes).unwrap();
    let error = Book::open(folder.path(), Settings::default()).unwrap_err();
    assert!(matches!(&error, BookError::Newer { version: 2, .. }), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()));
}

#[tokio::test]
async fn restarts_leave_no_empty_files() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..10 {
        open(folder.path()).close().await;
    }
    assert!(segments(folder.path()).len() <= 2, "{:?}", segments(folder.path()));
}

#[tokio::test]
async fn an_answer_too_long_for_a_record_goes_out_undurable_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let book = open(folder.path());
    let long =
        Entry { request: vec![b' '; 1 << 20].into(), ..entry("a", Tier::Edge, Verdict::Decline) };
    let said = turn(&book, "a").say(long, soon()).await;
    assert!(said.is_first && !said.answer.durable);
    let health = book.health();
    assert_eq!((health.forgotten_debts_total, health.undurable_total), (1, 1));
    let again = recalled(&book, "a").await.answer;
    assert_eq!(
        (again.decision, again.decided_by, again.durable),
        (Verdict::Decline, Tier::Edge, false)
    );
}

#[tokio::test]
async fn core_answers_go_with_the_oldest_segment_and_debts_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (book, _) = Book::open(folder.path(), small()).unwrap();
    stand_in(&book, "debt").await;
    for number in 0..400 {
        let said = say(&book, &format!("core-{number}"), Tier::Core, Verdict::Approve).await;
        assert!(said.answer.durable, "{number}");
    }
    until(&book, "at most what it may", |it| it.bytes <= 1 << 15).await;
    assert!(matches!(book.ask(MERCHANT, "core-0", &hash(1)), Asked::Turn(_)), "forgotten");
    assert_eq!(recalled(&book, "core-399").await.answer.decision, Verdict::Approve);
    assert_eq!(recalled(&book, "debt").await.answer.decision, Verdict::Decline);
    assert!(book.health().keys < 150, "{}", book.health().keys);
    drop(book);
    let (book, opened) = Book::open(folder.path(), small()).unwrap();
    assert_eq!(opened.unsettled, 1);
    assert_eq!(settle_next(&book, &Outcome::Applied).await, ["debt"]);
}

#[tokio::test]
async fn debts_that_fill_the_book_make_answers_undurable_until_some_are_settled() {
    let folder = tempfile::tempdir().unwrap();
    let (book, _) = Book::open(folder.path(), small()).unwrap();
    let mut told = Vec::new();
    for number in 0..100 {
        told.push(stand_in(&book, &format!("debt-{number}")).await.answer.durable);
    }
    let durable = told.iter().filter(|it| **it).count();
    assert!(told[0] && !told[99] && durable > 10, "{durable}");
    let health = book.health();
    assert!(!health.trusted && health.why.contains("fills the book"), "{}", health.why);
    assert!(health.bytes <= 1 << 15 && health.unsettled == 100 && health.undurable > 0);
    // Those in memory are repeated and shipped as the others are.
    let again = recalled(&book, "debt-99").await.answer;
    assert_eq!((again.decision, again.durable), (Verdict::Decline, false));
    let mut shipped = Vec::new();
    while shipped.len() < 100 {
        shipped.extend(settle_next(&book, &Outcome::Match).await);
    }
    let all: Vec<_> = (0..100).map(|number| format!("debt-{number}")).collect();
    assert_eq!(shipped, all);
    until(&book, "trusted", |it| it.trusted && it.undurable == 0).await;
    assert!(say(&book, "after", Tier::Core, Verdict::Approve).await.answer.durable);
}

#[tokio::test]
async fn a_hundred_thousand_are_there_again() {
    const COUNT: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { batch_max: 256, ..Settings::default() };
    let (book, _) = Book::open(folder.path(), settings).unwrap();
    for chunk in 0..COUNT / 1_000 {
        let mut says = tokio::task::JoinSet::new();
        for number in chunk * 1_000..(chunk + 1) * 1_000 {
            let book = book.clone();
            let tier = if number % 10 == 0 { Tier::Edge } else { Tier::Core };
            says.spawn(async move {
                say(&book, &format!("txn-{number}"), tier, Verdict::Approve).await
            });
        }
        while let Some(said) = says.join_next().await {
            assert!(said.unwrap().answer.durable);
        }
    }
    drop(book);
    let (book, opened) = Book::open(folder.path(), settings).unwrap();
    assert_eq!((opened.entries, opened.unsettled), (COUNT as u64, COUNT as u64 / 10));
    for number in (0..COUNT).step_by(9_999) {
        assert_eq!(
            recalled(&book, &format!("txn-{number}")).await.answer.decision,
            Verdict::Approve
        );
    }
    let mut shipped = 0;
    while shipped < COUNT / 10 {
        shipped += settle_next(&book, &Outcome::Match).await.len();
    }
    assert_eq!((shipped, book.health().unsettled), (COUNT / 10, 0));
}
