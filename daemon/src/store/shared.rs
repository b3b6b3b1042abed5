//! What the store's threads share, and in which order its locks are taken: index writer, facts, head.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use larder_core::facts::Facts;
use tokio::sync::watch;

use super::blobs::Blobs;
use super::error::words;
use super::home::Home;
use super::index::Index;
use super::journal::verify::{Unverified, Verified};
use super::journal::{Chain, JournalId, Reader};
use super::recovery::REMEDY;
use super::snapshot::{self, TrustInForce};
use crate::clock::Clock;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Arc<Clock>,
    pub(super) blobs: Blobs,
    pub(super) index: Index,
    pub(super) reader: Arc<Reader>,
    /// Read for every verdict, written for each commit.
    pub(super) facts: RwLock<Facts>,
    /// Changes only under the facts' write lock, so that a snapshot under their read lock is of one seq.
    pub(super) head: Mutex<Head>,
    pub(super) seen: watch::Sender<u64>,
    pub(super) read_only: watch::Sender<Option<String>>,
    pub(super) stop: Stop,
    pub(super) snapshots: PathBuf,
    pub(super) journal_folder: PathBuf,
    pub(super) id: JournalId,
    /// One snapshot at a time.
    pub(super) snapshotting: AtomicBool,
    /// The seq of the last snapshot; 0 without one.
    pub(super) snapshotted: AtomicU64,
    /// How far the verification of what a start did not read is, in bytes: done and total; `None` once it is whole.
    pub(super) verifying: watch::Sender<Option<(u64, u64)>>,
    /// Given back when the store is closed.
    pub(super) home: Mutex<Option<Home>>,
}

/// Up to where everything is visible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) chain: Chain,
    /// Up to where the journal can be read; less than the chain's seq only where part of it is lost.
    pub(super) readable: u64,
    pub(super) trust: Option<TrustInForce>,
}

impl Shared {
    pub(super) fn head(&self) -> Head {
        *self.lock_head()
    }

    pub(super) fn lock_head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn facts_mut(&self) -> RwLockWriteGuard<'_, Facts> {
        self.facts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be written, if so.
    pub(super) fn why_read_only(&self) -> Option<String> {
        self.read_only.borrow().clone()
    }

    /// Lets nothing be written any more; the first reason stays.
    pub(super) fn set_read_only(&self, why: String) {
        tracing::error!(%why, "the store is read-only from now on");
        self.read_only.send_if_modified(|present| {
            let first = present.is_none();
            if first {
                *present = Some(why);
            }
            first
        });
    }

    /// Writes a snapshot of now. Not while read-only: what is there may be all that is left.
    pub(super) fn snapshot(&self) -> std::io::Result<()> {
        if self.why_read_only().is_some() {
            return Ok(());
        }
        // A copy costs a fraction of the writing out, and commits and verdicts wait only for that.
        let (facts, head) = {
            let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
            (facts.clone(), self.head())
        };
        let bytes = snapshot::to_bytes(self.id, head.chain, head.trust, self.blobs.bytes(), &facts.to_bytes());
        drop(facts);
        snapshot::write(&self.snapshots, head.chain.seq, &bytes)?;
        self.snapshotted.store(head.chain.seq, Ordering::Release);
        Ok(())
    }

    /// Verifies what the start did not read of the journal, slowly; damage makes read-only.
    pub(super) fn verify(&self, unverified: &Unverified) {
        /// So many bytes are read, then it pauses for as long as that took.
        const SLICE: u64 = 1 << 20;
        let (mut slice, mut begun) = (SLICE, Instant::now());
        let verified = unverified.verify(&self.reader, self.head().readable, &mut |done, total| {
            if done >= slice {
                slice = done.saturating_add(SLICE);
                self.verifying.send_replace(Some((done, total)));
                if self.stop.wait(begun.elapsed()) {
                    return false;
                }
                begun = Instant::now();
            }
            !self.stop.is_set()
        });
        match verified {
            Ok(Verified::Whole) => {
                self.verifying.send_replace(None);
            }
            Ok(Verified::Damaged(why)) => self.set_read_only(format!("{why}; {REMEDY}")),
            Ok(Verified::Stopped) => {}
            Err(error) => {
                let folder = self.journal_folder.display();
                self.set_read_only(format!("the journal in {folder} cannot be read through: {}", words(&error)));
            }
        }
    }

    /// Says whether a snapshot may begin, and that it does.
    pub(super) fn begin_snapshot(&self) -> bool {
        !self.snapshotting.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_snapshot(&self) {
        self.snapshotting.store(false, Ordering::Release);
    }

    /// Builds the index of a journal without records: there is nothing to look up, so nobody need wait.
    pub(super) fn build_empty_index(&self) -> bool {
        let head = || self.head().readable;
        head() == 0 && self.index.build_once(&self.reader, head, &self.stop)
    }

    /// Builds the index until it has all that is durable.
    pub(super) fn rebuild_index(&self, anew: bool) {
        self.index.rebuild(anew, &self.reader, || self.head().readable, &self.stop);
    }
}

/// Tells the store's threads to end; a condition, so that those that pause end at once.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopping: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    pub(super) fn set(&self) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so long; says whether to end.
    pub(super) fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopping {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            stopping = self.told.wait_timeout(stopping, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
