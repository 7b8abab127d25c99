//! What can be said of a rule from its text alone: what it names, and what it never ends.
//!
//! The text is walked with its scopes, and walked again until nothing new is known: that `tx` of one
//! function is handed to another is known only where it is called.

mod scope;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use backstop_lua::World;

use super::finding::{Finding, nearest};
use scope::{Meaning, Place};
use walk::Walk;

/// Walks over one file; each hands what is known one call further.
const WALKS_MAX: usize = 16;
/// A text or number of a rule that is longer is no use in a made-up request.
const LITERAL_BYTES_MAX: usize = 64;

/// What is known of the names that a rule may use.
pub struct Known<'a> {
    /// The closed world.
    pub world: &'a World,
    /// The attributes that the file declares, where it could say so.
    pub fields: Option<&'a [String]>,
    /// The rule rows that lie beside it.
    pub rows: &'a BTreeSet<String>,
}

/// What one file's text says.
#[derive(Debug, Default)]
pub struct Reading {
    /// Whether it is Lua 5.1 at all.
    pub is_lua: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// Texts it holds: made-up requests use them.
    pub texts: BTreeSet<String>,
    /// Numbers it holds.
    pub numbers: Vec<f64>,
    /// Where `decide` returns "approve" in so many words.
    pub approves: BTreeSet<u32>,
}

/// What is kept from one walk to the next.
#[derive(Debug, Default, PartialEq, Clone)]
struct Learned {
    /// What the parameters of a function mean, by where it begins.
    parameters: BTreeMap<Place, Vec<Meaning>>,
    /// The functions whose answer is the decision.
    decides: BTreeSet<Place>,
    /// The keys of all tables that the file builds.
    keys: BTreeSet<String>,
    /// The globals that it assigns, which is told where it does.
    assigned: BTreeSet<String>,
    /// The methods that the file defines.
    methods: BTreeSet<String>,
}

/// Reads a file that has compiled. What is Luau and not Lua 5.1 is a finding.
pub fn read(file: &str, text: &str, known: &Known<'_>) -> Reading {
    let ast = match full_moon::parse(text) {
        Ok(ast) => ast,
        Err(errors) => return not_lua(file, &errors),
    };
    let mut learned = Learned::default();
    for _ in 0..WALKS_MAX {
        let mut walk = Walk::new(file, known, learned.clone());
        walk.statements(ast.nodes());
        let (reading, now) = walk.end();
        if now == learned {
            return Reading { is_lua: true, ..reading };
        }
        learned = now;
    }
    Reading::default()
}

fn not_lua(file: &str, errors: &[full_moon::Error]) -> Reading {
    let finding = |error: &full_moon::Error| {
        let line = u32::try_from(error.range().0.line()).ok();
        let wrong = format!("this is not Lua 5.1: {}", error.error_message());
        Finding::new(file, line, wrong, "write Lua 5.1, which every editor and tool understands")
    };
    Reading { findings: errors.iter().take(1).map(finding).collect(), ..Reading::default() }
}

/// The known name that this one is a slip of, as what to write; else what else to do.
fn suggestion<'a>(
    name: &str,
    known: impl Iterator<Item = &'a String>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(name, known.map(String::as_str)).map_or_else(otherwise, |near| format!("write {near}"))
}
