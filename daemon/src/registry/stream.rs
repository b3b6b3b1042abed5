//! A blob's bytes on their way out.
//!
//! What the system has in memory is read on the spot: handing it to another thread and back would cost
//! more than the reading. What it would have to fetch from a disk is read on the blocking pool. A
//! buffer that was written comes back, so that memory is bounded and nothing is allocated as a blob goes by.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};

/// How many bytes are read at once: enough that a system call hardly counts, few enough to stay in a processor's cache
/// until they are written.
const CHUNK: usize = 128 << 10;

/// The bytes of a file from `place` on, `left` of them. They are not verified; the reader does that by their digest.
#[derive(Debug)]
pub(super) struct Slices {
    file: Arc<File>,
    place: u64,
    left: u64,
    spare: Spare,
    reading: Option<JoinHandle<io::Result<Filled>>>,
}

/// A buffer, and how many bytes of it were read.
#[derive(Debug)]
struct Filled {
    buffer: Vec<u8>,
    length: usize,
}

/// The buffer that is not on its way.
#[derive(Clone, Debug, Default)]
struct Spare(Arc<Mutex<Option<Vec<u8>>>>);

/// A buffer on its way; it comes back when its last byte was written.
struct Lent {
    filled: Filled,
    spare: Spare,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.filled.buffer.get(..self.filled.length).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.spare.slot() = Some(std::mem::take(&mut self.filled.buffer));
    }
}

impl Spare {
    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, wanted: usize) -> Vec<u8> {
        self.slot().take().filter(|buffer| buffer.len() >= wanted).unwrap_or_else(|| vec![0; wanted])
    }
}

impl Slices {
    /// Reads `length` bytes of a file from `first` on.
    pub(super) fn new(file: File, first: u64, length: u64) -> Self {
        Self { file: Arc::new(file), place: first, left: length, spare: Spare::default(), reading: None }
    }

    /// How many bytes the next slice may have.
    fn wanted(&self) -> usize {
        usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK)
    }

    fn lend(&mut self, filled: Filled) -> Bytes {
        self.place = self.place.saturating_add(filled.length as u64);
        self.left = self.left.saturating_sub(filled.length as u64);
        Bytes::from_owner(Lent { filled, spare: self.spare.clone() })
    }
}

/// Fills the buffer from what the system has in memory; `None` where it would have to wait.
fn read_now(file: &File, buffer: &mut [u8], place: u64) -> Option<usize> {
    match preadv2(file, &mut [IoSliceMut::new(buffer)], place, ReadWriteFlags::NOWAIT) {
        Ok(0) | Err(_) => None,
        Ok(read) => Some(read),
    }
}

/// Fills the buffer, however long that takes; returns it.
fn read_waiting(file: &File, mut buffer: Vec<u8>, wanted: usize, place: u64) -> io::Result<Filled> {
    let room = buffer.get_mut(..wanted).unwrap_or_default();
    loop {
        match rustix::io::pread(file, &mut *room, place) {
            // The length was promised: an end before it must not look like the end of the blob.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => return Ok(Filled { buffer, length }),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Stream for Slices {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.reading.is_none() {
            let wanted = self.wanted();
            let mut buffer = self.spare.take(wanted);
            let room = buffer.get_mut(..wanted).unwrap_or_default();
            if let Some(length) = read_now(&self.file, room, self.place) {
                return Poll::Ready(Some(Ok(self.lend(Filled { buffer, length }))));
            }
            let (file, place) = (Arc::clone(&self.file), self.place);
            self.reading = Some(spawn_blocking(move || read_waiting(&file, buffer, wanted, place)));
        }
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let read = read.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
        Poll::Ready(Some(read.map(|filled| self.lend(filled))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;

    use super::*;

    fn file(length: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        (file, bytes)
    }

    async fn collect(mut slices: Slices) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(slice) = slices.next().await {
            bytes.extend_from_slice(&slice?);
        }
        Ok(bytes)
    }

    #[tokio::test]
    async fn gives_what_was_asked_for() {
        for (length, first, count) in
            [(0, 0, 0), (10, 0, 10), (10, 9, 1), (3 * CHUNK + 7, 0, 3 * CHUNK + 7), (3 * CHUNK, CHUNK - 1, CHUNK + 2)]
        {
            let (file, bytes) = file(length);
            let read = collect(Slices::new(file, first as u64, count as u64)).await.expect("read");
            assert!(read == bytes[first..first + count], "{length} {first} {count}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_it_was_is_an_error() {
        let (file, bytes) = file(CHUNK + 5);
        let error = collect(Slices::new(file, 0, bytes.len() as u64 + 1)).await.expect_err("too short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn slices_that_are_kept_are_not_written_over() {
        let (file, bytes) = file(4 * CHUNK);
        let kept: Vec<_> = Slices::new(file, 0, bytes.len() as u64).map(|slice| slice.expect("read")).collect().await;
        assert!(kept.concat() == bytes);
    }
}
