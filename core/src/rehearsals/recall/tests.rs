//! Who waits for whom when many ask.

use std::time::Duration;

use backstop_contract::Budget;
use tempfile::TempDir;
use tokio::time::Instant;

use super::super::REHEARSALS_MAX;
use super::*;
use crate::decide::Outcome;
use crate::fixture::{question, rules};
use crate::store::sqlite::{SqliteRecords, SqliteStore};

/// Where core rehearses and recalls, over empty books, and the folder that they are in.
async fn both() -> (Rehearsals<SqliteRecords>, Recalls<SqliteRecords>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backstop.db");
    let store = SqliteStore::open(&file, Duration::from_secs(1)).await.unwrap();
    let rehearsals = Rehearsals {
        records: store.records(),
        rules: Arc::new(rules().into()),
        stack: "prod".to_owned(),
        policy_time_max: Duration::from_secs(1),
        places: Arc::new(Semaphore::new(REHEARSALS_MAX)),
    };
    let recalls = Recalls::beside(&rehearsals);
    (rehearsals, recalls, folder)
}

impl Recalls<SqliteRecords> {
    async fn ask(&self, deadline: Option<Deadline>) -> Result<Option<Recalled>, CoreError> {
        let key = DecisionKey { merchant: "demo".to_owned(), id: "a".to_owned() };
        self.recall(key, Keys::default(), deadline).await
    }
}

/// Fifty authors asked the core that serves at once. Its probes found every place taken, as if it were ill;
/// and while a stack was rehearsed, authors were told that the queue was full.
#[tokio::test]
async fn recalls_and_rehearsals_do_not_wait_for_each_other() {
    let (rehearsals, recalls, _folder) = both().await;
    let all = u32::try_from(REHEARSALS_MAX).unwrap();
    let taken = rehearsals.places.acquire_many(all).await.unwrap();
    let refused = rehearsals.rehearse(question("a"), None).await;
    assert!(matches!(refused, Err(CoreError::QueueFull)), "{refused:?}");
    assert!(recalls.ask(None).await.unwrap().is_none(), "the books say so");
    drop(taken);

    let all = u32::try_from(RECALLS_MAX).unwrap();
    let taken = recalls.places.acquire_many(all).await.unwrap();
    let refused = recalls.ask(None).await;
    assert!(matches!(refused, Err(CoreError::QueueFull)), "{refused:?}");
    let rehearsed = rehearsals.rehearse(question("a"), None).await;
    assert!(matches!(rehearsed, Ok(Outcome::Decided(_))), "{rehearsed:?}");

    let deadline = Deadline::after(Instant::now(), Budget::new(Duration::from_mins(1)));
    let leaves = async { drop(taken) };
    let (recalled, ()) = tokio::join!(recalls.ask(Some(deadline)), leaves);
    assert!(recalled.unwrap().is_none(), "it waits for a place");
}
