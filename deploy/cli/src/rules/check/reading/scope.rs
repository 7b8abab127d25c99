//! Which local a name is, and what it stands for.

use std::collections::BTreeMap;

/// Where something begins, in bytes from the start of the file.
pub type Place = usize;

/// What a local stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meaning {
    /// Anything.
    #[default]
    Plain,
    /// The request.
    Transaction,
    /// The histories, by name.
    History,
    /// The rule rows, by name.
    Rows,
    /// The function that begins there.
    Function(Place),
}

/// The locals in sight, innermost last.
#[derive(Debug)]
pub struct Scopes(Vec<BTreeMap<String, Meaning>>);

impl Scopes {
    /// The file itself.
    pub fn new() -> Self {
        Self(vec![BTreeMap::new()])
    }

    /// Enters a block.
    pub fn enter(&mut self) {
        self.0.push(BTreeMap::new());
    }

    /// Leaves it, and its locals.
    pub fn leave(&mut self) {
        self.0.pop();
    }

    /// Declares a local.
    pub fn declare(&mut self, name: String, meaning: Meaning) {
        if let Some(scope) = self.0.last_mut() {
            scope.insert(name, meaning);
        }
    }

    /// What a name stands for; `None` when it is no local.
    pub fn find(&self, name: &str) -> Option<Meaning> {
        self.0.iter().rev().find_map(|scope| scope.get(name).copied())
    }
}
