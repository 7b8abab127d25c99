//! One answer as it is proposed to the book.

use std::fmt;

use backstop_contract::{Decision, RequestHash, Timestamp};
use bytes::Bytes;

/// One answer and what it answers. Prints without what is confidential in it.
#[derive(Clone)]
pub struct Entry {
    /// Whose request it was.
    pub merchant: String,
    /// Asked with a test key.
    pub test: bool,
    /// The merchant's ids may look like card numbers.
    pub numeric_ids: bool,
    /// Tells a retry from another request under the same id.
    pub hash: RequestHash,
    /// When the edge had the request.
    pub received_at: Timestamp,
    /// The request as JSON, card numbers replaced. Written down for a stand-in only.
    pub request: Bytes,
    /// The answer.
    pub answer: Decision,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("merchant", &self.merchant)
            .field("id", &self.answer.id)
            .field("decided_by", &self.answer.decided_by)
            .field("request_bytes", &self.request.len())
            .finish_non_exhaustive()
    }
}
