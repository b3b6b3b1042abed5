//! Copies what the sink lacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use larder_core::Descriptor;

use super::{BlobStream, Flights, Sink, Source, TransferError};

/// How far a copy is, in bytes of blobs.
#[derive(Debug, Default)]
pub struct Progress {
    /// What has moved.
    pub done: AtomicU64,
    /// What has to move.
    pub total: AtomicU64,
    /// What was there already.
    pub present: AtomicU64,
}

/// What a copy moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes of blobs, and of the manifests that moved after them.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u32,
    /// Bytes of blobs that were there.
    pub present: u64,
}

/// Copies the blobs that the sink lacks, at most `concurrency` at once and each once.
///
/// # Errors
/// Fails with the first error; blobs that were copied stay, unreachable until an operation names them.
pub async fn copy_blobs(
    source: &impl Source,
    sink: &impl Sink,
    blobs: &[Descriptor],
    flights: &Flights,
    concurrency: usize,
    progress: &Arc<Progress>,
) -> Result<Moved, TransferError> {
    let lacking: Vec<(Descriptor, bool)> = stream::iter(blobs.to_vec())
        .map(|blob| async move {
            let has = sink.has_blob(&blob).await?;
            Ok::<_, TransferError>((blob, !has))
        })
        .buffered(concurrency.max(1))
        .try_collect()
        .await?;
    let mut moved = Moved::default();
    let mut to_move = Vec::new();
    for (blob, lacks) in lacking {
        if lacks {
            progress.total.fetch_add(blob.size, Ordering::Relaxed);
            to_move.push(blob);
        } else {
            progress.present.fetch_add(blob.size, Ordering::Relaxed);
            moved.present = moved.present.saturating_add(blob.size);
        }
    }
    sink.check_room(to_move.iter().fold(0, |sum, blob| sum.saturating_add(blob.size)))?;
    let copied: Vec<u64> = stream::iter(to_move)
        .map(|blob| async move {
            let copy = async {
                let from = sink.begun(&blob);
                if from > 0 {
                    match copy_from(source, sink, &blob, from, progress).await {
                        // What an earlier copy left may be damaged, and a registry may know no ranges: once more, from
                        // the beginning.
                        Err(error) if error.may_lie_with_the_beginning() => {
                            progress.done.fetch_sub(from, Ordering::Relaxed);
                        }
                        ended => return ended,
                    }
                }
                copy_from(source, sink, &blob, 0, progress).await
            };
            let ran = flights.run(blob.digest, copy).await?;
            Ok::<_, TransferError>(if ran { blob.size } else { 0 })
        })
        .buffer_unordered(concurrency.max(1))
        .try_collect()
        .await?;
    moved.blobs = u32::try_from(copied.len()).unwrap_or(u32::MAX);
    moved.bytes = copied.iter().fold(0, |sum, size| sum.saturating_add(*size));
    Ok(moved)
}

async fn copy_from(
    source: &impl Source,
    sink: &impl Sink,
    blob: &Descriptor,
    from: u64,
    progress: &Arc<Progress>,
) -> Result<(), TransferError> {
    progress.done.fetch_add(from, Ordering::Relaxed);
    sink.put_blob(blob, &Reading { source, blob, from, progress, passed: Arc::default() }).await
}

/// A blob to be read from its source: by most sinks once, by a registry once for each try.
pub struct Reading<'a, S> {
    source: &'a S,
    blob: &'a Descriptor,
    from: u64,
    progress: &'a Arc<Progress>,
    /// How many bytes of the present reading were counted as done.
    passed: Arc<AtomicU64>,
}

impl<S: Source> Reading<'_, S> {
    /// Returns how many bytes at its beginning the sink has already.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Begins to read, after those.
    ///
    /// # Errors
    /// Fails as the source does.
    pub async fn open(&self) -> Result<BlobStream, TransferError> {
        self.progress.done.fetch_sub(self.passed.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        let (progress, passed) = (Arc::clone(self.progress), Arc::clone(&self.passed));
        let bytes = self.source.blob(self.blob, self.from).await?;
        let counted = bytes.inspect_ok(move |chunk| {
            passed.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        });
        Ok(counted.boxed())
    }
}
