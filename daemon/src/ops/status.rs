//! How the daemon is.

use std::path::PathBuf;

use jiff::Timestamp;

use super::Ctx;
use crate::config::{GateMode, Keep};
use crate::trust::Published;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Process {
    /// The home.
    pub home: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// The endpoint's address; `None` where it is off.
    pub endpoint: Option<std::net::SocketAddr>,
    /// Where the API is on TCP; `None` where it is on the socket only.
    pub grpc: Option<std::net::SocketAddr>,
    /// The trust folder.
    pub trust_folder: PathBuf,
    /// When it was started.
    pub started: Timestamp,
    /// How much history is kept, as configured.
    pub keep: Keep,
    /// What was mended at start, as lines for people.
    pub recovered: Vec<String>,
}

/// How the daemon is right now.
#[derive(Clone, Debug)]
pub struct Status {
    /// What the endpoint does with subjects that are not accepted.
    pub gate: GateMode,
    /// The journal's last seq.
    pub seq: u64,
    /// Why nothing can be written.
    pub read_only: Option<String>,
    /// How far the index is rebuilt: done and total.
    pub rebuilding: Option<(u64, u64)>,
    /// How the trust folder is.
    pub trust: Published,
    /// How many subjects are held.
    pub subjects: u64,
    /// The oldest seq of the journal, and when what was before it was pruned.
    pub oldest: (u64, Option<Timestamp>),
    /// How far the verification of the journal's older part is, in bytes; `None` once it is done.
    pub verifying: Option<(u64, u64)>,
}

/// Says how the daemon is.
pub fn status(ctx: &Ctx) -> Status {
    let seq = *ctx.store.head().borrow();
    let read_only = ctx.store.read_only().borrow().clone();
    let trust = ctx.trust.published().borrow().clone();
    Status {
        gate: ctx.gate,
        seq,
        read_only,
        rebuilding: ctx.store.rebuilding(),
        trust,
        subjects: ctx.store.facts().len() as u64,
        oldest: ctx.store.oldest(),
        verifying: *ctx.store.verifying().borrow(),
    }
}
