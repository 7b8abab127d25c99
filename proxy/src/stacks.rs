//! The two stacks, and which of them serves a request. Both are always known; the choice between them is
//! read without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;

use backstop_contract::Stack;

use crate::api_client::ApiClient;
use crate::switch::choice::Choice;

/// The two stacks and the choice between them.
pub struct Stacks {
    apis: [ApiClient; 2],
    choice: ArcSwap<Choice>,
}

impl Stacks {
    /// These two, in the order of [`Stack::ALL`]; requests go to the first until something else is chosen.
    pub fn new(apis: [ApiClient; 2]) -> Self {
        Self { apis, choice: ArcSwap::default() }
    }

    /// The stack that serves a request of this account. It does so to its end, whatever is chosen
    /// meanwhile.
    pub fn choose(&self, merchant: &str, account: &str) -> Stack {
        self.choice.load().stack_for(merchant, account)
    }

    /// The stack that new requests go to, pins and canary aside.
    pub fn active(&self) -> &ApiClient {
        self.of(self.choice.load().course.active)
    }

    /// This one.
    pub const fn of(&self, stack: Stack) -> &ApiClient {
        stack.of(&self.apis)
    }

    /// Both stacks, in the order in which operators name them.
    pub const fn all(&self) -> &[ApiClient; 2] {
        &self.apis
    }

    /// What is in force.
    pub fn choice(&self) -> Arc<Choice> {
        self.choice.load_full()
    }

    /// From now on this is. Only the switch says so.
    pub(crate) fn set(&self, choice: Arc<Choice>) {
        self.choice.store(choice);
    }
}
