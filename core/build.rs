//! Generates the gRPC server of `core.proto` in pure Rust. Its messages are those of the contract.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=contract/proto/core.proto");
    // sqlx::migrate! embeds the folders, and cargo cannot see that.
    println!("cargo::rerun-if-changed=migrations");
    println!("cargo::rerun-if-changed=migrations-postgres");
    let descriptors = protox::compile(["core.proto"], ["contract/proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".backstop.core.v1", "::backstop_contract::wire")
        .compile_fds(descriptors)?;
    Ok(())
}
