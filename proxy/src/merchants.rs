//! Who may ask, kept current: `merchants.toml` is read again when it changes, so that a key can be
//! added or revoked without a restart.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

use backstop_settings::{Merchants, SettingsError, write_atomically};

/// The merchants in force, and the file they come from.
pub struct Roll {
    file: PathBuf,
    /// The last text that was good: what a restarted edge goes by when the file is broken.
    good: PathBuf,
    every: Duration,
    /// The file as it was just before it was first read.
    opened: Option<Stamp>,
    merchants: Arc<ArcSwap<Merchants>>,
}

/// What changes when a file does: which one it is, its length, and when it was last written.
type Stamp = (u64, u64, Duration);

/// What was made of the file so far.
struct Looked {
    /// The file that was read, or that no second reading would make better.
    done: Option<Stamp>,
    /// The one that was tried last.
    tried: Option<Stamp>,
}

impl Roll {
    /// Reads the file, or the last good copy of it when it is broken.
    pub fn open(file: PathBuf, good: PathBuf, every: Duration) -> Result<Self, SettingsError> {
        let opened = stamp(&file);
        let merchants = match (Merchants::load_with_text(&file), Merchants::load(&good)) {
            (Ok((merchants, text)), _) => {
                keep(&text, &good);
                merchants
            }
            (Err(error), Ok(last_good)) => {
                tracing::error!(%error, "merchants.toml is broken: the last good copy is in force");
                last_good
            }
            (Err(error), Err(_none_kept)) => return Err(error),
        };
        let merchants = Arc::new(ArcSwap::from_pointee(merchants));
        Ok(Self { file, good, every, opened, merchants })
    }

    /// The merchants in force, now and after every reload.
    pub fn merchants(&self) -> Arc<ArcSwap<Merchants>> {
        self.merchants.clone()
    }

    /// Reads the file again if it is another. Its stamp is taken first: what is written meanwhile is
    /// seen at the next look.
    fn look(&self, looked: &mut Looked) {
        let now = stamp(&self.file);
        if now == looked.done {
            return;
        }
        let is_first_try = now != looked.tried;
        looked.tried = now;
        match Merchants::load_with_text(&self.file) {
            Ok((merchants, text)) => {
                keep(&text, &self.good);
                self.merchants.store(Arc::new(merchants));
                looked.done = now;
                tracing::info!("merchants.toml was read again");
            }
            Err(error) => {
                // What is wrong stays wrong until it changes; what could not be read may be next time.
                if !matches!(error, SettingsError::Read { .. }) {
                    looked.done = now;
                }
                if is_first_try {
                    tracing::error!(%error, "merchants.toml is broken: nothing changes");
                }
            }
        }
    }
}

fn keep(text: &str, good: &Path) {
    if let Err(error) = write_atomically(good, text.as_bytes(), 0o600) {
        tracing::warn!(%error, "no copy of merchants.toml could be kept");
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(file).ok()?;
    let written = data.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((data.ino(), data.len(), written))
}

#[async_trait]
impl BackgroundService for Roll {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut looked = Looked { done: self.opened, tried: self.opened };
        let mut tick = tokio::time::interval(self.every);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = tick.tick() => self.look(&mut looked),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_settings::merchants;

    #[test]
    fn every_change_is_seen_that_comes_after_the_first_reading() {
        let dir = tempfile::tempdir().unwrap();
        let (file, good) = (dir.path().join("merchants.toml"), dir.path().join("good.toml"));
        let add = |name: &str| {
            let budget = Duration::from_millis(300);
            merchants::add(&file, name, budget, false).unwrap().plain().to_owned()
        };
        let first = add("first");
        let roll = Roll::open(file.clone(), good.clone(), Duration::from_secs(1)).unwrap();
        let in_force = roll.merchants();
        let knows = |key: &str| in_force.load().authenticate(key).is_some();
        let mut looked = Looked { done: roll.opened, tried: roll.opened };

        // Written while the edge was still starting: nobody would have looked at it again.
        let second = add("second");
        roll.look(&mut looked);
        assert!(knows(&first) && knows(&second));

        // Gone for a moment, as an editor may leave it, and back as it was.
        let sound = std::fs::read(&file).unwrap();
        std::fs::rename(&file, dir.path().join("aside")).unwrap();
        roll.look(&mut looked);
        assert!(knows(&second), "nothing changes");
        std::fs::rename(dir.path().join("aside"), &file).unwrap();
        let third = add("third");
        roll.look(&mut looked);
        assert!(knows(&third));

        std::fs::write(&file, "nonsense").unwrap();
        roll.look(&mut looked);
        assert!(knows(&third), "a broken file changes nothing");
        assert_ne!(std::fs::read_to_string(&good).unwrap(), "nonsense", "nor the good copy");
        std::fs::write(&file, sound).unwrap();
        roll.look(&mut looked);
        assert!(knows(&second) && !knows(&third));
    }
}
