//! The way out of a connection: bytes of files go from the system's memory to the client without passing through ours.
//!
//! hyper takes a body as pieces of memory. A piece of [`STAND_IN`] stands for as many bytes of a file: whoever makes the
//! body notes which in [`Spans`], and the connection, where it finds such a piece among those to write, has the system
//! send the file's bytes in its stead (`sendfile`). Stand-ins are known by their address; were one ever copied on its
//! way, zeros would go out, and the client's check of the digest would refuse them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::sendfile;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The most bytes of a file that one piece stands for: enough that what comes between two hardly counts.
pub(super) const MAX_SPAN: usize = 1 << 20;

static STAND_IN: [u8; MAX_SPAN] = [0; MAX_SPAN];

/// What stands-in that are on their way stand for, in their order. Of one connection; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans(Arc<Mutex<VecDeque<Span>>>);

/// Bytes of a file.
#[derive(Debug)]
struct Span {
    file: Arc<File>,
    place: u64,
    left: usize,
}

impl Spans {
    /// Returns a piece that stands for `length` bytes of a file, at most [`MAX_SPAN`], from `place` on. It is the next
    /// that is written.
    pub(super) fn stand_in(&self, file: &Arc<File>, place: u64, length: usize) -> Bytes {
        let piece = Bytes::from_static(STAND_IN.get(..length).unwrap_or(&STAND_IN));
        self.queue().push_back(Span { file: Arc::clone(file), place, left: piece.len() });
        piece
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the system send what the first stand-in stands for, of which `length` bytes are left, as much as the
    /// connection takes now.
    fn send(&self, stream: &TcpStream, length: usize) -> io::Result<usize> {
        let mut queue = self.queue();
        let Some(span) = queue.front_mut().filter(|span| span.left == length) else {
            return Err(io::Error::other("a stand-in for no bytes of a file"));
        };
        let mut place = span.place;
        let sent = stream.try_io(Interest::WRITABLE, || Ok(sendfile(stream, &span.file, Some(&mut place), length)?))?;
        if sent == 0 {
            // The length was promised: an end before it must not look like the end of the blob.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        span.place = place;
        span.left -= sent;
        if span.left == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }
}

fn is_stand_in(piece: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&piece.as_ptr())
}

/// A connection that sends files in the place of what stands for them.
#[derive(Debug)]
pub(super) struct Outlet {
    stream: TcpStream,
    spans: Spans,
}

impl Outlet {
    pub(super) fn new(stream: TcpStream, spans: Spans) -> Self {
        Self { stream, spans }
    }

    fn poll_send(&self, context: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.spans.send(&self.stream, length) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Outlet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // An empty piece lies nowhere.
        let is_file = |piece: &IoSlice<'_>| !piece.is_empty() && is_stand_in(piece);
        match pieces.iter().position(is_file) {
            None => Pin::new(&mut self.stream).poll_write_vectored(context, pieces),
            Some(first) => match pieces.get(..first) {
                Some(before) if before.iter().any(|piece| !piece.is_empty()) => {
                    Pin::new(&mut self.stream).poll_write_vectored(context, before)
                }
                _ => self.poll_send(context, pieces.get(first).map_or(0, |piece| piece.len())),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Returns both ends of a connection.
    pub(in super::super) async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("connected");
        (client, listener.accept().await.expect("accepted").0)
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        Arc::new(file)
    }

    #[tokio::test]
    async fn files_go_out_in_the_place_of_what_stands_for_them() {
        let (mut client, server) = connection().await;
        let spans = Spans::default();
        let mut outlet = Outlet::new(server, spans.clone());
        let long: Vec<u8> = (0..MAX_SPAN + 1).map(|place| (place % 241) as u8).collect();
        let (short, long_file) = (file(b"0123456789"), file(&long));
        let stands =
            [spans.stand_in(&short, 2, 3), spans.stand_in(&long_file, 1, MAX_SPAN), spans.stand_in(&short, 9, 1)];
        assert!(stands.iter().all(|stand| is_stand_in(stand)));
        let pieces: [&[u8]; 7] = [b"head", b"", &stands[0], b"between", &stands[1], &stands[2], b"tail"];
        let expected = [b"head234between".as_slice(), &long[1..], b"9tail"].concat();
        let sending = async move {
            let mut pieces: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut left = pieces.as_mut_slice();
            while !left.is_empty() {
                let written = outlet.write_vectored(left).await.expect("written");
                assert!(written > 0);
                IoSlice::advance_slices(&mut left, written);
            }
        };
        let mut read = Vec::new();
        let (_, ended) = tokio::join!(sending, client.read_to_end(&mut read));
        ended.expect("an end");
        assert!(read == expected);
        assert!(spans.queue().is_empty(), "all was sent");
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_connection() {
        let (_client, server) = connection().await;
        let spans = Spans::default();
        let mut outlet = Outlet::new(server, spans.clone());
        let stand = spans.stand_in(&file(b"short"), 0, 6);
        let error = outlet.write_all(&stand).await.expect_err("one byte is not there");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn what_stands_for_nothing_is_not_sent() {
        let (_client, server) = connection().await;
        let mut outlet = Outlet::new(server, Spans::default());
        assert!(outlet.write_all(&STAND_IN[..1]).await.is_err());
        outlet.spans.stand_in(&file(b"another's"), 0, 2);
        assert!(outlet.write_all(&STAND_IN[..1]).await.is_err());
    }
}
