//! What is checked before anything starts: a mistake is one clear line then, and a mystery later.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use backstop_contract::Stack;
use backstop_lua::{Bundle, BundleError, Rules, Scope, shelf};
use backstop_process::doors::{ADMIN, LISTEN, LISTEN_PLAIN};
use backstop_settings::{Edge, Layout, Merchants, STACKS, Settings};
use nix::unistd::{AccessFlags, access};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

use super::doors::Doors;
use super::{Args, UpError, certificate};

/// The processes that are found beside this one.
const PROGRAMS: [&str; 3] = ["backstop-core", "backstop-api", "backstop-proxy"];
/// Those of them that a stack may bring itself.
const PROGRAMS_OF_A_STACK: [&str; 2] = ["backstop-core", "backstop-api"];

/// The policy that probes ask for, where there is one of that name.
const PROBE_POLICY: &str = "payment";

/// How often a port of an earlier run is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// What `up` needs to know to start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Every setting.
    pub settings: Settings,
    /// The folder of the edge's program, and of those of a stack that names none.
    pub programs: PathBuf,
    /// Where merchants reach the edge: as it was given, with the port that was chosen.
    pub listen: String,
    /// The same, resolved.
    pub listen_address: SocketAddr,
    /// Where operators reach it.
    pub admin: SocketAddr,
    /// Where a balancer that ends TLS reaches it.
    pub listen_plain: Option<SocketAddr>,
    /// The sockets of all three: they are open from now on.
    pub doors: Doors,
    /// Whether nothing was ever served from this directory.
    pub is_first_run: bool,
    /// The policy that probes ask for.
    pub probe_policy: String,
}

/// Checks every file and address. On a first run, broken rules refuse; later, the tiers go on with the
/// last ones they could run.
pub async fn check(args: &Args, layout: &Layout) -> Result<Plan, UpError> {
    let is_first_run = !layout.served().exists();
    let settings = Settings::load(&layout.settings()).map_err(UpError::Settings)?;
    Merchants::load(&layout.merchants()).map_err(UpError::Settings)?;
    let rules = rules_of(args, layout);
    let probe_policy = match check_rules(&rules, settings.core.policy_memory_bytes_max) {
        Err(error) if is_first_run => return Err(UpError::Rules(error)),
        Err(error) => {
            tracing::warn!(%error, "the rules are broken; the last good ones serve");
            PROBE_POLICY.to_owned()
        }
        Ok(rules) => probe_policy(&rules),
    };
    let programs = programs()?;
    for stack in STACKS {
        if let Some(folder) = release_of(&settings, layout, stack) {
            check_programs(&folder, &PROGRAMS_OF_A_STACK)?;
        }
    }
    let host = host_of(&args.listen);
    match (&settings.edge.certificate, &settings.edge.certificate_key) {
        (Some(chain), Some(key)) => check_certificate(chain, key)?,
        _ => certificate::ensure(layout, &certificate::names(host)).map_err(UpError::Made)?,
    }
    // The ports of a run that was killed close a moment after it.
    let was_killed = layout.run_json().exists();
    let patience = if was_killed { settings.up.stop_within } else { Duration::ZERO };
    let until = Instant::now() + patience;
    let listen = claim("--listen", &args.listen, until).await?;
    let admin = claim("--admin", &args.admin, until).await?;
    let plain = match &args.listen_plain {
        Some(address) => Some(claim("--listen-plain", address, until).await?),
        None => None,
    };
    let (listen_address, admin_address) = (address_of(&listen)?, address_of(&admin)?);
    let listen_plain = plain.as_ref().map(address_of).transpose()?;
    let plain = plain.map(|door| (LISTEN_PLAIN, door));
    let doors = [(LISTEN, listen), (ADMIN, admin)].into_iter().chain(plain).collect();
    let doors = Doors::new(doors).map_err(super::at(Path::new("/proc/self/fd")))?;
    Ok(Plan {
        settings,
        programs,
        listen: format!("{host}:{}", listen_address.port()),
        listen_address,
        admin: admin_address,
        listen_plain,
        doors,
        is_first_run,
        probe_policy,
    })
}

/// The rules that serve: once a bundle was published, what is published; before, those that were named or
/// are written in the directory.
fn rules_of(args: &Args, layout: &Layout) -> PathBuf {
    let published = Scope::Stack(Stack::Prod).read_any(layout);
    if let Some(publication) = published {
        if let Some(rules) = &args.rules {
            let (version, rules) = (&publication.live.version, rules.display());
            tracing::warn!("{rules} is not read: {version} is published, and serves");
        }
        return shelf::folder(layout, &publication.live.version);
    }
    args.rules.clone().unwrap_or_else(|| layout.rules())
}

/// The rules in `dir`, if they can run.
pub fn check_rules(dir: &Path, memory_bytes_max: usize) -> Result<Rules, BundleError> {
    Rules::new(Bundle::load(dir)?, memory_bytes_max)
}

/// Whoever brings rules of their own need not bring this policy: then it is the first they have.
fn probe_policy(rules: &Rules) -> String {
    let first = rules.bundle().policies().next();
    let probed = if rules.has_policy(PROBE_POLICY) { Some(PROBE_POLICY) } else { first };
    probed.unwrap_or(PROBE_POLICY).to_owned()
}

/// Whether the certificate that an operator brings can be served.
pub fn check_edge_certificate(edge: &Edge) -> Result<(), UpError> {
    match (&edge.certificate, &edge.certificate_key) {
        (Some(chain), Some(key)) => check_certificate(chain, key),
        _ => Ok(()),
    }
}

fn check_certificate(chain: &Path, key: &Path) -> Result<(), UpError> {
    let unreadable = |file: &Path| {
        let file = file.to_owned();
        move |source| UpError::Pem { file, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unreadable(chain))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map(drop)
        .map_err(|source| UpError::Pair { file: chain.to_owned(), source })
}

fn programs() -> Result<PathBuf, UpError> {
    let own = std::env::current_exe().map_err(super::at(Path::new("/proc/self/exe")))?;
    let dir = own.parent().unwrap_or(Path::new("/")).to_owned();
    check_programs(&dir, &PROGRAMS)?;
    Ok(dir)
}

/// Whether these programs lie in the folder of a release, and may be run.
pub fn check_programs(folder: &Path, programs: &[&str]) -> Result<(), UpError> {
    for program in programs.iter().map(|program| folder.join(program)) {
        if !program.is_file() {
            return Err(UpError::Missing(program));
        }
        if access(&program, AccessFlags::X_OK).is_err() {
            return Err(UpError::NotExecutable(program));
        }
    }
    Ok(())
}

/// The folder that `backstop.toml` names for a stack.
fn release_of(settings: &Settings, layout: &Layout, stack: &str) -> Option<PathBuf> {
    let command = settings.stacks.of(stack).command.as_ref()?;
    Some(layout.root().join(command))
}

impl Plan {
    /// The folder of what a stack runs; of no stack: what the edge runs.
    pub fn programs_of(&self, layout: &Layout, stack: Option<&str>) -> PathBuf {
        let named = stack.and_then(|stack| release_of(&self.settings, layout, stack));
        named.unwrap_or_else(|| self.programs.clone())
    }
}

/// The host of `HOST:PORT`, brackets and all.
fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _port)| host)
}

fn address_of(listener: &TcpListener) -> Result<SocketAddr, UpError> {
    listener.local_addr().map_err(super::at(Path::new("/proc/self/fd")))
}

/// Listens on an address; port 0 becomes one that is free.
async fn claim(flag: &'static str, given: &str, until: Instant) -> Result<TcpListener, UpError> {
    let address = || given.to_owned();
    let resolved = given
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| UpError::Address { flag, address: address() })?;
    loop {
        match TcpListener::bind(resolved) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                tokio::time::sleep(RETRY_EVERY).await;
            }
            Err(source) => return Err(UpError::Listen { flag, address: address(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a port is waited for that is about to be free.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Whether a port is claimed once it is free. Somebody else on this machine may be given it just then.
    async fn is_claimed_once_it_is_free() -> bool {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = claim("--admin", &address, Instant::now()).await.unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("--admin"), "{error}");
        drop(taken);
        let claimed = claim("--admin", &address, Instant::now() + PATIENCE).await;
        claimed.is_ok_and(|claimed| address_of(&claimed).unwrap().to_string() == address)
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_its_flag() {
        let mut is_claimed = false;
        for _ in 0..3 {
            is_claimed = is_claimed || is_claimed_once_it_is_free().await;
        }
        assert!(is_claimed);
        for wrong in ["", "8443", "127.0.0.1", "127.0.0.1:99999", "no such host:1"] {
            let error = claim("--listen", wrong, Instant::now()).await.unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn the_host_is_what_stands_before_the_last_colon() {
        for (address, host) in [
            ("127.0.0.1:8443", "127.0.0.1"),
            ("[::1]:8443", "[::1]"),
            ("pay.example.com:443", "pay.example.com"),
        ] {
            assert_eq!(host_of(address), host);
        }
    }
}
