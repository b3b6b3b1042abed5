//! The store as source and sink.

use futures_util::stream::{StreamExt, TryStreamExt};
use larder_core::manifest::Manifest;
use larder_core::{Descriptor, Digest, Repository};
use tokio_util::io::ReaderStream;

use super::{AttachedList, BlobStream, Found, Sink, Source, TransferError};
use crate::store::{Store, StoreError};

/// How much is read from a blob's file at once.
const READ_BYTES: usize = 256 << 10;

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

    async fn attached(&self, subject: &Digest) -> Result<AttachedList, TransferError> {
        let mut list = AttachedList::default();
        for row in self.store.attached(*subject).await? {
            // A signature tag that was overwritten leaves its older manifests behind; the tag's present one
            // and those of other repositories still carry every signature that is worth carrying.
            let manifest = self.store.manifest(&row.digest).await?;
            list.found.push(Found { manifest, tag: row.attached.and_then(|attached| attached.tag) });
        }
        Ok(list)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<BlobStream, TransferError> {
        let (file, _) = self.store.open_blob(&descriptor.digest).await?;
        let digest = descriptor.digest;
        let read = move |error: std::io::Error| TransferError::Read { digest, message: error.to_string() };
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

    async fn put_blob(&self, descriptor: &Descriptor, mut bytes: BlobStream) -> Result<(), TransferError> {
        let mut ingest = self.store.ingest(Some((descriptor.digest, Some(descriptor.size)))).await?;
        while let Some(chunk) = bytes.try_next().await? {
            ingest.write(chunk).await?;
        }
        ingest.commit(None).await?;
        Ok(())
    }

    async fn put_manifest(&self, manifest: &Manifest) -> Result<bool, TransferError> {
        if self.store.has(&manifest.digest()) {
            return Ok(false);
        }
        let length = manifest.raw().len() as u64;
        let mut ingest = self.store.ingest(Some((manifest.digest(), Some(length)))).await?;
        ingest.write(manifest.raw().clone()).await?;
        ingest.commit(None).await?;
        Ok(true)
    }
}
