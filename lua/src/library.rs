//! The standard library: what rules need and Lua 5.1 does not have. Pure, small, and bounded: none of it
//! can be interrupted, so each call is short whatever it is given.
//!
//! What is here is written down once, in [`LIBRARIES`]: the types for editors are made from that, and a
//! test holds it against what the sandbox really has.

mod hash;
pub(crate) mod money;
pub(crate) mod regex;
mod time;

use mlua::{Lua, Table};

use regex::Patterns;

/// A function as it is written down for authors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub name: &'static str,
    /// Each parameter: its name, a `?` after it where it may be absent, its type, and what it is.
    pub parameters: &'static [(&'static str, &'static str, &'static str)],
    /// The type and meaning of what it returns.
    pub returns: (&'static str, &'static str),
    pub says: &'static str,
}

/// A table of functions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Library {
    pub name: &'static str,
    pub says: &'static str,
    pub functions: &'static [Function],
}

/// Every library that is not Lua's own.
pub(crate) const LIBRARIES: [Library; 5] =
    [hash::LIBRARY, money::LIBRARY, REASONS, regex::LIBRARY, time::LIBRARY];

/// Written in Lua, in the prelude.
const REASONS: Library = Library {
    name: "reasons",
    says: "Reasons and points, gathered one by one.",
    functions: &[Function {
        name: "new",
        parameters: &[],
        returns: ("Found", "nothing found yet"),
        says: "Begins a list of reasons.",
    }],
};

/// What [`REASONS`] makes.
pub(crate) const FOUND: &[Function] = &[
    Function {
        name: "add",
        parameters: &[
            ("reason", "string", "at most 64 bytes"),
            ("points?", "integer", "what it adds to the score; 0"),
        ],
        returns: ("Found", "itself"),
        says: "Adds a reason. One that is there already counts once.",
    },
    Function {
        name: "has",
        parameters: &[("reason", "string", "one that may have been added")],
        returns: ("boolean", "whether it was"),
        says: "Whether this reason was found.",
    },
    Function {
        name: "decide",
        parameters: &[
            ("decline_from", "integer", "the score from which to decline"),
            ("review_from?", "integer", "the score from which to ask a person"),
        ],
        returns: ("Decision, string[], integer", "what decide returns"),
        says: "The decision that the score comes to, its reasons, and the score.",
    },
];

/// Puts the libraries beside Lua's own, before the world is closed.
pub(crate) fn register(lua: &Lua, patterns: &Patterns) -> mlua::Result<()> {
    let globals = lua.globals();
    let make = |library: &Library| -> mlua::Result<Table> {
        let table = lua.create_table()?;
        globals.raw_set(library.name, &table)?;
        Ok(table)
    };
    hash::register(lua, &make(&hash::LIBRARY)?)?;
    money::register(lua, &make(&money::LIBRARY)?)?;
    regex::register(lua, &make(&regex::LIBRARY)?, patterns)?;
    time::register(lua, &make(&time::LIBRARY)?)
}

fn wrong(message: impl Into<String>) -> mlua::Error {
    mlua::Error::runtime(message.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::world::World;

    #[test]
    fn what_is_written_down_is_what_is_there() {
        let world = World::new().unwrap();
        for library in LIBRARIES {
            let written: BTreeSet<String> =
                library.functions.iter().map(|function| function.name.to_owned()).collect();
            assert_eq!(world.globals[library.name], written, "{}", library.name);
        }
        for function in FOUND {
            assert!(world.methods.contains(function.name), "{}", function.name);
        }
    }
}
