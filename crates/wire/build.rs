//! Compiles the services from their protos; pure Rust, no protoc is needed.

use std::{env, fs, path::PathBuf};

const AGENT: &str = "proto/pepo/agent/v1/agent.proto";
const SERVER: &str = "proto/pepo/server/v1/server.proto";
const EXT_AUTHZ: &str = "proto/envoy/ext_authz.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([AGENT, SERVER], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds(protox::compile([AGENT], ["proto"])?)?;
    tonic_prost_build::configure()
        .build_client(false)
        .compile_fds(protox::compile([EXT_AUTHZ], ["proto"])?)?;
    // In a folder of its own: the agent's messages are those of the first run.
    let server = out.join("server");
    fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .extern_path(".pepo.agent.v1", "crate::agent")
        .out_dir(server)
        .compile_fds(descriptors)?;
    Ok(())
}
