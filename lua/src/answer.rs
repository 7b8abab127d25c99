//! What a rule's functions may return. Read with raw access only: a table from a rule may carry
//! metamethods, and none of them runs out here, past the limits.

use std::collections::BTreeMap;

use backstop_contract::Verdict;
use mlua::{LuaString, Table, Value};

use crate::ruling::{Keys, Ruling};

/// The most reasons in an answer.
pub(crate) const REASONS_MAX: usize = 16;
/// The most bytes in a reason.
pub(crate) const REASON_BYTES_MAX: usize = 64;
/// The largest score, either way.
pub(crate) const SCORE_MAX: f64 = 1e9;
/// The most histories that a policy may ask for.
pub(crate) const HISTORIES_MAX: usize = 16;
/// The most stock keys that a policy may ask for.
pub(crate) const STOCK_KEYS_MAX: usize = 64;
/// The most bytes in the key of a history or of stock.
pub(crate) const KEY_BYTES_MAX: usize = 2048;

/// What `decide` returned.
pub(crate) fn ruling(values: &(Value, Value, Value)) -> Result<Ruling, String> {
    let (verdict, reasons, score) = values;
    let text = verdict.as_string().and_then(|text| text.to_str().ok());
    let verdict = text.as_deref().and_then(Verdict::parse).ok_or_else(|| {
        let shown = shown(verdict);
        format!("decide returned {shown}; return \"approve\", \"decline\" or \"review\"")
    })?;
    let reasons = match reasons {
        Value::Nil => Vec::new(),
        list => list_of(list, REASONS_MAX, REASON_BYTES_MAX).map_err(|wrong| {
            format!(
                "the reasons {wrong}; return nil or a list of at most {REASONS_MAX} strings of at \
                 most {REASON_BYTES_MAX} bytes"
            )
        })?,
    };
    let score = match score {
        Value::Nil => 0,
        number => integral(number, SCORE_MAX).ok_or_else(|| {
            let shown = shown(number);
            format!("the score is {shown}; return nil or a whole number within ±{SCORE_MAX:e}")
        })?,
    };
    Ok(Ruling { verdict, reasons, score, breach: None })
}

/// What `keys` returned.
pub(crate) fn keys(value: &Value) -> Result<Keys, String> {
    const REMEDY: &str =
        "return { history = { NAME = KEY }, stock = { KEY } }, either may be absent";
    let Value::Table(table) = value else {
        return Err(format!("keys returned {}; {REMEDY}", kind_of(value)));
    };
    let mut keys = Keys::default();
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        match name.as_string().map(LuaString::to_string_lossy).as_deref() {
            Some("history") => keys.history = histories(&value)?,
            Some("stock") => {
                keys.stock = list_of(&value, STOCK_KEYS_MAX, KEY_BYTES_MAX)
                    .map_err(|wrong| format!("keys: stock {wrong}; {REMEDY}"))?;
            }
            _ => return Err(format!("keys returned a field {}; {REMEDY}", shown(&name))),
        }
    }
    Ok(keys)
}

fn histories(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let Value::Table(table) = value else {
        return Err(format!("keys: history is {}; name each key in a table", kind_of(value)));
    };
    let mut histories = BTreeMap::new();
    for pair in table.pairs::<Value, Value>() {
        let (name, key) = pair.map_err(|error| error.to_string())?;
        if histories.len() == HISTORIES_MAX {
            return Err(format!("keys: over {HISTORIES_MAX} histories"));
        }
        let name = text(&name, KEY_BYTES_MAX)
            .map_err(|wrong| format!("keys: the name of a history {wrong}"))?;
        let key =
            key_text(&key).map_err(|wrong| format!("keys: the key of history {name:?} {wrong}"))?;
        histories.insert(name, key);
    }
    Ok(histories)
}

/// A list of strings without gaps; the error says what is wrong, after the name of the list.
pub(crate) fn list_of(value: &Value, max: usize, bytes_max: usize) -> Result<Vec<String>, String> {
    let Value::Table(table) = value else {
        return Err(format!("are not a list but {}", kind_of(value)));
    };
    let items = items_of(table, max, bytes_max)?;
    if items.last_key_value().is_some_and(|(last, _)| *last != items.len()) {
        return Err("have a gap".to_owned());
    }
    Ok(items.into_values().collect())
}

fn items_of(
    table: &Table,
    max: usize,
    bytes_max: usize,
) -> Result<BTreeMap<usize, String>, String> {
    let mut items = BTreeMap::new();
    // The first entry too many ends it, so that a list of a million costs no more than one of `max`.
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|error| error.to_string())?;
        let place = integral(&key, f64::from(u32::MAX))
            .and_then(|place| usize::try_from(place).ok())
            .filter(|place| *place > 0)
            .ok_or_else(|| format!("have a key that is {}", shown(&key)))?;
        if items.len() == max {
            return Err(format!("are over {max}"));
        }
        items.insert(
            place,
            text(&value, bytes_max).map_err(|wrong| format!("hold one that {wrong}"))?,
        );
    }
    Ok(items)
}

/// A string, or a whole number in its place: an attribute that is a number may be a key.
fn key_text(value: &Value) -> Result<String, String> {
    match integral(value, backstop_contract::validity::INTEGER_MAX as f64) {
        Some(number) => Ok(number.to_string()),
        None => text(value, KEY_BYTES_MAX),
    }
}

/// A string; the error says what is wrong with it.
fn text(value: &Value, bytes_max: usize) -> Result<String, String> {
    let Value::String(text) = value else {
        return Err(format!("is not a string but {}", kind_of(value)));
    };
    if text.as_bytes().len() > bytes_max {
        return Err(format!("is over {bytes_max} bytes"));
    }
    match text.to_str() {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err("is not UTF-8".to_owned()),
    }
}

/// A whole number within the bounds.
fn integral(value: &Value, max: f64) -> Option<i64> {
    let number = match value {
        Value::Integer(integer) => *integer as f64,
        Value::Number(number) => *number,
        _ => return None,
    };
    // Within ±2^53 every whole number is an i64, exactly.
    #[allow(clippy::cast_possible_truncation)]
    (number.abs() <= max && number.fract() == 0.0).then_some(number as i64)
}

/// A value in a message: short strings and numbers as they are, else what it is.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.as_bytes().len() <= REASON_BYTES_MAX => {
            format!("{:?}", text.to_string_lossy())
        }
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        other => kind_of(other),
    }
}

/// What a value is, with its article.
pub(crate) fn kind_of(value: &Value) -> String {
    match value {
        Value::Nil => "nothing".to_owned(),
        Value::Integer(_) | Value::Number(_) => "a number".to_owned(),
        other => format!("a {}", other.type_name()),
    }
}
