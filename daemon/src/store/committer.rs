//! The journal's one writer: takes all commits that wait, writes them as one frame, makes them visible, answers.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use jiff::Timestamp;
use larder_core::{Digest, Repository, Tag};
use tokio::sync::{mpsc, oneshot};

use super::apply::apply;
use super::error::StoreError;
use super::index::Applied;
use super::journal::{AppendError, Chain, Journal, MAX_PAYLOAD, Written};
use super::record::{Actor, Event, ManifestAdded, Operation, Record, TagMoved};
use super::shared::Shared;

/// How many commits may wait; more wait in their callers.
pub(super) const QUEUE: usize = 256;
/// The most commits in one frame.
const BATCH: usize = 256;
/// The most verdicts in one record.
pub(super) const MAX_CHANGES: usize = 1000;
/// A snapshot is written when so many records came since the last one,
const SNAPSHOT_RECORDS: u64 = 10_000;
/// or so many bytes.
const SNAPSHOT_BYTES: u64 = 16 << 20;
/// One that could not be written is tried again after so many records.
const SNAPSHOT_AGAIN: u64 = 1_000;

/// A commit that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) actor: Actor,
    pub(super) events: Vec<Event>,
    pub(super) answer: oneshot::Sender<Result<Vec<Record>, StoreError>>,
}

/// A commit in the frame that is being made.
struct Accepted {
    records: Vec<Record>,
    answer: oneshot::Sender<Result<Vec<Record>, StoreError>>,
}

/// Where tags point after the commits accepted so far.
type Moved = HashMap<(Repository, Tag), Option<Digest>>;

/// Writes commits until nobody can send any more.
pub(super) struct Committer {
    shared: Arc<Shared>,
    journal: Option<Journal>,
    waiting: mpsc::Receiver<Waiting>,
    /// Taken from the channel, not written yet.
    queue: VecDeque<Waiting>,
    /// Bytes written since the last snapshot.
    tail_bytes: u64,
    /// No snapshot is begun before this seq.
    snapshot_from: u64,
    side_work: Vec<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, journal: Option<Journal>, waiting: mpsc::Receiver<Waiting>) -> Self {
        Self {
            shared,
            journal,
            waiting,
            queue: VecDeque::new(),
            tail_bytes: 0,
            snapshot_from: 0,
            side_work: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            shared.set_read_only("the journal's writer failed; the log says more".into());
        }
    }

    fn work(&mut self) {
        while let Some(first) = self.queue.pop_front().or_else(|| self.waiting.blocking_recv()) {
            self.queue.push_front(first);
            while self.queue.len() < BATCH
                && let Ok(next) = self.waiting.try_recv()
            {
                self.queue.push_back(next);
            }
            self.commit_batch();
        }
        for work in self.side_work.drain(..) {
            // A panic there was logged, and has broken nothing here.
            let _ = work.join();
        }
    }

    fn commit_batch(&mut self) {
        let why = self.shared.why_read_only();
        let (None, Some(journal)) = (&why, &mut self.journal) else {
            let why = why.unwrap_or_else(|| "the journal is not open".into());
            for waiting in self.queue.drain(..) {
                refuse(waiting.answer, StoreError::ReadOnly { why: why.clone() });
            }
            return;
        };
        let mut chain = journal.chain();
        let (mut accepted, mut written, mut length) = (Vec::new(), Vec::new(), 0);
        let mut moved = Moved::new();
        while let Some(waiting) = self.queue.pop_front() {
            match prepare(&self.shared, chain, &moved, &waiting) {
                Err(error) => refuse(waiting.answer, error),
                Ok(prepared) if length + prepared.length > MAX_PAYLOAD => {
                    // It begins the next frame.
                    self.queue.push_front(waiting);
                    break;
                }
                Ok(prepared) => {
                    length += prepared.length;
                    chain = prepared.chain;
                    moved.extend(prepared.moved);
                    written.extend(prepared.written);
                    accepted.push(Accepted { records: prepared.records, answer: waiting.answer });
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        if !written.is_empty()
            && let Err(error) = journal.append(&written, chain)
        {
            self.fail(accepted, error);
            return;
        }
        self.tail_bytes = self.tail_bytes.saturating_add(length as u64);
        self.publish(accepted, chain);
        self.snapshot_if_due(chain.seq);
    }

    fn fail(&self, accepted: Vec<Accepted>, error: AppendError) {
        if let AppendError::Broken(why) = &error {
            self.shared.set_read_only(why.clone());
        }
        for commit in accepted {
            let error = match &error {
                AppendError::Full(path) => StoreError::Full { what: "write to the journal", path: path.clone() },
                AppendError::Broken(why) => StoreError::ReadOnly { why: why.clone() },
            };
            refuse(commit.answer, error);
        }
    }

    /// Makes durable records visible: facts, index, watchers; then answers.
    fn publish(&mut self, accepted: Vec<Accepted>, chain: Chain) {
        let records: Vec<Record> = accepted.iter().flat_map(|commit| commit.records.iter().cloned()).collect();
        {
            let mut facts = self.shared.facts_mut();
            for record in &records {
                apply(&mut facts, record);
                self.shared.clock.note(record.time);
            }
            let mut head = self.shared.lock_head();
            head.chain = chain;
            head.readable = chain.seq;
            for record in &records {
                if let Event::TrustChanged(changed) = &record.event {
                    head.trust = Some((changed.set, record.time, record.seq));
                }
            }
        }
        if self.shared.index.apply(&records, (chain.seq, chain.hash)) == Applied::Rebuild {
            self.aside("index", |shared| shared.rebuild_index(true));
        }
        self.shared.seen.send_replace(chain.seq);
        for commit in accepted {
            // Who does not wait any more can read it in the journal.
            let _ = commit.answer.send(Ok(commit.records));
        }
    }

    /// Has a snapshot written where the tail since the last one is long: a start reads that much.
    fn snapshot_if_due(&mut self, seq: u64) {
        let records = seq.saturating_sub(self.shared.snapshotted.load(Ordering::Acquire));
        let is_due = records >= SNAPSHOT_RECORDS || self.tail_bytes >= SNAPSHOT_BYTES;
        if !is_due || seq < self.snapshot_from || !self.shared.begin_snapshot() {
            return;
        }
        self.snapshot_from = seq.saturating_add(SNAPSHOT_AGAIN);
        self.tail_bytes = 0;
        self.aside("snapshot", |shared| {
            if let Err(error) = shared.snapshot() {
                tracing::warn!(%error, "no snapshot could be written; it is tried again, and the next start may take longer");
            }
            shared.end_snapshot();
        });
    }

    fn aside(&mut self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) {
        self.side_work.retain(|work| !work.is_finished());
        let shared = Arc::clone(&self.shared);
        match thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared)) {
            Ok(thread) => self.side_work.push(thread),
            Err(error) => tracing::error!(%error, name, "no thread could be started"),
        }
    }
}

fn refuse(answer: oneshot::Sender<Result<Vec<Record>, StoreError>>, error: StoreError) {
    // Who does not wait any more need not know.
    let _ = answer.send(Err(error));
}

/// A commit, checked and written out.
struct Prepared {
    records: Vec<Record>,
    written: Vec<Written>,
    length: usize,
    chain: Chain,
    moved: Moved,
}

fn prepare(shared: &Shared, mut chain: Chain, moved: &Moved, waiting: &Waiting) -> Result<Prepared, StoreError> {
    let now = shared.clock.now();
    let mut prepared = Prepared { records: Vec::new(), written: Vec::new(), length: 0, chain, moved: Moved::new() };
    for event in &waiting.events {
        let mut event = event.clone();
        match &mut event {
            Event::Operation(operation) => check(shared, operation, moved, &mut prepared.moved)?,
            Event::TrustChanged(changed) if !shared.blobs.has(&changed.set) => {
                return Err(StoreError::NotHeld { digest: changed.set });
            }
            Event::VerdictsTold(told) if told.changes.is_empty() || told.changes.len() > MAX_CHANGES => {
                let count = told.changes.len();
                return Err(StoreError::Invalid(format!("{count} verdicts in one record; 1 to {MAX_CHANGES} go")));
            }
            Event::TrustChanged(_) | Event::VerdictsTold(_) | Event::Corruption(_) | Event::Pruned(_) => {}
        }
        let (record, written) =
            chain.next(now, waiting.actor.clone(), event).map_err(|error| StoreError::Invalid(error.to_string()))?;
        prepared.length = prepared.length.saturating_add(written.len());
        prepared.records.push(record);
        prepared.written.push(written);
    }
    if prepared.length > MAX_PAYLOAD {
        return Err(StoreError::Invalid(format!("{} bytes are too much for one commit", prepared.length)));
    }
    prepared.chain = chain;
    Ok(prepared)
}

/// Checks an operation against what the store promises, and fills in what its tags named before.
fn check(shared: &Shared, operation: &mut Operation, moved: &Moved, own: &mut Moved) -> Result<(), StoreError> {
    for manifest in &mut operation.manifests {
        check_manifest(shared, manifest)?;
        for signature in &mut manifest.signatures {
            // As it will be read back.
            signature.first_seen = Timestamp::from_millisecond(signature.first_seen.as_millisecond())
                .map_err(|error| StoreError::Invalid(error.to_string()))?;
        }
    }
    for TagMoved { repository, tag, old, new } in &mut operation.tags {
        if let Some(digest) = new.as_ref().filter(|digest| !shared.blobs.has(digest)) {
            return Err(StoreError::NotHeld { digest: *digest });
        }
        let key = (repository.clone(), tag.clone());
        *old = match own.get(&key).or_else(|| moved.get(&key)) {
            Some(digest) => *digest,
            None => shared.index.tag(repository, tag)?.map(|row| row.digest),
        };
        own.insert(key, *new);
    }
    Ok(())
}

/// A manifest is visible only with its successors, or with word of those left out on purpose.
fn check_manifest(shared: &Shared, manifest: &ManifestAdded) -> Result<(), StoreError> {
    if !shared.blobs.has(&manifest.digest) {
        return Err(StoreError::NotHeld { digest: manifest.digest });
    }
    let left_out: std::collections::HashSet<&Digest> = manifest.left_out.iter().collect();
    match manifest
        .successors
        .iter()
        .find(|successor| !left_out.contains(&successor.digest) && !shared.blobs.has(&successor.digest))
    {
        Some(successor) => Err(StoreError::Incomplete {
            repository: manifest.repository.clone(),
            manifest: manifest.digest,
            missing: successor.digest,
        }),
        None => Ok(()),
    }
}
