//! The store as source and sink.

use std::io::SeekFrom;

use bytes::BytesMut;
use futures_util::stream::{StreamExt, TryStreamExt};
use larder_core::manifest::Manifest;
use larder_core::{Descriptor, Digest, Repository};
use tokio::io::AsyncSeekExt as _;
use tokio_util::io::ReaderStream;

use super::{AttachedList, BlobStream, Found, Reading, Room, Sink, Source, TransferError};
use crate::store::{Store, StoreError};

/// How much is read from a blob's file at once.
const READ_BYTES: usize = 256 << 10;
/// Blobs up to this length are taken at one go: a file more, and no thread of its own.
const SMALL: u64 = 256 << 10;
/// Downloads of blobs from this length on are gone on with where they broke off.
const RESUMABLE: u64 = 4 << 20;

/// A repository in the store, as source.
pub struct StoreSource<'a> {
    /// The store.
    pub store: &'a Store,
    /// The repository; what is attached may have been found in another one.
    pub repository: &'a Repository,
}

impl Source for StoreSource<'_> {
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, TransferError> {
        match self.store.manifest(digest).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(StoreError::NotHeld { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn attached(&self, subject: &Digest, _room: &Room) -> Result<AttachedList, TransferError> {
        let mut list = AttachedList::default();
        // Years of pulls may have brought more than one pull may: what is held was let in, and leaves.
        for row in self.store.attached(*subject).await? {
            // A signature tag that was overwritten leaves its older manifests behind; the tag's present one
            // and those of other repositories still carry every signature that is worth carrying.
            let manifest = self.store.manifest(&row.digest).await?;
            list.found.push(Found { manifest, tag: row.attached.and_then(|attached| attached.tag) });
        }
        Ok(list)
    }

    async fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<BlobStream, TransferError> {
        let (mut file, _) = self.store.open_blob(&descriptor.digest).await?;
        let digest = descriptor.digest;
        let read = move |error: std::io::Error| TransferError::Read { digest, message: error.to_string() };
        if from > 0 {
            file.seek(SeekFrom::Start(from)).await.map_err(read)?;
        }
        Ok(ReaderStream::with_capacity(file, READ_BYTES).map_err(read).boxed())
    }
}

/// The store, as sink.
pub struct StoreSink<'a> {
    /// The store.
    pub store: &'a Store,
}

impl Sink for StoreSink<'_> {
    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, TransferError> {
        Ok(self.store.has(&descriptor.digest))
    }

    fn check_room(&self, bytes: u64) -> Result<(), TransferError> {
        Ok(self.store.check_room(bytes)?)
    }

    fn begun(&self, descriptor: &Descriptor) -> u64 {
        if descriptor.size < RESUMABLE { 0 } else { self.store.begun(&descriptor.digest, descriptor.size) }
    }

    async fn put_blob<S: Source>(
        &self,
        descriptor: &Descriptor,
        reading: &Reading<'_, S>,
    ) -> Result<(), TransferError> {
        let Descriptor { digest, size, .. } = *descriptor;
        let mut bytes = reading.open().await?;
        if size <= SMALL {
            return self.put_small(descriptor, bytes).await;
        }
        let mut ingest = if size < RESUMABLE {
            self.store.ingest(Some((digest, Some(size)))).await?
        } else {
            self.store.resume(digest, size, reading.from()).await?
        };
        while let Some(chunk) = bytes.try_next().await? {
            ingest.write(chunk).await?;
        }
        ingest.commit(None).await?;
        Ok(())
    }

    async fn put_manifests<'a>(&self, manifests: &[&'a Manifest]) -> Result<Vec<&'a Manifest>, TransferError> {
        let lacks = |manifest: &&&Manifest| !self.store.has(&manifest.digest());
        let lacking: Vec<&Manifest> = manifests.iter().filter(lacks).copied().collect();
        let bytes = lacking.iter().map(|manifest| (manifest.digest().algorithm(), manifest.raw().clone())).collect();
        self.store.put_many(bytes).await?;
        Ok(lacking)
    }
}

impl StoreSink<'_> {
    /// Takes a blob at one go.
    async fn put_small(&self, descriptor: &Descriptor, mut bytes: BlobStream) -> Result<(), TransferError> {
        let Descriptor { digest, size, .. } = *descriptor;
        let mut whole = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
        while let Some(chunk) = bytes.try_next().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() as u64 > size {
                break;
            }
        }
        let whole = whole.freeze();
        if whole.len() as u64 == size && Digest::with(digest.algorithm(), &whole) == digest {
            self.store.put_many(vec![(digest.algorithm(), whole)]).await?;
            return Ok(());
        }
        // Wrong bytes go the way of all wrong bytes: refused with what is wrong, and kept for inspection.
        let mut ingest = self.store.ingest(Some((digest, Some(size)))).await?;
        ingest.write(whole).await?;
        ingest.commit(None).await?;
        Ok(())
    }
}
