//! What a rule sees of a request: a table of the fields that its file names and no others. A whole
//! request made into Lua costs several times as much as the rule itself.
//!
//! The table is made within Lua, by a function written for the file: it knows the table's shape
//! beforehand, and takes all values at once. Field by field from here is three times as dear.

use std::fmt::Write as _;

use backstop_contract::{Attributes, Question, Value};
use mlua::chunk::{ChunkMode, Compiler};
use mlua::{Either, Function, Lua, Table, Variadic};

/// The fields that every rule sees, whatever it declares.
pub(crate) const ALWAYS: [&str; 5] = ["id", "account", "amount", "currency", "at"];

/// Words that are no names in Lua 5.1, which is what rules are written in.
const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// What a file sees of a transaction, and how its table is made.
pub(crate) struct View {
    fields: Vec<String>,
    bytecode: Vec<u8>,
}

/// A view within one machine.
pub(crate) struct Maker {
    fields: Vec<String>,
    make: Function,
}

/// What happens to the time of a request whose client sent none.
pub(crate) enum Time<'a> {
    /// It is the moment the edge received it.
    OfReceipt,
    /// There is none, and this metatable says so to whoever reads it.
    Guarded(&'a Table),
}

/// A value on its way into Lua; none is nil.
type Given<'a> = Option<Either<&'a str, Either<f64, bool>>>;

impl View {
    /// A view of these attributes, and of what every rule sees.
    pub(crate) fn new(fields: &[String]) -> mlua::Result<Self> {
        let names = ALWAYS.into_iter().chain(fields.iter().map(String::as_str));
        let (mut given, mut table) = (String::from("guard"), String::new());
        for (place, name) in names.enumerate() {
            // Strings and numbers always take what is written to them.
            let _ = write!(given, ", v{place}");
            let _ = write!(table, "{} = v{place}, ", key(name));
        }
        let text = format!("local {given} = ...\nreturn setmetatable({{ {table} }}, guard)");
        Ok(Self { fields: fields.to_vec(), bytecode: Compiler::new().compile(text)? })
    }

    /// The same within a machine.
    pub(crate) fn load(&self, lua: &Lua) -> mlua::Result<Maker> {
        let chunk = lua.load(self.bytecode.as_slice()).set_name("=transaction");
        let make = chunk.set_mode(ChunkMode::Binary).into_function()?;
        Ok(Maker { fields: self.fields.clone(), make })
    }
}

impl Maker {
    /// The table that a rule gets as `tx`.
    pub(crate) fn table(&self, question: &Question, time: &Time<'_>) -> mlua::Result<Table> {
        let request = &question.request;
        let (guard, at) = match time {
            Time::Guarded(metatable) if request.at.is_none() => (Some(*metatable), None),
            Time::Guarded(_) | Time::OfReceipt => (None, Some(question.at())),
        };
        let money = request.money.as_ref();
        let always = [
            Some(Either::Left(request.id.as_str())),
            Some(Either::Left(request.account.as_str())),
            money.map(|money| number(money.amount as f64)),
            money.map(|money| Either::Left(money.currency.as_str())),
            at.map(|at| number(at.as_millis() as f64)),
        ];
        let fields = self.fields.iter().map(|name| given(&request.attributes, name));
        self.make.call((guard, always.into_iter().chain(fields).collect::<Variadic<_>>()))
    }
}

fn given<'a>(attributes: &'a Attributes, name: &str) -> Given<'a> {
    Some(match attributes.get(name)? {
        Value::Text(text) => Either::Left(text),
        Value::Integer(integer) => number(integer as f64),
        Value::Number(it) => number(it),
        Value::Flag(flag) => Either::Right(Either::Right(flag)),
    })
}

const fn number<'a>(number: f64) -> Either<&'a str, Either<f64, bool>> {
    Either::Right(Either::Left(number))
}

/// The key of a table as it is written before `=`. Luau knows a table's shape beforehand where all
/// keys are names; any other is a string, each byte by its number, so that none can end it.
fn key(name: &str) -> String {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_as_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts_as_name && name.bytes().all(is_inner) && !KEYWORDS.contains(&name) {
        return name.to_owned();
    }
    let mut text = String::from("[\"");
    for byte in name.bytes() {
        let _ = write!(text, "\\{byte:03}");
    }
    text + "\"]"
}
