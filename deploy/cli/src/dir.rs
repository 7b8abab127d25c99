//! `--dir`, which every subcommand takes: it is how they find the running system.

use std::path::PathBuf;

use backstop_settings::Layout;

/// Where everything lies.
#[derive(clap::Args, Clone, Debug)]
pub struct Dir {
    /// The directory of the running system
    #[arg(long, value_name = "DIR", default_value = ".backstop", global = true)]
    pub dir: PathBuf,
}

impl Dir {
    /// The paths in it.
    pub fn layout(&self) -> Layout {
        Layout::new(&self.dir)
    }
}
