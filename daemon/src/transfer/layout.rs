//! An archive as source, and a layout as sink.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use larder_core::digest::Algorithm;
use larder_core::manifest::Manifest;
use larder_core::{Descriptor, Digest, Tag};
use tokio::sync::mpsc;

use super::{AttachedList, BlobStream, Found, Reading, Room, Sink, Source, TransferError};
use crate::bundle::{BundleError, Contents, Hashing, blob_name};

/// The most referrers of one subject that are followed, as at a registry.
const MAX_REFERRERS: usize = 2000;

/// What somebody carried here, as source.
pub struct LayoutSource<'a> {
    /// What it holds.
    pub contents: &'a Contents,
}

impl LayoutSource<'_> {
    async fn attachment(&self, digest: Digest, tag: Option<Tag>) -> Result<Option<Found>, TransferError> {
        Ok(self.manifest(&digest).await?.map(|manifest| Found { manifest, tag }))
    }
}

impl Source for LayoutSource<'_> {
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, TransferError> {
        Ok(self.contents.manifest(digest, None).await?)
    }

    async fn attached(&self, subject: &Digest, room: &Room) -> Result<AttachedList, TransferError> {
        let (referrers, tagged) = self.contents.attached(subject);
        let mut list = AttachedList::default();
        list.looked_at.push(format!("the layout: {}", referrers.len() + tagged.len()));
        if referrers.len() > MAX_REFERRERS {
            let beyond = referrers.len() - MAX_REFERRERS;
            list.looked_at.push(format!("{beyond} referrers beyond the first {MAX_REFERRERS} are left"));
        }
        let referrers = referrers.into_iter().take(MAX_REFERRERS).map(|digest| (digest, None));
        let tagged = tagged.into_iter().map(|(tag, digest)| (digest, Some(tag)));
        for (digest, tag) in referrers.chain(tagged) {
            match self.attachment(digest, tag).await? {
                Some(found) => {
                    room.take(&found.manifest)?;
                    list.found.push(found);
                }
                None => list.looked_at.push(format!("{}: listed, but not in the layout", digest.short())),
            }
        }
        Ok(list)
    }

    async fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<BlobStream, TransferError> {
        Ok(self.contents.blob(descriptor, from).await?.map_err(TransferError::from).boxed())
    }
}

/// A piece of a layout that is being written.
#[derive(Debug)]
pub enum Piece {
    /// A file begins; the one before is complete.
    File {
        /// Its name.
        name: String,
        /// Its length.
        size: u64,
    },
    /// Bytes of the file.
    Data(Bytes),
}

/// A layout that somebody writes, as sink. Blobs go one at a time.
pub struct LayoutSink {
    pieces: mpsc::Sender<Piece>,
    /// What the layout has by now. Held for look-ups and insertions only.
    written: Mutex<HashSet<Digest>>,
    bytes: AtomicU64,
}

impl LayoutSink {
    /// Builds a sink; whoever has the other end writes the pieces, in their order.
    pub fn new(pieces: mpsc::Sender<Piece>) -> Self {
        Self { pieces, written: Mutex::default(), bytes: AtomicU64::new(0) }
    }

    /// Writes a file whose bytes are known to be right.
    ///
    /// # Errors
    /// Fails where nobody takes it.
    pub async fn put_file(&self, name: &str, bytes: Bytes) -> Result<(), TransferError> {
        self.send(Piece::File { name: name.to_owned(), size: bytes.len() as u64 }).await?;
        self.send(Piece::Data(bytes)).await
    }

    /// Writes a blob whose bytes are in memory, unless it is there.
    ///
    /// # Errors
    /// Fails where nobody takes it.
    pub async fn put_small(&self, algorithm: Algorithm, bytes: Bytes) -> Result<(), TransferError> {
        let digest = Digest::with(algorithm, &bytes);
        if self.begin(digest) { self.put_file(&blob_name(&digest), bytes).await } else { Ok(()) }
    }

    /// Returns how many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Notes that a blob is written; says whether it was not.
    fn begin(&self, digest: Digest) -> bool {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(digest)
    }

    async fn send(&self, piece: Piece) -> Result<(), TransferError> {
        if let Piece::Data(bytes) = &piece {
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        self.pieces.send(piece).await.map_err(|_| BundleError::Gone.into())
    }
}

impl Sink for LayoutSink {
    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor.digest))
    }

    async fn put_blob<S: Source>(
        &self,
        descriptor: &Descriptor,
        reading: &Reading<'_, S>,
    ) -> Result<(), TransferError> {
        let Descriptor { digest, size, .. } = *descriptor;
        if !self.begin(digest) {
            return Ok(());
        }
        let mut bytes = reading.open().await?;
        let wrong = |what| TransferError::Content { digest, what };
        self.send(Piece::File { name: blob_name(&digest), size }).await?;
        let hashing = Hashing::begin(digest.algorithm());
        let mut left = size;
        while let Some(chunk) = bytes.try_next().await? {
            left =
                left.checked_sub(chunk.len() as u64).ok_or_else(|| wrong("it is longer than its descriptor says"))?;
            hashing.update(chunk.clone()).await;
            self.send(Piece::Data(chunk)).await?;
        }
        match hashing.finish().await {
            Some((actual, length)) if actual == digest && length == size => Ok(()),
            Some((_, length)) if length != size => Err(wrong("it is shorter than its descriptor says")),
            Some(_) => Err(wrong("its bytes are not those of its digest")),
            None => Err(crate::store::StoreError::Stopping.into()),
        }
    }

    async fn put_manifests<'a>(&self, manifests: &[&'a Manifest]) -> Result<Vec<&'a Manifest>, TransferError> {
        let mut put = Vec::new();
        for manifest in manifests {
            if self.begin(manifest.digest()) {
                self.put_file(&blob_name(&manifest.digest()), manifest.raw().clone()).await?;
                put.push(*manifest);
            }
        }
        Ok(put)
    }
}
