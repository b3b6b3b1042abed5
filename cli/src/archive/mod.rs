//! Files that carry artifacts: folders, tars, compressed tars, and streams.
//!
//! The daemon says what is in them; here they are only files. Read: an [`Archive`] lists the files in it and reads each
//! by its exact name. Nothing is ever unpacked, no link is followed, and what is not a regular file is none. Written: a
//! [`Writer`] takes the files of a layout, and what it writes has its name only when it is whole.

mod folder;
mod layout;
mod spool;
mod tar;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Error, words_of};
pub(crate) use write::Writer;

/// The most files of an archive; members of a tar that are no files count too.
const MAX_FILES: usize = 200_000;
/// The longest name of a file that is of use in an archive.
const MAX_NAME: usize = 255;

/// An archive that is open for reading.
#[derive(Debug)]
pub(crate) struct Archive {
    form: Form,
    /// Names and lengths, in their order.
    files: Vec<(String, u64)>,
}

#[derive(Debug)]
enum Form {
    Folder(folder::Folder),
    Tar { file: File, places: HashMap<String, u64> },
}

/// A part of a file that is being read.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    at: u64,
    left: u64,
}

impl Archive {
    /// Opens a folder, a tar, a compressed tar, or with `-` any of those tars on standard input.
    ///
    /// # Errors
    /// Fails where it is none of those, is cut short, or has a member that could lead elsewhere; the error names it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            if io::stdin().is_terminal() {
                return Err(
                    Error::usage("nothing is piped into standard input").hint("`docker save IMAGE | larder load -`")
                );
            }
            return Self::of_stream(io::stdin().lock(), "standard input");
        }
        let name = path.display().to_string();
        let cannot = |error: io::Error| Error::file(&name, &error).and_hint("nothing was changed");
        // Follows a link, for the person named it; does not wait for somebody to write into a pipe before it is known.
        let kind = std::fs::metadata(path).map_err(cannot)?;
        if kind.is_dir() {
            let (folder, files) = folder::open(path).map_err(|why| refused(&name, &why))?;
            return Ok(Self { form: Form::Folder(folder), files });
        }
        let file = File::open(path).map_err(cannot)?;
        if kind.is_file() {
            let mut magic = [0; 4];
            let read = file.read_at(&mut magic, 0).map_err(cannot)?;
            if magic.get(..read) == Some(b"\x28\xb5\x2f\xfd") {
                return Err(Error::new(
                    "invalid-archive",
                    format!("{name} is compressed by zstd, which larder does not read"),
                )
                .hint("`zstd -dc FILE | larder load -`; nothing was changed"));
            }
            if !magic.starts_with(spool::GZIP) {
                return Self::of_tar(file, &name);
            }
        }
        Self::of_stream(file, &name)
    }

    fn of_stream(stream: impl Read, name: &str) -> Result<Self, Error> {
        let file = spool::spool(stream).map_err(|why| refused(name, &why))?;
        Self::of_tar(file, name)
    }

    fn of_tar(file: File, name: &str) -> Result<Self, Error> {
        let members = tar::index(&file).map_err(|why| refused(name, &why))?;
        let mut files: Vec<(String, u64)> = Vec::new();
        let mut places = HashMap::new();
        for tar::Member { name, offset, size } in members {
            files.push((name.clone(), size));
            places.insert(name, offset);
        }
        files.sort();
        Ok(Self { form: Form::Tar { file, places }, files })
    }

    /// Lists the files by name, and their lengths.
    pub(crate) fn files(&self) -> &[(String, u64)] {
        &self.files
    }

    /// Opens a part of a file.
    ///
    /// # Errors
    /// Fails in words where it is not there, or not as long any more.
    pub(crate) fn read(&self, name: &str, offset: u64, length: u64) -> Result<Part, String> {
        let place = self.files.binary_search_by(|(there, _)| there.as_str().cmp(name));
        let size = place.ok().and_then(|place| self.files.get(place)).map(|(_, size)| *size);
        let size = size.ok_or("it is not there")?;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(format!("it has {size} bytes"));
        }
        match &self.form {
            Form::Folder(folder) => {
                let file = folder.open_file(name, size)?;
                Ok(Part { file, at: offset, left: length })
            }
            Form::Tar { file, places } => {
                let begin = places.get(name).ok_or("it is not there")?;
                let file = file.try_clone().map_err(|error| words_of(&error))?;
                Ok(Part { file, at: begin.saturating_add(offset), left: length })
            }
        }
    }
}

impl Part {
    /// Reads the next piece, of at most `limit` bytes; says whether it was the last.
    ///
    /// # Errors
    /// Fails in words where it cannot be read, or has become shorter.
    pub(crate) fn next(&mut self, limit: usize) -> Result<(Vec<u8>, bool), String> {
        let mut piece = vec![0; usize::try_from(self.left).unwrap_or(usize::MAX).min(limit)];
        self.file.read_exact_at(&mut piece, self.at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "it has become shorter meanwhile".to_owned(),
            _ => words_of(&error),
        })?;
        self.at = self.at.saturating_add(piece.len() as u64);
        self.left = self.left.saturating_sub(piece.len() as u64);
        Ok((piece, self.left == 0))
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::new("invalid-archive", format!("{name}: {why}"))
        .hint("nothing was changed; copy it anew from where it comes from")
}

/// Says whether a name is one of a layout's own files: nothing else is ever written or refused for what it is.
fn is_layouts_own(name: &str) -> bool {
    matches!(name, "oci-layout" | "index.json" | "manifest.json") || blob(name).is_some()
}

/// Returns the algorithm and the hash value in the name of a blob's file.
fn blob(name: &str) -> Option<(&str, &str)> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    let digits = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return None,
    };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (hex.len() == digits && hex.bytes().all(is_hex)).then_some((algorithm, hex))
}

/// Shortens a name that is shown, and replaces what could not be seen.
fn shown(name: &str) -> String {
    let cut: String = name.chars().take(120).collect();
    format!("{cut:?}")
}
