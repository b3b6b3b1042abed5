//! A layout in a folder, being written: a new one, or additions to one that is there.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::blob;
use super::write::Beside;
use crate::error::Error;

/// The most bytes of an `index.json` that is added to.
const MAX_INDEX: u64 = 4 << 20;
/// How much of a file that is there is copied at once.
const PIECE: usize = 256 << 10;
/// The files of a layout that are there from its beginning, and its folders.
const OWN_FILES: [&str; 2] = ["oci-layout", "index.json"];
const FOLDERS: [&str; 3] = ["blobs", "blobs/sha256", "blobs/sha512"];

/// A layout that is added to; it is locked.
#[derive(Debug)]
pub(super) struct There {
    folder: PathBuf,
    _lock: File,
    index: Option<Beside>,
    pub(super) current: Option<Current>,
}

/// A file of a folder, being written.
#[derive(Debug)]
pub(super) enum Current {
    /// It is written.
    New { file: File, left: u64, beside: Option<Beside> },
    /// It is there: what comes is compared with it, and written only from where it differs.
    Same { file: File, at: u64, size: u64, place: PathBuf },
    /// It is there, and stays.
    Kept,
}

/// Opens a layout that is there, and reads its index.
pub(super) fn there(folder: &Path, name: &str) -> Result<(There, Vec<u8>), Error> {
    let cannot = |error: io::Error| Error::file(name, &error).and_hint("nothing was saved");
    if !folder.join("oci-layout").is_file() {
        return Err(Error::new("exists", format!("{name} is there, is not empty, and is no OCI image layout"))
            .hint("name a folder that is not there yet; nothing was saved"));
    }
    // Somebody else may have made it: what leads elsewhere is not written through.
    for part in OWN_FILES.into_iter().chain(FOLDERS) {
        let is_right = |there: &fs::Metadata| if FOLDERS.contains(&part) { there.is_dir() } else { there.is_file() };
        if fs::symlink_metadata(folder.join(part)).is_ok_and(|there| !is_right(&there)) {
            return Err(Error::new("exists", format!("{name}/{part} is a link, or not what a layout has there"))
                .hint("name a folder that is not there yet; nothing was saved"));
        }
    }
    let lock = File::open(folder).map_err(cannot)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Error::new("busy", format!("another larder is saving to {name}")).hint("try again when it is done"));
    }
    let mut index = Vec::new();
    match File::open(folder.join("index.json")) {
        Ok(file) => {
            let read = file.take(MAX_INDEX + 1).read_to_end(&mut index);
            read.map_err(cannot)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(error)),
    }
    if index.len() as u64 > MAX_INDEX {
        return Err(Error::new("invalid-layout", format!("{name}/index.json has more than 4 MiB"))
            .hint("name a folder that is not there yet; nothing was saved"));
    }
    Ok((There { folder: folder.to_owned(), _lock: lock, index: None, current: None }, index))
}

/// Creates a file of a new folder.
pub(super) fn create(path: &Path, left: u64) -> io::Result<Current> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(Current::New { file: File::options().write(true).create_new(true).open(path)?, left, beside: None })
}

/// Creates a file under a temporary name.
fn create_beside(place: &Path, left: u64) -> io::Result<Current> {
    let beside = Beside::of(place)?;
    let file = File::options().write(true).create(true).truncate(true).open(&beside.path)?;
    Ok(Current::New { file, left, beside: Some(beside) })
}

pub(super) fn add(current: &mut Option<Current>, bytes: &[u8]) -> io::Result<()> {
    let too_many = || io::Error::other("more bytes came than were announced");
    match current {
        None => Err(too_many()),
        Some(Current::Kept) => Ok(()),
        Some(Current::New { file, left, .. }) => {
            *left = left.checked_sub(bytes.len() as u64).ok_or_else(too_many)?;
            file.write_all(bytes)
        }
        Some(Current::Same { file, at, size, place }) => {
            if at.checked_add(bytes.len() as u64).is_none_or(|end| end > *size) {
                return Err(too_many());
            }
            let mut there = vec![0; bytes.len()];
            if file.read_exact_at(&mut there, *at).is_ok() && there == bytes {
                *at += bytes.len() as u64;
                return Ok(());
            }
            // Its bytes are wrong from here on: it is written anew, what is right of it included.
            let mut new = create_beside(place, *size)?;
            let mut copied = 0;
            while copied < *at {
                let mut piece = vec![0; usize::try_from(*at - copied).unwrap_or(PIECE).min(PIECE)];
                file.read_exact_at(&mut piece, copied)?;
                copied += piece.len() as u64;
                write(&mut new, &piece)?;
            }
            write(&mut new, bytes)?;
            *current = Some(new);
            Ok(())
        }
    }
}

fn write(new: &mut Current, bytes: &[u8]) -> io::Result<()> {
    if let Current::New { file, left, .. } = new {
        *left = left.saturating_sub(bytes.len() as u64);
        file.write_all(bytes)?;
    }
    Ok(())
}

/// Ends a file: durable, and under its name where it has another.
pub(super) fn complete(current: Option<Current>) -> io::Result<()> {
    let too_few = || io::Error::other("fewer bytes came than were announced");
    match current {
        None | Some(Current::Kept) => Ok(()),
        Some(Current::Same { at, size, .. }) => {
            if at == size {
                Ok(())
            } else {
                Err(too_few())
            }
        }
        Some(Current::New { left, .. }) if left > 0 => Err(too_few()),
        Some(Current::New { file, beside, .. }) => {
            file.sync_data()?;
            beside.map_or(Ok(()), Beside::rename)
        }
    }
}

impl There {
    pub(super) fn begin(&mut self, name: &str, size: u64) -> io::Result<()> {
        self.end_current()?;
        let place = self.folder.join(name);
        let there = fs::symlink_metadata(&place).ok().filter(fs::Metadata::is_file);
        self.current = Some(match (name, there) {
            // The index is written beside, and gets its name when all is done.
            ("index.json", _) => create_beside(&place, size)?,
            ("oci-layout", Some(_)) => Current::Kept,
            (_, Some(metadata)) if metadata.len() == size => {
                Current::Same { file: File::open(&place)?, at: 0, size, place }
            }
            _ => {
                if let Some((algorithm, _)) = blob(name) {
                    fs::create_dir_all(self.folder.join("blobs").join(algorithm))?;
                }
                create_beside(&place, size)?
            }
        });
        Ok(())
    }

    pub(super) fn end_current(&mut self) -> io::Result<()> {
        match self.current.take() {
            Some(Current::New { file, left: 0, beside: Some(beside) }) if beside.place.ends_with("index.json") => {
                file.sync_data()?;
                self.index = Some(beside);
                Ok(())
            }
            current => complete(current),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_current()?;
        let index = self.index.take().ok_or_else(|| io::Error::other("no index came"))?;
        index.rename()
    }
}
