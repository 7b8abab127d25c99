//! Rule rows: lists and maps that policies read, from files beside them. They lie outside of the virtual
//! machines, so that a list of a hundred thousand costs no call anything.
//!
//! `rows/NAME.csv` has a header; its first column is the key. `rows/NAME.json` is a list of keys, or an
//! object: of values, or of objects of values.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use backstop_contract::validity::INTEGER_MAX;
use mlua::{Lua, LuaString, Table, UserData, UserDataMethods, Value};
use serde_json::Value as Json;

use crate::library::Function;

/// The most files of rows.
pub const FILES_MAX: usize = 64;
/// The most bytes in one of them.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// The most rows in one of them.
pub const ROWS_MAX: usize = 100_000;
/// The most columns in one of them, the key apart.
pub const COLUMNS_MAX: usize = 32;
/// The column of a map that has no name for it.
const VALUE: &str = "value";

/// How rows are asked.
pub(crate) const ACCESSORS: &[Function] = &[
    Function {
        name: "has",
        parameters: &[("key", "string|number|boolean|nil", "such as tx.account")],
        returns: ("boolean", "whether there is a row of this key; of nil there is none"),
        says: "Whether a key is in the list.",
    },
    Function {
        name: "get",
        parameters: &[
            ("key", "string|number|boolean|nil", "such as tx.currency"),
            ("column?", "string", "which value; needed where there are several"),
        ],
        returns: ("string|number|boolean|nil", "nil when there is no such row"),
        says: "A value of the row with this key.",
    },
    Function {
        name: "count",
        parameters: &[],
        returns: ("integer", "how many rows there are"),
        says: "How many rows there are.",
    },
];

/// Every list and map of some rules, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(Arc<BTreeMap<String, Sheet>>);

/// One list or map; cheap to clone.
#[derive(Clone, Debug)]
struct Sheet(Arc<Filled>);

#[derive(Debug, Default)]
struct Filled {
    columns: Vec<String>,
    rows: HashMap<Box<[u8]>, Box<[Cell]>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Nothing,
    Text(Box<str>),
    Number(f64),
    Flag(bool),
}

impl Rows {
    /// Reads the files, by name such as `blocked.csv`. The error says which one is wrong, and how.
    pub(crate) fn read(files: &BTreeMap<String, String>) -> Result<Self, (String, String)> {
        if files.len() > FILES_MAX {
            return Err((String::new(), format!("{} files; at most {FILES_MAX}", files.len())));
        }
        let mut sheets = BTreeMap::new();
        for (file, text) in files {
            let at = |message: String| (file.clone(), message);
            let (name, ending) = file.rsplit_once('.').unwrap_or((file, ""));
            if text.len() > FILE_BYTES_MAX {
                return Err(at(format!("is over {FILE_BYTES_MAX} bytes; split it")));
            }
            let filled = match ending {
                "csv" => from_csv(text),
                _ => from_json(text),
            };
            let sheet = Sheet(Arc::new(filled.map_err(at)?));
            if sheets.insert(name.to_owned(), sheet).is_some() {
                return Err(at(format!("rows/{name} is there as .csv and as .json; keep one")));
            }
        }
        Ok(Self(Arc::new(sheets)))
    }

    /// What a policy gets as `rows`.
    pub(crate) fn table(&self, lua: &Lua) -> mlua::Result<Table> {
        let table = lua.create_table()?;
        for (name, sheet) in self.0.iter() {
            table.raw_set(name.as_str(), lua.create_userdata(sheet.clone())?)?;
        }
        table.set_readonly(true);
        Ok(table)
    }
}

impl UserData for Sheet {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("has", |_, sheet, key: Value| Ok(sheet.row(&key)?.is_some()));
        methods.add_method("get", |lua, sheet, (key, column): (Value, Option<LuaString>)| {
            let column = sheet.column(column.as_ref())?;
            let cell = sheet.row(&key)?.and_then(|row| row.get(column));
            Ok(match cell {
                None | Some(Cell::Nothing) => Value::Nil,
                Some(Cell::Text(text)) => Value::String(lua.create_string(text.as_bytes())?),
                Some(Cell::Number(number)) => Value::Number(*number),
                Some(Cell::Flag(flag)) => Value::Boolean(*flag),
            })
        });
        methods.add_method("count", |_, sheet, ()| Ok(sheet.0.rows.len() as f64));
    }
}

impl Sheet {
    fn row(&self, key: &Value) -> mlua::Result<Option<&[Cell]>> {
        let row = match key {
            // A client may send a flag where a name is meant; no row is called that.
            Value::Nil | Value::Boolean(_) => None,
            Value::String(key) => self.0.rows.get(key.as_bytes().as_ref()),
            Value::Integer(key) => self.0.rows.get(key.to_string().as_bytes()),
            Value::Number(key) => self.0.rows.get(key.to_string().as_bytes()),
            other => {
                let kind = other.type_name();
                let wrong = format!("a key of rows is no {kind}; give a text or a number");
                return Err(mlua::Error::runtime(wrong));
            }
        };
        Ok(row.map(AsRef::as_ref))
    }

    fn column(&self, name: Option<&LuaString>) -> mlua::Result<usize> {
        let columns = &self.0.columns;
        let found = match name {
            None if columns.len() == 1 => Some(0),
            None => None,
            Some(name) => {
                columns.iter().position(|column| column.as_bytes() == name.as_bytes().as_ref())
            }
        };
        found.ok_or_else(|| {
            let all = if columns.is_empty() { "no columns".to_owned() } else { columns.join(", ") };
            mlua::Error::runtime(format!("which column is meant; name one of these: {all}"))
        })
    }
}

impl Filled {
    fn put(&mut self, key: &str, row: Box<[Cell]>) -> Result<(), String> {
        if self.rows.len() == ROWS_MAX {
            return Err(format!("over {ROWS_MAX} rows; split them"));
        }
        if self.rows.insert(key.as_bytes().into(), row).is_some() {
            return Err(format!("the key {key:?} is there twice; keep one row of it"));
        }
        Ok(())
    }
}

fn from_csv(text: &str) -> Result<Filled, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let wrong = |error: csv::Error| format!("{error}; give every line as many fields as the first");
    let header = reader.headers().map_err(wrong)?.clone();
    let columns: Vec<String> = header.iter().skip(1).map(str::to_owned).collect();
    if header.is_empty() || columns.len() > COLUMNS_MAX {
        return Err(format!(
            "begin with a line that names 1 to {} columns, the key first",
            COLUMNS_MAX + 1
        ));
    }
    let mut filled = Filled { columns, rows: HashMap::new() };
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let row = record.iter().skip(1).map(cell_of_text).collect();
        filled.put(record.get(0).unwrap_or_default(), row)?;
    }
    Ok(filled)
}

/// A field that is written as JSON would write a number or a flag is one.
fn cell_of_text(text: &str) -> Cell {
    match serde_json::from_str(text) {
        Ok(json @ (Json::Number(_) | Json::Bool(_))) => cell_of(&json).unwrap_or(Cell::Nothing),
        _ if text.is_empty() => Cell::Nothing,
        _ => Cell::Text(text.into()),
    }
}

fn from_json(text: &str) -> Result<Filled, String> {
    const RIGHT: &str =
        "write a list of keys, an object of values, or an object of objects of values";
    let json =
        serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}; {RIGHT}"))?;
    let mut filled = Filled::default();
    match json {
        Json::Array(keys) => {
            for key in keys {
                let key = match key {
                    Json::String(key) => key,
                    Json::Number(key) => key.to_string(),
                    other => return Err(format!("a list holds {other}; {RIGHT}")),
                };
                filled.put(&key, Box::default())?;
            }
        }
        Json::Object(rows) => {
            let named = rows.values().filter_map(Json::as_object).flat_map(|row| row.keys());
            let mut columns: Vec<String> = named.cloned().collect();
            columns.sort();
            columns.dedup();
            if columns.is_empty() {
                columns.push(VALUE.to_owned());
            }
            if columns.len() > COLUMNS_MAX {
                return Err(format!("{} columns; at most {COLUMNS_MAX}", columns.len()));
            }
            for (key, row) in &rows {
                let of = |column: &String| match row {
                    Json::Object(row) => row.get(column).map_or(Ok(Cell::Nothing), cell_of),
                    value => cell_of(value),
                };
                let row = columns.iter().map(of).collect::<Result<Box<[Cell]>, String>>();
                filled.put(key, row.map_err(|wrong| format!("{key:?} {wrong}; {RIGHT}"))?)?;
            }
            filled.columns = columns;
        }
        other => return Err(format!("is {other}; {RIGHT}")),
    }
    Ok(filled)
}

fn cell_of(json: &Json) -> Result<Cell, String> {
    match json {
        Json::Null => Ok(Cell::Nothing),
        Json::Bool(flag) => Ok(Cell::Flag(*flag)),
        Json::String(text) => Ok(Cell::Text(text.as_str().into())),
        Json::Number(number) => {
            let exact = number.as_f64().filter(|it| it.abs() <= INTEGER_MAX as f64);
            exact
                .map(Cell::Number)
                .ok_or_else(|| format!("has {number}, which no rule holds exactly"))
        }
        other => Err(format!("holds {other}")),
    }
}
