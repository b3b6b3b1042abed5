//! The two binaries under test, built once a run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where the binaries lie; beside each other, as the client expects it.
#[derive(Debug)]
pub struct Binaries {
    /// The client.
    pub larder: PathBuf,
    /// The daemon.
    pub larderd: PathBuf,
}

/// Returns the workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// Builds `larder` and `larderd` in the profile of the caller (so that tests get the fault points and
/// benchmarks what is shipped). `cargo test` builds no other package's binaries, so this asks cargo itself.
pub fn binaries() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        // The whole workspace's features, as `cargo test --workspace` chose them: nothing is built twice.
        command.args(["build", "--workspace", "--bin", "larder", "--bin", "larderd"]);
        command.arg("--message-format=json-render-diagnostics");
        if !cfg!(debug_assertions) {
            command.arg("--release");
        }
        let output = command
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo can be run");
        assert!(output.status.success(), "cargo could not build the binaries: {}", output.status);
        let find = |name: &str| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .find(|message| message["target"]["name"] == name && message["executable"].is_string())
                .and_then(|message| message["executable"].as_str().map(PathBuf::from))
                .unwrap_or_else(|| panic!("cargo built no {name}"))
        };
        Binaries { larder: find("larder"), larderd: find("larderd") }
    })
}
