//! Reading records back: where they lie, forwards and backwards.

use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use super::frame::{self, Entry, Next, SEGMENT_HEADER};
use crate::store::error::StoreError;
use crate::store::record::Record;

/// A place is marked about every so many bytes.
const STRIDE: u64 = 64 << 10;

/// Where records lie, roughly: one mark for each [`STRIDE`] of the journal, kept in memory.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    path: PathBuf,
    first: u64,
    /// Frames: their first seq and offset.
    marks: Vec<(u64, u64)>,
}

impl Segment {
    pub(super) fn new(path: PathBuf, first: u64) -> Self {
        Self { path, first, marks: Vec::new() }
    }

    /// Notes where a frame begins.
    pub(super) fn mark(&mut self, first: u64, offset: u64) {
        let due = self.marks.last().is_none_or(|(_, marked)| offset.saturating_sub(*marked) >= STRIDE);
        if due {
            self.marks.push((first, offset));
        }
    }
}

/// Reads records. Shared between threads; the lock is held for look-ups in the map only.
#[derive(Debug)]
pub(in crate::store) struct Reader {
    map: RwLock<Map>,
}

impl Reader {
    pub(super) fn new(map: Map) -> Self {
        Self { map: RwLock::new(map) }
    }

    pub(super) fn add_segment(&self, segment: Segment) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).segments.push(segment);
    }

    pub(super) fn mark(&self, first: u64, offset: u64) {
        if let Some(segment) = self.map.write().unwrap_or_else(PoisonError::into_inner).segments.last_mut() {
            segment.mark(first, offset);
        }
    }

    /// Returns from where to read to meet `seq`: the rest of the segments, each with an offset and that place's first seq.
    fn places(&self, seq: u64) -> Vec<(PathBuf, u64, u64)> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        let from = map.segments.partition_point(|segment| segment.first <= seq).saturating_sub(1);
        let mut places = Vec::new();
        for (place, segment) in map.segments.iter().enumerate().skip(from) {
            let mark = if place == from {
                let before = segment.marks.partition_point(|(first, _)| *first <= seq);
                before.checked_sub(1).and_then(|mark| segment.marks.get(mark)).copied()
            } else {
                None
            };
            let (first, offset) = mark.unwrap_or((segment.first, SEGMENT_HEADER as u64));
            places.push((segment.path.clone(), offset, first));
        }
        places
    }

    /// Visits the records that have a seq in `after < seq <= head`, oldest first, until told to stop.
    pub(in crate::store) fn walk<E: From<StoreError>>(
        &self,
        after: u64,
        head: u64,
        mut visit: impl FnMut(Entry<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut reached = after;
        for (path, offset, _) in self.places(after.saturating_add(1)) {
            if reached >= head {
                return Ok(());
            }
            let failed = || StoreError::io("read", &path);
            let mut file = File::open(&path).map_err(failed())?;
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

    /// Reads records oldest first, with a seq greater than `after`, at most `limit`.
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
            let Some(first) = self.places(last).first().map(|(_, _, first)| (*first).min(last)) else { break };
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

/// Reads a record from the journal.
pub(in crate::store) fn read(entry: Entry<'_>) -> Result<Record, StoreError> {
    let seq = entry.header.seq;
    entry.record().map_err(|error| StoreError::Journal { seq, why: error.to_string() })
}
