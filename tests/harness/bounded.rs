//! The bounds of what strangers may do to a daemon: memory and time.

use std::time::{Duration, Instant};

use crate::Daemon;
use crate::daemon::memory_kib;
use crate::http::Http;

/// By how much the daemon's memory may grow under any of it, in KiB.
const GROWTH_KIB: u64 = 96 << 10;
/// How long any of it may take. A bound and no measure of speed: a few of the daemon's own timeouts, tries and pauses, on a
/// slow machine.
const BOUND: Duration = Duration::from_secs(180);

/// Asserts at its end that the daemon's memory stayed within bounds, that it took no longer than it may, and that the
/// daemon serves its user.
#[derive(Debug)]
pub struct Bounded {
    pid: u32,
    http: Http,
    before: u64,
    begun: Instant,
}

impl Bounded {
    /// Begins.
    pub fn begin(daemon: &Daemon) -> Self {
        let pid = daemon.pid();
        Self { pid, http: daemon.http(), before: memory_kib(pid, "VmHWM"), begun: Instant::now() }
    }

    /// Ends; `what` names it.
    #[track_caller]
    pub fn end(self, what: &str) {
        let took = self.begun.elapsed();
        let after = memory_kib(self.pid, "VmHWM");
        println!("{what}: {took:?}, peak {} MiB, before {} MiB", after >> 10, self.before >> 10);
        assert!(after < self.before + GROWTH_KIB, "{what}: from {} to {after} KiB", self.before);
        assert!(took < BOUND, "{what} took {took:?}");
        self.http.get("/v2/").is(200);
    }
}
