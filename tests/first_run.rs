//! What a stranger meets: the first start, a wrong file, a second start, and TLS.

mod system;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use system::{System, backstop, payment, until};

/// Starts in `dir`, and gives the exit code and what was said on stderr.
fn refused(dir: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let (listen, admin) = (system::free_address(), system::free_address());
    let (listen, admin) = (listen.to_string(), admin.to_string());
    let mut words = vec!["up", "--dir", dir.to_str().unwrap()];
    if !flags.contains(&"--listen") {
        words.extend(["--listen", &listen]);
    }
    words.extend(["--admin", &admin]);
    words.extend(flags);
    let output = backstop(&words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "one line, not: {said}");
    assert!(said.starts_with("error: "), "{said}");
    (output.status.code(), said)
}

/// A directory as the first run leaves it, before it ever served.
fn made(dir: &Path) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(dir, &["--listen", &address]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = refused(dir.path(), &["--listen", &address]);
    assert_eq!(code, Some(2));
    assert!(said.contains(&address), "{said}");
}

#[test]
fn an_unknown_setting_is_named_with_its_line_and_the_nearest_known_one() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), "[edge]\nbody_bytes_maks = 7\n").unwrap();
    let (code, said) = refused(dir.path(), &[]);
    assert_eq!(code, Some(2));
    for part in ["backstop.toml:2", "body_bytes_maks", "body_bytes_max"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_broken_lua_default_is_named_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path());
    let file = dir.path().join("rules/defaults/payment.lua");
    std::fs::write(
        &file,
        "return {\n  safe = \"review\",\n  decide = function(tx) retrun end,\n}\n",
    )
    .unwrap();
    let (code, said) = refused(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("payment.lua:3"), "{said}");
}

#[test]
fn a_database_that_is_none_is_named_on_a_first_run() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.db"), b"this is no database".repeat(500)).unwrap();
    let (code, said) = refused(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("backstop.db"), "{said}");
}

#[test]
fn a_directory_that_served_before_stands_in_while_its_database_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    System::patient(dir.path()).stop();
    for file in ["backstop.db", "backstop.db-wal", "backstop.db-shm"] {
        let file = dir.path().join(file);
        if file.exists() {
            std::fs::write(file, b"this is no database".repeat(500)).unwrap();
        }
    }
    let system = System::starting(dir.path(), &[]);
    let ready = system.line();
    assert!(
        ready.starts_with(&format!("ready https://{} (standing in: ", system.listen)),
        "{ready}"
    );
    // The line is about core and edge: the api may come after it. By then so many probes of readiness
    // may have failed that it leaves core alone.
    system.pid_of("api", "prod");
    let answer = system.decide(&payment("stand-in")).json();
    assert_eq!(answer["decided_by"], "api", "{answer}");
    assert!(["unavailable", "breaker"].contains(&answer["cause"].as_str().unwrap()), "{answer}");
}

#[test]
fn a_restarted_tier_goes_by_the_last_good_files_while_they_are_being_edited() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let version = system.decide(&payment("before")).json()["policy_version"].clone();
    std::fs::write(dir.path().join("rules/policies/payment.lua"), "return {").unwrap();
    std::fs::write(dir.path().join("rules/defaults/payment.lua"), "return {").unwrap();
    std::fs::write(dir.path().join("backstop.toml"), "[edge").unwrap();
    std::fs::write(dir.path().join("merchants.toml"), "[[merchant").unwrap();
    for (tier, stack) in [("core", "prod"), ("api", "prod"), ("proxy", "")] {
        let killed = system.signal(tier, stack, Signal::SIGKILL);
        until("it was restarted", || (system.pid_of(tier, stack) != killed).then_some(()));
    }
    let answer = until("core decides again", || {
        let id = system::fresh_id();
        let mut wire = std::panic::catch_unwind(|| system.connect()).ok()?;
        let answer = wire.decide(&system.key(true), &payment(&id)).json();
        (answer["decided_by"] == "core").then_some(answer)
    });
    assert_eq!(answer["policy_version"], version);
}

#[test]
fn a_second_up_in_the_same_directory_is_refused_with_the_pid_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let (code, said) = refused(dir.path(), &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains(&system.pid().to_string()), "{said}");
    assert_eq!(system.decide(&payment("undisturbed")).status, 200);
}

#[test]
fn answers_outlive_a_restart_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let first = system.decide(&payment("kept")).json();
    system.stop();
    let system = System::up(dir.path());
    let again = system.decide(&payment("kept"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["decided_at"], first["decided_at"]);
}

/// A TLS client that trusts the certificate of this installation alone.
fn client_config(dir: &Path, protocol: &[u8]) -> Arc<rustls::ClientConfig> {
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

#[test]
fn merchants_are_served_over_tls_by_http_1_and_h2_under_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (protocol, name) in [("http/1.1", "localhost"), ("h2", "localhost"), ("h2", "127.0.0.1")] {
        let config = client_config(dir.path(), protocol.as_bytes());
        let request = hyper::Request::post(format!("https://{name}/v1/decisions"))
            .header("host", name)
            .header("authorization", format!("Bearer {}", system.key(true)))
            .header("content-type", "application/json")
            .body(http_body_util::Full::new(hyper::body::Bytes::from(
                payment(&format!("{protocol} {name}")).to_string(),
            )))
            .unwrap();
        let status = runtime.block_on(async {
            let tcp = tokio::net::TcpStream::connect(system.listen).await.unwrap();
            let server = ServerName::try_from(name.to_owned()).unwrap();
            let tls = tokio_rustls::TlsConnector::from(config).connect(server, tcp).await.unwrap();
            assert_eq!(tls.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
            let io = TokioIo::new(tls);
            if protocol == "h2" {
                let (mut send, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                send.send_request(request).await.unwrap().status()
            } else {
                let (mut send, connection) =
                    hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                send.send_request(request).await.unwrap().status()
            }
        });
        assert_eq!(status, 200, "{protocol} as {name}");
    }
}
