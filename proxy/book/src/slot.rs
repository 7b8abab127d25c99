//! What those share who ask for the same id: the answer, once there is one, and word that it may be told.

use std::sync::OnceLock;

use backstop_contract::Decision;
use tokio::sync::Notify;

/// Filled once.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    answer: OnceLock<Decision>,
    durable: OnceLock<bool>,
    changed: Notify,
}

impl Slot {
    /// Somebody's proposal was the first.
    pub(crate) fn said(&self, answer: Decision) {
        // Only the first proposal for a key comes here.
        let _ = self.answer.set(answer);
    }

    /// It may be told.
    pub(crate) fn told(&self, durable: bool) {
        let _ = self.durable.set(durable);
        self.changed.notify_waiters();
    }

    /// Whose turn it is may have changed.
    pub(crate) fn stir(&self) {
        self.changed.notify_waiters();
    }

    /// Whether it may be told, and is durable.
    pub(crate) fn durable(&self) -> Option<bool> {
        self.durable.get().copied()
    }

    /// What was said.
    pub(crate) fn answer(&self) -> Option<&Decision> {
        self.answer.get()
    }

    /// What was said, once it may be told.
    pub(crate) fn heard(&self) -> Option<(&Decision, bool)> {
        self.answer.get().zip(self.durable())
    }

    /// Waits until `is_so`, which is looked at again whenever something changed.
    pub(crate) async fn until<'a, T: 'a>(&'a self, is_so: impl Fn() -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before looking, so that no change falls in between.
            changed.as_mut().enable();
            if let Some(it) = is_so() {
                return it;
            }
            changed.await;
        }
    }
}
