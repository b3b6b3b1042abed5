//! What cannot be read in any order is put into a file without a name first: streams, and compressed archives.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::PathBuf;

use flate2::read::MultiGzDecoder;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::words_of;

/// What gzip's files begin with.
pub(super) const GZIP: &[u8] = b"\x1f\x8b";
/// How much is copied at once.
const PIECE: usize = 256 << 10;
/// A compressed archive may always become so long …
const UNPACKED: u64 = 1 << 30;
/// … and beyond that, so many times as long as it is: what is compressed already, as layers are, hardly grows.
const RATIO: u64 = 200;

/// Copies a stream into a file that has no name, unpacked; it goes when it is closed.
///
/// # Errors
/// Fails in words where it cannot be read or kept, is damaged, or grows beyond all reason.
pub(super) fn spool(mut stream: impl Read) -> Result<File, String> {
    let mut file = unnamed().map_err(|error| format!("a temporary file cannot be made: {}", words_of(&error)))?;
    let mut magic = Vec::new();
    (&mut stream).take(2).read_to_end(&mut magic).map_err(|error| words_of(&error))?;
    let is_packed = magic == GZIP;
    let whole = io::Cursor::new(magic).chain(stream);
    if !is_packed {
        copy(whole, &mut file, |_| u64::MAX)?;
        return Ok(file);
    }
    let counted = Counted { stream: whole, count: 0 };
    copy(MultiGzDecoder::new(counted), &mut file, |decoder| {
        UNPACKED.max(decoder.get_ref().count.saturating_mul(RATIO))
    })?;
    Ok(file)
}

/// Copies until the end, as long as it stays below a limit that may depend on what was read.
fn copy<R: Read>(mut from: R, to: &mut File, limit: impl Fn(&R) -> u64) -> Result<(), String> {
    let mut piece = vec![0; PIECE];
    let mut copied: u64 = 0;
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err("it is cut short".to_owned()),
            Err(error) => return Err(format!("it cannot be read: {}", words_of(&error))),
        };
        copied = copied.saturating_add(read as u64);
        if copied > limit(&from) {
            return Err(format!("it unpacks to more than {RATIO} times its length"));
        }
        let bytes = piece.get(..read).unwrap_or_default();
        to.write_all(bytes).map_err(|error| {
            format!("a temporary copy cannot be kept in {}: {}", folder().display(), words_of(&error))
        })?;
    }
}

/// Where temporary files go that may be long: `TMPDIR`, else the place for those that need not fit into memory.
fn folder() -> PathBuf {
    std::env::var_os("TMPDIR")
        .filter(|folder| !folder.is_empty())
        .map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn unnamed() -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let opened = openat(CWD, folder(), OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode);
    if let Ok(file) = opened {
        return Ok(file.into());
    }
    // Not every file system knows files without names.
    let path = folder().join(format!(
        ".larder-{}-{}",
        std::process::id(),
        std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos())
    ));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(CWD, &path, flags, mode)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}

struct Counted<R> {
    stream: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.count = self.count.saturating_add(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    fn read(mut file: File) -> Vec<u8> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).expect("a file");
        file.read_to_end(&mut bytes).expect("a file");
        bytes
    }

    #[test]
    fn streams_plain_and_packed() {
        for bytes in [&b""[..], b"x", b"some bytes"] {
            assert_eq!(read(spool(bytes).expect("plain")), bytes);
            assert_eq!(read(spool(&packed(bytes)[..]).expect("packed")), bytes);
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = packed(b"some bytes that are packed");
        let error = spool(&whole[..whole.len() - 5]).expect_err("cut");
        assert!(error.contains("cut short"), "{error}");
        let mut flipped = whole;
        flipped[14] ^= 0x55;
        assert!(spool(&flipped[..]).is_err());
    }

    #[test]
    fn a_bomb_is_put_out() {
        // A stream that unpacks to a thousand times its length, without end.
        let zeros = packed(&vec![0; 64 << 20]);
        let mut bomb = Vec::new();
        for _ in 0..20 {
            bomb.extend_from_slice(&zeros);
        }
        let error = spool(&bomb[..]).expect_err("a bomb");
        assert!(error.contains("200 times"), "{error}");
    }
}
