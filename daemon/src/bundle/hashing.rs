//! Hashing beside the reactor, while bytes pass.

use bytes::Bytes;
use larder_core::Digest;
use larder_core::digest::{Algorithm, Hasher};
use tokio::sync::mpsc;
use tokio::task::{self, JoinHandle};

/// How many pieces wait to be hashed.
const PIECES: usize = 8;

/// Hashes what passes, on the blocking pool.
#[derive(Debug)]
pub struct Hashing {
    pieces: mpsc::Sender<Bytes>,
    hashed: JoinHandle<(Digest, u64)>,
}

impl Hashing {
    /// Begins to hash.
    pub fn begin(algorithm: Algorithm) -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(PIECES);
        let hashed = task::spawn_blocking(move || {
            let (mut hasher, mut length) = (Hasher::new(algorithm), 0_u64);
            while let Some(piece) = waiting.blocking_recv() {
                hasher.update(&piece);
                length = length.saturating_add(piece.len() as u64);
            }
            (hasher.finish(), length)
        });
        Self { pieces, hashed }
    }

    /// Adds bytes; back-pressure is the await.
    pub async fn update(&self, piece: Bytes) {
        // The other side takes all there is; were it gone, there would be no digest at the end.
        let _ = self.pieces.send(piece).await;
    }

    /// Returns the digest of all bytes, and how many there were; `None` where the daemon stops.
    pub async fn finish(self) -> Option<(Digest, u64)> {
        drop(self.pieces);
        self.hashed.await.ok()
    }
}
