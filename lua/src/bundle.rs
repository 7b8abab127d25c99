//! The files that decide, as one thing with one version. A tier names the version in every answer.

mod directory;
mod shipped;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use mlua::chunk::Compiler;
use ring::digest;

use crate::breach::{Breach, Place};
use crate::rows::Rows;

/// The most files in a bundle, policies and defaults together.
pub const FILES_MAX: usize = 256;
/// The most bytes in a file.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// The most bytes in a policy's name.
pub const NAME_BYTES_MAX: usize = 64;

/// The folder of the rule rows.
const ROWS: &str = "rows";
/// Bytes of the content hash that a version shows.
const VERSION_BYTES: usize = 6;

/// Why a bundle can not serve. Names the file, the line where there is one, and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file system would not give it.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file system would not take it.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is there and is wrong.
    #[error("{place}: {message}")]
    Refused {
        /// Where.
        place: Place,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// No virtual machine could be made for it.
    #[error("the sandbox cannot be built: {0}")]
    Sandbox(#[source] mlua::Error),
    /// The memory limit leaves the rules too little to work with.
    #[error("policy_memory_bytes_max is {bytes_max}; these rules need at least {bytes_min}")]
    TooLittleMemory {
        /// What is configured.
        bytes_max: usize,
        /// Twice what the rules take before their first call.
        bytes_min: usize,
    },
}

impl BundleError {
    /// The file that is wrong, and the line where there is one.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Refused { place, .. } => Some(place),
            _ => None,
        }
    }
}

/// What a file decides for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Core and api, with history and stock.
    Policy,
    /// The edge, alone.
    Default,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Policy, Self::Default];

    /// The folder of such files.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Policy => "policies",
            Self::Default => "defaults",
        }
    }

    /// The file of a policy of this name, within a bundle.
    pub(crate) fn file(self, name: &str) -> String {
        format!("{}/{name}.lua", self.folder())
    }
}

/// The texts of the files.
#[derive(Clone, Debug, Default)]
struct Sources {
    rules: BTreeMap<(Role, String), String>,
    /// By name, such as `blocked.csv`.
    rows: BTreeMap<String, String>,
}

/// Policies and defaults, each of them text that parses, and the rows that they read.
#[derive(Clone, Debug)]
pub struct Bundle {
    sources: Sources,
    rows: Rows,
    version: String,
    /// Where it was read from, for the one who must mend it.
    origin: Option<PathBuf>,
}

impl Bundle {
    /// The rules that are compiled in.
    pub fn shipped() -> Self {
        let of = |role: Role, files: &[(&str, &str)]| {
            let owned = |(name, text): &(&str, &str)| ((role, (*name).into()), (*text).into());
            files.iter().map(owned).collect::<Vec<((Role, String), String)>>()
        };
        let policies = of(Role::Policy, shipped::POLICIES);
        let defaults = of(Role::Default, shipped::DEFAULTS);
        let rules = policies.into_iter().chain(defaults).collect();
        Self::new(Sources { rules, rows: BTreeMap::new() }, Rows::default(), None)
    }

    /// The rules in `dir/policies/*.lua` and `dir/defaults/*.lua`, and the rows in `dir/rows`. Every one of
    /// them parses.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, BundleError> {
        let dir = dir.as_ref();
        Self::checked(directory::read(dir)?, Some(dir.to_owned()))
    }

    /// The rules in these texts, each with its file, such as `policies/payment.lua`.
    pub fn from_texts<'a>(
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, BundleError> {
        let mut sources = Sources::default();
        for (file, text) in texts {
            if let Some(name) = file.strip_prefix(ROWS).and_then(|name| name.strip_prefix('/')) {
                sources.rows.insert(name.to_owned(), text.to_owned());
                continue;
            }
            let role = Role::ALL.into_iter().find_map(|role| {
                let name = file.strip_prefix(role.folder())?.strip_prefix('/')?;
                Some((role, name.strip_suffix(".lua")?.to_owned()))
            });
            let role = role.ok_or_else(|| {
                refused(file, "is neither policies/NAME.lua nor defaults/NAME.lua nor rows")
            })?;
            sources.rules.insert(role, text.to_owned());
        }
        Self::checked(sources, None)
    }

    /// Each file of `dir` and its text, such as `policies/payment.lua`, whether or not it is a rule yet.
    pub fn texts_in(dir: impl AsRef<Path>) -> Result<Vec<(String, String)>, BundleError> {
        let sources = directory::read(dir.as_ref())?;
        Ok(sources.rules.into_iter().map(|((role, name), text)| (role.file(&name), text)).collect())
    }

    /// The names of the rule rows in `dir`.
    pub fn rows_in(dir: impl AsRef<Path>) -> Result<BTreeSet<String>, BundleError> {
        let sources = directory::read(dir.as_ref())?;
        let name = |file: &String| Some(file.rsplit_once('.')?.0.to_owned());
        Ok(sources.rows.keys().filter_map(name).collect())
    }

    /// Each file and its text.
    pub fn texts(&self) -> impl Iterator<Item = (String, &str)> {
        self.sources.rules.iter().map(|((role, name), text)| (role.file(name), text.as_str()))
    }

    /// Makes `dir` hold exactly these rules: each file is replaced whole, other `.lua` files in its
    /// two folders are removed.
    pub fn write_to(&self, dir: impl AsRef<Path>) -> Result<(), BundleError> {
        directory::write(dir.as_ref(), &self.sources)
    }

    /// Twelve hexadecimal digits that name this content and no other.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The names that requests may ask for.
    pub fn policies(&self) -> impl Iterator<Item = &str> {
        self.of(Role::Policy).map(|(name, _)| name)
    }

    /// The rows that the policies read.
    pub(crate) const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The names and texts of one role.
    pub(crate) fn of(&self, role: Role) -> impl Iterator<Item = (&str, &str)> {
        let sources = self.sources.rules.iter().filter(move |((its, _), _)| *its == role);
        sources.map(|((_, name), text)| (name.as_str(), text.as_str()))
    }

    /// The place as the one who must mend it knows it: with the folder it was read from.
    pub(crate) fn refused(&self, breach: Breach) -> BundleError {
        let (place, message) = match breach {
            Breach::Raised { place, message }
            | Breach::Nonsense { place, message }
            | Breach::Sandbox { place, message } => (place, message),
            Breach::OutOfTime { ref place, .. } | Breach::OutOfMemory { ref place, .. } => {
                let whole = breach.to_string();
                let message = whole.strip_prefix(&format!("{place}: ")).unwrap_or(&whole);
                (place.clone(), message.to_owned())
            }
            Breach::NoPolicy { policy } => {
                (Place { file: Role::Policy.file(&policy), line: None }, "is missing".to_owned())
            }
        };
        let file = match &self.origin {
            Some(dir) => dir.join(place.file).display().to_string(),
            None => place.file,
        };
        BundleError::Refused { place: Place { file, line: place.line }, message }
    }

    fn checked(sources: Sources, origin: Option<PathBuf>) -> Result<Self, BundleError> {
        let rows = Rows::read(&sources.rows);
        let bundle = Self::new(sources, rows.clone().unwrap_or_default(), origin);
        if let Err((file, message)) = rows {
            let place = Place { file: format!("{ROWS}/{file}"), line: None };
            return Err(bundle.refused(Breach::Nonsense { place, message }));
        }
        if bundle.policies().next().is_none() {
            let nowhere = Place { file: Role::Policy.folder().to_owned(), line: None };
            let message = "holds no policy; put at least one NAME.lua there".to_owned();
            return Err(bundle.refused(Breach::Nonsense { place: nowhere, message }));
        }
        if bundle.sources.rules.len() > FILES_MAX {
            let place = Place { file: Role::Policy.folder().to_owned(), line: None };
            let message =
                format!("{} files; a bundle has at most {FILES_MAX}", bundle.sources.rules.len());
            return Err(bundle.refused(Breach::Nonsense { place, message }));
        }
        for ((role, name), text) in &bundle.sources.rules {
            let file = role.file(name);
            let nonsense = |message: String| {
                let place = Place { file: file.clone(), line: None };
                bundle.refused(Breach::Nonsense { place, message })
            };
            if !is_name(name) {
                return Err(nonsense(format!(
                    "is no name for a policy; use 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and _"
                )));
            }
            if text.len() > FILE_BYTES_MAX {
                return Err(nonsense(format!(
                    "is over {FILE_BYTES_MAX} bytes; move lists out of it"
                )));
            }
            compile(&file, text).map_err(|breach| bundle.refused(breach))?;
        }
        Ok(bundle)
    }

    fn new(sources: Sources, rows: Rows, origin: Option<PathBuf>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let rules = sources.rules.iter().map(|((role, name), text)| [role.folder(), name, text]);
        let row_files = sources.rows.iter().map(|(name, text)| [ROWS, name, text]);
        for parts in rules.chain(row_files) {
            // Lengths keep two bundles apart whose files only differ in where one ends.
            for part in parts {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part.as_bytes());
            }
        }
        let hash = context.finish();
        let version = hash.as_ref().iter().take(VERSION_BYTES).fold(
            String::with_capacity(2 * VERSION_BYTES),
            |mut text, byte| {
                // Writing to a string cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            },
        );
        Self { sources, rows, version, origin }
    }
}

/// Libraries and functions that Luau would call without looking whether they are still there.
const NOT_THERE: [&str; 6] = ["bit32", "buffer", "integer", "rawlen", "typeof", "vector"];
/// The same, within libraries of which a part is kept.
const NOT_THERE_WITHIN: [&str; 8] = [
    "math.clamp",
    "math.isfinite",
    "math.isinf",
    "math.isnan",
    "math.lerp",
    "math.round",
    "math.sign",
    "table.unpack",
];

/// Text into the machine's code. Only text is ever loaded: what Luau makes of it is trusted, what
/// somebody else made might not be.
pub(crate) fn compile(file: &str, text: &str) -> Result<Vec<u8>, Breach> {
    let compiler =
        Compiler::new().set_mutable_globals(NOT_THERE).set_disabled_builtins(NOT_THERE_WITHIN);
    compiler.compile(text).map_err(|error| {
        // Luau reports `:line: message` here; it does not know the file.
        let error = match error {
            mlua::Error::SyntaxError { message, incomplete_input } => {
                let message = format!("{file}:{}", message.trim_start_matches(':'));
                mlua::Error::SyntaxError { message, incomplete_input }
            }
            unusual => unusual,
        };
        Breach::from_lua(&error, file, 0)
    })
}

/// Whether a policy may be called this: 1 to 64 of a-z, 0-9, - and _.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

fn refused(file: &str, message: &str) -> BundleError {
    let place = Place { file: file.to_owned(), line: None };
    BundleError::Refused { place, message: message.to_owned() }
}
