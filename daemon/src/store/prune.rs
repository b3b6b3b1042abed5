//! Pruning: the oldest segments of the journal are replaced by a state, what still matters of them.
//!
//! The order is: state durable → on record → segments gone. A state without a record counts for nothing, and segments that
//! are still there are read in its place, so that a crash between any two steps loses nothing (docs/journal.md).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use larder_core::facts::Facts;
use larder_core::{Digest, Repository, Tag};

use super::error::StoreError;
use super::journal::state::{self, StateWriter};
use super::journal::{StateStart, Written, read, sha256};
use super::record::{Actor, Event, ManifestAdded, Operation, Pruned, Record, VerdictsTold};
use super::shared::Shared;
use super::wire::Wire as _;
use super::{Store, disk};
use crate::config::Keep;

/// What a pruning takes away, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruning {
    /// The last seq that goes; 0 where nothing does.
    pub until: u64,
    /// How many segments go.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of the state that takes their place; 0 where it was not written.
    pub state_bytes: u64,
}

impl Store {
    /// Prunes the journal. Whoever follows it from a seq that is gone is told so; first sights, tags, what was told last and
    /// the trust in force stay. Waits until the journal was verified.
    ///
    /// # Errors
    /// Fails where the store is read-only, the disk is full, or the journal cannot be read; nothing is lost then.
    pub async fn prune(&self, keep: Keep, actor: Actor, dry_run: bool) -> Result<Pruning, StoreError> {
        if !dry_run {
            self.check_writable()?;
        }
        let turn = self.inner.pruning.lock().await;
        let plan = self.blocking(move |shared| plan(shared, keep)).await?;
        let Some(Plan { until, time, mut pruning }) = plan else { return Ok(Pruning::default()) };
        if dry_run {
            return Ok(pruning);
        }
        self.verified().await?;
        let (path, start, digest) = self.blocking(move |shared| write_state(shared, until, time)).await?;
        pruning.state_bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let event = Event::Pruned(Pruned { until: start.until.seq, state: digest });
        if let Err(error) = self.commit(actor, vec![event]).await {
            // It would count for nothing, and the next start would remove it.
            disk::discard(&path);
            return Err(error);
        }
        self.blocking(move |shared| {
            let gone = shared.reader.begin_with(path, start);
            state::remove(&shared.journal_folder, &gone)
                .map(drop)
                .map_err(StoreError::io("prune", &shared.journal_folder))
        })
        .await?;
        drop(turn);
        Ok(pruning)
    }

    /// Waits until everything that the start did not read was verified: what is pruned cannot be verified any more.
    ///
    /// # Errors
    /// Fails where the store is read-only, or closes.
    pub async fn verified(&self) -> Result<(), StoreError> {
        let (mut verifying, mut read_only) = (self.verifying(), self.read_only());
        tokio::select! {
            verified = verifying.wait_for(Option::is_none) => verified.map(drop).map_err(|_| StoreError::Stopping),
            _ = read_only.wait_for(Option::is_some) => self.check_writable(),
        }
    }
}

struct Plan {
    /// The last seq that goes, and its time.
    until: u64,
    time: i64,
    pruning: Pruning,
}

/// Says which segments go. The last one, to which frames are added, stays.
fn plan(shared: &Shared, keep: Keep) -> Result<Option<Plan>, StoreError> {
    let (state, segments) = shared.reader.files();
    let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut left: u64 = state.iter().chain(segments.iter().map(|(path, _)| path)).map(length).sum();
    let age = SignedDuration::from_hours(24 * i64::from(keep.days));
    let oldest = shared.clock.now().checked_sub(age).unwrap_or(Timestamp::MIN);
    let mut found: Option<Plan> = None;
    for ((path, _), (_, next)) in segments.iter().zip(segments.iter().skip(1)) {
        if left <= keep.bytes {
            break;
        }
        let until = next.saturating_sub(1);
        let Some(record) = shared.reader.at(until, shared.head().readable)? else { break };
        if record.time > oldest {
            break;
        }
        let bytes = length(path);
        left = left.saturating_sub(bytes);
        let before = found.map(|plan| plan.pruning).unwrap_or_default();
        let pruning = Pruning { until, segments: before.segments + 1, bytes: before.bytes + bytes, state_bytes: 0 };
        found = Some(Plan { until, time: record.time.as_millisecond(), pruning });
    }
    Ok(found)
}

/// Writes the state of everything up to `until`, the end of a segment.
fn write_state(shared: &Shared, until: u64, time: i64) -> Result<(PathBuf, StateStart, Digest), StoreError> {
    let folder = &shared.journal_folder;
    let failed = || StoreError::io("write the state of the journal to", folder);
    if let Some(home) = &*shared.home.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
        home.note_pruned_journal().map_err(StoreError::io("note the pruning in", folder))?;
    }
    let hash = shared.reader.hash_before(until.saturating_add(1)).map_err(failed())?;
    let start = StateStart {
        id: shared.id,
        until: super::journal::Chain { seq: until, hash, time },
        written: shared.clock.now().as_millisecond(),
    };
    let stopping = || if shared.stop.is_set() { Err(StoreError::Stopping) } else { Ok(()) };
    let mut last = Last::default();
    shared.reader.walk(0, until, |entry| {
        stopping()?;
        last.note(&read(entry)?);
        Ok::<_, StoreError>(ControlFlow::Continue(()))
    })?;
    let mut writer = StateWriter::create(folder, start).map_err(failed())?;
    shared.reader.walk(0, until, |entry| {
        stopping()?;
        let record = read(entry)?;
        let kept = {
            let facts = shared.facts.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            last.keep(record, &facts)
        };
        for record in kept {
            writer.add(Written::outside(&record)).map_err(failed())?;
        }
        Ok::<_, StoreError>(ControlFlow::Continue(()))
    })?;
    let (path, digest) = writer.finish().map_err(failed())?;
    Ok((path, start, digest))
}

/// Half of a SHA-256 stands for what is compared: a journal of a million tags and manifests costs some 50 MB for the while.
type Key = [u8; 16];

fn key(bytes: &[u8]) -> Key {
    let hash = sha256(bytes);
    let mut key = Key::default();
    key.copy_from_slice(&hash[..16]);
    key
}

fn attached_key(repository: &Repository, digest: &Digest, subject: &Digest) -> Key {
    key(format!("{repository}@{digest} of {subject}").as_bytes())
}

fn tag_key(repository: &Repository, tag: &Tag) -> Key {
    key(format!("{repository}:{tag}").as_bytes())
}

/// Which records were the last to say something, among those that are pruned.
#[derive(Debug, Default)]
struct Last {
    trust: u64,
    tags: HashMap<Key, u64>,
    corruption: HashMap<Digest, u64>,
    /// When manifests were taken away last from what they were attached to.
    detached: HashMap<Key, u64>,
    /// Manifests that were kept already.
    manifests: HashSet<Key>,
}

impl Last {
    fn note(&mut self, record: &Record) {
        match &record.event {
            Event::Operation(operation) => {
                for moved in &operation.tags {
                    self.tags.insert(tag_key(&moved.repository, &moved.tag), record.seq);
                }
                for gone in &operation.detached {
                    let key = attached_key(&gone.repository, &gone.digest, &gone.subject);
                    self.detached.insert(key, record.seq);
                }
            }
            Event::TrustChanged(_) => self.trust = record.seq,
            Event::Corruption(corruption) => {
                self.corruption.insert(corruption.digest, record.seq);
            }
            Event::VerdictsTold(_) | Event::Pruned(_) => {}
        }
    }

    /// Returns what is to be kept of a record, in the order of seqs.
    fn keep(&mut self, record: Record, facts: &Facts) -> Vec<Record> {
        let seq = record.seq;
        match &record.event {
            Event::TrustChanged(_) if self.trust == seq => vec![record],
            Event::Corruption(corruption) if self.corruption.get(&corruption.digest) == Some(&seq) => vec![record],
            Event::TrustChanged(_) | Event::Corruption(_) | Event::Pruned(_) => Vec::new(),
            Event::VerdictsTold(told) => last_told(&record, told, facts),
            Event::Operation(operation) => self.keep_operation(&record, operation, facts).into_iter().collect(),
        }
    }

    /// Keeps of an operation the manifests that were not there, or not so, and the tags that were not moved again.
    fn keep_operation(&mut self, record: &Record, operation: &Operation, facts: &Facts) -> Option<Record> {
        let mut kept = operation.clone();
        // What they took away is left out where it was brought.
        kept.detached.clear();
        kept.manifests.retain_mut(|manifest| {
            let hung = manifest.attached.as_ref().map(|attached| attached.subject);
            let key_of = |subject| attached_key(&manifest.repository, &manifest.digest, &subject);
            let taken = hung.map(key_of).and_then(|key| self.detached.get(&key));
            if taken.is_some_and(|seq| *seq > record.seq) {
                if manifest.subject.is_none() {
                    return false;
                }
                (manifest.attached, manifest.uncounted) = (None, 0);
                manifest.signatures.clear();
            }
            first_sights(manifest, facts);
            // What lies beyond a limit is a sum.
            self.manifests.insert(key(&manifest.to_bytes())) || manifest.uncounted > 0
        });
        kept.tags.retain(|moved| self.tags.get(&tag_key(&moved.repository, &moved.tag)) == Some(&record.seq));
        let is_empty = kept.manifests.is_empty() && kept.tags.is_empty();
        (!is_empty).then(|| Record { event: Event::Operation(kept), ..record.clone() })
    }
}

/// Gives signatures the time of their first sight, so that a manifest that came twice is the same.
fn first_sights(manifest: &mut ManifestAdded, facts: &Facts) {
    for row in &mut manifest.signatures {
        let first = facts
            .signature(row.id)
            .and_then(|known| Timestamp::from_millisecond(known.first_seen.as_millisecond()).ok());
        row.first_seen = first.map_or(row.first_seen, |first| first.min(row.first_seen));
    }
}

/// Keeps the verdicts that were told last of their subjects, each run of them as a record with its seq.
fn last_told(record: &Record, told: &VerdictsTold, facts: &Facts) -> Vec<Record> {
    let mut runs: Vec<Record> = Vec::new();
    for (seq, change) in (record.seq..).zip(&told.changes) {
        if facts.told(&change.repository, change.digest).is_none_or(|last| last.seq != seq) {
            continue;
        }
        match runs.last_mut() {
            Some(Record { seq: first, event: Event::VerdictsTold(run), .. })
                if *first + run.changes.len() as u64 == seq =>
            {
                run.changes.push(change.clone());
            }
            _ => {
                let run = VerdictsTold { cause: told.cause.clone(), changes: vec![change.clone()] };
                runs.push(Record { seq, event: Event::VerdictsTold(run), ..record.clone() });
            }
        }
    }
    runs
}
