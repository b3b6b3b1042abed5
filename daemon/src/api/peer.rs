//! The Unix socket: 0600, and only the daemon's own user and root are let in, by the kernel's word for who they are.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::Connected;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 256;
/// How long nothing is accepted after the system refused to (no file descriptors left, as a rule).
const AFTER_REFUSAL: Duration = Duration::from_millis(100);

/// Says why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("{} is in use: a daemon listens there", .0.display())]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{} is there and is no socket; it is left alone", .0.display())]
    NotASocket(PathBuf),
    /// The system limits the length (107 bytes).
    #[error("{} is too long for a socket's name; set LARDER_SOCKET to a shorter path", .0.display())]
    TooLong(PathBuf),
    /// The system refused.
    #[error("cannot listen at {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket; its file is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: SocketFile,
    /// The uid that is let in, beside root's.
    uid: u32,
}

/// The name of a socket of ours in the file system.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Drop for SocketFile {
    #[expect(clippy::disallowed_methods, reason = "a socket is nothing durable")]
    fn drop(&mut self) {
        // Another daemon may have put its own there.
        if inode_of(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens at `path`. A socket that is there is replaced if nobody listens at it. Needs a running reactor.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source: io::Error| BindError::Io { path: path.to_owned(), source };
        let address = SocketAddrUnix::new(path).map_err(|error| match error {
            Errno::NAMETOOLONG => BindError::TooLong(path.to_owned()),
            error => failed(error.into()),
        })?;
        let socket = new_socket().map_err(|error| failed(error.into()))?;
        // Linux makes the file with the mode of the socket, less the umask: at no moment can others connect.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.into()))?;
        match rustix::net::bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                remove_stale(path, &address)?;
                rustix::net::bind(&socket, &address).map_err(|error| failed(error.into()))?;
            }
            bound => bound.map_err(|error| failed(error.into()))?,
        }
        // Where the system does not: before `listen` nobody can connect either.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), inode: inode_of(path).map_err(failed)? };
        rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
        let socket = UnixListener::from_std(StdListener::from(socket)).map_err(failed)?;
        Ok(Self { socket, file, uid: rustix::process::geteuid().as_raw() })
    }

    /// Returns where it listens.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Accepts connections for ever. Who is not let in is dropped and logged; no client can end the stream.
    pub fn incoming(self) -> impl Stream<Item = io::Result<Connection>> + Send {
        stream::unfold(self, |listener| async move {
            let connection = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }

    async fn accept(&self) -> Connection {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => match self.admit(&stream) {
                    Ok(peer) => return Connection { stream, peer },
                    Err(error) => {
                        tracing::warn!(socket = %self.file.path.display(), %error, "a connection was refused");
                    }
                },
                // Went away between connecting and being accepted.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::warn!(socket = %self.file.path.display(), %error, "no connection can be accepted for now");
                    tokio::time::sleep(AFTER_REFUSAL).await;
                }
            }
        }
    }

    /// Lets a peer in by what the kernel noted when it connected; a peer that is gone meanwhile is still who it was.
    fn admit(&self, stream: &UnixStream) -> io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let peer = Peer { uid: credentials.uid(), pid: credentials.pid() };
        if is_admitted(peer.uid, self.uid) {
            Ok(peer)
        } else {
            let message = format!("uid {} is neither this daemon's user ({}) nor root", peer.uid, self.uid);
            Err(io::Error::new(ErrorKind::PermissionDenied, message))
        }
    }
}

fn is_admitted(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

fn new_socket() -> Result<std::os::fd::OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

fn inode_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes the socket of a daemon that is gone, and nothing else.
#[expect(clippy::disallowed_methods, reason = "a socket is nothing durable")]
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), BindError> {
    let failed = |source: io::Error| BindError::Io { path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    let probe = new_socket().map_err(|error| failed(error.into()))?;
    match rustix::net::connect(&probe, address) {
        // A full queue is somebody's queue.
        Ok(()) | Err(Errno::AGAIN) => Err(BindError::InUse(path.to_owned())),
        Err(Errno::CONNREFUSED) => fs::remove_file(path).map_err(failed),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

/// Who called; tonic puts it into the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process, where the system says so.
    pub pid: Option<i32>,
}

/// A connection of an admitted peer.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
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
#[expect(clippy::disallowed_methods, reason = "tests play the user and the crash")]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn lets_its_own_user_in_and_survives_one_that_closes_early() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path).expect("bound");
        let mode = fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut incoming = pin!(listener.incoming());
        drop(UnixStream::connect(&path).await.expect("connected"));
        let mut client = UnixStream::connect(&path).await.expect("connected");
        client.write_all(b"x").await.expect("written");
        let mut gone = incoming.next().await.expect("never ends").expect("accepted");
        assert_eq!(gone.read(&mut [0; 8]).await.expect("closed"), 0);
        let mut here = incoming.next().await.expect("never ends").expect("accepted");
        let mut byte = [0; 1];
        here.read_exact(&mut byte).await.expect("read");
        assert_eq!(&byte, b"x");
        assert_eq!(here.connect_info().uid, rustix::process::geteuid().as_raw());
        assert_eq!(here.connect_info().pid, i32::try_from(std::process::id()).ok());
    }

    #[test]
    fn only_the_own_user_and_root() {
        assert!(is_admitted(1000, 1000));
        assert!(is_admitted(0, 1000));
        assert!(!is_admitted(1001, 1000));
        assert!(!is_admitted(1000, 0));
    }

    #[tokio::test]
    async fn replaces_a_dead_socket_and_nothing_else() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        let first = Listener::bind(&path).expect("bound");
        assert!(matches!(Listener::bind(&path), Err(BindError::InUse(_))));
        drop(first);
        assert!(!path.exists(), "removed with its listener");
        drop(StdListener::bind(&path).expect("left behind by one that was killed"));
        assert!(path.exists());
        drop(Listener::bind(&path).expect("nobody listens there"));
        fs::write(&path, "mine").expect("a plain file");
        assert!(matches!(Listener::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read(&path).expect("left alone"), b"mine");
        let long = folder.path().join("x".repeat(120));
        assert!(matches!(Listener::bind(&long), Err(BindError::TooLong(_))));
    }

    #[tokio::test]
    async fn leaves_the_socket_of_another_when_dropped() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("socket");
        let first = Listener::bind(&path).expect("bound");
        fs::rename(&path, folder.path().join("moved")).expect("moved");
        let second = Listener::bind(&path).expect("bound");
        drop(first);
        assert!(path.exists(), "it belongs to the second");
        drop(second);
        assert!(!path.exists());
    }
}
