//! What a client may take up: connections, time, and bodies under way (docs/endpoint.md, "Limits").
//!
//! Whoever the endpoint does not know by its uid has little room of its own and little time to show
//! the password, so that a stranger can take nothing from the daemon's user. Whoever it knows is
//! bounded too: by number, and by how long it may keep a request waiting.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use larder_core::manifest::MAX_MANIFEST_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, Sleep, sleep_until};

use super::access::Peer;

/// How many connections of the daemon's user and root may be open; more wait in the listener's queue.
const OWN_CONNECTIONS: usize = 512;
/// How many connections of all others may be open.
const OTHER_CONNECTIONS: usize = 128;
/// How many connections of one other uid may be open; those whose uid is not known count as one.
const CONNECTIONS_OF_ONE: usize = 32;
/// How many requests of the daemon's user and root may bring bytes at once: each holds a thread and up to 1 MiB.
const OWN_BODIES: usize = 64;
/// How many requests of all others may bring bytes at once.
const OTHER_BODIES: usize = 16;
/// How many KiB of manifests of the daemon's user and root may be on their way in at once: they are held in memory.
const OWN_MANIFESTS: usize = 32 << 10;
/// How many KiB of manifests of all others.
const OTHER_MANIFESTS: usize = 8 << 10;
/// The KiB that a request takes whose body is not kept.
const NOT_KEPT: u32 = 64;

/// The slowest that a client may send or take what it asked for.
pub(super) const SLOWEST: Rate = Rate { bytes: 64 << 10, window: Duration::from_secs(60) };

/// Who shares room with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// The daemon's user and root.
    Own,
    /// Everybody else.
    Other(Peer),
}

/// The room that is left.
#[derive(Debug)]
pub(super) struct Rooms {
    own: Arc<Semaphore>,
    /// Held for a look and a step; how many connections each has.
    others: Arc<Mutex<HashMap<Peer, usize>>>,
    own_bodies: Bodies,
    other_bodies: Bodies,
}

/// The room for what requests bring.
#[derive(Debug)]
struct Bodies {
    requests: Semaphore,
    /// In KiB.
    manifests: Semaphore,
}

/// The turn of a request to bring its bytes; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _request: SemaphorePermit<'a>,
    _manifest: Option<SemaphorePermit<'a>>,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub(super) enum Place {
    /// Of the daemon's user and root.
    Own { _permit: OwnedSemaphorePermit },
    /// Of another.
    Other { _place: OtherPlace },
}

/// A place of somebody else.
#[derive(Debug)]
pub(super) struct OtherPlace {
    others: Arc<Mutex<HashMap<Peer, usize>>>,
    peer: Peer,
}

impl Drop for OtherPlace {
    fn drop(&mut self) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = others.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                others.remove(&self.peer);
            }
        }
    }
}

impl Bodies {
    fn new(requests: usize, manifests: usize) -> Self {
        Self { requests: Semaphore::new(requests), manifests: Semaphore::new(manifests) }
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            own: Arc::new(Semaphore::new(OWN_CONNECTIONS)),
            others: Arc::default(),
            own_bodies: Bodies::new(OWN_BODIES, OWN_MANIFESTS),
            other_bodies: Bodies::new(OTHER_BODIES, OTHER_MANIFESTS),
        }
    }
}

impl Rooms {
    /// Waits until there is a place for a connection of the daemon's user, whoever comes then.
    pub(super) async fn own_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.own).acquire_owned().await.ok()
    }

    /// Returns the place of a connection that came while `own` was free; `None` where this peer has no room left.
    pub(super) fn place(&self, own: OwnedSemaphorePermit, standing: Standing) -> Option<Place> {
        let peer = match standing {
            Standing::Own => return Some(Place::Own { _permit: own }),
            Standing::Other(peer) => peer,
        };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, of_this) = (others.values().sum::<usize>(), others.get(&peer).copied().unwrap_or_default());
        if all >= OTHER_CONNECTIONS || of_this >= CONNECTIONS_OF_ONE {
            return None;
        }
        others.insert(peer, of_this + 1);
        Some(Place::Other { _place: OtherPlace { others: Arc::clone(&self.others), peer } })
    }

    /// Waits until a request may bring its bytes; a manifest also until there is memory for it.
    pub(super) async fn turn(&self, standing: Standing, manifest: Option<SizeHint>) -> Option<Turn<'_>> {
        let bodies = match standing {
            Standing::Own => &self.own_bodies,
            Standing::Other(_) => &self.other_bodies,
        };
        let request = bodies.requests.acquire().await.ok()?;
        let manifest = match manifest {
            Some(length) => Some(bodies.manifests.acquire_many(kept_kib(&length)).await.ok()?),
            None => None,
        };
        Some(Turn { _request: request, _manifest: manifest })
    }
}

/// How many KiB of a manifest will be held: all that was announced, the most where nothing was, nothing of one that is
/// announced as too long.
fn kept_kib(length: &SizeHint) -> u32 {
    let kib = |bytes: u64| u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(NOT_KEPT);
    match length.upper() {
        Some(bytes) if bytes > MAX_MANIFEST_BYTES => NOT_KEPT,
        Some(bytes) => kib(bytes),
        None => kib(MAX_MANIFEST_BYTES),
    }
}

/// So many bytes in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// The bytes.
    pub(super) bytes: usize,
    /// For how long the other side may be waited for until it has moved them.
    pub(super) window: Duration,
}

/// The other side is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSlow(Rate);

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { bytes, window } = self.0;
        write!(f, "fewer than {} KiB came in {} seconds of waiting", bytes >> 10, window.as_secs())
    }
}

impl std::error::Error for TooSlow {}

/// Follows how long the other side was waited for. Only waiting counts: a slow disk here is not its fault.
#[derive(Debug)]
struct Pace {
    rate: Rate,
    moved: usize,
    waited: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(rate: Rate) -> Self {
        Self { rate, moved: 0, waited: Duration::ZERO, since: None, timer: None }
    }

    fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.moved = self.moved.saturating_add(bytes);
        if self.moved >= self.rate.bytes {
            (self.moved, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Notes that the other side is waited for; says whether that took too long.
    fn is_too_slow(&mut self, context: &mut Context<'_>) -> bool {
        let Self { rate, waited, since, timer, .. } = self;
        if since.is_none() {
            let now = Instant::now();
            *since = Some(now);
            let end = now + rate.window.saturating_sub(*waited);
            match timer {
                Some(timer) => timer.as_mut().reset(end),
                None => *timer = Some(Box::pin(sleep_until(end))),
            }
        }
        timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }
}

/// A request's body that ends in an error where it comes too slowly.
#[derive(Debug)]
pub(super) struct Paced<B> {
    body: B,
    pace: Pace,
}

impl<B> Paced<B> {
    /// Follows a body.
    pub(super) fn new(body: B, rate: Rate) -> Self {
        Self { body, pace: Pace::new(rate) }
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.pace.moved(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(ended) => Poll::Ready(ended.map(|last| last.map_err(Into::into))),
            Poll::Pending if self.pace.is_too_slow(context) => Poll::Ready(Some(Err(TooSlow(self.pace.rate).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that breaks where the other side does not take what is written. What it sends is followed elsewhere: a
/// head by hyper, a body by [`Paced`].
#[derive(Debug)]
pub(super) struct Drained<S> {
    stream: S,
    pace: Pace,
}

impl<S> Drained<S> {
    /// Follows a connection.
    pub(super) fn new(stream: S, rate: Rate) -> Self {
        Self { stream, pace: Pace::new(rate) }
    }

    fn followed(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.pace.moved(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Pending if self.pace.is_too_slow(context) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
            }
            written => written,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Drained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Drained<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.followed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.followed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(context));
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const HASTY: Rate = Rate { bytes: 100, window: Duration::from_millis(60) };

    #[tokio::test]
    async fn a_stranger_has_little_room_and_takes_none_of_the_owners() {
        let rooms = Rooms::default();
        let stranger = |uid| Standing::Other(Peer::Owner(uid));
        let mut places = Vec::new();
        for uid in 0..20 {
            for _ in 0..100 {
                let own = rooms.own_place().await.expect("the owner's room is not touched");
                places.extend(rooms.place(own, stranger(uid)));
            }
        }
        assert_eq!(places.len(), OTHER_CONNECTIONS);
        assert_eq!(rooms.own.available_permits(), OWN_CONNECTIONS);
        let own = rooms.own_place().await.expect("a place");
        assert!(matches!(rooms.place(own, Standing::Own), Some(Place::Own { .. })));
        drop(places);
        let mut of_one = Vec::new();
        for _ in 0..100 {
            let own = rooms.own_place().await.expect("a place");
            of_one.extend(rooms.place(own, Standing::Other(Peer::Unknown)));
        }
        assert_eq!(of_one.len(), CONNECTIONS_OF_ONE);
        drop(of_one);
        assert!(rooms.others.lock().expect("not poisoned").is_empty(), "all was given back");
    }

    #[tokio::test]
    async fn manifests_take_turns_by_the_memory_that_they_need() {
        let rooms = Rooms::default();
        let mut turns = Vec::new();
        for _ in 0..8 {
            turns.push(rooms.turn(Standing::Own, Some(SizeHint::default())).await.expect("of 4 MiB each"));
        }
        let next = |bytes| {
            let turn = rooms.turn(Standing::Own, Some(SizeHint::with_exact(bytes)));
            tokio::time::timeout(Duration::from_millis(20), turn)
        };
        assert!(next(100).await.is_err(), "there is no memory for one more");
        turns.pop();
        assert!(next(100).await.is_ok() && next(5 << 20).await.is_ok());
        let other = rooms.turn(Standing::Other(Peer::Unknown), Some(SizeHint::default())).await;
        assert!(other.is_some(), "others have memory of their own");
    }

    /// A body of chunks of these lengths, each after a pause.
    fn body(chunks: Vec<(u64, usize)>) -> Paced<axum::body::Body> {
        let chunks = stream::iter(chunks);
        let chunks = futures_util::StreamExt::then(chunks, |(pause, length)| async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Ok::<_, io::Error>(Bytes::from(vec![0; length]))
        });
        Paced::new(axum::body::Body::from_stream(chunks), HASTY)
    }

    async fn read(mut body: Paced<axum::body::Body>) -> (usize, bool) {
        let mut came = 0;
        loop {
            match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                None => return (came, true),
                Some(Ok(frame)) => came += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return (came, false),
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_trickles_ends_in_an_error() {
        assert_eq!(read(body(vec![(0, 50), (0, 200), (5, 150), (5, 1)])).await, (401, true));
        let (came, whole) = read(body(vec![(10, 1); 100])).await;
        assert!(!whole && came < 20, "{came} bytes of a trickle");
        let (came, whole) = read(body(vec![(0, 150), (10_000, 1)])).await;
        assert!(!whole && came == 150, "{came} bytes, then silence");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_ends_in_an_error() {
        let (server, mut client) = duplex(1000);
        let mut server = Drained::new(server, HASTY);
        server.write_all(&[0; 900]).await.expect("there is room");
        let mut taken = [0; 900];
        client.read_exact(&mut taken).await.expect("taken");
        let error = server.write_all(&[0; 5000]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
