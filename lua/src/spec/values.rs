//! Values of a test as JSON, and answers as tables.

use std::collections::BTreeMap;

use backstop_engine::Moves;
use mlua::{Lua, Table, Value};
use serde_json::{Map, Number, Value as Json};

use crate::ruling::{Keys, Ruling};

/// How deep a case may lie in itself.
const DEPTH_MAX: usize = 16;

/// A value as JSON. A table whose keys are 1 to n is a list, and so is an empty one.
pub(super) fn to_json(value: &Value, depth: usize) -> mlua::Result<Json> {
    if depth > DEPTH_MAX {
        return Err(mlua::Error::runtime(format!(
            "a case is over {DEPTH_MAX} tables deep; write a flat one"
        )));
    }
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Boolean(flag) => Json::Bool(*flag),
        Value::Integer(number) => Json::Number((*number).into()),
        Value::Number(number) => json_number(*number),
        Value::String(text) => Json::String(text.to_str()?.to_owned()),
        Value::Table(table) => to_table(table, depth)?,
        other => {
            let kind = other.type_name();
            return Err(mlua::Error::runtime(format!(
                "a case holds a {kind}; write texts, numbers, flags and tables"
            )));
        }
    })
}

fn to_table(table: &Table, depth: usize) -> mlua::Result<Json> {
    let length = table.raw_len();
    let pairs = table.pairs::<Value, Value>().collect::<mlua::Result<Vec<_>>>()?;
    if pairs.len() == length {
        let items = table.sequence_values::<Value>();
        return items
            .map(|item| to_json(&item?, depth + 1))
            .collect::<mlua::Result<_>>()
            .map(Json::Array);
    }
    let mut fields = Map::new();
    for (key, value) in pairs {
        let Value::String(key) = key else {
            return Err(mlua::Error::runtime(
                "a case holds a list with gaps; write names or no keys",
            ));
        };
        fields.insert(key.to_str()?.to_owned(), to_json(&value, depth + 1)?);
    }
    Ok(Json::Object(fields))
}

/// A whole number is written without a point: a request tells 6 from 6.5.
fn json_number(number: f64) -> Json {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        // Whole and within bounds, so exact.
        #[allow(clippy::cast_possible_truncation)]
        return Json::Number((number as i64).into());
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// JSON as a value; a null is nil.
pub(super) fn from_json(lua: &Lua, json: &Json) -> mlua::Result<Value> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let items = items.iter().map(|item| from_json(lua, item));
            Value::Table(lua.create_sequence_from(items.collect::<mlua::Result<Vec<_>>>()?)?)
        }
        Json::Object(fields) => {
            let table = lua.create_table()?;
            for (name, value) in fields {
                table.raw_set(name.as_str(), from_json(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}

/// What was decided.
pub(super) fn ruling(lua: &Lua, ruling: &Ruling) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("decision", ruling.verdict.as_str())?;
    table.set("reasons", ruling.reasons.clone())?;
    table.set("score", ruling.score as f64)?;
    table.set("breach", ruling.breach.as_ref().map(ToString::to_string))?;
    Ok(table)
}

/// What was asked for.
pub(super) fn keys(lua: &Lua, keys: &Keys) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("history", keys.history.clone())?;
    table.set("stock", keys.stock.clone())?;
    Ok(table)
}

/// What would move.
pub(super) fn moves(lua: &Lua, moves: &Moves) -> mlua::Result<Table> {
    let quantities = |of: &BTreeMap<String, u64>| {
        lua.create_table_from(of.iter().map(|(key, quantity)| (key.as_str(), *quantity as f64)))
    };
    let table = lua.create_table()?;
    table.set("take", quantities(&moves.take)?)?;
    table.set("credit", quantities(&moves.credit)?)?;
    table.set("debit", quantities(&moves.debit)?)?;
    Ok(table)
}
