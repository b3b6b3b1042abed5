//! A registry as source and sink.

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use larder_core::artifact::DigestTag;
use larder_core::manifest::Manifest;
use larder_core::{Descriptor, Digest, Repository, Tag};

use super::{AttachedList, BlobStream, Found, Reading, Room, Side, Sink, Source, TransferError};
use crate::remote::{Look, Referrer, RemoteError, RemoteRepository};
use crate::store::Store;

/// How many of a subject's attached manifests may be asked for at once.
const CONCURRENCY: usize = 8;

/// A repository at a registry, as source. What the store holds is read there: a manifest never moves twice.
pub struct RemoteSource<'a> {
    /// The repository's name, by which the store knows it.
    pub name: &'a Repository,
    /// The repository, and what is known by now of where it keeps attached things.
    pub look: &'a Look,
    /// The store that may hold some of it.
    pub store: &'a Store,
    /// The manifest that came along when a tag was resolved.
    pub root: Option<Manifest>,
}

fn from_source(source: RemoteError) -> TransferError {
    TransferError::Remote { side: Side::Source, source }
}

fn to_destination(source: RemoteError) -> TransferError {
    TransferError::Remote { side: Side::Destination, source }
}

impl RemoteSource<'_> {
    /// Finds the manifest under one of cosign's tags.
    async fn tagged(&self, tag: DigestTag, room: &Room) -> Result<(Option<Found>, Option<String>), TransferError> {
        let Some(tag) = tag.tag() else { return Ok((None, None)) };
        let resolved = if self.look.may_be_there(&tag).await || self.was_there(&tag).await {
            self.look.repository().resolve(&tag).await.map_err(from_source)?
        } else {
            None
        };
        let Some(resolved) = resolved else { return Ok((None, Some(format!("{}: none", shown(tag.as_str()))))) };
        let manifest = match resolved.manifest {
            Some(manifest) => Some(manifest),
            None => self.manifest(&resolved.digest).await?,
        };
        let line = match &manifest {
            Some(manifest) => {
                room.take(manifest)?;
                format!("{}: {}", shown(tag.as_str()), manifest.layers().len())
            }
            None => format!("{}: moved meanwhile", shown(tag.as_str())),
        };
        Ok((manifest.map(|manifest| Found { manifest, tag: Some(tag) }), Some(line)))
    }

    /// Says whether something was found under a tag before: then no list alone makes it absent.
    async fn was_there(&self, tag: &Tag) -> bool {
        self.store.tag(self.name, tag).await.is_ok_and(|row| row.is_some())
    }

    async fn referrer(
        &self,
        referrer: Referrer,
        room: &Room,
    ) -> Result<(Option<Found>, Option<String>), TransferError> {
        let Referrer { digest, is_manifest } = referrer;
        if !is_manifest {
            return Ok((None, Some(format!("{}: not a manifest that Larder reads", digest.short()))));
        }
        Ok(match self.manifest(&digest).await? {
            Some(manifest) => {
                room.take(&manifest)?;
                (Some(Found { manifest, tag: None }), None)
            }
            None => (None, Some(format!("{}: listed, but gone", digest.short()))),
        })
    }
}

/// Shortens the digest in a tag.
fn shown(tag: &str) -> String {
    match tag.split_once('-') {
        Some((algorithm, rest)) if rest.len() > 20 => {
            let suffix = rest.split_once('.').map_or(String::new(), |(_, suffix)| format!(".{suffix}"));
            format!("{algorithm}-{}…{suffix}", rest.chars().take(12).collect::<String>())
        }
        _ => tag.to_owned(),
    }
}

impl Source for RemoteSource<'_> {
    async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, TransferError> {
        if self.store.has(digest) {
            // A held manifest that cannot be read any more is fetched again.
            if let Ok(manifest) = self.store.manifest(digest).await {
                return Ok(Some(manifest));
            }
        }
        if let Some(root) = self.root.as_ref().filter(|root| root.digest() == *digest) {
            return Ok(Some(root.clone()));
        }
        self.look.repository().manifest(digest).await.map_err(from_source)
    }

    async fn attached(&self, subject: &Digest, room: &Room) -> Result<AttachedList, TransferError> {
        let referrers = self.look.referrers(subject).await.map_err(from_source)?;
        let mut list = AttachedList { found: Vec::new(), looked_at: referrers.looked_at };
        let referrers =
            stream::iter(referrers.found).map(|referrer| self.referrer(referrer, room)).buffered(CONCURRENCY);
        let tags = DigestTag::COSIGN.map(|suffix| DigestTag { digest: *subject, suffix });
        let tags = stream::iter(tags).map(|tag| self.tagged(tag, room)).buffered(CONCURRENCY);
        let all: Vec<_> = referrers.chain(tags).try_collect().await?;
        for (found, line) in all {
            list.found.extend(found);
            list.looked_at.extend(line);
        }
        Ok(list)
    }

    async fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<BlobStream, TransferError> {
        let stream = self.look.repository().blob(descriptor, from).await.map_err(from_source)?;
        Ok(stream.map_err(from_source).boxed())
    }
}

/// A repository at a registry, as sink.
pub struct RemoteSink<'a> {
    /// The repository.
    pub repository: &'a RemoteRepository,
}

impl Sink for RemoteSink<'_> {
    async fn has_blob(&self, descriptor: &Descriptor) -> Result<bool, TransferError> {
        self.repository.has_blob(&descriptor.digest).await.map_err(to_destination)
    }

    async fn put_blob<S: Source>(
        &self,
        descriptor: &Descriptor,
        reading: &Reading<'_, S>,
    ) -> Result<(), TransferError> {
        let read = || {
            let open = async || {
                let bytes = reading.open().await.map_err(std::io::Error::other)?;
                Ok(bytes.map_err(std::io::Error::other).boxed())
            };
            open().boxed()
        };
        self.repository.push_blob(descriptor, &read).await.map_err(to_destination)
    }

    async fn put_manifests<'a>(&self, manifests: &[&'a Manifest]) -> Result<Vec<&'a Manifest>, TransferError> {
        let mut moved = Vec::new();
        for manifest in manifests {
            if !self.repository.has_manifest(&manifest.digest()).await.map_err(to_destination)? {
                self.repository.push_manifest(manifest, None).await.map_err(to_destination)?;
                moved.push(*manifest);
            }
        }
        Ok(moved)
    }
}
