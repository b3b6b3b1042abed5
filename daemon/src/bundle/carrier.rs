//! The files of an archive, which a client has and hands over when it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use larder_core::Digest;
use tokio::sync::{Mutex, mpsc};

use super::BundleError;

/// The most files of one archive.
const MAX_FILES: usize = 200_000;
/// The longest name of a file that is looked at: a blob's name has up to 141 bytes.
const MAX_NAME: usize = 255;
/// How many pieces of a file wait for whoever reads it.
const PIECES: usize = 4;

/// The bytes of a file as they come; as many as were announced, or an error.
pub type FileStream = BoxStream<'static, Result<Bytes, BundleError>>;

/// The names and lengths of an archive's files.
#[derive(Debug, Default)]
pub struct Files {
    lengths: BTreeMap<Box<str>, u64>,
}

impl Files {
    /// Adds a file.
    ///
    /// # Errors
    /// Fails where the name is not one of a file in an archive, is there already, or there are too many.
    pub fn add(&mut self, name: &str, length: u64) -> Result<(), BundleError> {
        let wrong = |why| BundleError::Name { name: name.chars().take(120).collect(), why };
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        if name.len() > MAX_NAME || name.chars().any(char::is_control) || !name.split('/').all(is_part) {
            return Err(wrong("is no name of a file in an archive"));
        }
        if self.lengths.len() >= MAX_FILES {
            return Err(BundleError::TooManyFiles(MAX_FILES));
        }
        if self.lengths.insert(name.into(), length).is_some() {
            return Err(wrong("is there twice"));
        }
        Ok(())
    }
}

/// Asks for a part of a file.
#[derive(Debug)]
pub struct Ask {
    /// The file.
    pub name: String,
    /// The first byte.
    pub from: u64,
    /// How many bytes.
    pub length: u64,
    /// Takes the bytes, or why they cannot be read; it is dropped after the last.
    pub answer: mpsc::Sender<Result<Bytes, String>>,
}

/// Reads an archive's files, one at a time.
#[derive(Debug)]
pub struct Carrier {
    files: Files,
    asks: mpsc::Sender<Ask>,
    /// Held while a file is read: there is one way over which the bytes come.
    turn: Arc<Mutex<()>>,
}

impl Carrier {
    /// Builds a carrier, and the end at which it is answered.
    pub fn new(files: Files) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(1);
        (Self { files, asks, turn: Arc::default() }, asked)
    }

    /// Returns a file's length, if it is there.
    pub fn length(&self, name: &str) -> Option<u64> {
        self.files.lengths.get(name).copied()
    }

    /// Lists the blobs of a layout, and how long they are.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, u64)> {
        self.files.lengths.iter().filter_map(|(name, length)| {
            let digest = name.strip_prefix("blobs/")?.replacen('/', ":", 1).parse().ok()?;
            Some((digest, *length))
        })
    }

    /// Reads a file, `from` bytes left out at its beginning.
    ///
    /// # Errors
    /// Fails where it is not there, or nobody answers any more.
    pub async fn read(&self, name: &str, from: u64) -> Result<FileStream, BundleError> {
        let length = self.length(name).ok_or_else(|| BundleError::Missing(name.to_owned()))?;
        self.part(name, from, length.saturating_sub(from)).await
    }

    /// Reads a small file whole.
    ///
    /// # Errors
    /// Fails as [`Self::read`] does, and where it is longer than `limit`.
    pub async fn small(&self, name: &str, limit: u64) -> Result<Bytes, BundleError> {
        let size = self.length(name).ok_or_else(|| BundleError::Missing(name.to_owned()))?;
        if size > limit {
            return Err(BundleError::TooLong { name: name.to_owned(), size, limit });
        }
        self.whole(name, size).await
    }

    /// Reads the beginning of a file: `count` bytes, or fewer where it is shorter.
    ///
    /// # Errors
    /// Fails as [`Self::read`] does.
    pub async fn beginning(&self, name: &str, count: u64) -> Result<Bytes, BundleError> {
        let length = self.length(name).ok_or_else(|| BundleError::Missing(name.to_owned()))?;
        self.whole(name, length.min(count)).await
    }

    async fn whole(&self, name: &str, length: u64) -> Result<Bytes, BundleError> {
        let pieces = self.part(name, 0, length).await?;
        let whole = pieces.try_fold(BytesMut::new(), |mut whole, piece| async move {
            whole.extend_from_slice(&piece);
            Ok(whole)
        });
        Ok(whole.await?.freeze())
    }

    async fn part(&self, name: &str, from: u64, length: u64) -> Result<FileStream, BundleError> {
        if length == 0 {
            return Ok(stream::empty().boxed());
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let (answer, pieces) = mpsc::channel(PIECES);
        let ask = Ask { name: name.to_owned(), from, length, answer };
        self.asks.send(ask).await.map_err(|_| BundleError::Gone)?;
        let reading = Reading { name: name.to_owned(), length, left: length, pieces, _turn: turn };
        Ok(stream::try_unfold(reading, Reading::next).boxed())
    }
}

/// A file being read.
struct Reading {
    name: String,
    length: u64,
    left: u64,
    pieces: mpsc::Receiver<Result<Bytes, String>>,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, BundleError> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = match self.pieces.recv().await {
            Some(Ok(piece)) => piece,
            Some(Err(why)) => return Err(BundleError::Unreadable { name: self.name, why }),
            None => {
                let actual = self.length - self.left;
                return Err(BundleError::Length { name: self.name, listed: self.length, actual });
            }
        };
        match self.left.checked_sub(piece.len() as u64) {
            Some(left) => {
                self.left = left;
                Ok(Some((piece, self)))
            }
            None => {
                let actual = (self.length - self.left).saturating_add(piece.len() as u64);
                Err(BundleError::Length { name: self.name, listed: self.length, actual })
            }
        }
    }
}

#[cfg(test)]
pub(in crate::bundle) mod tests {
    use super::*;

    /// A carrier of files in memory.
    pub(in crate::bundle) fn in_memory(files: Vec<(String, Bytes)>) -> Carrier {
        let mut names = Files::default();
        for (name, bytes) in &files {
            names.add(name, bytes.len() as u64).expect("a name");
        }
        let (carrier, mut asked) = Carrier::new(names);
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                let bytes = files.iter().find(|(name, _)| *name == ask.name).map(|(_, bytes)| bytes.clone());
                let bytes = bytes.expect("only what is there is asked for");
                let begin = usize::try_from(ask.from).expect("small");
                let end = begin + usize::try_from(ask.length).expect("small");
                for piece in bytes.slice(begin..end).chunks(7) {
                    if ask.answer.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                        break;
                    }
                }
            }
        });
        carrier
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["/etc/passwd", "../x", "a/../b", "a//b", "./a", "", "a/", "a\nb", &"x".repeat(256)] {
            assert!(matches!(Files::default().add(name, 1), Err(BundleError::Name { .. })), "{name:?}");
        }
        let mut files = Files::default();
        files.add("blobs/sha256/x", 1).expect("a name");
        assert!(matches!(files.add("blobs/sha256/x", 1), Err(BundleError::Name { .. })), "doubled");
    }

    #[tokio::test]
    async fn files_whole_and_in_part() {
        let carrier = in_memory(vec![("a".into(), Bytes::from_static(b"0123456789")), ("b".into(), Bytes::new())]);
        assert_eq!(carrier.small("a", 10).await.expect("whole"), "0123456789");
        assert_eq!(carrier.small("b", 10).await.expect("empty"), "");
        assert_eq!(carrier.beginning("a", 3).await.expect("a part"), "012");
        let rest: Vec<Bytes> = carrier.read("a", 8).await.expect("there").try_collect().await.expect("read");
        assert_eq!(rest.concat(), b"89");
        assert!(matches!(carrier.small("a", 9).await, Err(BundleError::TooLong { size: 10, limit: 9, .. })));
        assert!(matches!(carrier.read("c", 0).await, Err(BundleError::Missing(_))));
    }

    #[tokio::test]
    async fn lengths_that_lie_are_found() {
        for (listed, sent) in [(5, vec!["abc"]), (5, vec!["abc", "def"]), (2, vec!["abc"])] {
            let mut files = Files::default();
            files.add("a", listed).expect("a name");
            let (carrier, mut asked) = Carrier::new(files);
            tokio::spawn(async move {
                let ask = asked.recv().await.expect("an ask");
                for piece in sent {
                    let _ = ask.answer.send(Ok(Bytes::from_static(piece.as_bytes()))).await;
                }
            });
            assert!(matches!(carrier.small("a", 100).await, Err(BundleError::Length { .. })), "{listed}");
        }
    }
}
