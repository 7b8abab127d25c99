//! What a directory needs to run: made when it is missing, left alone when it is there.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use backstop_lua::Bundle;
use backstop_settings::{Layout, Merchants, SettingsError, merchants, settings, write_atomically};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::{UpError, at};

/// Nobody else enters, reads or connects.
const PRIVATE_DIR: u32 = 0o700;
const PRIVATE: u32 = 0o600;

const DEMO_BUDGET: Duration = Duration::from_millis(300);

/// Makes the directories that a lock and a log need.
pub fn make_directories(layout: &Layout) -> Result<(), UpError> {
    for dir in [layout.root().to_owned(), layout.run(), layout.logs()] {
        let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIR).create(&dir);
        made.map_err(at(&dir))?;
    }
    let run = layout.run();
    std::fs::set_permissions(&run, Permissions::from_mode(PRIVATE_DIR)).map_err(at(&run))
}

/// Makes the files that are missing.
pub fn make_files(layout: &Layout) -> Result<(), UpError> {
    make(&layout.settings(), 0o644, || Ok(settings::TEMPLATE.into()))?;
    make(&layout.hash_key(), PRIVATE, || random::<32>().map(Vec::from))?;
    for (file, prefix) in [(layout.admin_token(), "bsa"), (layout.hop_token(), "bsh")] {
        make(&file, PRIVATE, || Ok(format!("{prefix}_{}\n", hex(&random::<32>()?)).into_bytes()))?;
    }
    make_rules(layout)?;
    make_demo_merchants(layout)
}

/// The shipped rules, whole or not at all: half a bundle would be taken for a broken one.
fn make_rules(layout: &Layout) -> Result<(), UpError> {
    let rules = layout.rules();
    if rules.exists() {
        return Ok(());
    }
    let half = layout.root().join("rules.new");
    if half.exists() {
        std::fs::remove_dir_all(&half).map_err(at(&half))?;
    }
    Bundle::shipped().write_to(&half).map_err(UpError::Rules)?;
    std::fs::rename(&half, &rules).map_err(at(&rules))
}

/// The merchants of the first try. A directory that has served keeps what its operator made of them.
fn make_demo_merchants(layout: &Layout) -> Result<(), UpError> {
    let file = layout.merchants();
    if layout.served().exists() && file.exists() {
        return Ok(());
    }
    for (name, test, key_file) in
        [("demo", false, layout.merchant_key()), ("demo-test", true, layout.test_merchant_key())]
    {
        let is_there = is_merchant(&file, name)?;
        if is_there && key_file.exists() {
            continue;
        }
        // Whoever is there without a key file lost it in a run that broke off.
        let key = if is_there {
            merchants::rotate(&file, name)
        } else {
            merchants::add(&file, name, DEMO_BUDGET, test)
        };
        let key = format!("{}\n", key.map_err(UpError::Settings)?.plain());
        write_atomically(&key_file, key.as_bytes(), PRIVATE).map_err(at(&key_file))?;
    }
    Ok(())
}

fn is_merchant(file: &Path, name: &str) -> Result<bool, UpError> {
    match Merchants::load(file) {
        Ok(merchants) => Ok(merchants.iter().any(|(merchant, _)| merchant.name == name)),
        Err(SettingsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(false)
        }
        Err(error) => Err(UpError::Settings(error)),
    }
}

fn make(
    file: &Path,
    mode: u32,
    content: impl FnOnce() -> Result<Vec<u8>, UpError>,
) -> Result<(), UpError> {
    if file.exists() {
        return Ok(());
    }
    write_atomically(file, &content()?, mode).map_err(at(file))
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], UpError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_unspecified| UpError::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16);
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(file: &Path) -> u32 {
        std::fs::metadata(file).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_first_run_makes_what_is_needed_and_the_next_one_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("new"));
        let all = [
            (layout.root().to_owned(), 0o700),
            (layout.run(), 0o700),
            (layout.merchants(), 0o600),
            (layout.merchant_key(), 0o600),
            (layout.test_merchant_key(), 0o600),
            (layout.admin_token(), 0o600),
            (layout.hop_token(), 0o600),
            (layout.hash_key(), 0o600),
        ];
        make_directories(&layout).unwrap();
        make_files(&layout).unwrap();
        for (path, expected) in &all {
            assert_eq!(mode(path), *expected, "{}", path.display());
        }
        assert_eq!(std::fs::read(layout.hash_key()).unwrap().len(), 32);
        let read = || all.iter().filter_map(|(path, _)| std::fs::read(path).ok()).collect();
        let before: Vec<Vec<u8>> = read();
        make_files(&layout).unwrap();
        let after: Vec<Vec<u8>> = read();
        assert_eq!(before, after);
    }

    #[test]
    fn the_keys_of_the_first_run_let_the_demo_merchants_in() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        make_directories(&layout).unwrap();
        make_files(&layout).unwrap();
        // A run that broke off before the key was written leaves a merchant without one.
        std::fs::remove_file(layout.test_merchant_key()).unwrap();
        make_files(&layout).unwrap();
        let merchants = Merchants::load(&layout.merchants()).unwrap();
        for (file, name, test) in [
            (layout.merchant_key(), "demo", false),
            (layout.test_merchant_key(), "demo-test", true),
        ] {
            let key = std::fs::read_to_string(file).unwrap();
            let merchant = merchants.authenticate(key.trim_end()).unwrap();
            assert_eq!((merchant.name.as_str(), merchant.test), (name, test));
            assert_eq!(merchant.budget, DEMO_BUDGET);
        }
    }

    #[test]
    fn a_directory_that_has_served_gets_no_demo_merchants_back() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        make_directories(&layout).unwrap();
        std::fs::write(layout.merchants(), "").unwrap();
        std::fs::write(layout.served(), "").unwrap();
        make_files(&layout).unwrap();
        assert_eq!(Merchants::load(&layout.merchants()).unwrap().iter().count(), 0);
        assert!(!layout.merchant_key().exists());
    }
}
