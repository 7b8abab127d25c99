//! `backstop rules types`: what a rule sees and may return, for editors.

use std::path::Path;

use backstop_lua::types::{FILE, definitions};

use super::RulesError;
use super::folder::Folder;

/// Writes the definitions into the folder.
pub fn run(folder: &Folder) -> Result<bool, RulesError> {
    let folder = folder.find()?;
    write(&folder)?;
    println!("{}", super::folder::shown(&folder, FILE));
    Ok(true)
}

/// Writes the definitions into a folder of rules.
pub fn write(folder: &Path) -> Result<(), RulesError> {
    let path = folder.join(FILE);
    let failed = |source| RulesError::Write { path: path.clone(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(&path, definitions()).map_err(failed)
}
