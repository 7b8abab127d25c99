//! The two stacks: a release each of api and core, on one database.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two stacks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// The release that serves unless somebody decides otherwise.
    #[default]
    Prod,
    /// The release before it, the way back.
    OldProd,
}

impl Stack {
    /// Both, in the order in which operators name them.
    pub const ALL: [Self; 2] = [Self::Prod, Self::OldProd];

    /// The word in commands, files, metrics and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prod => "prod",
            Self::OldProd => "old-prod",
        }
    }

    /// Reads that word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stack| stack.as_str() == text)
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Prod => Self::OldProd,
            Self::OldProd => Self::Prod,
        }
    }

    /// The one of a pair, in the order of [`Stack::ALL`], that is this stack's.
    pub const fn of<T>(self, [prod, old_prod]: &[T; 2]) -> &T {
        match self {
            Self::Prod => prod,
            Self::OldProd => old_prod,
        }
    }

    /// The same, to change it.
    pub const fn of_mut<T>(self, [prod, old_prod]: &mut [T; 2]) -> &mut T {
        match self {
            Self::Prod => prod,
            Self::OldProd => old_prod,
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_has_one_word_everywhere() {
        for stack in Stack::ALL {
            assert_eq!(Stack::parse(stack.as_str()), Some(stack));
            let json = serde_json::to_string(&stack).unwrap();
            assert_eq!(json, format!("\"{stack}\""));
            assert_eq!(serde_json::from_str::<Stack>(&json).unwrap(), stack);
            assert_eq!(*stack.of(&Stack::ALL), stack);
            assert_ne!(stack.other(), stack);
        }
        assert_eq!(Stack::parse("old_prod"), None);
    }
}
