//! Where an api listens, a Unix socket or a host whose name is looked up when no address is in hand, and
//! the connections to it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use backstop_settings::Address;
use backstop_settings::layout::SOCKET_PATH_BYTES_MAX;

use crate::line::{self, End, Idle, Line};

/// The place of one api.
pub struct Place {
    address: Address,
    found: ArcSwapOption<End>,
    idle: Idle,
}

/// The api's socket can not be one: its path is too long.
#[derive(Debug, thiserror::Error)]
#[error("the socket path {path} is too long; choose a shorter --dir")]
pub struct BadSocket {
    path: String,
}

impl Place {
    /// The place at `address`, to which at most `lines_max` connections are kept open by the same threads,
    /// each for as long as `idle_timeout`. Looks nothing up.
    pub fn new(
        address: Address,
        lines_max: usize,
        idle_timeout: Duration,
    ) -> Result<Self, BadSocket> {
        let end = match &address {
            Address::Socket(path) if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX => {
                return Err(BadSocket { path: path.display().to_string() });
            }
            Address::Socket(path) => Some(End::Socket(path.clone())),
            // Most hosts are given as an address: those need nobody to look them up.
            Address::Host(host) => host.parse().ok().map(End::Network),
        };
        let found = ArcSwapOption::new(end.map(Arc::new));
        Ok(Self { address, found, idle: Idle::new(lines_max, idle_timeout) })
    }

    /// Whether it is reached over the network, where a hop must say who it is.
    pub const fn is_remote(&self) -> bool {
        matches!(self.address, Address::Host(_))
    }

    /// A connection: one that lies idle, or else a new one.
    pub async fn connect(&self) -> io::Result<Line> {
        match self.idle.take(Instant::now()) {
            Some(line) => Ok(line),
            None => line::connect(self.find().await?.as_ref()).await,
        }
    }

    /// Keeps a connection for the next exchange.
    pub fn put_back(&self, line: Line) {
        self.idle.put_back(line, Instant::now());
    }

    /// What to connect to.
    async fn find(&self) -> io::Result<Arc<End>> {
        if let Some(found) = self.found.load_full() {
            return Ok(found);
        }
        let mut addresses = tokio::net::lookup_host(self.to_string()).await?;
        let address = addresses.next().ok_or(io::ErrorKind::NotFound)?;
        let end = Arc::new(End::Network(address));
        self.found.store(Some(end.clone()));
        Ok(end)
    }

    /// Nobody is there: a host that has a name is looked up again, since it may have moved.
    pub fn missed(&self) {
        if let Address::Host(host) = &self.address
            && host.parse::<SocketAddr>().is_err()
        {
            self.found.store(None);
            self.idle.clear();
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str) -> Place {
        Place::new(Address::Host(host.to_owned()), 1, Duration::from_secs(1)).unwrap()
    }

    #[tokio::test]
    async fn a_name_is_looked_up_when_it_is_needed_and_again_when_nobody_was_there() {
        let place = place("localhost:7000");
        let first = place.find().await.unwrap();
        assert!(Arc::ptr_eq(&first, &place.find().await.unwrap()), "looked up once");
        place.missed();
        assert!(!Arc::ptr_eq(&first, &place.find().await.unwrap()), "looked up again");
    }

    /// A quarter of the merchants' requests went over connections that probes and rehearsals had opened, and
    /// woke the one thread of those to be written and to be read. And where only one was kept open, it was
    /// the probes', and every merchant's exchange opened one anew.
    #[test]
    fn a_connection_is_lent_only_to_those_whose_threads_drive_it() {
        let threads = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (probes, merchants) = (threads(), threads());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let _api = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let place = Place::new(Address::Socket(socket), 1, Duration::from_mins(1)).unwrap();
        let is_used = |whose: &tokio::runtime::Runtime| {
            whose.block_on(async {
                let line = place.connect().await.unwrap();
                let is_used = line.is_used();
                place.put_back(line);
                is_used
            })
        };
        assert!(!is_used(&probes), "the first there is");
        assert!(!is_used(&merchants), "the probes' is none of theirs");
        assert!(is_used(&probes) && is_used(&merchants), "each has its own");
    }

    #[tokio::test]
    async fn an_address_needs_no_looking_up() {
        let place = place("127.0.0.1:7000");
        let first = place.find().await.unwrap();
        place.missed();
        assert!(Arc::ptr_eq(&first, &place.find().await.unwrap()));
    }
}
