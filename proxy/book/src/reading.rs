//! Reading records again, off the threads that serve requests.

use std::sync::Arc;

use backstop_contract::Decision;
use bytes::Bytes;

use crate::bookkeeper::Source;
use crate::place::Key;
use crate::record::{Answer, Record, decode};
use crate::threads::Shared;

/// A record may move to another segment while it is looked for; more often than this it does not.
const TRIES: usize = 3;

impl Shared {
    /// The record of a key; blocks where it is on disk. `None`: it can not be read any more.
    pub(crate) fn read(&self, key: &Key) -> Option<Bytes> {
        for _ in 0..TRIES {
            let source = self.desk().keeper.source(key);
            let record = match source {
                Source::Memory(record) => return Some(record),
                Source::Disk(position) => self.folder.read(position),
                Source::Nowhere => return None,
            };
            if let Ok(record) = record
                && answer_in(&record).is_some_and(|it| it.key == *key)
            {
                return Some(record);
            }
        }
        None
    }

    /// The decision of a key, read off this thread where it has to be.
    pub(crate) async fn decision(self: &Arc<Self>, key: Key) -> Option<Decision> {
        let source = self.desk().keeper.source(&key);
        let record = match source {
            Source::Memory(record) => Some(record),
            Source::Disk(_) => {
                let shared = self.clone();
                let read = tokio::task::spawn_blocking(move || shared.read(&key));
                read.await.unwrap_or_default()
            }
            Source::Nowhere => None,
        };
        serde_json::from_slice(answer_in(&record?)?.answer).ok()
    }
}

/// The answer that a record holds.
pub(crate) fn answer_in(record: &[u8]) -> Option<Answer<'_>> {
    match decode(record).ok()?.record {
        Record::Said(answer) => Some(answer),
        Record::Opened(_) | Record::Settled(_) => None,
    }
}
