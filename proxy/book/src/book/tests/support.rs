//! What the tests of the book on real files share.

use std::time::Duration;

use crate::{Asked, Book, Entry, Health, Said, Settings, Turn};
use backstop_contract::advice::{Advices, Settled, Settlement};
use backstop_contract::{
    Budget, Cause, Deadline, Decision, Outcome, RequestHash, Tier, Timestamp, Verdict,
};
use tokio::time::Instant;

pub const MERCHANT: &str = "demo";
pub const TIME: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A book as small as it can be: segments of 4 KiB, eight of them.
pub fn small() -> Settings {
    Settings { bytes_max: 1 << 15, segment_bytes: 1 << 12, ..Settings::default() }
}

pub fn hash(seed: u8) -> RequestHash {
    RequestHash::from_bytes(&[seed; 32]).unwrap()
}

pub fn entry(id: &str, tier: Tier, verdict: Verdict) -> Entry {
    let mut answer = Decision::by(tier, id.to_owned(), verdict);
    answer.reasons = vec!["velocity_terminal".into()];
    answer.stack = "prod".into();
    answer.policy_version = "0123456789abcdef".into();
    answer.decided_at = TIME;
    answer.cause = answer.is_stand_in().then_some(Cause::Deadline);
    let request = format!(
        r#"{{"id":"{id}","policy":"payment","account":"customer-596","amount":5716,"currency":"GBP","attributes":{{"terminal":"3156"}}}}"#
    );
    Entry {
        merchant: MERCHANT.into(),
        test: true,
        numeric_ids: false,
        hash: hash(1),
        received_at: TIME,
        request: request.into(),
        answer,
    }
}

pub fn within(time: Duration) -> Deadline {
    Deadline::after(Instant::now(), Budget::new(time))
}

/// Longer than any disk takes, shorter than a test that hangs.
pub fn soon() -> Deadline {
    within(Duration::from_secs(30))
}

pub fn turn(book: &Book, id: &str) -> Turn {
    match book.ask(MERCHANT, id, &hash(1)) {
        Asked::Turn(turn) => turn,
        asked => panic!("{id}: {asked:?}"),
    }
}

pub async fn say(book: &Book, id: &str, tier: Tier, verdict: Verdict) -> Said {
    turn(book, id).say(entry(id, tier, verdict), soon()).await
}

/// Says what the edge does where nobody else answers: declines.
pub async fn stand_in(book: &Book, id: &str) -> Said {
    say(book, id, Tier::Edge, Verdict::Decline).await
}

pub async fn recalled(book: &Book, id: &str) -> Said {
    match book.ask(MERCHANT, id, &hash(1)) {
        Asked::Said(recall) => recall.said().await,
        asked => panic!("{id}: {asked:?}"),
    }
}

/// The ids of the next batch, which core settles so.
pub async fn settle_next(book: &Book, outcome: &Outcome) -> Vec<String> {
    let batch = book.next_batch().await;
    let json = batch.to_json();
    let advices: Advices<'_> = serde_json::from_slice(&json).unwrap();
    assert_eq!(advices.node, book.node());
    let settled = advices.advices.iter().map(|it| Settled {
        epoch: it.epoch,
        number: it.number,
        outcome: outcome.clone(),
        why: if *outcome == Outcome::Refused { "no such policy".into() } else { String::new() },
    });
    book.settled(batch, &Settlement { settled: settled.collect() });
    let answers = advices.advices.iter().map(|it| serde_json::from_str(it.answer.get()).unwrap());
    answers.map(|it: Decision| it.id).collect()
}

/// Waits for a state of the book, which comes or the test fails.
pub async fn until(book: &Book, what: &str, is_so: impl Fn(&Health) -> bool) {
    let started = Instant::now();
    while !is_so(&book.health()) {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}: {:#?}", book.health());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
