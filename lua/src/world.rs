//! What a rule finds around it, by name: asked of the sandbox itself, so that nobody who tells an author
//! what is there can be wrong.

use std::collections::{BTreeMap, BTreeSet};

use crate::library::FOUND;
use crate::past;
use crate::rows;
use crate::sandbox::{Machine, Surroundings};
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
        let globals = Machine::new(std::iter::empty(), &Surroundings::default())?.globals()?;
        let mut methods = globals.get("string").cloned().unwrap_or_default();
        let written = [past::ACCESSORS, rows::ACCESSORS, FOUND].into_iter().flatten();
        methods.extend(written.map(|function| function.name.to_owned()));
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
