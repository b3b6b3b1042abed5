//! The look-up index: sled as a view of the journal. What is looked up is here, nothing that a verdict needs.
//!
//! Records go in, in order; rows come out. A commit's rows appear together, in memory first ([`layers`]), and are then
//! written in batches of at most [`BATCH`], of which the last one carries the seq up to which the journal is applied.
//! In any doubt the folder is removed and built anew from the journal ([`rebuild`]); meanwhile look-ups say so.

mod keys;
mod layers;
mod lookup;
mod rebuild;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use prost::Message;

use self::layers::{Changes, Draft, Fault, guard};
use super::disk::{self, FaultPoint};
use super::error::{StoreError, is_full};
use super::journal::JournalId;
use super::record::{Event, Record};

/// Beside sled's files: a look-up found them damaged.
const DOUBT: &str = "doubt";
/// Rows and their meaning; another number means to build anew.
const SCHEMA: u32 = 1;
/// The most rows written at once: larger batches make sled's memory grow.
const BATCH: usize = 100;
/// sled's cache, which is no bound: below the working set it costs more than it saves.
const CACHE_BYTES: u64 = 256 << 20;
/// sled is not given the last bytes of a disk: it does not survive a failed write.
const RESERVE_BYTES: u64 = 4 << 20;
/// So many rows may wait for a disk that is full; then the index is given up.
const MAX_PENDING: usize = 200_000;
/// sled's lock is tried so many times again, each time after a pause.
const LOCK_PATIENCE: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Up to so many rows are counted at a start.
const COUNTED_ROWS: u64 = 20_000;

/// What the index says of itself.
#[derive(Clone, PartialEq, Message)]
struct Meta {
    #[prost(uint32, tag = "1")]
    schema: u32,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    /// The journal is applied up to this seq, whose header has this hash.
    #[prost(uint64, tag = "3")]
    applied: u64,
    #[prost(bytes = "vec", tag = "4")]
    hash: Vec<u8>,
    /// It is being built.
    #[prost(bool, tag = "5")]
    building: bool,
    /// How many rows there are beside this one.
    #[prost(uint64, tag = "6")]
    rows: u64,
}

/// The index, open or being rebuilt.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    id: JournalId,
    /// What readers see. Held for a look-up.
    view: RwLock<View>,
    /// Who writes, one at a time. Taken before `view`.
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct View {
    tree: Option<sled::Tree>,
    pending: Changes,
    /// How far the rebuilding is; `None` when it is ready.
    rebuilding: Option<(u64, u64)>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Writer {
    db: Option<sled::Db>,
    meta: Meta,
}

/// What was found of an index: up to where it says that the journal is applied.
#[derive(Debug)]
pub(super) struct Sentinel {
    pub(super) applied: u64,
    pub(super) hash: [u8; 32],
    pub(super) building: bool,
}

impl Index {
    /// Opens what there is. The sentinel is `None` where there is nothing to be believed.
    pub(super) fn open(folder: &Path, mended: &mut Vec<String>) -> (Self, Option<Sentinel>, Option<JournalId>) {
        let mut index = Self {
            folder: folder.to_owned(),
            id: JournalId::default(),
            view: RwLock::new(View { rebuilding: Some((0, 0)), ..View::default() }),
            writer: Mutex::default(),
        };
        let is_there = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        if !is_there {
            return (index, None, None);
        }
        match open_and_check(folder) {
            Ok((db, meta)) => {
                let id = meta.id.as_slice().try_into().ok();
                let hash = meta.hash.as_slice().try_into().unwrap_or_default();
                let sentinel = Sentinel { applied: meta.applied, hash, building: meta.building };
                index.id = id.unwrap_or_default();
                let view = index.view.get_mut().unwrap_or_else(PoisonError::into_inner);
                view.tree = Some((*db).clone());
                *index.writer.get_mut().unwrap_or_else(PoisonError::into_inner) = Writer { db: Some(db), meta };
                (index, Some(sentinel), id)
            }
            Err(fault) => {
                mended.push(format!("the look-up index is not to be believed ({fault}); it is built anew"));
                (index, None, None)
            }
        }
    }

    /// Says of which journal this is to be the view.
    pub(super) fn belongs_to(&mut self, id: JournalId) {
        self.id = id;
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the rebuilding is (done, total); `None` when it is ready.
    pub(super) fn rebuilding(&self) -> Option<(u64, u64)> {
        self.view().rebuilding
    }

    /// Leaves a note for the next start that the files are damaged.
    fn note_doubt(&self) {
        if let Err(error) = std::fs::write(self.folder.join(DOUBT), b"") {
            tracing::warn!(%error, "the doubt about the look-up index could not be noted");
        }
    }

    /// Marks the index as ready to be asked.
    pub(super) fn set_ready(&self) {
        self.view_mut().rebuilding = None;
    }

    /// Looks whether rows are there that these records have made; `false` is doubt.
    pub(super) fn holds(&self, record: &Record) -> bool {
        let view = self.view();
        let Some(tree) = &view.tree else { return false };
        let keys: Vec<Vec<u8>> = match &record.event {
            Event::Operation(operation) => {
                let manifests = operation.manifests.iter().take(8);
                let tags = operation.tags.iter().take(8);
                manifests
                    .map(|manifest| keys::manifest(&manifest.repository, &manifest.digest))
                    .chain(tags.map(|moved| keys::tag_history_at(&moved.repository, &moved.tag, record.seq)))
                    .collect()
            }
            Event::VerdictsTold(told) => (record.seq..)
                .zip(told.changes.iter().take(8))
                .map(|(seq, change)| keys::subject_history_at(&change.repository, &change.digest, seq))
                .collect(),
            Event::Corruption(corruption) => vec![keys::corruption_at(&corruption.digest, record.seq)],
            Event::TrustChanged(_) | Event::Pruned(_) => Vec::new(),
        };
        keys.iter().all(|key| guard(|| Ok(tree.contains_key(key)?)).unwrap_or(false))
    }

    /// Applies records that are durable in the journal; `last` is the seq and hash of the last one. What is applied
    /// already is skipped. Says whether the index must be rebuilt.
    pub(super) fn apply(&self, records: &[Record], last: (u64, [u8; 32])) -> Applied {
        let mut writer = self.writer();
        if self.view().rebuilding.is_some() {
            return Applied::Done;
        }
        match self.apply_with(&mut writer, records, last, false) {
            Ok(()) => Applied::Done,
            Err(fault) => {
                tracing::warn!(%fault, "the look-up index cannot be written; it is built anew");
                self.give_up(&mut writer, last.0);
                Applied::Rebuild
            }
        }
    }

    fn give_up(&self, writer: &mut Writer, total: u64) {
        let mut view = self.view_mut();
        *view = View { rebuilding: Some((0, total)), ..View::default() };
        drop(view);
        let _ = guard(|| {
            drop(writer.db.take());
            Ok(())
        });
    }

    fn apply_with(
        &self,
        writer: &mut Writer,
        records: &[Record],
        (seq, hash): (u64, [u8; 32]),
        building: bool,
    ) -> Result<(), Fault> {
        let changes = {
            let view = self.view();
            let Some(tree) = &view.tree else { return Err(Fault("it is not open".into())) };
            let mut draft = Draft { changes: Changes::new(), pending: &view.pending, tree };
            for record in records.iter().filter(|record| record.last_seq() > writer.meta.applied) {
                rows::apply(&mut draft, record)?;
            }
            draft.changes
        };
        // All rows of a commit appear at once, whatever sled does in how many batches.
        self.view_mut().pending.extend(changes);
        writer.meta.applied = writer.meta.applied.max(seq);
        writer.meta.hash = hash.to_vec();
        writer.meta.building = building;
        self.write_pending(writer)
    }

    /// Writes what is pending. Where the disk is full it stays pending, and is tried again with the next commit.
    fn write_pending(&self, writer: &mut Writer) -> Result<(), Fault> {
        let (pending, tree) = {
            let view = self.view();
            let Some(tree) = view.tree.clone() else { return Err(Fault("it is not open".into())) };
            (view.pending.clone(), tree)
        };
        match self.write(writer, &tree, &pending) {
            Ok(()) => self.view_mut().pending.clear(),
            Err(WriteError::Full) if pending.len() <= MAX_PENDING => {}
            Err(WriteError::Full) => return Err(Fault("the disk has been full for too long".into())),
            Err(WriteError::Fault(fault)) => return Err(fault),
        }
        Ok(())
    }

    fn write(&self, writer: &mut Writer, tree: &sled::Tree, pending: &Changes) -> Result<(), WriteError> {
        let room = rustix::fs::statvfs(&self.folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if room.is_ok_and(|room| room < RESERVE_BYTES) {
            return Err(WriteError::Full);
        }
        // The row of the last batch alone says that everything is applied.
        let mut meta = previous(tree)?;
        let rows: Vec<_> = pending.iter().collect();
        let mut chunks = rows.chunks(BATCH - 1).peekable();
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let is_last = chunks.peek().is_none();
            let mut batch = sled::Batch::default();
            for (key, change) in chunk {
                let there = guard(|| Ok(tree.contains_key(key)?))?;
                match change {
                    Some(value) => {
                        batch.insert(key.as_slice(), value.as_slice());
                        meta.rows += u64::from(!there);
                    }
                    None => {
                        batch.remove(key.as_slice());
                        meta.rows = meta.rows.saturating_sub(u64::from(there));
                    }
                }
            }
            if is_last {
                meta = Meta { rows: meta.rows, ..writer.meta.clone() };
            }
            batch.insert(keys::META, meta.encode_to_vec());
            at(FaultPoint::IndexApply, || Ok(tree.apply_batch(batch)?))?;
            if is_last {
                break;
            }
        }
        at(FaultPoint::IndexFlush, || Ok(tree.flush().map(|_| ())?))?;
        writer.meta = meta;
        Ok(())
    }

    /// Writes what is pending and closes; nothing can be asked any more.
    pub(super) fn close(&self) {
        let mut writer = self.writer();
        if self.view().tree.is_some()
            && let Err(fault) = self.write_pending(&mut writer)
        {
            tracing::warn!(%fault, "the look-up index could not be closed well");
        }
        *self.view_mut() = View { closed: true, ..View::default() };
        let _ = guard(|| {
            drop(writer.db.take());
            Ok(())
        });
    }

    fn unavailable(view: &View) -> StoreError {
        match view.rebuilding {
            _ if view.closed => StoreError::Stopping,
            Some((done, total)) => StoreError::Rebuilding { done, total },
            None => StoreError::Stopping,
        }
    }
}

/// What became of records that were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// They can be looked up, or will be when the rebuilding comes to them.
    Done,
    /// The index was given up.
    Rebuild,
}

enum WriteError {
    Full,
    Fault(Fault),
}

impl From<Fault> for WriteError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Writes by sled at a fault point.
fn at(point: FaultPoint, write: impl FnOnce() -> Result<(), Fault>) -> Result<(), WriteError> {
    let mut fault = None;
    let passed = disk::pass(point, || {
        fault = guard(write).err();
        Ok(())
    });
    match (fault, passed) {
        (Some(fault), _) => Err(WriteError::Fault(fault)),
        (None, Err(error)) if is_full(&error) => Err(WriteError::Full),
        (None, Err(error)) => Err(WriteError::Fault(Fault(error.to_string()))),
        (None, Ok(())) => Ok(()),
    }
}

/// Reads what the tree says of itself.
fn previous(tree: &sled::Tree) -> Result<Meta, Fault> {
    let row = guard(|| Ok(tree.get(keys::META)?))?;
    row.map_or_else(
        || Ok(Meta::default()),
        |row| Meta::decode(row.as_ref()).map_err(|_| Fault("its sentinel cannot be read".into())),
    )
}

fn open_db(folder: &Path) -> Result<sled::Db, Fault> {
    // Flushed with every commit, and never in between: sled must not write when the disk may be full.
    let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let mut patience = LOCK_PATIENCE;
    loop {
        match guard(|| Ok(config.open()?)) {
            // The home is ours, so the lock is a closed one that a child being started has open for an instant.
            Err(fault) if fault.0.contains("acquire lock") && patience > 0 => {
                patience -= 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            other => return other,
        }
    }
}

/// Opens the tree and looks whether it is what it says.
fn open_and_check(folder: &Path) -> Result<(sled::Db, Meta), Fault> {
    if folder.join(DOUBT).exists() {
        return Err(Fault("a look-up failed in it".into()));
    }
    let db = open_db(folder)?;
    let meta = previous(&db)?;
    if meta.schema != SCHEMA {
        return Err(Fault("it has no sentinel of this version".into()));
    }
    if meta.rows <= COUNTED_ROWS {
        let rows = guard(|| {
            let mut rows = 0_u64;
            for row in db.iter() {
                row?;
                rows += 1;
            }
            Ok(rows)
        })?;
        if rows.checked_sub(1) != Some(meta.rows) {
            return Err(Fault(format!("it has {rows} rows instead of {}", meta.rows.saturating_add(1))));
        }
    }
    Ok((db, meta))
}
