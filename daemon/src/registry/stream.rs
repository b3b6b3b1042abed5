//! A blob's bytes on their way out.
//!
//! What the system has in memory goes out from there (`outlet`), but for what is so short that it goes along with the head.
//! What it would have to fetch from a disk is read on the blocking pool, so that nobody else waits for the disk.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};

use super::outlet::{MAX_SPAN, Spans};

/// How many bytes of a file systems fetch at once, unless told otherwise.
const FETCHED: usize = 128 << 10;
/// Up to so many bytes it costs less to copy them than to send them by themselves.
const SHORT: usize = 16 << 10;
/// How many bytes are read at once where the disk is waited for.
const MAX_READ: usize = 256 << 10;

/// The bytes of a file from `place` on, `left` of them. They are not verified; the reader does that by their digest.
#[derive(Debug)]
pub(super) struct Slices {
    file: Arc<File>,
    place: u64,
    left: u64,
    spans: Spans,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl Slices {
    /// Reads `length` bytes of a file from `first` on, for the connection of `spans`.
    pub(super) fn new(file: File, first: u64, length: u64, spans: Spans) -> Self {
        Self { file: Arc::new(file), place: first, left: length, spans, reading: None }
    }

    /// How many bytes the next slice may have.
    fn wanted(&self) -> usize {
        usize::try_from(self.left).unwrap_or(MAX_SPAN).min(MAX_SPAN)
    }

    fn passed(&mut self, slice: Bytes) -> Bytes {
        self.place = self.place.saturating_add(slice.len() as u64);
        self.left = self.left.saturating_sub(slice.len() as u64);
        slice
    }
}

/// Reads what is short, if the system has it in memory.
fn read_now(file: &File, place: u64, wanted: usize) -> Option<Vec<u8>> {
    let mut buffer = vec![0; wanted];
    let read = preadv2(file, &mut [IoSliceMut::new(&mut buffer)], place, ReadWriteFlags::NOWAIT);
    (read == Ok(wanted)).then_some(buffer)
}

/// Says whether the system has bytes in memory, by some of them: it fetches files in pieces.
fn is_in_memory(file: &File, place: u64, length: usize) -> bool {
    let is_there = |at: usize| {
        let place = place.saturating_add(at as u64);
        preadv2(file, &mut [IoSliceMut::new(&mut [0])], place, ReadWriteFlags::NOWAIT) == Ok(1)
    };
    (0..length).step_by(FETCHED).all(is_there) && is_there(length.saturating_sub(1))
}

/// Reads some of the bytes that are wanted, however long that takes.
fn read_waiting(file: &File, place: u64, wanted: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; wanted.min(MAX_READ)];
    loop {
        match rustix::io::pread(file, buffer.as_mut_slice(), place) {
            // The length was promised: an end before it must not look like the end of the blob.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
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
            let (place, wanted) = (self.place, self.wanted());
            if wanted <= SHORT
                && let Some(bytes) = read_now(&self.file, place, wanted)
            {
                return Poll::Ready(Some(Ok(self.passed(bytes.into()))));
            }
            if is_in_memory(&self.file, place, wanted) {
                let slice = self.spans.stand_in(&self.file, place, wanted);
                return Poll::Ready(Some(Ok(self.passed(slice))));
            }
            let file = Arc::clone(&self.file);
            self.reading = Some(spawn_blocking(move || read_waiting(&file, place, wanted)));
        }
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let read = read.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
        Poll::Ready(Some(read.map(|bytes| self.passed(bytes.into()))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::outlet::Outlet;
    use super::super::outlet::tests::connection;
    use super::*;

    fn file(length: usize) -> (File, Vec<u8>) {
        let bytes: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        (file, bytes)
    }

    /// Returns what a client gets.
    async fn sent(file: File, first: u64, length: u64) -> (Vec<u8>, io::Result<()>) {
        let (mut client, server) = connection().await;
        let spans = Spans::default();
        let mut outlet = Outlet::new(server, spans.clone());
        let mut slices = Slices::new(file, first, length, spans);
        let sending = async move {
            while let Some(slice) = slices.next().await {
                outlet.write_all(&slice?).await?;
            }
            Ok(())
        };
        let mut bytes = Vec::new();
        let (ended, read) = tokio::join!(sending, client.read_to_end(&mut bytes));
        read.expect("an end");
        (bytes, ended)
    }

    #[tokio::test]
    async fn gives_what_was_asked_for() {
        for (length, first, count) in [
            (0, 0, 0),
            (10, 0, 10),
            (10, 9, 1),
            (SHORT + 1, 0, SHORT + 1),
            (3 * MAX_SPAN + 7, 0, 3 * MAX_SPAN + 7),
            (3 * MAX_SPAN, MAX_SPAN - 1, MAX_SPAN + 2),
        ] {
            let (file, bytes) = file(length);
            let (read, ended) = sent(file, first as u64, count as u64).await;
            ended.expect("all of it");
            assert!(read == bytes[first..first + count], "{length} {first} {count}");
        }
    }

    #[tokio::test]
    async fn what_has_to_be_fetched_from_the_disk_is_the_same() {
        let (file, bytes) = file(5 * MAX_SPAN + 3);
        rustix::fs::fdatasync(&file).expect("synced");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("forgotten");
        let (read, ended) = sent(file, 1, bytes.len() as u64 - 1).await;
        ended.expect("all of it");
        assert!(read == bytes[1..]);
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_it_was_is_an_error() {
        let (file, bytes) = file(MAX_SPAN + 5);
        let (read, ended) = sent(file, 0, bytes.len() as u64 + 1).await;
        assert_eq!(ended.expect_err("too short").kind(), io::ErrorKind::UnexpectedEof);
        assert!(read == bytes);
    }
}
