//! What the end-to-end tests stand on: the two real binaries, throw-away homes, a registry that misbehaves on
//! request, images and signatures made on the spot.
//!
//! Everything here blocks, so that a test reads from top to bottom; async parts run on one runtime in the back
//! ([`block`]). A part that cannot do its work panics and says why: a test has nothing better to do with an error.

pub mod binaries;
pub mod bounded;
pub mod cli;
pub mod daemon;
pub mod faults;
pub mod fixtures;
pub mod grpc;
pub mod home;
pub mod hostile;
pub mod http;
pub mod image;
pub mod pki;
pub mod raw;
pub mod registry;
pub mod signer;
pub mod terminal;
pub mod tls;
pub mod transcript;
pub mod trust;
pub mod watch;

use std::future::Future;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use binaries::binaries;
pub use bounded::Bounded;
pub use cli::Output;
pub use daemon::Daemon;
pub use grpc::Client;
pub use home::Home;
pub use hostile::HostileRegistry;
pub use http::Http;
pub use image::{Content, Image, Index};
pub use raw::Raw;
pub use registry::FakeRegistry;
pub use signer::Signer;
pub use terminal::Terminal;
pub use tls::TlsServer;
pub use trust::TrustFolder;
pub use watch::Watch;

/// How long a test waits for what must happen, before it calls it missing. Generous: it is no measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a test looks whether something happened.
pub const GLANCE: Duration = Duration::from_millis(10);

/// The runtime in the back.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a tokio runtime")
    })
}

/// Runs a future to its end.
pub fn block<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

/// Says loudly what is not tested here, and why: a test that passes is not asked what it printed.
pub fn not_tested(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {what}");
}

/// Looks again and again until `look` gives something; panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(GLANCE);
    }
}
