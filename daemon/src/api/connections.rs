//! Connections, however they came: bounded in number, and none that stays without saying anything.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::peer;

/// How many connections may be open at once, on the socket and on TCP each; more wait in the listener's queue.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// How many streams one connection may have; more wait at the client, as HTTP/2 has it.
pub(super) const MAX_STREAMS: u32 = 128;
/// The most bytes of a call's headers.
pub(super) const MAX_HEADERS: u32 = 16 << 10;
/// How long a client may take to say that it speaks HTTP/2.
pub(super) const OPENING: Duration = Duration::from_secs(10);
/// How long a connection is silent before it is asked whether it still lives.
pub(super) const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// How long it may take to answer that.
pub(super) const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);
/// The bytes with which a client says that it speaks HTTP/2 (RFC 9113, section 3.4). hyper waits for them for ever.
const PREFACE: usize = 24;

/// A connection that has its place; `info` is told to every call on it.
pub(super) struct Connection<S, I> {
    stream: S,
    info: I,
    /// Until when the preface must be here; `None` once it is.
    opening: Option<Pin<Box<Sleep>>>,
    seen: usize,
    _place: OwnedSemaphorePermit,
}

impl<S, I> Connection<S, I> {
    pub(super) fn new(stream: S, info: I, place: OwnedSemaphorePermit) -> Self {
        Self::opened_within(OPENING, stream, info, place)
    }

    fn opened_within(opening: Duration, stream: S, info: I, place: OwnedSemaphorePermit) -> Self {
        let opening = Some(Box::pin(tokio::time::sleep(opening)));
        Self { stream, info, opening, seen: 0, _place: place }
    }
}

/// Gives each connection of the socket its place, and accepts none while there is none.
pub(super) fn of_socket(
    listener: peer::Listener,
) -> impl Stream<Item = io::Result<Connection<peer::Connection, peer::Peer>>> + Send {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold((Box::pin(listener.incoming()), room), |(mut incoming, room)| async move {
        let place = Arc::clone(&room).acquire_owned().await.ok()?;
        let accepted = incoming.next().await?;
        let placed = accepted.map(|connection| {
            let info = connection.connect_info();
            Connection::new(connection, info, place)
        });
        Some((placed, (incoming, room)))
    })
}

impl<S, I: Clone + Send + Sync + 'static> Connected for Connection<S, I> {
    type ConnectInfo = I;

    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Connection<S, I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(opening) = &mut this.opening else { return Pin::new(&mut this.stream).poll_read(cx, buffer) };
        if opening.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.seen = this.seen.saturating_add(buffer.filled().len().saturating_sub(before));
        if this.seen >= PREFACE {
            this.opening = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Connection<S, I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn connection(stream: tokio::io::DuplexStream) -> Connection<tokio::io::DuplexStream, ()> {
        let room = Arc::new(Semaphore::new(1));
        let place = room.try_acquire_owned().expect("room");
        Connection::opened_within(Duration::from_millis(50), stream, (), place)
    }

    #[tokio::test]
    async fn who_says_nothing_is_dropped_and_who_opened_may_be_silent() {
        let (mut client, server) = duplex(64);
        let mut silent = connection(server);
        client.write_all(b"PRI").await.expect("written");
        let mut buffer = [0; 64];
        assert_eq!(silent.read(&mut buffer).await.expect("read"), 3);
        assert_eq!(silent.read(&mut buffer).await.expect_err("no more").kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = duplex(64);
        let mut open = connection(server);
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
        open.read_exact(&mut [0; PREFACE]).await.expect("read");
        assert!(open.opening.is_none(), "nothing ends it any more");
        client.write_all(b"x").await.expect("written");
        assert_eq!(open.read(&mut buffer).await.expect("read"), 1);
    }
}
