//! Where a process listens that is not in `--dir`: a Unix socket, or a host and port.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize as _;
use serde::de::{Deserializer, Error, Unexpected};

use crate::layout::SOCKET_PATH_BYTES_MAX;

/// The most apis that one stack may have.
const ADDRESSES_MAX: usize = 16;
const EXPECTED: &str = "an absolute path of at most 107 bytes, or host:port";

/// An address that can be connected to; whether somebody listens there is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Socket(PathBuf),
    /// `host:port`. The host is a name, an IPv4 address, or an IPv6 address in brackets.
    Host(String),
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return (text.len() <= SOCKET_PATH_BYTES_MAX).then(|| Self::Socket(text.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let is_host = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
            && host.contains(':') == is_bracketed;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        (is_host && is_port).then(|| Self::Host(text.to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}

/// A list of addresses, each once.
pub fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Address>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    if texts.len() > ADDRESSES_MAX {
        let what = format!("at most {ADDRESSES_MAX} addresses");
        return Err(D::Error::invalid_length(texts.len(), &what.as_str()));
    }
    let mut addresses = Vec::with_capacity(texts.len());
    for text in &texts {
        let wrong = |expected| D::Error::invalid_value(Unexpected::Str(text), &expected);
        let address = Address::parse(text).ok_or_else(|| wrong(EXPECTED))?;
        if addresses.contains(&address) {
            return Err(wrong("each address once"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_or_a_host_with_a_port() {
        for host in ["10.0.0.2:7000", "api-2.internal:7000", "[::1]:7000", "localhost:1"] {
            assert_eq!(Address::parse(host), Some(Address::Host(host.into())), "{host}");
        }
        let longest = format!("/{}", "s".repeat(SOCKET_PATH_BYTES_MAX - 1));
        for path in ["/run/api.sock", &longest] {
            assert_eq!(Address::parse(path), Some(Address::Socket(path.into())), "{path}");
        }
        let too_long = format!("{longest}s");
        let wrong = ["", "api", "api:", ":7000", "api:0", "api:65536", "::1:7000", "run/api.sock"];
        for text in wrong.into_iter().chain(["a b:7000", "http://api:7000", &too_long]) {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
