//! What a rule finds around it, by name: asked of the sandbox itself, so that nobody who tells an author
//! what is there can be wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::past::ACCESSORS;
use crate::sandbox::Machine;
use crate::transaction::ALWAYS;

/// The names that a rule may use without making them.
#[derive(Clone, Debug)]
pub struct World {
    /// Each global and, where it is a library, what is in it.
    pub globals: BTreeMap<String, BTreeSet<String>>,
    /// What may be called on a value with a colon.
    pub methods: BTreeSet<String>,
    /// The fields of a request that every rule sees.
    pub fields: BTreeSet<String>,
}

impl World {
    /// The world as every rule finds it.
    pub fn new() -> mlua::Result<Self> {
        let globals = Machine::new(std::iter::empty())?.globals()?;
        let strings = globals.get("string").cloned().unwrap_or_default();
        let methods = strings.into_iter().chain(ACCESSORS.map(str::to_owned)).collect();
        Ok(Self { globals, methods, fields: ALWAYS.map(str::to_owned).into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_has_what_is_there_and_nothing_else() {
        let world = World::new().unwrap();
        assert!(world.globals["string"].contains("upper"));
        assert!(world.globals["pcall"].is_empty());
        assert!(!world.globals.contains_key("os") && !world.globals.contains_key("print"));
        assert!(!world.globals["math"].contains("random"));
        assert!(world.methods.contains("last_seen") && world.methods.contains("upper"));
    }
}
