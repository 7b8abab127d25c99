//! Generates the client of core's service in pure Rust: no `protoc` to install. The messages are the
//! contract's. The server is generated for the tests alone, which put a false core behind the api.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../core/contract/proto/core.proto");
    let service = protox::compile(["core.proto"], ["../core/contract/proto"])?;
    let folder = PathBuf::from(std::env::var("OUT_DIR")?);
    for (side, client) in [("client", true), ("server", false)] {
        let folder = folder.join(side);
        std::fs::create_dir_all(&folder)?;
        tonic_prost_build::configure()
            .build_client(client)
            .build_server(!client)
            .build_transport(false)
            .extern_path(".backstop.core.v1", "::backstop_contract::wire")
            .out_dir(folder)
            .compile_fds(service.clone())?;
    }
    Ok(())
}
