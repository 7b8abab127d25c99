//! A bundle on disk: read with a cap on everything, written so that a reader sees whole files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{BundleError, FILE_BYTES_MAX, FILES_MAX, ROWS, Role, Sources, refused};
use crate::rows;

/// How the files of rows end.
const ROW_ENDINGS: [&str; 2] = ["csv", "json"];

/// Reads every `.lua` file of the two folders, and the rows. A folder that is absent is an empty one.
pub(super) fn read(dir: &Path) -> Result<Sources, BundleError> {
    // Otherwise a mistyped path would read as a bundle without policies.
    fs::metadata(dir).map_err(|source| BundleError::Read { path: dir.to_owned(), source })?;
    let mut sources = Sources::default();
    for role in Role::ALL {
        let folder = dir.join(role.folder());
        for path in rules_in(&folder)? {
            if sources.rules.len() >= FILES_MAX {
                let message = format!("a bundle has at most {FILES_MAX} files");
                return Err(refused(&folder.display().to_string(), &message));
            }
            let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
            sources.rules.insert((role, name), text_of(&path, FILE_BYTES_MAX)?);
        }
    }
    for path in files_in(&dir.join(ROWS), &ROW_ENDINGS)?.into_iter().take(rows::FILES_MAX + 1) {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        sources.rows.insert(name, text_of(&path, rows::FILE_BYTES_MAX)?);
    }
    Ok(sources)
}

/// Makes the folders hold exactly these rules and rows.
pub(super) fn write(dir: &Path, sources: &Sources) -> Result<(), BundleError> {
    for role in Role::ALL {
        let mine = sources.rules.iter().filter(|((its, _), _)| *its == role);
        let files = mine.map(|((_, name), text)| (format!("{name}.lua"), text)).collect();
        write_folder(&dir.join(role.folder()), &files, &["lua"])?;
    }
    let rows = dir.join(ROWS);
    if sources.rows.is_empty() && !rows.exists() {
        return Ok(());
    }
    let files = sources.rows.iter().map(|(name, text)| (name.clone(), text)).collect();
    write_folder(&rows, &files, &ROW_ENDINGS)
}

fn write_folder(
    folder: &Path,
    files: &BTreeMap<String, &String>,
    endings: &[&str],
) -> Result<(), BundleError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BundleError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    for (name, text) in files {
        let path = folder.join(name);
        let draft = folder.join(format!("{name}.new"));
        fs::write(&draft, text).map_err(failed(&draft))?;
        fs::rename(&draft, &path).map_err(failed(&path))?;
    }
    for path in files_in(folder, endings)? {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if !files.contains_key(name) {
            fs::remove_file(&path).map_err(failed(&path))?;
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

fn text_of(path: &Path, bytes_max: usize) -> Result<String, BundleError> {
    let failed = |source| BundleError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for a writer that may never come.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(refused(&path.display().to_string(), "is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        let message = format!("is over {bytes_max} bytes; move lists out of it");
        return Err(refused(&path.display().to_string(), &message));
    }
    String::from_utf8(bytes).map_err(|_| {
        refused(&path.display().to_string(), "is not UTF-8 text; only Lua source is loaded")
    })
}
