//! `[stacks.prod]` and `[stacks.old-prod]` of `backstop.toml`: which release each stack runs.

use std::path::PathBuf;

use serde::Deserialize;

use crate::layout::STACKS;
use crate::value::path_or_none;

/// Both stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stacks {
    /// `[stacks.prod]`.
    pub prod: Stack,
    /// `[stacks.old-prod]`.
    #[serde(rename = "old-prod")]
    pub old_prod: Stack,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stack {
    /// The folder of its `backstop-api` and `backstop-core`; none: the one of `backstop` itself.
    #[serde(deserialize_with = "path_or_none")]
    pub command: Option<PathBuf>,
}

impl Stacks {
    /// The stack of this name; the first one where there is none such.
    pub fn of(&self, stack: &str) -> &Stack {
        let [_prod, old_prod] = STACKS;
        if stack == old_prod { &self.old_prod } else { &self.prod }
    }
}
