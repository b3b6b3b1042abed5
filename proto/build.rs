//! Compiles `larder/v1/*.proto` without `protoc`.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=larder");
    let mut files = Vec::new();
    for entry in fs::read_dir("larder/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(&files, ["."])?;
    // What reflection shows, imports included.
    let encoded = Path::new(&env::var("OUT_DIR")?).join("larder.v1.binpb");
    fs::write(encoded, descriptors.encode_to_vec())?;
    // A request with a password must not be shown by whoever shows requests; `src/redacted.rs` writes its Debug.
    tonic_prost_build::configure().bytes(".").skip_debug(["larder.v1.LoginRequest"]).compile_fds(descriptors)?;
    Ok(())
}
