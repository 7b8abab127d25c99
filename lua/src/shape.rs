//! What a file must return. Checked once, when the rules are loaded: a file that is wrong is refused
//! then, with its line, not in the path of a payment.

use std::collections::BTreeSet;

use backstop_contract::Verdict;
use mlua::{Table, Value};

use crate::answer::{kind_of, list_of};
use crate::breach::{Breach, Place};
use crate::bundle::Role;
use crate::transaction::ALWAYS;

/// The most attributes that a file may read; a request has no more.
pub(crate) const FIELDS_MAX: usize = backstop_contract::validity::ATTRIBUTES_MAX;
/// The most bytes in the name of an attribute.
const FIELD_BYTES_MAX: usize = 4 * backstop_contract::validity::NAME_CHARS_MAX;
/// Names of attributes that are for Backstop, and that no policy sees.
const RESERVED: &str = "backstop_";

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The attributes it reads.
    pub fields: Vec<String>,
    /// The answer when in doubt.
    pub safe: Verdict,
    /// No stand-in may approve.
    pub strict: bool,
    /// It has the function `effects`.
    pub moves: bool,
    /// The lines on which its functions begin.
    pub lines: Lines,
}

/// Where the functions of a file begin, as far as Luau knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub keys: Option<u32>,
    pub decide: Option<u32>,
    pub effects: Option<u32>,
}

impl Shape {
    /// What holds of a file before it has run.
    pub(crate) const fn unread() -> Self {
        let lines = Lines { keys: None, decide: None, effects: None };
        Self { fields: Vec::new(), safe: Verdict::Review, strict: true, moves: false, lines }
    }

    /// Reads what the file returned; `source` is only searched for the line to blame.
    pub(crate) fn read(
        returned: &Value,
        role: Role,
        file: &str,
        source: &str,
    ) -> Result<Self, Breach> {
        let wrong = |name: &str, message: String| {
            let line = line_of(source, name);
            Breach::Nonsense { place: Place { file: file.to_owned(), line }, message }
        };
        let Value::Table(table) = returned else {
            let kind = kind_of(returned);
            return Err(wrong(
                "return",
                format!("returns {kind}; return a table: {}", remedy(role)),
            ));
        };
        only_known(table, role).map_err(|(name, message)| wrong(&name, message))?;
        let read = |name: &str| table.raw_get::<Value>(name).unwrap_or(Value::Nil);
        let safe = verdict_of(&read("safe")).map_err(|message| wrong("safe", message))?;
        let fields = fields_of(&read("fields")).map_err(|message| wrong("fields", message))?;
        let strict = match (role, read("strict")) {
            (Role::Policy, Value::Boolean(strict)) => strict,
            (Role::Policy, value) => {
                let kind = kind_of(&value);
                return Err(wrong("strict", format!("strict is {kind}; write true or false")));
            }
            (Role::Default, _) => false,
        };
        let functions: &[(&str, bool)] = match role {
            Role::Policy => &[("keys", true), ("decide", true), ("effects", false)],
            Role::Default => &[("decide", true)],
        };
        for (name, required) in functions {
            match read(name) {
                Value::Function(_) => {}
                Value::Nil if !required => {}
                value => {
                    let kind = kind_of(&value);
                    return Err(wrong(name, format!("{name} is {kind}; write a function(tx)")));
                }
            }
        }
        let moves = role == Role::Policy && !read("effects").is_nil();
        let begins = |name: &str| match read(name) {
            Value::Function(function) => function.info().line_defined?.try_into().ok(),
            _ => None,
        };
        let lines =
            Lines { keys: begins("keys"), decide: begins("decide"), effects: begins("effects") };
        Ok(Self { fields, safe, strict, moves, lines })
    }
}

const fn remedy(role: Role) -> &'static str {
    match role {
        Role::Policy => "fields, safe, strict, keys, decide and, if it moves anything, effects",
        Role::Default => "fields, safe and decide, nothing else",
    }
}

/// Refuses names that mean nothing: most are a slip of one that does.
fn only_known(table: &Table, role: Role) -> Result<(), (String, String)> {
    let known: &[&str] = match role {
        Role::Policy => &["fields", "safe", "strict", "keys", "decide", "effects"],
        Role::Default => &["fields", "safe", "decide"],
    };
    for pair in table.pairs::<Value, Value>() {
        let key = pair.map_or(Value::Nil, |(key, _)| key);
        let name = key.as_string().map(mlua::LuaString::to_string_lossy).unwrap_or_default();
        if !known.contains(&name.as_str()) {
            let shown = if name.is_empty() { kind_of(&key) } else { format!("{name:?}") };
            let message = format!("{shown} means nothing here; return {}", remedy(role));
            return Err((name, message));
        }
    }
    Ok(())
}

fn verdict_of(value: &Value) -> Result<Verdict, String> {
    let text = value.as_string().map(mlua::LuaString::to_string_lossy);
    text.as_deref().and_then(Verdict::parse).ok_or_else(|| {
        let shown = text.map_or_else(|| kind_of(value), |text| format!("{text:?}"));
        format!("safe is {shown}; write \"approve\", \"decline\" or \"review\"")
    })
}

fn fields_of(value: &Value) -> Result<Vec<String>, String> {
    let names = list_of(value, FIELDS_MAX, FIELD_BYTES_MAX)
        .map_err(|wrong| format!("fields {wrong}; write a list of attribute names"))?;
    for name in &names {
        if ALWAYS.contains(&name.as_str()) {
            return Err(format!("fields names {name:?}, which every rule sees; leave it out"));
        }
        if name.starts_with(RESERVED) {
            return Err(format!("fields names {name:?}, which no rule may see; leave it out"));
        }
    }
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() < names.len() {
        return Err("fields names an attribute twice; name each once".to_owned());
    }
    Ok(names)
}

/// The last line that begins with this name: Luau keeps no line for a field of a table.
fn line_of(source: &str, name: &str) -> Option<u32> {
    let begins = |line: &str| {
        let line = line.trim_start_matches("return").trim_start_matches([' ', '\t', '{', ',']);
        let rest = line.strip_prefix(name).map(str::trim_start);
        !name.is_empty() && rest.is_some_and(|rest| rest.starts_with('=') || name == "return")
    };
    let fallback = |line: &str| line.starts_with("return");
    let last = |is: &dyn Fn(&str) -> bool| {
        let at = source.lines().enumerate().filter(|(_, line)| is(line)).last()?.0;
        u32::try_from(at + 1).ok()
    };
    last(&begins).or_else(|| last(&fallback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_blame_is_the_last_that_sets_the_name() {
        let source = "local safe = 1\n-- safe\nreturn { fields = {},\n  safe = 2,\n}";
        assert_eq!(line_of(source, "safe"), Some(4));
        assert_eq!(line_of(source, "fields"), Some(3));
        assert_eq!(line_of(source, "keys"), Some(3), "where the table begins");
        assert_eq!(line_of("x", "safe"), None);
    }
}
