//! Every rename, sync, unlink and durable write, each with a named fault point.
//!
//! Nothing else in the daemon changes the disk for good (`clippy.toml` bans the functions elsewhere), so the list of
//! [`FaultPoint`]s is the list of moments at which a crash can find the store. The kill tests take it from here.
//!
//! In builds with debug assertions `LARDER_FAULT=NAME[:N][:after][=kill|enospc|full|io]` injects one fault: at the
//! N-th time (1 unless said) that the point is reached, before the step or `after` it, the process dies as by
//! `SIGKILL`, or the step fails once, for lack of space or otherwise. `full` is a disk that is full from then on at
//! that point.

#![expect(
    clippy::disallowed_methods,
    reason = "the one room in which files are renamed, synced and unlinked; every step names its fault point"
)]

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

macro_rules! fault_points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A durable step of the store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultPoint { $($(#[$doc])* $variant,)* }

        impl FaultPoint {
            /// All points.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name that `LARDER_FAULT` takes.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the point of that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|point| point.name() == name)
            }
        }
    };
}

fault_points! {
    /// A folder of a new home is created.
    HomeFolder = "home-folder",
    /// A file of a new home (the trust folders' `.keep`) is written.
    HomeFile = "home-file",
    /// `format.json` is written under its temporary name.
    FormatWrite = "format-write",
    /// `format.json` is synced.
    FormatSync = "format-sync",
    /// `format.json` gets its name: the home is whole.
    FormatRename = "format-rename",
    /// The home's folder is synced.
    FormatFolderSync = "format-folder-sync",
    /// What an interrupted daemon left in `ingest/` is removed.
    IngestClear = "ingest-clear",
    /// A blob's bytes are written under `ingest/`.
    BlobWrite = "blob-write",
    /// A blob's bytes are synced.
    BlobSync = "blob-sync",
    /// A blob gets its name.
    BlobRename = "blob-rename",
    /// The blobs' folder is synced.
    BlobFolderSync = "blob-folder-sync",
    /// A new segment of the journal is written under its temporary name.
    SegmentWrite = "journal-segment-write",
    /// The new segment is synced.
    SegmentSync = "journal-segment-sync",
    /// The new segment gets its name.
    SegmentRename = "journal-segment-rename",
    /// The journal's folder is synced.
    SegmentFolderSync = "journal-segment-folder-sync",
    /// A frame is written.
    JournalWrite = "journal-write",
    /// A frame is synced.
    JournalSync = "journal-sync",
    /// The torn end of the journal is cut.
    JournalCut = "journal-cut",
    /// A part of a state of the journal is written under its temporary name.
    StateWrite = "journal-state-write",
    /// The state is synced.
    StateSync = "journal-state-sync",
    /// The state gets its name.
    StateRename = "journal-state-rename",
    /// The journal's folder is synced.
    StateFolderSync = "journal-state-folder-sync",
    /// A segment or an older state that a state stands for is removed.
    JournalPrune = "journal-prune",
    /// The journal's folder is synced after that.
    JournalPruneSync = "journal-prune-sync",
    /// A snapshot is written under its temporary name.
    SnapshotWrite = "snapshot-write",
    /// The snapshot is synced.
    SnapshotSync = "snapshot-sync",
    /// The snapshot gets its name.
    SnapshotRename = "snapshot-rename",
    /// The snapshots' folder is synced.
    SnapshotFolderSync = "snapshot-folder-sync",
    /// Older snapshots are removed.
    SnapshotPrune = "snapshot-prune",
    /// What there is of an index is removed before it is built anew.
    IndexRemove = "index-remove",
    /// A batch of rows is written to the index.
    IndexApply = "index-apply",
    /// The index is flushed.
    IndexFlush = "index-flush",
    /// Bytes are written to `quarantine/`.
    QuarantineWrite = "quarantine-write",
    /// A file is moved to `quarantine/`.
    QuarantineMove = "quarantine-move",
    /// The oldest files of `quarantine/` are removed.
    QuarantinePrune = "quarantine-prune",
    /// A file of the trust folder is written under its temporary name.
    EditWrite = "edit-write",
    /// A file of the trust folder is synced.
    EditSync = "edit-sync",
    /// A file of the trust folder gets its name.
    EditRename = "edit-rename",
    /// A trust folder is synced.
    EditFolderSync = "edit-folder-sync",
    /// A file of the trust folder is removed.
    EditRemove = "edit-remove",
}

/// The points of one atomic write.
#[derive(Clone, Copy, Debug)]
pub struct FaultPoints {
    /// Writing under a temporary name.
    pub write: FaultPoint,
    /// Syncing the bytes.
    pub sync: FaultPoint,
    /// Renaming into place.
    pub rename: FaultPoint,
    /// Syncing the folder.
    pub folder: FaultPoint,
}

impl FaultPoints {
    /// Of `format.json`.
    pub const FORMAT: Self = Self {
        write: FaultPoint::FormatWrite,
        sync: FaultPoint::FormatSync,
        rename: FaultPoint::FormatRename,
        folder: FaultPoint::FormatFolderSync,
    };
    /// Of a new segment of the journal.
    pub const SEGMENT: Self = Self {
        write: FaultPoint::SegmentWrite,
        sync: FaultPoint::SegmentSync,
        rename: FaultPoint::SegmentRename,
        folder: FaultPoint::SegmentFolderSync,
    };
    /// Of a snapshot.
    pub const SNAPSHOT: Self = Self {
        write: FaultPoint::SnapshotWrite,
        sync: FaultPoint::SnapshotSync,
        rename: FaultPoint::SnapshotRename,
        folder: FaultPoint::SnapshotFolderSync,
    };
    /// Of a file that is edited: in the trust folder, or the endpoint's token.
    pub const EDIT: Self = Self {
        write: FaultPoint::EditWrite,
        sync: FaultPoint::EditSync,
        rename: FaultPoint::EditRename,
        folder: FaultPoint::EditFolderSync,
    };
}

/// Performs a step at its point.
fn at<T>(point: FaultPoint, step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    faults::before(point)?;
    let done = step()?;
    faults::after(point)?;
    Ok(done)
}

/// What the temporary name of an atomic write begins with; no reader takes such a name for a file of its own.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes a file so that readers see the old one or the new one, whole; when this returns, it is durable.
///
/// Two writers of one path must not do so at once. On an error nothing but a temporary file may be left, which the
/// next write of the path removes.
///
/// # Errors
/// Fails where a step does.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, points: FaultPoints) -> io::Result<()> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a file's path has a folder and a name"));
    };
    let mut temporary = std::ffi::OsString::from(TEMPORARY_PREFIX);
    temporary.push(name);
    let temporary = folder.join(temporary);
    let written = (|| {
        remove_if_there(&temporary)?;
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        at(points.write, || file.write_all(bytes))?;
        at(points.sync, || file.sync_all())?;
        at(points.rename, || fs::rename(&temporary, path))
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder, points.folder)
}

/// Writes a new file, not synced.
///
/// # Errors
/// Fails where the file is there, or a step fails.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32, point: FaultPoint) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
    at(point, || file.write_all(bytes))
}

/// Creates a folder where there is none.
///
/// # Errors
/// Fails where the system does, and where something else has the name.
pub fn create_folder(path: &Path, mode: u32, point: FaultPoint) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    at(point, || fs::DirBuilder::new().recursive(true).mode(mode).create(path))
}

/// Appends bytes to an open file.
///
/// # Errors
/// Fails as writing does; part of the bytes may be written.
pub fn append(file: &mut File, bytes: &[u8], point: FaultPoint) -> io::Result<()> {
    at(point, || file.write_all(bytes))
}

/// Makes a file's bytes durable (`fdatasync`).
///
/// # Errors
/// Fails as the system call does; what is durable then is unknown, and it must not be tried again.
pub fn sync_data(file: &File, point: FaultPoint) -> io::Result<()> {
    at(point, || file.sync_data())
}

/// Makes the names in a folder durable.
///
/// # Errors
/// Fails as the system calls do.
pub fn sync_folder(folder: &Path, point: FaultPoint) -> io::Result<()> {
    at(point, || File::open(folder)?.sync_all())
}

/// Renames, replacing what has the name.
///
/// # Errors
/// Fails as the system call does.
pub fn rename(from: &Path, to: &Path, point: FaultPoint) -> io::Result<()> {
    at(point, || fs::rename(from, to))
}

/// Cuts a file and makes that durable.
///
/// # Errors
/// Fails as the system calls do.
pub fn cut(file: &File, length: u64, point: FaultPoint) -> io::Result<()> {
    at(point, || {
        file.set_len(length)?;
        file.sync_all()
    })
}

/// Takes back what a failed write may have appended. No point: it is part of a step that has failed already.
///
/// # Errors
/// Fails as the system call does.
pub(super) fn take_back(file: &File, length: u64) -> io::Result<()> {
    file.set_len(length)
}

/// Removes a file; one that is not there is removed already. The folder's sync is the caller's.
///
/// # Errors
/// Fails where a file that is there cannot be removed.
pub fn remove(path: &Path, point: FaultPoint) -> io::Result<()> {
    at(point, || remove_if_there(path))
}

/// Removes files that nobody will miss, as one step: it is reached also where there are none.
///
/// # Errors
/// Fails where a file that is there cannot be removed.
pub fn clear<'a>(paths: impl IntoIterator<Item = &'a Path>, point: FaultPoint) -> io::Result<()> {
    at(point, || paths.into_iter().try_for_each(remove_if_there))
}

/// Removes a folder with all that is in it; it need not be there.
///
/// # Errors
/// Fails where something cannot be removed.
pub fn remove_tree(path: &Path, point: FaultPoint) -> io::Result<()> {
    at(point, || match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    })
}

/// Removes an unfinished file of ours, of which nothing depends.
pub(super) fn discard(path: &Path) {
    if let Err(error) = remove_if_there(path) {
        tracing::warn!(path = %path.display(), %error, "an unfinished file could not be removed");
    }
}

/// Passes a point at which something else than this module writes (the index).
///
/// # Errors
/// Fails where a fault is injected.
pub(super) fn pass<T>(point: FaultPoint, step: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    at(point, step)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(not(debug_assertions))]
mod faults {
    use super::{FaultPoint, io};

    #[inline(always)]
    pub(super) fn before(_: FaultPoint) -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub(super) fn after(_: FaultPoint) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(debug_assertions)]
mod faults {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    use super::{FaultPoint, io};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Kind {
        Kill,
        Fail(Errno),
    }

    #[derive(Debug)]
    pub(super) struct Plan {
        pub(super) point: FaultPoint,
        pub(super) nth: u64,
        pub(super) after: bool,
        pub(super) lasting: bool,
        pub(super) kind: Kind,
        passed: AtomicU64,
    }

    impl Plan {
        pub(super) fn parse(text: &str) -> Option<Self> {
            let (place, kind) = text.split_once('=').unwrap_or((text, "kill"));
            let mut parts = place.split(':');
            let point = FaultPoint::from_name(parts.next()?)?;
            let lasting = kind == "full";
            let kind = match kind {
                "kill" => Kind::Kill,
                "enospc" | "full" => Kind::Fail(Errno::NOSPC),
                "io" => Kind::Fail(Errno::IO),
                _ => return None,
            };
            let mut plan = Self { point, nth: 1, after: false, lasting, kind, passed: AtomicU64::new(0) };
            for part in parts {
                match part {
                    "after" => plan.after = true,
                    number => plan.nth = number.parse().ok().filter(|&nth| nth > 0)?,
                }
            }
            Some(plan)
        }

        /// Counts a passage and says whether the fault strikes at it.
        fn strikes(&self, point: FaultPoint, after: bool) -> bool {
            if self.point != point || self.after != after {
                return false;
            }
            let passage = self.passed.fetch_add(1, Ordering::Relaxed) + 1;
            passage == self.nth || (self.lasting && passage > self.nth)
        }
    }

    fn plan() -> Option<&'static Plan> {
        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        PLAN.get_or_init(|| {
            let text = std::env::var("LARDER_FAULT").ok().filter(|text| !text.is_empty())?;
            let plan = Plan::parse(&text);
            if plan.is_none() {
                tracing::error!("LARDER_FAULT={text:?} names no fault");
            }
            plan
        })
        .as_ref()
    }

    pub(super) fn before(point: FaultPoint) -> io::Result<()> {
        strike(point, false)
    }

    pub(super) fn after(point: FaultPoint) -> io::Result<()> {
        strike(point, true)
    }

    fn strike(point: FaultPoint, after: bool) -> io::Result<()> {
        match plan().filter(|plan| plan.strikes(point, after)).map(|plan| plan.kind) {
            None => Ok(()),
            Some(Kind::Fail(errno)) => Err(errno.into()),
            Some(Kind::Kill) => loop {
                // No destructor runs, no buffer is written.
                let _ = kill_process(getpid(), Signal::KILL);
                std::thread::park();
            },
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn faults_are_read_and_strike_when_they_should() {
            let plan = Plan::parse("blob-rename:2:after=io").expect("a plan");
            assert_eq!((plan.point, plan.kind), (FaultPoint::BlobRename, Kind::Fail(Errno::IO)));
            assert!(!plan.strikes(FaultPoint::BlobRename, false));
            let struck: Vec<_> = (0..3).map(|_| plan.strikes(FaultPoint::BlobRename, true)).collect();
            assert_eq!(struck, [false, true, false]);
            let full = Plan::parse("journal-write:2=full").expect("a plan");
            let struck: Vec<_> = (0..4).map(|_| full.strikes(FaultPoint::JournalWrite, false)).collect();
            assert_eq!(struck, [false, true, true, true]);
            for text in ["", "nowhere", "blob-rename=what", "blob-rename:0", "blob-rename:x"] {
                assert!(Plan::parse(text).is_none(), "{text}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_read_back() {
        let names: HashSet<_> = FaultPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), FaultPoint::ALL.len());
        for &point in FaultPoint::ALL {
            assert_eq!(FaultPoint::from_name(point.name()), Some(point));
        }
    }

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for bytes in [&b"one"[..], b"two"] {
            write_atomic(&path, bytes, 0o600, FaultPoints::EDIT).expect("a write");
            assert_eq!(fs::read(&path).expect("the file"), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
        remove(&path, FaultPoint::EditRemove).expect("removal");
        assert!(!path.exists());
        remove(&path, FaultPoint::EditRemove).expect("nothing to remove");
    }
}
