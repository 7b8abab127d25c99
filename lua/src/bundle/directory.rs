//! A bundle on disk: read with a cap on everything, written so that a reader sees whole files.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{BundleError, FILE_BYTES_MAX, FILES_MAX, Role, refused};

type Sources = BTreeMap<(Role, String), String>;

/// Reads every `.lua` file of the two folders. A folder that is absent is an empty one.
pub(super) fn read(dir: &Path) -> Result<Sources, BundleError> {
    // Otherwise a mistyped path would read as a bundle without policies.
    fs::metadata(dir).map_err(|source| BundleError::Read { path: dir.to_owned(), source })?;
    let mut sources = Sources::new();
    for role in Role::ALL {
        let folder = dir.join(role.folder());
        for path in rules_in(&folder)? {
            if sources.len() >= FILES_MAX {
                let message = format!("a bundle has at most {FILES_MAX} files");
                return Err(refused(&folder.display().to_string(), &message));
            }
            let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
            sources.insert((role, name), text_of(&path)?);
        }
    }
    Ok(sources)
}

/// The names of the rule rows.
pub(super) fn rows(dir: &Path) -> Result<BTreeSet<String>, BundleError> {
    let paths = files_in(&dir.join("rows"), &["csv", "json"])?;
    let name = |path: &PathBuf| path.file_stem().and_then(OsStr::to_str).map(str::to_owned);
    Ok(paths.iter().filter_map(name).collect())
}

/// Makes the two folders hold exactly these rules.
pub(super) fn write(dir: &Path, sources: &Sources) -> Result<(), BundleError> {
    for role in Role::ALL {
        let folder = dir.join(role.folder());
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError::Write { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        for ((_, name), text) in sources.iter().filter(|((its, _), _)| *its == role) {
            let path = dir.join(role.file(name));
            let draft = path.with_extension("lua.new");
            fs::write(&draft, text).map_err(failed(&draft))?;
            fs::rename(&draft, &path).map_err(failed(&path))?;
        }
        for path in rules_in(&folder)? {
            let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if !sources.contains_key(&(role, name.to_owned())) {
                fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
    }
    Ok(())
}

/// The `.lua` files of a folder.
fn rules_in(folder: &Path) -> Result<Vec<PathBuf>, BundleError> {
    files_in(folder, &["lua"])
}

/// The files of a folder with these endings.
fn files_in(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, BundleError> {
    let failed = |source| BundleError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let is_rule = |path: &PathBuf| {
        path.extension().and_then(OsStr::to_str).is_some_and(|it| endings.contains(&it))
    };
    paths
        .filter(|path| path.as_ref().map_or(true, is_rule))
        // One too many is enough to know that there are too many.
        .take(FILES_MAX + 1)
        .collect::<io::Result<_>>()
        .map_err(failed)
}

fn text_of(path: &Path) -> Result<String, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for a writer that may never come.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(refused(&path.display().to_string(), "is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("is over {FILE_BYTES_MAX} bytes; move lists out of it");
        return Err(refused(&path.display().to_string(), &message));
    }
    String::from_utf8(bytes).map_err(|_| {
        refused(&path.display().to_string(), "is not UTF-8 text; only Lua source is loaded")
    })
}
