//! Where the rules are that an author works on, and the limits they will meet in production.

use std::path::{Path, PathBuf};

use backstop_contract::Stack;
use backstop_lua::{Bundle, Rules, Scope, Slices, shelf};
use backstop_settings::{Layout, Settings};

use super::RulesError;

/// Which rules.
#[derive(clap::Args, Debug)]
pub struct Folder {
    #[command(flatten)]
    dir: crate::dir::Dir,
    /// The folder of the rules [default: this one if it has policies/ or defaults/, else `rules` in --dir]
    #[arg(long, value_name = "DIR", global = true)]
    rules: Option<PathBuf>,
}

/// What one call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of time.
    pub slices: Slices,
    /// Of memory.
    pub memory_bytes_max: usize,
    /// Histories that an api keeps.
    pub history_entries_max: usize,
}

impl Folder {
    /// The folder with the rules.
    pub fn find(&self) -> Result<PathBuf, RulesError> {
        if let Some(rules) = &self.rules {
            return Ok(rules.clone());
        }
        let here = PathBuf::from(".");
        let candidates = [here, self.dir.layout().rules()];
        let has_rules = |folder: &&PathBuf| {
            ["policies", "defaults"].iter().any(|part| folder.join(part).is_dir())
        };
        let nowhere =
            || RulesError::Nowhere(format!(". nor {}", self.dir.layout().rules().display()));
        candidates.iter().find(has_rules).cloned().ok_or_else(nowhere)
    }

    /// The limits in `--dir`, or those of a first run.
    pub fn limits(&self) -> Result<Limits, RulesError> {
        let file = self.dir.layout().settings();
        let settings = if file.exists() { Settings::load(&file)? } else { Settings::default() };
        let policy = std::cmp::min(settings.core.policy_time_max, settings.api.policy_time_max);
        let memory = [
            settings.core.policy_memory_bytes_max,
            settings.api.policy_memory_bytes_max,
            settings.edge.policy_memory_bytes_max,
        ];
        Ok(Limits {
            slices: Slices { policy, default: settings.edge.default_time_max },
            memory_bytes_max: memory.into_iter().fold(usize::MAX, std::cmp::min),
            history_entries_max: settings.api.history_entries_max,
        })
    }

    /// The rules, ready to decide under the limits.
    pub fn load(&self) -> Result<(Rules, Limits), RulesError> {
        let limits = self.limits()?;
        let rules = Rules::new(Bundle::load(self.find()?)?, limits.memory_bytes_max)?;
        Ok((rules, limits))
    }

    /// The folder that was named or, without one, this one.
    pub fn given_or_here(&self) -> PathBuf {
        self.rules.clone().unwrap_or_else(|| PathBuf::from("."))
    }

    /// The directory of the system that these rules are for.
    pub fn layout(&self) -> Layout {
        self.dir.layout()
    }

    /// The rules in force in `--dir`, if there are any: what is published, or else what core began with, or
    /// would.
    pub fn in_force(&self) -> Option<PathBuf> {
        let layout = self.dir.layout();
        let published = Scope::Stack(Stack::Prod).read_any(&layout);
        let folder = match published {
            Some(publication) => shelf::folder(&layout, &publication.live.version),
            None => layout.good_bundle("core-prod"),
        };
        [folder, layout.rules()].into_iter().find(|rules| rules.is_dir())
    }
}

/// A file of a folder as its author knows it.
pub fn shown(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    path.strip_prefix(".").unwrap_or(&path).display().to_string()
}
