//! Opening a home: what the snapshot, the index and the journal say, and what follows where they do not agree.
//!
//! The journal decides, except that it cannot be younger than its views: a snapshot or an index ahead of it, or of other
//! headers, means that part of it is lost. Then nothing is written, nothing is repaired, and what can be read is served.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use tokio::sync::watch;

use super::apply::apply;
use super::blobs::Blobs;
use super::error::{OpenError, StoreError};
use super::home::Home;
use super::index::{Index, Sentinel};
use super::journal::verify::Unverified;
use super::journal::{self, Damage, Journal, JournalId, Reader, Scan, read};
use super::record::Event;
use super::shared::{Head, Shared, Stop};
use super::snapshot::{self, Snapshot};
use crate::clock::Clock;

/// An index that is further behind is brought up in the background.
const CATCH_UP: u64 = 10_000;
/// So many places of the journal are looked up in the index at a start.
const SAMPLES: u64 = 16;

/// What is to be done with the index once the store runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IndexWork {
    /// Nothing.
    None,
    /// The rest of the journal is to be applied.
    Continue,
    /// It is to be built anew.
    Anew,
}

/// A store that is open, its threads not started.
pub(super) struct Opened {
    pub(super) shared: Shared,
    pub(super) journal: Option<Journal>,
    pub(super) index_work: IndexWork,
    /// What was not read of the journal.
    pub(super) unverified: Unverified,
    pub(super) mended: Vec<String>,
}

pub(super) fn open(path: &Path, clock: Arc<Clock>, segment_bytes: u64) -> Result<Opened, OpenError> {
    let mut home = Home::hold(path)?;
    let mut mended = std::mem::take(&mut home.mended);
    let blobs = Blobs::open(path)?;
    let (folder, snapshots) = (path.join("journal"), path.join("snapshot"));
    let snapshot = snapshot::load(&snapshots, &mut mended).map_err(OpenError::io("read", &snapshots))?;
    let (mut index, sentinel, index_id) = Index::open(&path.join("index"), &mut mended);

    let wanted: Vec<u64> = snapshot
        .iter()
        .map(|snapshot| snapshot.chain.seq)
        .chain(sentinel.iter().map(|sentinel| sentinel.applied))
        .collect();
    // Both views together have seen what is before them; without one of them the journal is read from its beginning.
    let believed = if wanted.len() == 2 { wanted.iter().min().copied() } else { None };
    let mut scan = journal::scan(&folder, &wanted, believed).map_err(OpenError::io("read", &folder))?;
    // Views of what was pruned since say nothing any more: a state takes their place.
    let begins = scan.begins_after();
    let snapshot = snapshot.filter(|snapshot| snapshot.chain.seq >= begins);
    let sentinel =
        sentinel.filter(|sentinel| sentinel.applied > begins || sentinel.applied == begins && !sentinel.building);
    if let Some(snapshot) = &snapshot {
        scan.chain.time = scan.chain.time.max(snapshot.chain.time);
    }
    let loss = loss(&scan, snapshot.as_ref(), sentinel.as_ref().zip(index_id));
    let read_only = loss.clone().map(|why| format!("{why}; {REMEDY}")).or_else(|| home.read_only.clone());
    if read_only.is_none() {
        mend(&scan, &folder, &blobs, &mut mended)?;
    }
    let id = scan.id.or_else(|| snapshot.as_ref().map(|snapshot| snapshot.id)).or(index_id).unwrap_or_default();
    index.belongs_to(id);
    let readable = scan.chain.seq;
    // Records before were not read, and a sample of them is not worth a reading.
    let read_from = scan.unread.map_or(begins, |chain| chain.seq);
    let mut head = Head { chain: scan.chain, readable, trust: None };
    let is_lost = loss.is_some();
    let unverified = Unverified { end: scan.unread };
    let (reader, journal) = scan.open(&folder, segment_bytes).map_err(OpenError::io("open", &folder))?;
    let snapshotted = snapshot.as_ref().map_or(0, |snapshot| snapshot.chain.seq);
    let facts = facts(snapshot, &reader, &mut head, &blobs).map_err(|error| unreadable(&folder, error))?;
    if head.chain.time > i64::MIN
        && let Ok(time) = super::wire::time(head.chain.time)
    {
        clock.note(time);
    }
    let index_work = index_work(&index, sentinel.as_ref(), &reader, (read_from, readable), is_lost, &mut mended);
    let shared = Shared {
        clock,
        blobs,
        index,
        reader,
        facts: RwLock::new(facts),
        head: Mutex::new(head),
        seen: watch::Sender::new(head.chain.seq),
        read_only: watch::Sender::new(read_only.clone()),
        stop: Stop::default(),
        snapshots,
        journal_folder: folder,
        id,
        snapshotting: AtomicBool::new(false),
        snapshotted: AtomicU64::new(snapshotted),
        verifying: watch::Sender::new(Some((0, 0))),
        home: Mutex::new(Some(home)),
    };
    let journal = journal.filter(|_| read_only.is_none());
    Ok(Opened { shared, journal, index_work, unverified, mended })
}

pub(super) const REMEDY: &str = "put journal/ back from a copy; or, if only its end is gone and that is to be accepted, stop \
                      larderd and remove index/ and snapshot/ of the home";

fn unreadable(folder: &Path, error: StoreError) -> OpenError {
    OpenError::io("read", folder)(std::io::Error::other(error.to_string()))
}

/// Says what of the journal is lost, if anything is.
fn loss(scan: &Scan, snapshot: Option<&Snapshot>, index: Option<(&Sentinel, JournalId)>) -> Option<String> {
    if let Damage::Loss(why) = &scan.damage {
        return Some(why.clone());
    }
    let views = snapshot
        .map(|snapshot| ("snapshot", snapshot.id, snapshot.chain.seq, snapshot.chain.hash))
        .into_iter()
        .chain(index.map(|(sentinel, id)| ("index", id, sentinel.applied, sentinel.hash)));
    for (view, id, seq, hash) in views {
        if scan.id.is_some_and(|journal| journal != id) {
            return Some(format!("the {view} is of another journal"));
        }
        if seq > scan.chain.seq {
            let end = scan.chain.seq;
            return Some(format!("the journal ends at seq {end}, and the {view} is of seq {seq}: its end is lost"));
        }
        if scan.hashes.get(&seq) != Some(&hash) {
            return Some(format!("the journal up to seq {seq} is not the one that the {view} was made of"));
        }
    }
    None
}

/// Cuts a torn end, and ends a pruning that was interrupted.
fn mend(scan: &Scan, folder: &Path, blobs: &Blobs, mended: &mut Vec<String>) -> Result<(), OpenError> {
    if !scan.doomed.is_empty() {
        journal::state::remove(folder, &scan.doomed).map_err(OpenError::io("finish the pruning of", folder))?;
        mended.push("the journal was being pruned when larderd ended; that is finished now".into());
    }
    let Damage::Torn { path, offset, length } = &scan.damage else { return Ok(()) };
    let kept = blobs.quarantine.keep_tail(path, *offset).map_err(OpenError::io("keep the torn end of", path))?;
    journal::cut(path, *offset).map_err(OpenError::io("cut the torn end of", path))?;
    let seq = scan.chain.seq;
    mended.push(format!(
        "the journal ended in {length} bytes of an unfinished record after seq {seq}, as a crash leaves them; they were cut and are kept in {}",
        kept.display()
    ));
    Ok(())
}

/// Builds the facts table: the snapshot, and what the journal says since. `head` comes out at the later of both.
fn facts(
    snapshot: Option<Snapshot>,
    reader: &Reader,
    head: &mut Head,
    blobs: &Blobs,
) -> Result<larder_core::facts::Facts, StoreError> {
    let (mut facts, mut after) = (larder_core::facts::Facts::default(), 0);
    if let Some(snapshot) = snapshot {
        facts = snapshot.facts;
        after = snapshot.chain.seq;
        head.trust = snapshot.trust;
        blobs.assume_bytes(snapshot.blob_bytes);
        if after > head.chain.seq {
            head.chain = snapshot.chain;
        }
    }
    reader.walk(after, head.readable, |entry| {
        let record = read(entry)?;
        if let Event::TrustChanged(changed) = &record.event {
            head.trust = Some((changed.set, record.time, record.seq));
        }
        apply(&mut facts, &record);
        Ok::<_, StoreError>(ControlFlow::Continue(()))
    })?;
    Ok(facts)
}

/// Looks whether the index is to be believed, and brings it up to date where that is quick.
fn index_work(
    index: &Index,
    sentinel: Option<&Sentinel>,
    reader: &Reader,
    (from, head): (u64, u64),
    is_lost: bool,
    mended: &mut Vec<String>,
) -> IndexWork {
    let Some(sentinel) = sentinel else { return IndexWork::Anew };
    if !is_sampled_well(index, reader, sentinel.applied.min(head), from) {
        mended.push("the look-up index lacks rows; it is built anew".into());
        return IndexWork::Anew;
    }
    if is_lost && sentinel.applied >= head {
        // It may know more than the journal does.
        index.set_ready();
        return IndexWork::None;
    }
    if sentinel.building || head.saturating_sub(sentinel.applied) > CATCH_UP {
        return IndexWork::Continue;
    }
    if !index.catch_up(reader, head) {
        return IndexWork::Anew;
    }
    index.set_ready();
    IndexWork::None
}

/// Looks up some records after `from`, up to where the index says that it has them.
fn is_sampled_well(index: &Index, reader: &Reader, applied: u64, from: u64) -> bool {
    let step = (applied.saturating_sub(from) / SAMPLES).max(1);
    let mut seqs: HashMap<u64, ()> = (0..SAMPLES).map(|place| (applied.saturating_sub(place * step), ())).collect();
    seqs.retain(|seq, ()| *seq > from);
    seqs.into_keys().all(|seq| match reader.at(seq, applied) {
        Ok(Some(record)) => index.holds(&record),
        Ok(None) => true,
        Err(_) => false,
    })
}
