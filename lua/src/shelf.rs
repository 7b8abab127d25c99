//! The bundles that were published, each in a folder named by its version. What a publication names is
//! never removed; of the others the oldest are, when there are too many. And the last good bundle of each
//! process, in a folder of its own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use backstop_contract::Timestamp;
use backstop_settings::Layout;

use crate::breach::Place;
use crate::bundle::{Bundle, BundleError};
use crate::publication::Scope;

/// The most bundles that are kept.
pub const BUNDLES_MAX: usize = 48;
/// A draft that is older was left by a crash.
const DRAFT_AGE_MAX: Duration = Duration::from_hours(1);
/// What is between the version and the process in the name of a draft.
const DRAFT: &str = ".new-";
/// The file that says which bundle was kept.
const VERSION: &str = "version";

/// The folder of one bundle.
pub fn folder(layout: &Layout, version: &str) -> PathBuf {
    layout.bundles().join(version)
}

/// Puts a bundle on the shelf, whole or not at all, and its tests beside it. Durable when it returns.
/// One that is there and whole already stays as it is.
pub fn store(layout: &Layout, bundle: &Bundle, tests: Option<&Path>) -> Result<(), BundleError> {
    let folder = folder(layout, bundle.version());
    if take(layout, bundle.version()).is_ok() {
        // Where that fails, it may be removed sooner, and whoever publishes it is told so.
        let _as_old_as_it_was = touch(&folder);
        return Ok(());
    }
    let failed = |source| BundleError::Write { path: folder.clone(), source };
    // Two who publish the same at once must not write into one draft.
    let draft = format!("{}{DRAFT}{}", bundle.version(), std::process::id());
    let draft = layout.bundles().join(draft);
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
    if bundle.version() == version { Ok(bundle) } else { Err(changed(&folder, &bundle)) }
}

/// Keeps a bundle in this folder, in the place of the one before. Whenever a crash comes, [`kept`] finds
/// one of the two, whole.
pub fn keep(bundle: &Bundle, folder: &Path) -> Result<(), BundleError> {
    let failed = |source| BundleError::Write { path: folder.to_owned(), source };
    let (draft, before) = (beside(folder, ".new"), beside(folder, ".before"));
    remove(&draft).map_err(failed)?;
    bundle.write_to(&draft)?;
    fs::write(draft.join(VERSION), bundle.version()).map_err(failed)?;
    sync(&draft).map_err(failed)?;
    if folder.exists() {
        remove(&before).map_err(failed)?;
        fs::rename(folder, &before).map_err(failed)?;
    }
    fs::rename(&draft, folder).map_err(failed)?;
    if let Some(parent) = folder.parent() {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    remove(&before).map_err(failed)
}

/// The bundle that was kept in this folder, if it is what it was.
pub fn kept(folder: &Path) -> Result<Bundle, BundleError> {
    kept_in(folder).or_else(|broken| kept_in(&beside(folder, ".before")).map_err(|_none| broken))
}

fn kept_in(folder: &Path) -> Result<Bundle, BundleError> {
    let bundle = Bundle::load(folder)?;
    match fs::read_to_string(folder.join(VERSION)) {
        Ok(version) if version == bundle.version() => Ok(bundle),
        // Releases that kept none replaced one file after the other.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bundle),
        _ => Err(changed(folder, &bundle)),
    }
}

fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Removes the oldest bundles that no publication names, beyond so many, and drafts that nobody writes any
/// more.
pub fn tidy(layout: &Layout, now: Timestamp) -> io::Result<()> {
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
        // A draft belongs to whoever writes it, unless a crash ended that.
        if name.split_once(DRAFT).is_some_and(|(version, _)| is_version(version)) {
            // Where it has none, it has just got its name.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let written = Timestamp::from_millis(metadata.mtime().saturating_mul(1_000));
            if written < now && written.distance(now) > DRAFT_AGE_MAX {
                remove(&path)?;
            }
            continue;
        }
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

fn changed(folder: &Path, bundle: &Bundle) -> BundleError {
    wrong(folder, &format!("was changed: what is in it has version {}", bundle.version()))
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

/// Makes a folder the latest that was written.
fn touch(folder: &Path) -> io::Result<()> {
    let now = u64::try_from(Timestamp::now().as_millis()).unwrap_or_default();
    File::open(folder)?.set_modified(UNIX_EPOCH + Duration::from_millis(now))
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
        // It is there already, and is about to be published again.
        store(&layout, &bundle(1), None).unwrap();
        let draft = layout.bundles().join(format!("{}.new-1", named.version()));
        fs::create_dir(&draft).unwrap();
        let now = Timestamp::now();
        tidy(&layout, now).unwrap();
        assert!(draft.exists(), "somebody may be writing it");
        let later = Timestamp::from_millis(now.as_millis() + 2 * 3_600_000);
        tidy(&layout, later).unwrap();
        assert_eq!(fs::read_dir(layout.bundles()).unwrap().count(), BUNDLES_MAX);
        for kept in [named, bundle(1), bundle(BUNDLES_MAX + 5)] {
            take(&layout, kept.version()).unwrap();
        }
        assert!(take(&layout, bundle(2).version()).is_err());
    }

    /// The files of the last good bundle were replaced one by one: a crash between two of them left the rules
    /// of one bundle beside those of another, and a restart decided by both.
    #[test]
    fn a_kept_bundle_is_the_new_one_or_the_one_before_and_never_half_of_each() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("good/core");
        let version = || kept(&folder).unwrap().version().to_owned();
        for number in [1, 2] {
            keep(&bundle(number), &folder).unwrap();
            assert_eq!(version(), bundle(number).version());
        }
        assert_eq!(fs::read_dir(dir.path().join("good")).unwrap().count(), 1);
        // A crash before the new one has its name.
        fs::rename(&folder, dir.path().join("good/core.before")).unwrap();
        bundle(3).write_to(dir.path().join("good/core.new")).unwrap();
        assert_eq!(version(), bundle(2).version());
        keep(&bundle(3), &folder).unwrap();
        assert_eq!(version(), bundle(3).version());
        bundle(4).write_to(&folder).unwrap();
        let error = kept(&folder).unwrap_err().to_string();
        assert!(error.contains("was changed"), "{error}");
    }
}
