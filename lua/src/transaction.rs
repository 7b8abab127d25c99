//! What a rule sees of a request: a table built by hand, of the fields that its file names and no
//! others. A whole request made into Lua costs several times as much as the rule itself.

use backstop_contract::{Question, Value};
use mlua::{Lua, LuaString, Table};

/// The fields that every rule sees, whatever it declares.
pub(crate) const ALWAYS: [&str; 5] = ["id", "account", "amount", "currency", "at"];

/// The keys of the fields that every rule sees, made once a machine.
pub(crate) struct Words {
    id: LuaString,
    account: LuaString,
    amount: LuaString,
    currency: LuaString,
    at: LuaString,
}

impl Words {
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        let [id, account, amount, currency, at] = ALWAYS.map(|word| lua.create_string(word));
        Ok(Self { id: id?, account: account?, amount: amount?, currency: currency?, at: at? })
    }
}

/// What happens to the time of a request whose client sent none.
pub(crate) enum Time<'a> {
    /// It is the moment the edge received it.
    OfReceipt,
    /// There is none, and this metatable says so to whoever reads it.
    Guarded(&'a Table),
}

/// The table that a rule gets as `tx`.
pub(crate) fn table(
    lua: &Lua,
    words: &Words,
    fields: &[(String, LuaString)],
    question: &Question,
    time: &Time<'_>,
) -> mlua::Result<Table> {
    let request = &question.request;
    let tx = lua.create_table_with_capacity(0, ALWAYS.len() + fields.len())?;
    tx.raw_set(&words.id, request.id.as_str())?;
    tx.raw_set(&words.account, request.account.as_str())?;
    if let Some(money) = &request.money {
        tx.raw_set(&words.amount, money.amount as f64)?;
        tx.raw_set(&words.currency, money.currency.as_str())?;
    }
    for (name, key) in fields {
        match request.attributes.get(name) {
            Some(Value::Text(text)) => tx.raw_set(key, text.as_str())?,
            Some(Value::Integer(integer)) => tx.raw_set(key, *integer as f64)?,
            Some(Value::Number(number)) => tx.raw_set(key, *number)?,
            Some(Value::Flag(flag)) => tx.raw_set(key, *flag)?,
            None => {}
        }
    }
    match time {
        Time::Guarded(metatable) if request.at.is_none() => {
            tx.set_metatable(Some((*metatable).clone()))?;
        }
        Time::Guarded(_) | Time::OfReceipt => {
            tx.raw_set(&words.at, question.at().as_millis() as f64)?;
        }
    }
    Ok(tx)
}
