//! `backstop rules new`: a rule to begin with, that is right from the first line on.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use backstop_lua::bundle::is_name;

use super::folder::{Folder, shown};
use super::{RulesError, types};

/// What stands for the name in the texts below.
const NAME: &str = "NAME";
const FILES: [(&str, &str); 3] = [
    ("policies/NAME.lua", include_str!("new/policy.lua")),
    ("defaults/NAME.lua", include_str!("new/default.lua")),
    ("tests/NAME.lua", include_str!("new/test.lua")),
];
/// For editors and luacheck; what is there already stays as it is.
const SETTINGS: [(&str, &str); 2] = [
    (".luarc.json", include_str!("new/luarc.json")),
    (".luacheckrc", include_str!("../../../../lua/.luacheckrc")),
];

/// What it is called.
#[derive(clap::Args)]
pub struct Args {
    /// The name that requests will ask for: 1 to 64 of a-z, 0-9, - and _
    name: String,
}

/// Writes the files, or none of them where one is there.
pub fn run(folder: &Folder, args: &Args) -> Result<bool, RulesError> {
    let name = &args.name;
    if !is_name(name) {
        let wrong = format!("{name:?} is no name for a policy; use 1 to 64 of a-z, 0-9, - and _");
        return Err(RulesError::Name(wrong));
    }
    // Whoever begins in an empty folder has no rules yet.
    let folder = folder.find().unwrap_or_else(|_nowhere| folder.given_or_here());
    let files = FILES.map(|(file, text)| (file.replace(NAME, name), text.replace(NAME, name)));
    if let Some((file, _)) = files.iter().find(|(file, _)| folder.join(file).exists()) {
        let wrong = format!("{} is there already; choose another name", shown(&folder, file));
        return Err(RulesError::Name(wrong));
    }
    for (file, text) in &files {
        write_new(&folder, file, text)?;
        println!("{}", shown(&folder, file));
    }
    for (file, text) in SETTINGS {
        if !folder.join(file).exists() {
            write_new(&folder, file, text)?;
            println!("{}", shown(&folder, file));
        }
    }
    types::write(&folder)?;
    println!("{}", shown(&folder, backstop_lua::types::FILE));
    println!("next: backstop rules check, backstop rules test, backstop rules bench");
    Ok(true)
}

/// Writes a file that is not there.
fn write_new(folder: &Path, file: &str, text: &str) -> Result<(), RulesError> {
    let path: PathBuf = folder.join(file);
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => {
            RulesError::Name(format!("{} is there already; choose another name", path.display()))
        }
        _ => RulesError::Write { path: path.clone(), source },
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut new = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    new.write_all(text.as_bytes()).map_err(failed)
}
