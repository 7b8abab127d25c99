//! Why nothing is told, and what is told with a reserve.

use std::path::Path;

use backstop_contract::request::EventTime;
use backstop_contract::{Attributes, Tier, Timestamp, Verdict};
use tokio::net::UnixListener;

use super::*;

fn source(dir: &Path, merchant: &str) -> Source {
    let (layout, first) = (Layout::new(dir), Stack::default());
    Source { layout, first, merchant: merchant.to_owned(), id: "order-77".to_owned() }
}

/// Another user's directory, and cores that were just starting again, read as if nothing ran there: start it.
#[tokio::test]
async fn a_core_that_is_away_is_told_from_one_that_starts_and_one_that_is_out_of_reach() {
    let message = || RecallRequest { id: "order-77".to_owned(), ..RecallRequest::default() };
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), "demo");
    let away = source.ask(&message()).await.unwrap_err();
    assert!(matches!(away, RecallError::NotRunning { .. }), "{away}");

    std::fs::create_dir(source.layout.run()).unwrap();
    drop(UnixListener::bind(source.layout.socket("core", "prod")).unwrap());
    let left_behind = source.ask(&message()).await.unwrap_err();
    assert!(matches!(left_behind, RecallError::NotRunning { .. }), "{left_behind}");

    let up = UnixListener::bind(source.layout.up_socket()).unwrap();
    let starting = source.ask(&message()).await.unwrap_err();
    assert!(matches!(starting, RecallError::Starting { .. }), "{starting}");
    drop(up);

    // What the kernel refuses to everybody: some who run the tests may open what is another's.
    std::fs::remove_dir_all(source.layout.run()).unwrap();
    std::fs::write(source.layout.run(), "").unwrap();
    let out_of_reach = source.ask(&message()).await.unwrap_err().to_string();
    let told = "core-prod cannot be reached on its socket: Not a directory";
    assert!(out_of_reach.contains(told), "{out_of_reach}");
}

#[test]
fn a_merchant_who_does_not_exist_is_told_from_an_id_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = source(dir.path(), "deno").unknown();
    assert!(matches!(unknown, RecallError::Unknown { .. }), "no file says so: {unknown}");
    let text = "[[merchant]]\nname = \"demo\"\nbudget = \"300ms\"\nkeys = []\n";
    std::fs::write(Layout::new(dir.path()).merchants(), text).unwrap();
    let unknown = source(dir.path(), "demo").unknown();
    assert!(matches!(unknown, RecallError::Unknown { .. }), "{unknown}");
    let nobody = source(dir.path(), "deno").unknown().to_string();
    assert!(
        nobody.ends_with("merchants.toml: there is no merchant \"deno\"; there are demo"),
        "{nobody}"
    );
}

/// A request that was sent without a time looked as if it had one wherever the key could not be read, and
/// a default that reads it did not break.
#[test]
fn a_time_that_nobody_can_tell_to_be_sent_is_said_to_be_taken_so() {
    let dir = tempfile::tempdir().unwrap();
    let source = source(dir.path(), "demo");
    let at = Timestamp::from_millis(1_533_124_800_000);
    let request = Request {
        id: "order-77".to_owned(),
        policy: "payment".to_owned(),
        account: "ann".to_owned(),
        money: None,
        at: Some(EventTime { timestamp: at, text: at.to_string() }),
        attributes: Attributes::default(),
    };
    let key = HashKey::new(&[7; 32]);
    let hash = key.hash(&Request { at: None, ..request.clone() });
    let scene = source.scene(request.clone(), hash.as_bytes(), Some(&key));
    assert_eq!((scene.question.request.at, scene.question.received_at), (None, at));
    let scene = source.scene(request, hash.as_bytes(), None);
    assert!(scene.question.request.at.is_some());
    let decision = Decision::by(Tier::Core, "order-77".to_owned(), Verdict::Approve);
    let record =
        || wire::Record { decision: Some(decision.clone().into()), ..wire::Record::default() };
    let taken = "taken as sent by the client";
    assert!(source.told(&scene, record(), false).unwrap().contains(taken));
    assert!(!source.told(&scene, record(), true).unwrap().contains(taken));
}
