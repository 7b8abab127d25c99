//! Patterns whose time grows with the text alone, never with what is in it: no rule can be made slow by
//! what a client sends. (Lua's own patterns can; they are stopped by the time limit.)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mlua::{Lua, LuaString, MultiValue, Table, Value};
use regex::bytes::{Regex, RegexBuilder};

use super::{Function, Library, wrong};

/// The most bytes of a text; an attribute is at most 1 KiB, 3 KiB once a card number was replaced.
const TEXT_BYTES_MAX: usize = 4096;
/// The most bytes of a pattern.
const PATTERN_BYTES_MAX: usize = 512;
/// The most bytes of what a pattern compiles to. Measured: the worst that fits takes 0.1 ms for 1 KiB.
const PROGRAM_BYTES_MAX: usize = 16 * 1024;
/// The most bytes of states that a search keeps.
const STATES_BYTES_MAX: usize = 64 * 1024;
/// How deep a pattern may lie in itself.
const NESTED_MAX: u32 = 32;
/// The most patterns kept compiled; one more, and they all begin again.
const PATTERNS_MAX: usize = 64;
/// The most groups that a find returns.
const GROUPS_MAX: usize = 9;

const TEXT: (&str, &str, &str) = ("text", "string?", "at most 4096 bytes; nil matches nothing");
const PATTERN: (&str, &str, &str) =
    ("pattern", "string", "as in the Rust crate regex; \\w and \\d are ASCII");

pub(super) const LIBRARY: Library = Library {
    name: "regex",
    says: "Regular expressions whose time grows with the text alone.",
    functions: &[
        Function {
            name: "matches",
            parameters: &[TEXT, PATTERN],
            returns: ("boolean", "whether the pattern is found in the text"),
            says: "Whether a text matches; write ^ and $ for all of it.",
        },
        Function {
            name: "find",
            parameters: &[TEXT, PATTERN],
            returns: ("string? ...", "the groups of the first match, without groups all of it"),
            says: "What of a text matches first; nil when nothing does.",
        },
    ],
};

/// The patterns that were compiled, shared by all machines of some rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patterns(Arc<Mutex<HashMap<Box<[u8]>, Regex>>>);

pub(super) fn register(lua: &Lua, table: &Table, patterns: &Patterns) -> mlua::Result<()> {
    type Given = (Option<LuaString>, LuaString);
    let known = patterns.clone();
    let matches = move |_: &Lua, (text, pattern): Given| {
        let regex = known.find(&pattern)?;
        let Some(text) = text else { return Ok(false) };
        Ok(regex.is_match(&checked(&text)?))
    };
    table.raw_set("matches", lua.create_function(matches)?)?;
    let known = patterns.clone();
    let find = move |lua: &Lua, (text, pattern): Given| {
        let regex = known.find(&pattern)?;
        let Some(text) = text else { return Ok(MultiValue::from_iter([Value::Nil])) };
        let text = checked(&text)?;
        let Some(captures) = regex.captures(&text) else {
            return Ok(MultiValue::from_iter([Value::Nil]));
        };
        let first = usize::from(captures.len() > 1);
        let groups = captures.iter().skip(first).take(GROUPS_MAX).map(|group| match group {
            Some(group) => lua.create_string(group.as_bytes()).map(Value::String),
            None => Ok(Value::Nil),
        });
        groups.collect()
    };
    table.raw_set("find", lua.create_function(find)?)
}

fn checked(text: &LuaString) -> mlua::Result<mlua::BorrowedBytes> {
    let text = text.as_bytes();
    if text.len() > TEXT_BYTES_MAX {
        return Err(wrong(format!(
            "the text is over {TEXT_BYTES_MAX} bytes; take a part by text:sub"
        )));
    }
    Ok(text)
}

impl Patterns {
    fn find(&self, pattern: &LuaString) -> mlua::Result<Regex> {
        let pattern = pattern.as_bytes();
        // An insert or a clear leaves the map whole even if its thread then panics.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = known.get(pattern.as_ref()) {
            return Ok(regex.clone());
        }
        let regex = compile(&pattern)?;
        if known.len() >= PATTERNS_MAX {
            known.clear();
        }
        known.insert(pattern.as_ref().into(), regex.clone());
        Ok(regex)
    }
}

fn compile(pattern: &[u8]) -> mlua::Result<Regex> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(wrong(format!("the pattern is over {PATTERN_BYTES_MAX} bytes; write two")));
    }
    let text =
        str::from_utf8(pattern).map_err(|_| wrong("the pattern is not UTF-8; write text"))?;
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(STATES_BYTES_MAX)
        .nest_limit(NESTED_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                wrong("the pattern is too large; repeat less often than with {1,100}")
            }
            error => {
                let told = error.to_string();
                let last = told.lines().last().unwrap_or_default().trim_start_matches("error: ");
                wrong(format!("the pattern is wrong: {last}; see https://docs.rs/regex/#syntax"))
            }
        })
}
