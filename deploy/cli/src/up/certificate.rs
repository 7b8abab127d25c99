//! A certificate for the edge, for those who bring none: an authority of this directory's own that a
//! client can be told to trust, and a leaf under it for the names the edge is reached by.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use backstop_settings::{Layout, write_atomically};
use jiff::civil::Date;
use jiff::{Span, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

const AUTHORITY_YEARS: i32 = 20;
/// Under the 398 days that browsers accept.
const LEAF_DAYS: i32 = 397;
/// A leaf that expires sooner is made anew.
const RENEW_DAYS: i32 = 30;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be made; the names may be no names.
    #[error("no certificate could be made for {}: {source}", names.join(", "))]
    Make {
        /// For whom.
        names: Vec<String>,
        /// Why.
        source: rcgen::Error,
    },
    /// The authority's key of an earlier run cannot be used.
    #[error("{}: the key cannot be used ({source}); remove it to make a new authority", file.display())]
    Key {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: rcgen::Error,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The names that the leaf has to have: the machine itself, and `host`, where the edge listens.
pub fn names(host: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    // "Every address" is not a name that anyone connects to.
    let is_every = host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    if !host.is_empty() && !is_every && !names.iter().any(|name| name == host) {
        names.push(host.to_owned());
    }
    names
}

/// Makes what is missing of authority and leaf, and the leaf anew when it expires soon or lacks a name.
pub fn ensure(layout: &Layout, names: &[String]) -> Result<(), CertificateError> {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let lasts = days_after(today, RENEW_DAYS);
    if layout.ca().exists()
        && layout.certificate_key().exists()
        && std::fs::read_to_string(layout.certificate())
            .is_ok_and(|leaf| Remarks::read(&leaf).is_some_and(|leaf| leaf.serve(names, lasts)))
    {
        return Ok(());
    }
    let make = |source| CertificateError::Make { names: names.to_vec(), source };
    let authority = authority(layout, today, make)?;
    let mut leaf = CertificateParams::new(names).map_err(make)?;
    let expires = days_after(today, LEAF_DAYS);
    hold(&mut leaf, today, expires);
    leaf.distinguished_name = called("Backstop edge");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(make)?;
    let signed = leaf.signed_by(&key, &authority).map_err(make)?;
    let remarks = Remarks { names: names.to_vec(), expires };
    // The key first: a leaf is only taken for whole when its key is there.
    write(&layout.certificate_key(), &key.serialize_pem(), 0o600)?;
    write(&layout.certificate(), &(remarks.write() + &signed.pem()), 0o644)
}

/// The authority: the one that clients may already trust, or a new one.
fn authority(
    layout: &Layout,
    today: Date,
    make: impl Fn(rcgen::Error) -> CertificateError + Copy,
) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(make)?;
    hold(&mut params, today, today.saturating_add(Span::new().years(AUTHORITY_YEARS)));
    params.distinguished_name = called("Backstop local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let file = layout.ca_key();
    if file.exists() && layout.ca().exists() {
        let pem = std::fs::read_to_string(&file)
            .map_err(|source| CertificateError::File { file: file.clone(), source })?;
        let key =
            KeyPair::from_pem(&pem).map_err(|source| CertificateError::Key { file, source })?;
        // Of the authority only its name and its key go into a leaf, and both are the same as ever.
        return Ok(Issuer::new(params, key));
    }
    let key = KeyPair::generate().map_err(make)?;
    write(&file, &key.serialize_pem(), 0o600)?;
    write(&layout.ca(), &params.self_signed(&key).map_err(make)?.pem(), 0o644)?;
    Ok(Issuer::new(params, key))
}

/// What stands in words before the PEM of a leaf. Readers of PEM pass over it.
#[derive(Debug, PartialEq, Eq)]
struct Remarks {
    names: Vec<String>,
    expires: Date,
}

impl Remarks {
    const NAMES: &'static str = "names: ";
    const EXPIRES: &'static str = "expires: ";

    fn write(&self) -> String {
        let names = self.names.join(" ");
        format!("{}{names}\n{}{}\n", Self::NAMES, Self::EXPIRES, self.expires)
    }

    fn read(leaf: &str) -> Option<Self> {
        let value = |name| leaf.lines().find_map(|line: &str| line.strip_prefix(name));
        Some(Self {
            names: value(Self::NAMES)?.split(' ').map(str::to_owned).collect(),
            expires: value(Self::EXPIRES)?.parse().ok()?,
        })
    }

    fn serve(&self, names: &[String], at_least_until: Date) -> bool {
        self.expires >= at_least_until && names.iter().all(|name| self.names.contains(name))
    }
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn days_after(day: Date, days: i32) -> Date {
    day.saturating_add(Span::new().days(days))
}

/// Sets how long a certificate holds; from the day before, since clocks differ.
fn hold(params: &mut CertificateParams, today: Date, until: Date) {
    let [from, until] = [days_after(today, -1), until].map(|day| {
        let part = |part: i8| part.unsigned_abs();
        date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day()))
    });
    (params.not_before, params.not_after) = (from, until);
}

fn write(file: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    write_atomically(file, text.as_bytes(), mode)
        .map_err(|source| CertificateError::File { file: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn read(file: &Path) -> String {
        std::fs::read_to_string(file).unwrap()
    }

    /// Whether a client that trusts `ca.pem` would talk to the edge under this name.
    fn is_trusted(layout: &Layout, name: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(layout.ca()).unwrap()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let leaf = CertificateDer::from_pem_file(layout.certificate()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            Timestamp::now().as_second().unsigned_abs(),
        ));
        verifier.verify_server_cert(&leaf, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn a_client_that_trusts_the_authority_trusts_each_name_of_the_edge() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for host in ["127.0.0.1", "0.0.0.0", "[::]", "192.0.2.7", "pay.example.com"] {
            ensure(&layout, &names(host)).unwrap();
            for name in ["localhost", "127.0.0.1", "::1"] {
                assert!(is_trusted(&layout, name), "{name} at {host}");
            }
            assert!(!is_trusted(&layout, "other.example.com"), "{host}");
        }
        assert!(is_trusted(&layout, "pay.example.com"));
    }

    #[test]
    fn a_leaf_is_kept_until_it_lacks_a_name_and_its_authority_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        ensure(&layout, &names("127.0.0.1")).unwrap();
        let (ca, leaf) = (read(&layout.ca()), read(&layout.certificate()));
        ensure(&layout, &names("localhost")).unwrap();
        assert_eq!(read(&layout.certificate()), leaf);
        ensure(&layout, &names("192.0.2.7")).unwrap();
        assert_ne!(read(&layout.certificate()), leaf);
        assert_eq!(read(&layout.ca()), ca);
        assert!(is_trusted(&layout, "192.0.2.7"));
    }

    #[test]
    fn a_leaf_is_renewed_thirty_days_before_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let names = names("127.0.0.1");
        ensure(&layout, &names).unwrap();
        let fresh = read(&layout.certificate());
        let expires = Remarks::read(&fresh).unwrap().expires;
        let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
        for (days, is_kept) in [(RENEW_DAYS, true), (RENEW_DAYS - 1, false)] {
            let aged = fresh.replace(&expires.to_string(), &days_after(today, days).to_string());
            std::fs::write(layout.certificate(), &aged).unwrap();
            ensure(&layout, &names).unwrap();
            assert_eq!(read(&layout.certificate()) == aged, is_kept, "{days} days");
        }
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        ensure(&layout, &names("localhost")).unwrap();
        for file in [layout.ca_key(), layout.certificate_key()] {
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
