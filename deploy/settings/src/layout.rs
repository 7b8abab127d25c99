//! Where everything lies in `--dir`. Every process derives its paths here, so they agree.

use std::path::{Path, PathBuf};

/// The stacks, the one that serves at first before the other.
pub const STACKS: [&str; 2] = ["prod", "old-prod"];

/// The longest path that the kernel takes for a Unix socket: 108 bytes with the closing zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The paths in one `--dir`. Making one touches no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The paths in `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { root: dir.into() }
    }

    /// `--dir` itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `backstop.toml`.
    pub fn settings(&self) -> PathBuf {
        self.root.join("backstop.toml")
    }

    /// `merchants.toml`.
    pub fn merchants(&self) -> PathBuf {
        self.root.join("merchants.toml")
    }

    /// The policies and defaults that authors edit.
    pub fn rules(&self) -> PathBuf {
        self.root.join("rules")
    }

    /// The directory of the last bundle that this process could run, such as `core-prod`.
    pub fn good_bundle(&self, process: &str) -> PathBuf {
        self.root.join("good").join(process)
    }

    /// The last `backstop.toml` that a process could run on.
    pub fn good_settings(&self) -> PathBuf {
        self.root.join("good").join("backstop.toml")
    }

    /// The last `merchants.toml` that the edge could run on.
    pub fn good_merchants(&self) -> PathBuf {
        self.root.join("good").join("merchants.toml")
    }

    /// The directory of sockets and locks, open to nobody else.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The Unix socket of `core` or `api` of a stack.
    pub fn socket(&self, tier: &str, stack: &str) -> PathBuf {
        self.run().join(format!("{tier}-{stack}.sock"))
    }

    /// The Unix socket on which the edge takes what its predecessor passes on.
    pub fn edge_socket(&self) -> PathBuf {
        self.run().join("proxy.sock")
    }

    /// Where a process listens while it starts beside the one whose place it is to take.
    pub fn next_socket(&self) -> PathBuf {
        self.run().join("next.sock")
    }

    /// The socket on which the supervisor says what runs.
    pub fn up_socket(&self) -> PathBuf {
        self.run().join("up.sock")
    }

    /// The file that the running `up` holds locked; it holds its pid.
    pub fn up_lock(&self) -> PathBuf {
        self.run().join("up.lock")
    }

    /// The last status that `up` knew, for when it is silent or gone.
    pub fn processes(&self) -> PathBuf {
        self.run().join("processes.json")
    }

    /// Exists once this directory has been ready to serve.
    pub fn served(&self) -> PathBuf {
        self.root.join("served")
    }

    /// The embedded database.
    pub fn database(&self) -> PathBuf {
        self.root.join("backstop.db")
    }

    /// The 32 secret bytes that key request and card hashes.
    pub fn hash_key(&self) -> PathBuf {
        self.root.join("hash.key")
    }

    /// The certificate authority that clients are to trust.
    pub fn ca(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    /// The key of that authority, kept to renew the leaf.
    pub fn ca_key(&self) -> PathBuf {
        self.root.join("ca.key")
    }

    /// The edge's certificate, made on the first run.
    pub fn certificate(&self) -> PathBuf {
        self.root.join("certificate.pem")
    }

    /// The key of that certificate.
    pub fn certificate_key(&self) -> PathBuf {
        self.root.join("certificate.key")
    }

    /// The bearer token of the admin listener.
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    /// The bearer token that an api on a TCP address asks for.
    pub fn hop_token(&self) -> PathBuf {
        self.root.join("hop.token")
    }

    /// The key of the merchant `demo`.
    pub fn merchant_key(&self) -> PathBuf {
        self.root.join("merchant.key")
    }

    /// The key of the merchant `demo-test`.
    pub fn test_merchant_key(&self) -> PathBuf {
        self.root.join("test-merchant.key")
    }

    /// The addresses of the running system; absent when nothing runs.
    pub fn run_json(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// What the edge released, and has yet to tell core.
    pub fn book(&self) -> PathBuf {
        self.root.join("book")
    }

    /// Which stack serves, and the audit log of who said so.
    pub fn switch(&self) -> PathBuf {
        self.root.join("switch")
    }

    /// Which stack serves.
    pub fn choice(&self) -> PathBuf {
        self.switch().join("choice.json")
    }

    /// The last such choice that could be read.
    pub fn good_choice(&self) -> PathBuf {
        self.root.join("good").join("choice.json")
    }

    /// The bundles that were published, each in a folder named by its version.
    pub fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// Which bundle is live for a stack, or for the edge; absent before the first publication.
    pub fn publication(&self, scope: &str) -> PathBuf {
        self.root.join("publication").join(format!("{scope}.json"))
    }

    /// The last such file that could be read.
    pub fn good_publication(&self, scope: &str) -> PathBuf {
        self.root.join("good").join(format!("publication-{scope}.json"))
    }

    /// The directory of logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What a process wrote to its standard output and error; the proxy has no stack.
    pub fn log(&self, process: &str, stack: Option<&str>) -> PathBuf {
        self.logs().join(match stack {
            Some(stack) => format!("{process}-{stack}.log"),
            None => format!("{process}.log"),
        })
    }

    /// The longest socket path, if it is longer than the kernel takes.
    pub fn socket_too_long(&self) -> Option<PathBuf> {
        STACKS
            .iter()
            .flat_map(|stack| ["core", "api"].map(|tier| self.socket(tier, stack)))
            .max_by_key(|path| path.as_os_str().len())
            .filter(|path| path.as_os_str().len() > SOCKET_PATH_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_socket_that_the_kernel_would_not_take() {
        let tail = "/run/core-old-prod.sock".len();
        let fits = "d".repeat(SOCKET_PATH_BYTES_MAX - tail);
        assert_eq!(Layout::new(&fits).socket_too_long(), None);
        let long = Layout::new(fits + "d").socket_too_long().unwrap();
        assert_eq!(long.as_os_str().len(), SOCKET_PATH_BYTES_MAX + 1);
    }

    #[test]
    fn a_log_is_named_after_its_process_and_stack() {
        let layout = Layout::new(".backstop");
        assert_eq!(
            layout.log("core", Some("old-prod")),
            Path::new(".backstop/logs/core-old-prod.log")
        );
        assert_eq!(layout.log("proxy", None), Path::new(".backstop/logs/proxy.log"));
    }
}
