//! Who may ask, kept current: `merchants.toml` is read again when it changes, so that a key can be
//! added or revoked without a restart.

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
    merchants: Arc<ArcSwap<Merchants>>,
}

impl Roll {
    /// Reads the file, or the last good copy of it when it is broken.
    pub fn open(file: PathBuf, good: PathBuf, every: Duration) -> Result<Self, SettingsError> {
        let merchants = match (Merchants::load(&file), Merchants::load(&good)) {
            (Ok(merchants), _) => {
                keep(&file, &good);
                merchants
            }
            (Err(error), Ok(last_good)) => {
                tracing::error!(%error, "merchants.toml is broken: the last good copy is in force");
                last_good
            }
            (Err(error), Err(_none_kept)) => return Err(error),
        };
        Ok(Self { file, good, every, merchants: Arc::new(ArcSwap::from_pointee(merchants)) })
    }

    /// The merchants in force, now and after every reload.
    pub fn merchants(&self) -> Arc<ArcSwap<Merchants>> {
        self.merchants.clone()
    }

    fn reload(&self) {
        match Merchants::load(&self.file) {
            Ok(merchants) => {
                keep(&self.file, &self.good);
                self.merchants.store(Arc::new(merchants));
                tracing::info!("merchants.toml was read again");
            }
            Err(error) => tracing::error!(%error, "merchants.toml is broken: nothing changes"),
        }
    }
}

fn keep(file: &Path, good: &Path) {
    let kept = std::fs::read(file).and_then(|bytes| write_atomically(good, &bytes, 0o600));
    if let Err(error) = kept {
        tracing::warn!(%error, "no copy of merchants.toml could be kept");
    }
}

/// What changes when a file does: its length and when it was last written.
fn stamp(file: &Path) -> Option<(u64, Duration)> {
    let data = std::fs::metadata(file).ok()?;
    let written = data.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((data.len(), written))
}

#[async_trait]
impl BackgroundService for Roll {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut seen = stamp(&self.file);
        let mut tick = tokio::time::interval(self.every);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = tick.tick() => {}
            }
            let now = stamp(&self.file);
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }
}
