//! What a rule sees and may return, as `LuaCATS` definitions: editors complete and check by them. They are
//! made from what the sandbox itself is made of, so that they cannot say anything else.
//!
//! Source of the notation: <https://luals.github.io/wiki/annotations>.

use std::fmt::Write as _;

use backstop_contract::Verdict;

use crate::answer::{HISTORIES_MAX, REASON_BYTES_MAX, REASONS_MAX, SCORE_MAX, STOCK_KEYS_MAX};
use crate::library::{FOUND, Function, LIBRARIES};
use crate::transaction::ALWAYS;
use crate::{past, rows, spec};

/// The file that holds them, within a folder of rules.
pub const FILE: &str = "types/backstop.lua";

const VERDICTS: [Verdict; 3] = [Verdict::Approve, Verdict::Decline, Verdict::Review];

/// The definitions, as one file.
pub fn definitions() -> String {
    let mut text = String::from(
        "---@meta\n-- What a rule sees and may return. Made by `backstop rules types`; not to be edited.\n\n",
    );
    alias(&mut text, "Decision", &VERDICTS.map(|verdict| format!("\"{}\"", verdict.as_str())));
    text.push_str("---How long: digits and s, m, h or d, such as \"90s\", \"5m\", \"1h\" or \"7d\".\n---@alias Window string\n\n");
    transaction(&mut text);
    text.push_str(&given());
    class(
        &mut text,
        "History",
        "What an entity did before this request, by event time.",
        past::ACCESSORS,
    );
    class(
        &mut text,
        "Rows",
        "A list or map from rows/NAME.csv or rows/NAME.json.",
        rows::ACCESSORS,
    );
    text.push_str("---@class Found\n---@field list string[] the reasons, in the order they were found\n---@field score integer the sum of their points\n");
    methods(&mut text, "Found", FOUND);
    text.push_str(&files());
    for library in LIBRARIES {
        let _ = writeln!(text, "---{}\n{} = {{}}\n", library.says, library.name);
        for function in library.functions {
            write_function(&mut text, &format!("{}.{}", library.name, function.name), function);
        }
    }
    text.push_str(spec::DEFINITIONS);
    text
}

fn alias(text: &mut String, name: &str, words: &[String]) {
    // Strings take what is written to them, here and below.
    let _ = writeln!(text, "---@alias {name} {}\n", words.join("|"));
}

fn transaction(text: &mut String) {
    text.push_str("---What a rule sees of the request. The attributes that fields names are here too.\n---@class Transaction\n");
    for name in ALWAYS {
        let (kind, says) = match name {
            "amount" => (
                "integer",
                "minor units, such as 5716 for 57.16; nil only where the request has none",
            ),
            "currency" => {
                ("string", "ISO 4217, such as \"GBP\"; nil only where the request has no amount")
            }
            "at" => ("integer", "the event time, in milliseconds since 1970"),
            "id" => ("string", "the id of the request"),
            _ => ("string", "whose request it is: history and ledger hang on it"),
        };
        let _ = writeln!(text, "---@field {name} {kind} {says}");
    }
    text.push_str("---@field [string] string|number|boolean|nil an attribute; nil when the request lacks it\n\n");
}

/// What `keys` and `effects` return.
fn given() -> String {
    format!(
        "---Whose history to see, and with whom this request is.\n---@class HistoryKey\n\
         ---@field key string|integer\n---@field counterparty? string|integer\n\n\
         ---@class Keys\n\
         ---@field history? table<string, string|integer|HistoryKey> at most {HISTORIES_MAX}, by the name decide reads them under\n\
         ---@field stock? string[] at most {STOCK_KEYS_MAX}\n\n\
         ---What a decision moves: quantities from 0, whole. All of it happens, or nothing.\n\
         ---@class Effects\n\
         ---@field take? table<string, integer> out of stock; only what keys named\n\
         ---@field credit? table<string, integer> to the account of the request, by unit\n\
         ---@field debit? table<string, integer> from it\n\n"
    )
}

/// What the files return.
fn files() -> String {
    format!(
        "---What a file in policies/ returns. decide gives the decision, at most {REASONS_MAX} reasons of at most\n\
         ---{REASON_BYTES_MAX} bytes, and a score within ±{SCORE_MAX:e}.\n\
         ---@class Policy\n\
         ---@field fields string[] the attributes it reads; it sees no others\n\
         ---@field safe Decision the answer when it fails, is late, or returns nonsense\n\
         ---@field strict boolean true: no stand-in may approve\n\
         ---@field keys fun(tx: Transaction): Keys\n\
         ---@field decide fun(tx: Transaction, history: table<string, History>, stock: table<string, integer>, rows: table<string, Rows>): Decision, string[]?, integer?\n\
         ---@field effects? fun(tx: Transaction, decision: Decision): Effects\n\n\
         ---What a file in defaults/ returns: the edge decides with it, alone.\n\
         ---@class Default\n\
         ---@field fields string[] the attributes it reads; it sees no others\n\
         ---@field safe Decision the answer when it fails, is late, or returns nonsense\n\
         ---@field decide fun(tx: Transaction): Decision, string[]?, integer?\n\n"
    )
}

fn class(text: &mut String, name: &str, says: &str, functions: &[Function]) {
    let _ = writeln!(text, "---{says}\n---@class {name}");
    methods(text, name, functions);
}

fn methods(text: &mut String, class: &str, functions: &[Function]) {
    let _ = writeln!(text, "local {class} = {{}}\n");
    for function in functions {
        write_function(text, &format!("{class}:{}", function.name), function);
    }
}

fn write_function(text: &mut String, name: &str, function: &Function) {
    let _ = writeln!(text, "---{}", function.says);
    for (parameter, kind, says) in function.parameters {
        let _ = writeln!(text, "---@param {parameter} {kind} {says}");
    }
    let (kind, says) = function.returns;
    let _ = writeln!(text, "---@return {kind} # {says}");
    let names: Vec<&str> =
        function.parameters.iter().map(|(name, ..)| name.trim_end_matches('?')).collect();
    let _ = writeln!(text, "function {name}({}) end\n", names.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_the_repository_is_what_the_sandbox_is_made_of() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/types/backstop.lua");
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(kept == definitions(), "run `backstop rules types --rules lua` and commit {FILE}");
    }

    #[test]
    fn the_definitions_are_lua() {
        crate::bundle::compile(FILE, &definitions()).unwrap();
    }
}
