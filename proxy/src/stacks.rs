//! Which stack serves. Both are always known; one is active.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::api_client::ApiClient;

/// The two stacks and which of them new requests go to.
pub struct Stacks {
    apis: [ApiClient; 2],
    active: AtomicUsize,
}

impl Stacks {
    /// These two, the first one active.
    pub const fn new(apis: [ApiClient; 2]) -> Self {
        Self { apis, active: AtomicUsize::new(0) }
    }

    /// The stack that new requests go to.
    pub fn active(&self) -> &ApiClient {
        let [first, second] = &self.apis;
        if self.active.load(Ordering::Acquire) == 0 { first } else { second }
    }

    /// Both stacks, in the order in which operators name them.
    pub const fn all(&self) -> &[ApiClient; 2] {
        &self.apis
    }
}
