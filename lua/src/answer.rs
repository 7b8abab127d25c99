//! What a rule's functions may return. Read with raw access only: a table from a rule may carry
//! metamethods, and none of them runs out here, past the limits.

use std::collections::BTreeMap;

use backstop_contract::Verdict;
use backstop_contract::validity::INTEGER_MAX;
use backstop_engine::Moves;
use backstop_engine::effects::UNITS_MAX;
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
pub(crate) const KEY_BYTES_MAX: usize = backstop_contract::stock::KEY_BYTES_MAX;

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
            Some("history") => (keys.history, keys.counterparties) = histories(&value)?,
            Some("stock") => {
                keys.stock = list_of(&value, STOCK_KEYS_MAX, KEY_BYTES_MAX)
                    .map_err(|wrong| format!("keys: stock {wrong}; {REMEDY}"))?;
            }
            _ => return Err(format!("keys returned a field {}; {REMEDY}", shown(&name))),
        }
    }
    Ok(keys)
}

/// By name, the key of each history and the counterparty of those that have one.
type Histories = (BTreeMap<String, String>, BTreeMap<String, String>);

fn histories(value: &Value) -> Result<Histories, String> {
    let Value::Table(table) = value else {
        return Err(format!("keys: history is {}; name each key in a table", kind_of(value)));
    };
    let (mut histories, mut counterparties) = Histories::default();
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        if histories.len() == HISTORIES_MAX {
            return Err(format!("keys: over {HISTORIES_MAX} histories"));
        }
        let name = text(&name, KEY_BYTES_MAX)
            .map_err(|wrong| format!("keys: the name of a history {wrong}"))?;
        let (key, counterparty) = key_and_counterparty(&value)
            .map_err(|wrong| format!("keys: the key of history {name:?} {wrong}"))?;
        if let Some(counterparty) = counterparty {
            counterparties.insert(name.clone(), counterparty);
        }
        histories.insert(name, key);
    }
    Ok((histories, counterparties))
}

/// A key alone, or `{ key = KEY, counterparty = KEY }`.
fn key_and_counterparty(value: &Value) -> Result<(String, Option<String>), String> {
    const REMEDY: &str = "write KEY or { key = KEY, counterparty = KEY }";
    let Value::Table(table) = value else {
        return Ok((key_text(value)?, None));
    };
    let (mut key, mut counterparty) = (None, None);
    for pair in table.pairs::<Value, Value>() {
        let (field, value) = pair.map_err(|error| error.to_string())?;
        let place = match field.as_string().map(LuaString::to_string_lossy).as_deref() {
            Some("key") => &mut key,
            Some("counterparty") => &mut counterparty,
            _ => return Err(format!("has a field {}; {REMEDY}", shown(&field))),
        };
        *place = Some(key_text(&value)?);
    }
    let key = key.ok_or_else(|| format!("is a table without one; {REMEDY}"))?;
    Ok((key, counterparty))
}

/// What `effects` returned, for a policy whose `keys` were these.
pub(crate) fn moves(value: &Value, keys: &Keys) -> Result<Moves, String> {
    const REMEDY: &str = "return { take = { KEY = QUANTITY }, credit = { UNIT = QUANTITY }, \
                          debit = { UNIT = QUANTITY } }, each may be absent";
    let Value::Table(table) = value else {
        return Err(format!("effects returned {}; {REMEDY}", kind_of(value)));
    };
    let mut moves = Moves::default();
    for pair in table.pairs::<Value, Value>() {
        let (name, value) = pair.map_err(|error| error.to_string())?;
        let (of, max) = match name.as_string().map(LuaString::to_string_lossy).as_deref() {
            Some("take") => (&mut moves.take, STOCK_KEYS_MAX),
            Some("credit") => (&mut moves.credit, UNITS_MAX),
            Some("debit") => (&mut moves.debit, UNITS_MAX),
            _ => return Err(format!("effects returned a field {}; {REMEDY}", shown(&name))),
        };
        let name = shown(&name);
        *of = quantities(&value, max).map_err(|wrong| format!("effects: {name} {wrong}"))?;
    }
    if moves.take.keys().any(|key| !keys.stock.contains(key)) {
        return Err("effects: take holds a key that keys did not name; name there, in stock, \
                    whatever is taken"
            .to_owned());
    }
    for quantities in [&mut moves.take, &mut moves.credit, &mut moves.debit] {
        quantities.retain(|_, quantity| *quantity > 0);
    }
    Ok(moves)
}

/// Quantities by key; the error says what is wrong, after the name of the table. It shows no key, for
/// one made of attributes is confidential.
fn quantities(value: &Value, max: usize) -> Result<BTreeMap<String, u64>, String> {
    let Value::Table(table) = value else {
        return Err(format!("is {}; write a table such as {{ coins = 6 }}", kind_of(value)));
    };
    let mut quantities = BTreeMap::new();
    // As for lists: the first entry too many ends it.
    for pair in table.pairs::<Value, Value>() {
        let (key, quantity) = pair.map_err(|error| error.to_string())?;
        if quantities.len() == max {
            return Err(format!("is over {max} entries; move fewer at once"));
        }
        let key = text(&key, KEY_BYTES_MAX).map_err(|wrong| {
            format!("has a key that {wrong}; write text of at most {KEY_BYTES_MAX} bytes")
        })?;
        let quantity = integral(&quantity, INTEGER_MAX as f64)
            .and_then(|quantity| u64::try_from(quantity).ok())
            .ok_or_else(|| {
                let wrong = match quantity {
                    Value::Integer(_) | Value::Number(_) => shown(&quantity),
                    other => kind_of(&other),
                };
                format!(
                    "has a quantity that is {wrong}; write a whole number from 0 to {INTEGER_MAX}"
                )
            })?;
        quantities.insert(key, quantity);
    }
    Ok(quantities)
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
    match integral(value, INTEGER_MAX as f64) {
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
    // PostgreSQL keeps no text with one, and would refuse the whole set for it.
    if text.as_bytes().contains(&0) {
        return Err("holds a zero byte".to_owned());
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
