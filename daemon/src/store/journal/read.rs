//! Reading records back: where they lie, forwards and backwards.

use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::watch;

use super::frame::{self, Entry, FRAME_HEADER, Next, SEGMENT_HEADER, STATE_HEADER, SegmentStart, StateStart};
use crate::store::error::StoreError;
use crate::store::record::Record;

/// A place is marked about every so many bytes.
const STRIDE: u64 = 64 << 10;

/// Where records lie, roughly.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// The state with which the journal begins, if something was pruned; it is the first of the segments too.
    pub(super) base: Option<StateStart>,
    pub(super) segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// The first seq; of a state the first that there ever was.
    pub(super) first: u64,
    /// Where its frames begin.
    begin: u64,
    /// Frames: their first seq and offset, one for each [`STRIDE`]; `None` until somebody looks for a record in it.
    marks: Option<Vec<(u64, u64)>>,
}

impl Segment {
    /// A segment of which every frame will be marked as it is read or written.
    pub(super) fn new(path: PathBuf, first: u64) -> Self {
        Self { marks: Some(Vec::new()), ..Self::unread(path, first) }
    }

    /// A segment that was not read yet.
    pub(super) fn unread(path: PathBuf, first: u64) -> Self {
        Self { path, first, begin: SEGMENT_HEADER as u64, marks: None }
    }

    /// A state that was not read yet.
    pub(super) fn state(path: PathBuf) -> Self {
        Self { path, first: 1, begin: STATE_HEADER as u64, marks: None }
    }

    /// Notes where a frame begins.
    pub(super) fn mark(&mut self, first: u64, offset: u64) {
        mark(self.marks.get_or_insert_default(), first, offset);
    }
}

impl Map {
    /// Returns from where to read to meet `seq`, or the segment that must be read before.
    fn places(&self, seq: u64) -> Result<Vec<Place>, Segment> {
        let found = self.segments.partition_point(|segment| segment.first <= seq).saturating_sub(1);
        let mut places = Vec::new();
        for (place, segment) in self.segments.iter().enumerate().skip(found) {
            let mark = match &segment.marks {
                _ if place > found => None,
                None => return Err(segment.clone()),
                Some(marks) => {
                    let before = marks.partition_point(|(first, _)| *first <= seq);
                    before.checked_sub(1).and_then(|mark| marks.get(mark)).copied()
                }
            };
            let (first, offset) = mark.unwrap_or((segment.first, segment.begin));
            places.push((segment.path.clone(), offset, first));
        }
        Ok(places)
    }
}

fn mark(marks: &mut Vec<(u64, u64)>, first: u64, offset: u64) {
    if marks.last().is_none_or(|(_, marked)| offset.saturating_sub(*marked) >= STRIDE) {
        marks.push((first, offset));
    }
}

/// Reads records. Shared between threads; the lock is held for look-ups in the map only.
#[derive(Debug)]
pub(in crate::store) struct Reader {
    map: RwLock<Map>,
    /// How many segments were begun since the start: whoever prunes watches it.
    begun: watch::Sender<u64>,
}

/// Where to read on: a file, an offset in it, and the first seq there.
type Place = (PathBuf, u64, u64);

impl Reader {
    pub(super) fn new(map: Map) -> Self {
        Self { map: RwLock::new(map), begun: watch::Sender::new(0) }
    }

    fn map(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_mut(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_segment(&self, segment: Segment) {
        self.map_mut().segments.push(segment);
        self.begun.send_modify(|begun| *begun = begun.saturating_add(1));
    }

    pub(super) fn mark(&self, first: u64, offset: u64) {
        if let Some(segment) = self.map_mut().segments.last_mut() {
            segment.mark(first, offset);
        }
    }

    /// Watches how many segments were begun since the start.
    pub(in crate::store) fn begun(&self) -> watch::Receiver<u64> {
        self.begun.subscribe()
    }

    /// Returns the state with which the journal begins, if something was pruned.
    pub(in crate::store) fn base(&self) -> Option<StateStart> {
        self.map().base
    }

    /// Returns the oldest seq whose record is there as it was written.
    pub(in crate::store) fn oldest(&self) -> u64 {
        self.base().map_or(1, |base| base.until.seq.saturating_add(1))
    }

    /// Returns the state's file, and the segments from the oldest on, each with its first seq.
    pub(in crate::store) fn files(&self) -> (Option<PathBuf>, Vec<(PathBuf, u64)>) {
        let map = self.map();
        let states = usize::from(map.base.is_some());
        let state = map.segments.iter().take(states).map(|segment| segment.path.clone()).next();
        (state, map.segments.iter().skip(states).map(|segment| (segment.path.clone(), segment.first)).collect())
    }

    /// Lets the journal begin with a state; returns the files that it stands for, the segments first.
    pub(in crate::store) fn begin_with(&self, path: PathBuf, base: StateStart) -> Vec<PathBuf> {
        let mut map = self.map_mut();
        let had_state = map.base.is_some();
        let mut gone = Vec::new();
        let mut segments = vec![Segment::state(path)];
        for (place, segment) in std::mem::take(&mut map.segments).into_iter().enumerate() {
            if place == 0 && had_state || segment.first <= base.until.seq {
                gone.push(segment.path);
            } else {
                segments.push(segment);
            }
        }
        *map = Map { base: Some(base), segments };
        gone.rotate_left(usize::from(had_state));
        gone
    }

    /// Returns from where to read to meet `seq`: the rest of the segments, each with an offset and that place's first seq.
    /// A segment that was not read yet is read for its marks.
    fn places(&self, seq: u64) -> Result<Vec<Place>, StoreError> {
        loop {
            let unread = match self.map().places(seq) {
                Ok(places) => return Ok(places),
                Err(unread) => unread,
            };
            let marks = marks(&unread).or_else(|error| self.unless_pruned(&unread.path, error))?;
            if let Some(known) = self.map_mut().segments.iter_mut().find(|known| known.path == unread.path) {
                known.marks.get_or_insert_with(|| marks.unwrap_or_default());
            }
        }
    }

    /// Reads the hash of the header before a segment's first record.
    pub(in crate::store) fn hash_before(&self, first: u64) -> io::Result<[u8; 32]> {
        let (_, segments) = self.files();
        let found = segments.into_iter().find(|(_, begin)| *begin == first);
        let start = match found {
            Some((path, _)) => SegmentStart::read(&mut File::open(path)?)?,
            None => None,
        };
        start.map(|start| start.before).ok_or_else(|| io::Error::other(format!("no segment begins at seq {first}")))
    }

    /// A file that was pruned a moment ago is no error; `None` then.
    fn unless_pruned<T>(&self, path: &Path, error: io::Error) -> Result<Option<T>, StoreError> {
        let is_known = self.map().segments.iter().any(|segment| segment.path == path);
        if is_known || error.kind() != io::ErrorKind::NotFound {
            return Err(StoreError::io("read", path)(error));
        }
        Ok(None)
    }

    /// Visits the records that have a seq in `after < seq <= head`, oldest first, until told to stop. Of what was pruned
    /// those are visited that the state has kept.
    pub(in crate::store) fn walk<E: From<StoreError>>(
        &self,
        after: u64,
        head: u64,
        mut visit: impl FnMut(Entry<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut reached = after;
        for (path, offset, _) in self.places(after.saturating_add(1))? {
            if reached >= head {
                return Ok(());
            }
            let failed = || StoreError::io("read", &path);
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) => {
                    self.unless_pruned::<()>(&path, error)?;
                    return Err(StoreError::Pruned { oldest: self.oldest() }.into());
                }
            };
            file.seek(SeekFrom::Start(offset)).map_err(failed())?;
            let mut reader = BufReader::with_capacity(STRIDE as usize, file);
            while reached < head {
                let payload = match frame::next(&mut reader).map_err(failed())? {
                    Next::Payload(payload) => payload,
                    Next::End => break,
                    Next::Broken => {
                        let why = format!("a frame in {} is damaged", path.display());
                        return Err(StoreError::Journal { seq: reached.saturating_add(1), why }.into());
                    }
                };
                let entries = frame::entries(&payload)
                    .map_err(|error| StoreError::Journal { seq: reached.saturating_add(1), why: error.to_string() })?;
                for entry in entries {
                    let last = entry.last_seq();
                    if entry.header.seq > head {
                        return Ok(());
                    }
                    if last <= after {
                        continue;
                    }
                    reached = last;
                    if visit(entry)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads records oldest first, with a seq greater than `after`, at most `limit`: also those that a state has kept.
    pub(in crate::store) fn after(&self, after: u64, head: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        if limit == 0 {
            return Ok(records);
        }
        self.walk(after, head, |entry| {
            records.extend(read(entry)?.between(after, u64::MAX));
            Ok::<_, StoreError>(if records.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(records)
    }

    /// Reads records newest first, with a seq below `before`, at most `limit`.
    pub(in crate::store) fn before(&self, before: u64, head: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        let mut records: Vec<Record> = Vec::new();
        let mut until = before.min(head.saturating_add(1));
        while until > 1 && records.len() < limit {
            let last = until - 1;
            // One stride at a time, from its beginning.
            let Some(first) = self.places(last)?.first().map(|(_, _, first)| (*first).min(last)) else { break };
            let mut stride = Vec::new();
            self.walk(first.saturating_sub(1), last, |entry| {
                stride.extend(read(entry)?.between(first.saturating_sub(1), until));
                Ok::<_, StoreError>(ControlFlow::Continue(()))
            })?;
            records.extend(stride.into_iter().rev().take(limit - records.len()));
            until = first;
        }
        Ok(records)
    }

    /// Reads the record that has `seq`; of verdicts told together, that one alone.
    pub(in crate::store) fn at(&self, seq: u64, head: u64) -> Result<Option<Record>, StoreError> {
        let Some(after) = seq.checked_sub(1).filter(|_| seq <= head) else { return Ok(None) };
        let mut found = None;
        self.walk(after, seq, |entry| {
            found = read(entry)?.between(after, seq.saturating_add(1));
            Ok::<_, StoreError>(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

/// Looks where the frames of a segment lie.
fn marks(segment: &Segment) -> io::Result<Option<Vec<(u64, u64)>>> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(segment.begin))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut marks, mut offset) = (Vec::new(), segment.begin);
    // What is damaged is found by whoever reads it.
    while let Next::Payload(payload) = frame::next(&mut reader)? {
        if let Some(first) = frame::first_seq(&payload) {
            mark(&mut marks, first, offset);
        }
        offset += (FRAME_HEADER + payload.len()) as u64;
    }
    Ok(Some(marks))
}

/// Reads a record from the journal.
pub(in crate::store) fn read(entry: Entry<'_>) -> Result<Record, StoreError> {
    let seq = entry.header.seq;
    entry.record().map_err(|error| StoreError::Journal { seq, why: error.to_string() })
}
