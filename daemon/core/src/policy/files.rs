//! The files of a trust folder as one value, and as one blob.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

/// The most bytes that one file may have.
pub const MAX_FILE_BYTES: usize = 256 << 10;
/// The most files that a blob may hold: keys and their settings, roots, policies and deny.yaml.
const MAX_FILES: usize = 1 << 16;
/// The longest path: a folder and a file name.
const MAX_PATH: usize = 512;
/// What a blob begins with; the digit is the version.
const MAGIC: &[u8] = b"larder-trust-1\n";

/// The files of a trust folder: path relative to the folder (`keys/release.pub`), bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFiles(pub BTreeMap<String, Bytes>);

/// Says why bytes are not the blob of a trust set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// It begins with something else.
    #[error("it is no trust set of this version")]
    Magic,
    /// It ends early, or too late.
    #[error("it does not end where its contents do")]
    Length,
    /// A path is no text, too long, or not in order.
    #[error("the path of file {0} is malformed or out of order")]
    Path(usize),
    /// There are more files than a set may have.
    #[error("it holds {0} files, more than a set may have")]
    TooMany(usize),
}

impl TrustFiles {
    /// Writes the files as one canonical blob (what the journal names); the same files give the same bytes.
    ///
    /// After the magic: the number of files, then for each, in the order of their paths, the path and the bytes, each with
    /// its length before it. Numbers are 32 bits, big-endian.
    pub fn to_blob(&self) -> Bytes {
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut blob = BytesMut::from(MAGIC);
        blob.put_u32(length(self.0.len()));
        for (path, bytes) in &self.0 {
            blob.put_u32(length(path.len()));
            blob.put_slice(path.as_bytes());
            blob.put_u32(length(bytes.len()));
            blob.put_slice(bytes);
        }
        blob.freeze()
    }

    /// Reads such a blob.
    ///
    /// # Errors
    /// Fails where the blob is not exactly what [`Self::to_blob`] writes.
    pub fn from_blob(blob: &[u8]) -> Result<Self, BlobError> {
        let mut rest = blob.strip_prefix(MAGIC).ok_or(BlobError::Magic)?;
        let count = take_length(&mut rest)?;
        if count > MAX_FILES {
            return Err(BlobError::TooMany(count));
        }
        let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
        for place in 0..count {
            let path = std::str::from_utf8(take(&mut rest)?).map_err(|_| BlobError::Path(place))?;
            let in_order = files.last_key_value().is_none_or(|(last, _)| last.as_str() < path);
            if path.len() > MAX_PATH || !in_order {
                return Err(BlobError::Path(place));
            }
            let bytes = Bytes::copy_from_slice(take(&mut rest)?);
            files.insert(path.to_owned(), bytes);
        }
        if rest.is_empty() { Ok(Self(files)) } else { Err(BlobError::Length) }
    }
}

fn take_length(rest: &mut &[u8]) -> Result<usize, BlobError> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or(BlobError::Length)?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BlobError::Length)
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BlobError> {
    let length = take_length(rest)?;
    let (bytes, tail) = rest.split_at_checked(length).ok_or(BlobError::Length)?;
    *rest = tail;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> TrustFiles {
        let files = [("keys/a.pub", "A"), ("policies/p.yaml", ""), ("deny.yaml", "{}\n")];
        TrustFiles(files.into_iter().map(|(path, text)| (path.to_owned(), Bytes::from(text))).collect())
    }

    #[test]
    fn there_and_back() {
        for files in [files(), TrustFiles::default()] {
            assert_eq!(TrustFiles::from_blob(&files.to_blob()), Ok(files));
        }
    }

    #[test]
    fn nothing_but_the_canonical_blob_is_read() {
        let blob = files().to_blob();
        for end in 0..blob.len() {
            assert!(TrustFiles::from_blob(&blob[..end]).is_err(), "cut at {end}");
        }
        let mut longer = blob.to_vec();
        longer.push(0);
        assert_eq!(TrustFiles::from_blob(&longer), Err(BlobError::Length));
        // The same two files in the other order.
        let mut swapped = BytesMut::from(MAGIC);
        swapped.put_slice(b"\0\0\0\x02\0\0\0\x01b\0\0\0\0\0\0\0\x01a\0\0\0\0");
        assert_eq!(TrustFiles::from_blob(&swapped), Err(BlobError::Path(1)));
        let mut huge = BytesMut::from(MAGIC);
        huge.put_u32(u32::MAX);
        assert!(matches!(TrustFiles::from_blob(&huge), Err(BlobError::TooMany(_))));
    }
}
