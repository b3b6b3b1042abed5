//! Building the index anew from the journal, in the background, with progress.

use std::ops::ControlFlow;
use std::time::Duration;

use super::layers::Fault;
use super::{Index, Meta, SCHEMA, View, Writer, open_db};
use crate::store::disk::{self, FaultPoint};
use crate::store::error::StoreError;
use crate::store::journal::{Reader, read};
use crate::store::record::Record;
use crate::store::shared::Stop;

/// So many records are applied at once.
const STEP: usize = 100;
/// Where it fails, it begins again after this.
const PAUSE: Duration = Duration::from_secs(5);

/// Says why a rebuilding ended early.
#[derive(Debug)]
enum Interrupted {
    Stopped,
    Fault(Fault),
}

impl From<Fault> for Interrupted {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<StoreError> for Interrupted {
    fn from(error: StoreError) -> Self {
        Self::Fault(Fault(error.to_string()))
    }
}

impl Index {
    /// Applies the rest of the journal, now. `false` where that does not work and the index is to be built anew.
    pub(in crate::store) fn catch_up(&self, reader: &Reader, head: u64) -> bool {
        loop {
            let mut writer = self.writer();
            if writer.meta.applied >= head {
                return true;
            }
            if let Err(error) = self.step(&mut writer, reader, head, false) {
                tracing::warn!(?error, "the look-up index cannot catch up; it is built anew");
                self.give_up(&mut writer, head);
                return false;
            }
        }
    }

    /// Builds the index from nothing, at once; `false` where that does not work now.
    pub(in crate::store) fn build_once(&self, reader: &Reader, head: impl Fn() -> u64, stop: &Stop) -> bool {
        self.build(true, reader, &head, stop).is_ok()
    }

    /// Builds the index: from nothing where `anew`, else from where it is. `head` tells up to where; the last look at it
    /// is under the writer's lock, so that no commit falls between.
    pub(in crate::store) fn rebuild(&self, anew: bool, reader: &Reader, head: impl Fn() -> u64, stop: &Stop) {
        let mut anew = anew;
        loop {
            match self.build(anew, reader, &head, stop) {
                Ok(()) => return,
                Err(Interrupted::Stopped) => return,
                Err(Interrupted::Fault(fault)) => {
                    tracing::error!(%fault, "the look-up index could not be built; trying again in {PAUSE:?}");
                    self.give_up(&mut self.writer(), head());
                    anew = true;
                    if stop.wait(PAUSE) {
                        return;
                    }
                }
            }
        }
    }

    fn build(&self, anew: bool, reader: &Reader, head: &impl Fn() -> u64, stop: &Stop) -> Result<(), Interrupted> {
        self.view_mut().rebuilding = Some((0, head()));
        if anew {
            self.begin_anew(&mut self.writer(), head())?;
        }
        loop {
            if stop.wait(Duration::ZERO) {
                return Err(Interrupted::Stopped);
            }
            let mut writer = self.writer();
            let until = head();
            if writer.meta.applied >= until {
                writer.meta.building = false;
                self.write_pending(&mut writer)?;
                let mut view = self.view_mut();
                if !view.closed {
                    view.rebuilding = None;
                }
                return Ok(());
            }
            let before = writer.meta.applied;
            self.step(&mut writer, reader, until, true)?;
            let applied = writer.meta.applied;
            drop(writer);
            self.view_mut().rebuilding = Some((applied.min(until), until));
            if slow_down(applied - before, stop) {
                return Err(Interrupted::Stopped);
            }
        }
    }

    fn begin_anew(&self, writer: &mut Writer, total: u64) -> Result<(), Fault> {
        self.give_up(writer, total);
        disk::remove_tree(&self.folder, FaultPoint::IndexRemove).map_err(|error| Fault(error.to_string()))?;
        let db = open_db(&self.folder)?;
        let rebuilding = self.view().rebuilding;
        *self.view_mut() = View { tree: Some((*db).clone()), rebuilding, ..View::default() };
        let meta = Meta { schema: SCHEMA, id: self.id.to_vec(), hash: vec![0; 32], building: true, ..Meta::default() };
        *writer = Writer { db: Some(db), meta };
        self.write_pending(writer)
    }

    fn step(&self, writer: &mut Writer, reader: &Reader, until: u64, building: bool) -> Result<(), Interrupted> {
        let mut records: Vec<Record> = Vec::new();
        let mut last = (writer.meta.applied, [0; 32]);
        let step = if slow().is_some() && building { 1 } else { STEP };
        reader.walk(writer.meta.applied, until, |entry| {
            last = (entry.last_seq(), entry.hash);
            records.push(read(entry)?);
            let done = records.len() >= step;
            Ok::<_, Interrupted>(if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if records.is_empty() {
            return Err(Fault(format!("the journal ends before seq {until}")).into());
        }
        Ok(self.apply_with(writer, &records, last, building)?)
    }
}

/// `LARDER_SLOW_REBUILD_MS`: how long each record takes, so that a test can see an index being rebuilt.
fn slow() -> Option<Duration> {
    if !cfg!(debug_assertions) {
        return None;
    }
    std::env::var("LARDER_SLOW_REBUILD_MS").ok()?.parse().ok().map(Duration::from_millis)
}

fn slow_down(records: u64, stop: &Stop) -> bool {
    slow().is_some_and(|pause| stop.wait(pause.saturating_mul(u32::from(records > 0))))
}
