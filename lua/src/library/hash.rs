//! Stable sampling: the same text falls into the same part on every machine and in every release.

use mlua::{Lua, LuaString, Table};
use ring::digest;

use super::{Function, Library, wrong};

/// The most bytes that are hashed at once.
const TEXT_BYTES_MAX: usize = 4096;

pub(super) const LIBRARY: Library = Library {
    name: "hash",
    says: "Stable sampling: the same text falls into the same part everywhere and always.",
    functions: &[
        Function {
            name: "share",
            parameters: &[
                ("text", "string", "such as tx.account; at most 4096 bytes"),
                ("salt?", "string", "another salt, another sample"),
            ],
            returns: ("number", "at least 0 and less than 1"),
            says: "Where a text falls between 0 and 1, evenly.",
        },
        Function {
            name: "percent",
            parameters: &[
                ("text", "string", "such as tx.account; at most 4096 bytes"),
                ("percent", "number", "0 to 100; whoever is among 10 is also among 20"),
                ("salt?", "string", "another salt, another sample"),
            ],
            returns: ("boolean", "whether it is among them"),
            says: "Whether a text is among so many of a hundred.",
        },
    ],
};

type Given = (LuaString, Option<LuaString>);
type GivenPercent = (LuaString, f64, Option<LuaString>);

pub(super) fn register(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let share_of = |_: &Lua, (text, salt): Given| share(&text, salt.as_ref());
    table.raw_set("share", lua.create_function(share_of)?)?;
    let is_among = |_: &Lua, (text, percent, salt): GivenPercent| {
        if !(0.0..=100.0).contains(&percent) {
            return Err(wrong(format!("{percent} percent; write a number from 0 to 100")));
        }
        Ok(share(&text, salt.as_ref())? < percent / 100.0)
    };
    table.raw_set("percent", lua.create_function(is_among)?)
}

fn share(text: &LuaString, salt: Option<&LuaString>) -> mlua::Result<f64> {
    let (text, salt) = (text.as_bytes(), salt.map(LuaString::as_bytes));
    let salt: &[u8] = salt.as_deref().unwrap_or_default();
    if text.len() + salt.len() > TEXT_BYTES_MAX {
        return Err(wrong(format!("over {TEXT_BYTES_MAX} bytes to hash; hash an id")));
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"backstop hash\0");
    // Its length parts the salt from the text.
    context.update(&(salt.len() as u64).to_be_bytes());
    context.update(salt);
    context.update(&text);
    let digest = context.finish();
    let head = digest.as_ref().iter().take(8).fold(0u64, |head, byte| head << 8 | u64::from(*byte));
    // 53 bits are what a number holds exactly.
    Ok((head >> 11) as f64 / (1u64 << 53) as f64)
}
