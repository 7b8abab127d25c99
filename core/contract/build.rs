//! Compiles the messages of `proto/core.proto` in pure Rust: no `protoc` to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/core.proto");
    let descriptors = protox::compile(["core.proto"], ["proto"])?;
    prost_build::Config::new()
        .btree_map(["."])
        // What carries accounts and attributes prints as the contract says, or not at all.
        .skip_debug(["Transaction", "Value"])
        .compile_fds(descriptors)?;
    Ok(())
}
