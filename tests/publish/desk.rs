//! The author's desk: a draft, the commands, and what they say.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::system::{System, backstop};

/// A folder of rules and the system that they are for.
pub struct Desk {
    pub draft: PathBuf,
    dir: PathBuf,
}

/// What a command printed, and how it ended.
pub struct Said {
    pub code: i32,
    pub text: String,
}

impl Desk {
    pub fn new(system: &System) -> Self {
        Self { draft: system.dir.join("rules"), dir: system.dir.clone() }
    }

    /// `backstop rules` with these words, on this draft.
    pub fn rules(&self, words: &[&str]) -> Said {
        let (dir, draft) = (self.dir.to_str().unwrap(), self.draft.to_str().unwrap());
        let all = [&["rules"], words, &["--dir", dir, "--rules", draft]].concat();
        Said::of(&backstop(&all))
    }

    /// The same, where it must go well.
    pub fn good(&self, words: &[&str]) -> String {
        let said = self.rules(words);
        assert_eq!(said.code, 0, "{words:?}\n{}", said.text);
        said.text
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.draft.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.draft.join(file)).unwrap()
    }

    /// What `rules status` tells machines.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.good(&["status", "--json"])).unwrap()
    }

    /// What is published for a scope; null where nothing is.
    pub fn publication(&self, scope: &str) -> Value {
        let status = self.status();
        let scopes = status["scopes"].as_array().unwrap();
        scopes.iter().find(|it| it["scope"] == scope).unwrap()["publication"].clone()
    }

    /// What the audit log says.
    pub fn audit(&self) -> String {
        let dir = self.dir.to_str().unwrap();
        let verified = Said::of(&backstop(&["audit", "verify", "--dir", dir]));
        assert_eq!(verified.code, 0, "{}", verified.text);
        Said::of(&backstop(&["audit", "tail", "--dir", dir])).text
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        Self { code: output.status.code().unwrap(), text: String::from_utf8(text).unwrap() }
    }
}

/// The version of the bundle in a folder.
pub fn version_of(folder: &Path) -> String {
    backstop_lua::Bundle::load(folder).unwrap().version().to_owned()
}
