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
        Ok(Limits {
            slices: Slices { policy, default: settings.edge.default_time_max },
            memory_bytes_max: settings.policy_memory_bytes_min(),
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

    /// The rules of a stack in force in `--dir`, if there are any: what is published, or else what core began
    /// with, or would.
    pub fn in_force(&self, stack: Stack) -> Option<PathBuf> {
        in_force(&self.dir.layout(), stack)
    }

    /// The stack that serves in `--dir`, as it is written there.
    pub fn active(&self) -> Stack {
        let layout = self.dir.layout();
        [layout.choice(), layout.good_choice()]
            .iter()
            .find_map(|file| active_in(&std::fs::read(file).ok()?))
            .unwrap_or_default()
    }
}

fn in_force(layout: &Layout, stack: Stack) -> Option<PathBuf> {
    let folder = match Scope::Stack(stack).read_any(layout) {
        Some(publication) => shelf::folder(layout, &publication.live.version),
        None => layout.good_bundle(&format!("core-{stack}")),
    };
    [folder, layout.rules()].into_iter().find(|rules| rules.is_dir())
}

/// The stack that serves by the file of the edge's choice.
fn active_in(file: &[u8]) -> Option<Stack> {
    let file: serde_json::Value = serde_json::from_slice(file).ok()?;
    Stack::parse(file.pointer("/choice/course/active")?.as_str()?)
}

/// A file of a folder as its author knows it.
pub fn shown(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    path.strip_prefix(".").unwrap_or(&path).display().to_string()
}

#[cfg(test)]
mod tests {
    use backstop_contract::Timestamp;
    use backstop_lua::Publication;

    use super::*;

    /// A bundle for old-prod was gated against what prod had: it could lose a policy that only old-prod had,
    /// and a backtest compared it with rules that it did not replace.
    #[test]
    fn what_is_in_force_is_that_of_the_stack_which_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir(layout.rules()).unwrap();
        let kept = layout.good_bundle("core-old-prod");
        assert_eq!(in_force(&layout, Stack::OldProd), Some(layout.rules()));
        std::fs::create_dir_all(&kept).unwrap();
        assert_eq!(in_force(&layout, Stack::OldProd), Some(kept));
        for (stack, version) in [(Stack::Prod, "0123456789ab"), (Stack::OldProd, "ba9876543210")] {
            std::fs::create_dir_all(shelf::folder(&layout, version)).unwrap();
            let publication = Publication::first(version, Timestamp::now());
            Scope::Stack(stack).write(&layout, &publication).unwrap();
        }
        for (stack, version) in [(Stack::Prod, "0123456789ab"), (Stack::OldProd, "ba9876543210")] {
            assert_eq!(in_force(&layout, stack), Some(shelf::folder(&layout, version)));
        }
    }

    #[test]
    fn the_stack_that_serves_is_read_from_the_choice_of_the_edge() {
        let of = |active: &str| {
            format!(r#"{{"choice":{{"generation":1,"course":{{"active":"{active}"}}}},"hash":""}}"#)
        };
        for (file, expected) in [
            (of("old-prod"), Some(Stack::OldProd)),
            (of("prod"), Some(Stack::Prod)),
            (of("moon"), None),
            ("{".to_owned(), None),
        ] {
            assert_eq!(active_in(file.as_bytes()), expected, "{file}");
        }
    }
}
