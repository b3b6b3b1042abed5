//! A throw-away home.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use larder_core::Digest;
use larder_proto::v1::StopRequest;
use tempfile::TempDir;

use crate::cli::{Invocation, Output};
use crate::daemon::{Daemon, Launch};
use crate::grpc::Client;
use crate::trust::TrustFolder;
use crate::{GLANCE, PATIENCE, block};

/// A temporary folder that holds a Larder home, logs and whatever a test needs beside it. Gone when dropped.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    logs: AtomicU32,
}

impl Home {
    /// Makes the folder; the home in it is the daemon's to create.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("larder-").tempdir().expect("a temporary folder");
        Self { folder, logs: AtomicU32::new(0) }
    }

    /// Makes the folder inside another, as on a file system of its own.
    pub fn inside(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("larder-").tempdir_in(parent).expect("a temporary folder");
        Self { folder, logs: AtomicU32::new(0) }
    }

    /// Makes a home with this `config.toml`.
    pub fn with_config(config: &str) -> Self {
        let home = Self::new();
        home.configure(config);
        home
    }

    /// Returns `$LARDER_HOME`.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Returns a path beside the home, for a test's own files.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the home and returns its path.
    pub fn write_beside(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.beside(name);
        fs::write(&path, bytes).expect("a file beside the home");
        path
    }

    /// Writes a file that only its owner may read, beside the home, and returns its path.
    pub fn secret_beside(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.write_beside(name, bytes);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    }

    /// Writes `config.toml`.
    pub fn configure(&self, config: &str) {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.path()).expect("the home");
        fs::write(self.path().join("config.toml"), config).expect("config.toml");
    }

    /// Returns the trust folder's editor.
    pub fn trust(&self) -> TrustFolder {
        TrustFolder::new(self.path().join("trust"))
    }

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start(&self) -> Daemon {
        self.launch().start()
    }

    /// Prepares a start of the daemon.
    pub fn launch(&self) -> Launch {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        Launch::new(self.path(), self.beside(&format!("larderd-{number}.log")))
    }

    /// Runs the client to its end.
    #[track_caller]
    pub fn larder<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Output {
        self.invoke(arguments).run()
    }

    /// Prepares a run of the client.
    pub fn invoke<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Invocation {
        Invocation::new(&self.path(), self.folder.path(), arguments)
    }

    /// Returns where a blob lies, held or not.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Asserts the store's first invariant: what lies under `blobs/` hashes to its name. Returns how many there are.
    #[track_caller]
    pub fn assert_blobs_are_whole(&self) -> usize {
        let folder = self.path().join("blobs/sha256");
        let mut count = 0;
        for path in files(&folder) {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
            let bytes = fs::read(&path).expect("a blob");
            assert_eq!(Digest::of(&bytes).hex(), name, "{} does not hash to its name", path.display());
            count += 1;
        }
        count
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Home {
    /// Stops a daemon that a client started by itself; one that a test started is gone by now.
    fn drop(&mut self) {
        let Some(client) = Client::connect(&self.path().join("larder.sock")) else { return };
        let _ = block(client.daemon().stop(StopRequest {}));
        let deadline = Instant::now() + PATIENCE;
        while client.try_status().is_ok() && Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
    }
}

/// Lists the files of a folder (none where it is not there), in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}
