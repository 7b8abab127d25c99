//! The map of ARCHITECTURE.md, held by `cargo tree`, so that it cannot lie.

use std::process::Command;

/// The crates that `package` is built from, itself left out; dev-dependencies do not count.
fn built_from(package: &str) -> Vec<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("cargo prints UTF-8");
    let name = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let crates: Vec<_> = text.lines().skip(1).map(name).filter(|it| it != package).collect();
    assert!(!crates.is_empty(), "{package} is built from something");
    crates
}

/// Asserts that no crate of `packages` is built from one whose name begins with `prefix`.
fn none_knows(packages: &[&str], prefix: &str) {
    for package in packages {
        let found: Vec<_> =
            built_from(package).into_iter().filter(|it| it.starts_with(prefix)).collect();
        assert!(found.is_empty(), "{package} must not know {prefix}, but is built from {found:?}");
    }
}

#[test]
fn the_check_sees_what_is_there() {
    assert!(built_from("backstop-core").iter().any(|it| it == "sqlx"));
    assert!(built_from("backstop-proxy").iter().any(|it| it == "pingora"));
    assert!(built_from("backstop-api").iter().any(|it| it == "tonic"));
}

#[test]
fn only_core_knows_sql() {
    none_knows(
        &[
            "backstop-proxy",
            "backstop-book",
            "backstop-api",
            "backstop-contract",
            "backstop-engine",
            "backstop-lua",
            "backstop-cli",
        ],
        "sqlx",
    );
}

#[test]
fn only_the_proxy_knows_pingora() {
    none_knows(
        &[
            "backstop-book",
            "backstop-api",
            "backstop-core",
            "backstop-contract",
            "backstop-engine",
            "backstop-lua",
            "backstop-cli",
        ],
        "pingora",
    );
}

#[test]
fn the_edge_knows_neither_grpc_nor_the_core() {
    none_knows(&["backstop-proxy"], "tonic");
    none_knows(&["backstop-proxy", "backstop-api"], "backstop-core");
    none_knows(&["backstop-proxy", "backstop-core", "backstop-cli"], "backstop-api");
    none_knows(&["backstop-api", "backstop-core", "backstop-cli"], "backstop-proxy");
}

#[test]
fn the_book_knows_files_and_no_network() {
    for network in ["hyper", "axum", "tonic", "mio", "socket2", "rustls", "mlua"] {
        none_knows(&["backstop-book"], network);
    }
}

#[test]
fn contract_and_engine_do_no_io() {
    for io in ["hyper", "axum", "tonic", "mio", "socket2", "sqlx", "mlua", "rustls", "reqwest"] {
        none_knows(&["backstop-contract", "backstop-engine"], io);
    }
}

#[test]
fn there_is_one_tls_stack_with_one_provider() {
    for package in ["backstop-proxy", "backstop-api", "backstop-core", "backstop-cli"] {
        for other in ["openssl-sys", "native-tls", "aws-lc", "boring"] {
            none_knows(&[package], other);
        }
    }
}
