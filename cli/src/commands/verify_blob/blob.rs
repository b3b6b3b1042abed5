//! The signed file: hashed as it passes, so that memory does not grow with it.

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use larder_core::Digest;
use larder_core::keyless::{Hashes, Message, MessageHasher};

use crate::error::Error;

/// The most bytes that are held for a key whose signatures are over the message itself (pure Ed25519).
const MAX_HELD_BYTES: u64 = 128 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// A file, or what is known of it.
pub(crate) struct Blob {
    hashes: Hashes,
    held: Option<Vec<u8>>,
    limit: Limit,
}

/// What cannot be checked of a file, for want of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    None,
    /// It is longer than what is held.
    TooLongToHold,
    /// Only its SHA-256 is known.
    DigestOnly,
}

impl Blob {
    /// Reads a file, stdin for `-`, or takes `sha256:HEX` for the file. With `hold`, keeps the bytes too, where they are
    /// few enough.
    ///
    /// # Errors
    /// Fails where there is no such file.
    pub(crate) fn read(name: &str, hold: bool) -> Result<Self, Error> {
        if name == "-" {
            return Self::from_reader(io::stdin().lock(), hold).map_err(|error| Error::file("stdin", &error));
        }
        let file = match File::open(Path::new(name)) {
            Ok(file) => file,
            Err(error) => {
                let digest = name.to_ascii_lowercase().parse::<Digest>().ok();
                return match digest.and_then(|digest| Hashes::of_digest(&digest)) {
                    Some(hashes) => Ok(Self { hashes, held: None, limit: Limit::DigestOnly }),
                    None => Err(Error::file(name, &error)
                        .hint("the signed file is asked for: a path, `-` for stdin, or its digest, sha256:HEX")),
                };
            }
        };
        Self::from_reader(file, hold).map_err(|error| Error::file(name, &error))
    }

    fn from_reader(mut reader: impl Read, hold: bool) -> io::Result<Self> {
        let (mut hasher, mut chunk) = (MessageHasher::default(), vec![0; CHUNK_BYTES]);
        let (mut held, mut is_too_long) = (io::Cursor::new(Vec::new()), false);
        loop {
            let count = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let part = chunk.get(..count).unwrap_or_default();
            hasher.update(part);
            if hold && !is_too_long {
                is_too_long = held.stream_position()? + count as u64 > MAX_HELD_BYTES;
                if is_too_long {
                    held = io::Cursor::new(Vec::new());
                } else {
                    io::Write::write_all(&mut held, part)?;
                }
            }
        }
        let held = (hold && !is_too_long).then(|| held.into_inner());
        let limit = if is_too_long { Limit::TooLongToHold } else { Limit::None };
        Ok(Self { hashes: hasher.finish(), held, limit })
    }

    /// Returns why a good signature may not verify all the same.
    pub(super) fn limit_in_words(&self) -> Option<&'static str> {
        match self.limit {
            Limit::None => None,
            Limit::TooLongToHold => Some(
                "pure Ed25519 signs the file itself, and a file of more than 128 MiB is not held in memory; Ed25519ph signs its hash",
            ),
            Limit::DigestOnly => {
                Some("by its sha256 only what was signed by SHA-256 can be checked; other signatures need the file")
            }
        }
    }

    /// Returns what a signature is held against.
    pub(super) fn message(&self) -> Message<'_> {
        match &self.held {
            Some(bytes) => Message::Bytes(bytes),
            None => Message::Hashed(&self.hashes),
        }
    }

    /// Returns the digests that a statement may name it by.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.hashes.digests()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_stands_for_a_file() {
        let hex = "469d29eaafc01452543281f62607cd3af31f4f225c07f92eeaa8fc8fa66fa47d";
        for name in [format!("sha256:{hex}"), format!("sha256:{}", hex.to_uppercase())] {
            let blob = Blob::read(&name, true).expect("a digest");
            assert_eq!(blob.digests(), [format!("sha256:{hex}").parse().expect("a digest")]);
        }
        assert!(Blob::read("no/such/file", false).is_err());
    }

    #[test]
    fn bytes_are_held_only_where_they_are_asked_for() {
        let held = Blob::from_reader(&b"hello"[..], true).expect("read");
        assert!(matches!(held.message(), Message::Bytes(b"hello")));
        let passed = Blob::from_reader(&b"hello"[..], false).expect("read");
        assert!(matches!(passed.message(), Message::Hashed(_)));
        assert_eq!(held.digests(), passed.digests());
    }
}
