//! What the edge needs to start, read and checked: a `Config` in hand is a valid one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use backstop_book::BookError;
use backstop_contract::HashKey;
use backstop_contract::fidelity::Terms;
use backstop_contract::link::LinkSettings;
use backstop_lua::in_force::Source;
use backstop_lua::{BundleError, InForce, Scope};
use backstop_process::metrics::MetricsError;
use backstop_settings::{Address, Layout, STACKS, Settings, SettingsError, Token, settings};

use crate::merchants::Roll;
use crate::place::BadSocket;

/// How the edge is started.
#[derive(Debug, clap::Parser)]
#[command(name = "backstop-proxy", version, about = "The edge of Backstop")]
pub struct Args {
    /// The directory that holds settings, merchants, keys and sockets.
    #[arg(long, default_value = ".backstop")]
    pub dir: PathBuf,
    /// Where merchants connect, over TLS.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Where operators connect.
    #[arg(long, default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// Where a TLS-terminating balancer connects, without TLS.
    #[arg(long)]
    pub listen_plain: Option<SocketAddr>,
    /// Start beside an edge that serves, and take its place once it has made room.
    #[arg(long)]
    pub beside: bool,
    /// The rules, if not those in --dir.
    #[arg(long)]
    pub rules: Option<PathBuf>,
}

/// Everything that was read and found good.
pub struct Config {
    /// The addresses to listen on.
    pub args: Args,
    /// The edge's settings.
    pub settings: settings::Edge,
    /// When it goes to the other stack by itself.
    pub switch: settings::Switch,
    /// Where the files are.
    pub layout: Layout,
    /// How the way to each api is treated.
    pub link: LinkSettings,
    /// How it is measured how often the defaults agree with core.
    pub fidelity: Terms,
    /// The defaults to answer with alone, as they are published.
    pub rules: InForce,
    /// How rules are published.
    pub publishing: (settings::Rules, usize),
    /// Who may ask.
    pub roll: Roll,
    /// Hashes requests and card numbers.
    pub hash_key: HashKey,
    /// The certificate chain and its key, PEM, in files that were read once.
    pub tls: (String, String),
    /// What an operator's request must carry.
    pub admin_token: Token,
    /// What an api on another host is told; none where there is no such api.
    pub hop_token: Option<Token>,
    /// The apis of the two stacks, in the order of [`STACKS`]; each has one at least.
    pub apis: [Vec<Address>; 2],
}

/// Why the edge can not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Settings or merchants are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The rules are wrong, and no good copy was kept.
    #[error(transparent)]
    Rules(#[from] BundleError),
    /// A file that `backstop up` makes is not there or can not be read.
    #[error("{}: cannot be read: {source}; start with `backstop up`, which makes it", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The hash key has the wrong length.
    #[error("{}: has {bytes} bytes, must have 32", file.display())]
    HashKey {
        /// Which one.
        file: PathBuf,
        /// What it has.
        bytes: usize,
    },
    /// Certificate and key are not a pair that TLS can use.
    #[error("{}: {what}", file.display())]
    Tls {
        /// Which one.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The metrics contradict each other.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The book of this directory can not be opened.
    #[error(transparent)]
    Book(#[from] BookError),
    /// Nobody could pass anything on to this edge.
    #[error("{}: cannot be listened on: {source}", socket.display())]
    BackDoor {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A socket path is too long.
    #[error(transparent)]
    Socket(#[from] BadSocket),
}

impl Config {
    /// Reads and checks everything.
    pub fn load(args: Args) -> Result<Self, ConfigError> {
        let layout = Layout::new(&args.dir);
        let (settings, broken) = Settings::in_force(&layout)?;
        if let Some(broken) = broken {
            tracing::error!(%broken, "backstop.toml is broken: the last good copy is in force");
        }
        let fidelity = settings.fidelity.terms();
        let (link, switch) = (settings.to_api(), settings.switch.clone());
        let publishing = (settings.rules.clone(), settings.policy_memory_bytes_min());
        let settings = settings.edge;
        let (edge, memory_bytes_max) = ((Scope::Edge, "proxy"), settings.policy_memory_bytes_max);
        let rules = Source::new(&layout, edge, args.rules.clone(), memory_bytes_max);
        let rules = InForce::open(rules)?;
        let good_merchants = layout.good_merchants();
        let every = settings.merchants_reload_every;
        let apis = apis(&settings, &layout);
        let is_remote = |address: &Address| matches!(address, Address::Host(_));
        let hop_token = if apis.iter().flatten().any(is_remote) {
            Some(Token::read(&layout.hop_token())?)
        } else {
            None
        };
        Ok(Self {
            link,
            fidelity,
            rules,
            publishing,
            roll: Roll::open(layout.merchants(), good_merchants, every)?,
            hash_key: hash_key(&layout.hash_key())?,
            tls: tls(&settings, &layout)?,
            admin_token: Token::read(&layout.admin_token())?,
            hop_token,
            apis,
            args,
            settings,
            switch,
            layout,
        })
    }
}

/// The apis of each stack: those that are named, else the one in this directory.
fn apis(edge: &settings::Edge, layout: &Layout) -> [Vec<Address>; 2] {
    let [prod, old_prod] = STACKS;
    [(prod, &edge.prod_apis), (old_prod, &edge.old_prod_apis)].map(|(stack, named)| {
        if named.is_empty() {
            vec![Address::Socket(layout.socket("api", stack))]
        } else {
            named.clone()
        }
    })
}

fn hash_key(file: &Path) -> Result<HashKey, ConfigError> {
    let bytes = std::fs::read(file)
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    let secret: &[u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| ConfigError::HashKey { file: file.to_owned(), bytes: bytes.len() })?;
    Ok(HashKey::new(secret))
}

/// The certificate and key files, read and matched here: Pingora panics on what it can not use.
fn tls(edge: &settings::Edge, layout: &Layout) -> Result<(String, String), ConfigError> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let chain_file = edge.certificate.clone().unwrap_or_else(|| layout.certificate());
    let key_file = edge.certificate_key.clone().unwrap_or_else(|| layout.certificate_key());
    let wrong = |file: &Path, what: String| ConfigError::Tls { file: file.to_owned(), what };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&chain_file)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(&chain_file, format!("is no PEM certificate chain: {error}")))?;
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .map_err(|error| wrong(&key_file, format!("is no PEM private key: {error}")))?;
    rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&chain_file, format!("certificate and key do not fit: {error}")))?;
    Ok((chain_file.display().to_string(), key_file.display().to_string()))
}
