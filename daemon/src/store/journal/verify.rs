//! The whole journal verified, while the store is in use: what a start did not read.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::ops::ControlFlow;
use std::path::PathBuf;

use larder_core::Digest;

use super::frame::{self, Chain, Next, SegmentStart};
use super::read::{Reader, read};
use super::scan::name_of;
use super::state;
use crate::store::error::StoreError;
use crate::store::record::Event;
use crate::store::wire::Kind;

/// What is to be verified.
#[derive(Debug)]
pub(in crate::store) struct Unverified {
    /// Where the chain must be behind the segments that were not read.
    pub(in crate::store) end: Option<Chain>,
}

/// How a verification ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Verified {
    /// Everything is as it was written.
    Whole,
    /// It is not.
    Damaged(String),
    /// It was told to stop.
    Stopped,
}

/// Asked after each frame, with the bytes read so far and those to read: `false` ends the verification.
pub(in crate::store) type Step<'a> = dyn FnMut(u64, u64) -> bool + 'a;

impl Unverified {
    /// Verifies the state and the segments that were not read yet. `head` is up to where the journal can be read.
    pub(in crate::store) fn verify(&self, reader: &Reader, head: u64, go_on: &mut Step<'_>) -> io::Result<Verified> {
        let (state, segments) = reader.files();
        let segments: Vec<_> =
            segments.into_iter().take_while(|(_, first)| self.end.is_some_and(|end| *first <= end.seq)).collect();
        let paths = state.iter().chain(segments.iter().map(|(path, _)| path));
        let total = paths.map(|path| fs::metadata(path).map_or(0, |metadata| metadata.len())).sum();
        let mut progress = Progress { done: 0, total, go_on };
        let mut chain = Chain::START;
        if let (Some(path), Some(base)) = (&state, reader.base()) {
            chain = base.until;
            let verified = state::verify(path, |bytes| progress.add(bytes));
            let digest = match verified {
                Err(error) if is_stop(&error) => return Ok(Verified::Stopped),
                other => other?,
            };
            let on_record =
                on_record(reader, base.until.seq, head).map_err(|error| io::Error::other(error.to_string()))?;
            let name = name_of(path);
            match digest {
                Err(why) => return Ok(Verified::Damaged(format!("journal/{name}: {why}"))),
                Ok(digest) if on_record != Some(digest) => {
                    return Ok(Verified::Damaged(format!(
                        "journal/{name} is not the state that the journal has on record"
                    )));
                }
                Ok(_) => {}
            }
        }
        for (path, _) in &segments {
            match segment(path, &mut chain, &mut progress) {
                Err(error) if is_stop(&error) => return Ok(Verified::Stopped),
                other => {
                    if let Err(why) = other? {
                        return Ok(Verified::Damaged(format!("journal/{}{why}", name_of(path))));
                    }
                }
            }
        }
        match self.end.filter(|end| end.seq != chain.seq || end.hash != chain.hash) {
            Some(end) => {
                let (from, until) = (chain.seq, end.seq);
                Ok(Verified::Damaged(format!(
                    "the journal does not lead from seq {from} to seq {until}: part of it is lost"
                )))
            }
            None => Ok(Verified::Whole),
        }
    }
}

struct Progress<'a, 'b> {
    done: u64,
    total: u64,
    go_on: &'a mut Step<'b>,
}

impl Progress<'_, '_> {
    fn add(&mut self, bytes: u64) -> io::Result<()> {
        self.done = self.done.saturating_add(bytes).min(self.total);
        if (self.go_on)(self.done, self.total) { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    }
}

fn is_stop(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
}

/// Verifies one segment, with which the chain goes on.
fn segment(path: &PathBuf, chain: &mut Chain, progress: &mut Progress<'_, '_>) -> io::Result<Result<(), String>> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let start = SegmentStart::read(&mut reader)?;
    let follows = |start: &SegmentStart| start.first == chain.seq.saturating_add(1) && start.before == chain.hash;
    if !start.is_some_and(|start| follows(&start)) {
        return Ok(Err(" does not continue what is before it".into()));
    }
    loop {
        let payload = match frame::next(&mut reader)? {
            Next::Payload(payload) => payload,
            Next::End => return Ok(Ok(())),
            Next::Broken => return Ok(Err(format!(" is damaged after seq {}", chain.seq))),
        };
        if let Err(error) = frame::verify(&payload, chain, |_| {}) {
            return Ok(Err(format!(", {error}")));
        }
        progress.add(payload.len() as u64)?;
    }
}

/// Returns the digest of the state that ends with `until`, as the journal has it on record.
fn on_record(reader: &Reader, until: u64, head: u64) -> Result<Option<Digest>, StoreError> {
    let mut found = None;
    reader.walk(until, head, |entry| {
        if entry.is(Kind::Pruned)
            && let Event::Pruned(pruned) = read(entry)?.event
            && pruned.until == until
        {
            found = Some(pruned.state);
        }
        Ok::<_, StoreError>(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
