//! The bundles that were published, each in a folder named by its version. What a publication names is
//! never removed; of the others the oldest are, when there are too many.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use backstop_settings::Layout;

use crate::breach::Place;
use crate::bundle::{Bundle, BundleError};
use crate::publication::Scope;

/// The most bundles that are kept.
pub const BUNDLES_MAX: usize = 48;

/// The folder of one bundle.
pub fn folder(layout: &Layout, version: &str) -> PathBuf {
    layout.bundles().join(version)
}

/// Puts a bundle on the shelf, whole or not at all, and its tests beside it. Durable when it returns.
/// One that is there and whole already stays as it is.
pub fn store(layout: &Layout, bundle: &Bundle, tests: Option<&Path>) -> Result<(), BundleError> {
    let folder = folder(layout, bundle.version());
    if take(layout, bundle.version()).is_ok() {
        return Ok(());
    }
    let failed = |source| BundleError::Write { path: folder.clone(), source };
    // Two who publish the same at once must not write into one draft.
    let draft = layout.bundles().join(format!("{}.new-{}", bundle.version(), std::process::id()));
    remove(&draft).map_err(failed)?;
    bundle.write_to(&draft)?;
    if let Some(tests) = tests.filter(|tests| tests.is_dir()) {
        copy(tests, &draft.join("tests")).map_err(failed)?;
    }
    sync(&draft).map_err(failed)?;
    remove(&folder).map_err(failed)?;
    fs::rename(&draft, &folder).map_err(failed)?;
    File::open(layout.bundles()).and_then(|shelf| shelf.sync_all()).map_err(failed)
}

/// The bundle of this version, if it is there and is what its name says.
pub fn take(layout: &Layout, version: &str) -> Result<Bundle, BundleError> {
    let folder = folder(layout, version);
    if !is_version(version) {
        return Err(wrong(&folder, "is no version of a bundle"));
    }
    let bundle = Bundle::load(&folder)?;
    if bundle.version() == version {
        return Ok(bundle);
    }
    let what = format!("was changed: what is in it has version {}", bundle.version());
    Err(wrong(&folder, &what))
}

/// Removes the oldest bundles that no publication names, beyond so many.
pub fn tidy(layout: &Layout) -> io::Result<()> {
    let named: BTreeSet<String> = Scope::ALL
        .iter()
        .filter_map(|scope| scope.read_any(layout))
        .flat_map(|it| it.versions().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut others = Vec::new();
    let mut kept = 0_usize;
    for entry in fs::read_dir(layout.bundles())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // A draft belongs to whoever writes it.
        if !is_version(name) {
            continue;
        }
        kept += 1;
        if !named.contains(name) {
            let metadata = fs::metadata(&path)?;
            others.push(((metadata.mtime(), metadata.mtime_nsec()), path));
        }
    }
    others.sort();
    for (_, path) in others.into_iter().take(kept.saturating_sub(BUNDLES_MAX)) {
        fs::remove_dir_all(path)?;
    }
    Ok(())
}

/// Whether this could be the version of a bundle, and not the way to another folder.
pub fn is_version(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn wrong(folder: &Path, message: &str) -> BundleError {
    let place = Place { file: folder.display().to_string(), line: None };
    BundleError::Refused { place, message: message.to_owned() }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies the files of a folder, and nothing that lies deeper.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Makes a folder and all that is in it durable.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publication::Publication;
    use backstop_contract::Timestamp;

    fn bundle(number: usize) -> Bundle {
        let policy = format!(
            "return {{ fields = {{}}, safe = 'review', strict = false, keys = function() return {{}} end, \
             decide = function() return 'approve', {{}}, {number} end }}"
        );
        Bundle::from_texts([("policies/p.lua", policy.as_str())]).unwrap()
    }

    #[test]
    fn a_bundle_is_found_whole_and_one_that_was_changed_is_refused_and_put_right() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, tests) = (Layout::new(dir.path()), dir.path().join("tests"));
        fs::create_dir(&tests).unwrap();
        fs::write(tests.join("p.lua"), "").unwrap();
        let bundle = bundle(1);
        store(&layout, &bundle, Some(&tests)).unwrap();
        assert_eq!(take(&layout, bundle.version()).unwrap().version(), bundle.version());
        let file = folder(&layout, bundle.version()).join("policies/p.lua");
        assert!(folder(&layout, bundle.version()).join("tests/p.lua").exists());
        fs::write(&file, fs::read_to_string(&file).unwrap() + "\n").unwrap();
        let error = take(&layout, bundle.version()).unwrap_err().to_string();
        assert!(error.contains("was changed"), "{error}");
        store(&layout, &bundle, None).unwrap();
        take(&layout, bundle.version()).unwrap();
        for wrong in ["..", "", "../rules", "0123456789AB"] {
            assert!(take(&layout, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_oldest_that_nobody_names_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let named = bundle(0);
        store(&layout, &named, None).unwrap();
        let live = Publication::first(named.version(), Timestamp::default());
        Scope::of_stack("prod").write(&layout, &live).unwrap();
        for number in 1..=BUNDLES_MAX + 5 {
            store(&layout, &bundle(number), None).unwrap();
        }
        tidy(&layout).unwrap();
        assert_eq!(fs::read_dir(layout.bundles()).unwrap().count(), BUNDLES_MAX);
        take(&layout, named.version()).unwrap();
        take(&layout, bundle(BUNDLES_MAX + 5).version()).unwrap();
        assert!(take(&layout, bundle(1).version()).is_err());
    }
}
