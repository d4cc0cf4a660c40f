//! Compiles the CRI's calls from the same file as `platform`; pure Rust, no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, proto) = ("../platform/proto", "../platform/proto/runtime/v1/cri.proto");
    println!("cargo:rerun-if-changed={proto}");
    let descriptors = protox::compile([proto], [folder])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
