//! The way to the daemon: a Unix socket, whose owner is checked, and the daemon behind it, started where none runs.

pub(crate) mod remote;

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use larder_proto::v1::artifacts_client::ArtifactsClient;
use larder_proto::v1::attachments_client::AttachmentsClient;
use larder_proto::v1::content_client::ContentClient;
use larder_proto::v1::daemon_client::DaemonClient;
use larder_proto::v1::layouts_client::LayoutsClient;
use larder_proto::v1::registries_client::RegistriesClient;
use larder_proto::v1::signatures_client::SignaturesClient;
use larder_proto::v1::sync_client::SyncClient;
use larder_proto::v1::trust_client::TrustClient;
use larder_proto::v1::verification_client::VerificationClient;
use larder_proto::{CONNECTION_WINDOW, STREAM_WINDOW, place};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use crate::error::{Error, words_of};
use crate::launch;
use crate::output::Output;
use remote::Remote;

/// The longest answer that is taken: a page of a thousand long names fits in many times over.
const MAX_ANSWER: usize = 64 << 20;
/// How long a connection may take; the socket is local.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a daemon lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its home.
    pub(crate) home: PathBuf,
    /// Its socket.
    pub(crate) socket: PathBuf,
}

impl Place {
    /// Finds the place by the environment, by the daemon's own rule.
    ///
    /// # Errors
    /// Fails where no variable says where the home is, or the socket's path would be too long.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        Self::from_variables(|name| env::var_os(name))
    }

    /// Finds the place by these variables.
    ///
    /// # Errors
    /// As [`Self::from_environment`] does.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Self, Error> {
        let no_place = |error: place::PlaceError| {
            Error::new("no-place", error.to_string()).hint("LARDER_HOME names the folder where everything lives")
        };
        let home = place::home(&variable).map_err(no_place)?;
        let socket = place::socket(&home, &variable).map_err(no_place)?;
        Ok(Self { home, socket })
    }
}

/// A connection to a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
    /// The daemon's process, as the kernel knows it.
    pub(crate) pid: Option<i32>,
}

impl Client {
    pub(crate) fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn attachments(&self) -> AttachmentsClient<Channel> {
        AttachmentsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn daemon(&self) -> DaemonClient<Channel> {
        DaemonClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn layouts(&self) -> LayoutsClient<Channel> {
        LayoutsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn registries(&self) -> RegistriesClient<Channel> {
        RegistriesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn signatures(&self) -> SignaturesClient<Channel> {
        SignaturesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn sync(&self) -> SyncClient<Channel> {
        SyncClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn trust(&self) -> TrustClient<Channel> {
        TrustClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn verification(&self) -> VerificationClient<Channel> {
        VerificationClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }
}

/// Connects to the daemon that `--address` names, or else to that of this environment, which is started where none
/// runs; that is said.
///
/// # Errors
/// Fails where none runs and none can be started, the socket is another user's, or the other machine does not answer.
pub(crate) async fn connect(output: &Output) -> Result<Client, Error> {
    if let Some(remote) = Remote::chosen() {
        return remote.connect().await;
    }
    let place = Place::from_environment()?;
    match try_connect(&place.socket).await? {
        Some(client) => Ok(client),
        None => launch::start(&place, output).await,
    }
}

/// Connects to the daemon of this environment, and starts none.
///
/// # Errors
/// Fails with `not-running` where none runs.
pub(crate) async fn connect_to_running(place: &Place) -> Result<Client, Error> {
    if let Some(remote) = Remote::chosen() {
        return remote.connect().await;
    }
    try_connect(&place.socket).await?.ok_or_else(|| {
        Error::new("not-running", format!("larderd is not running (nobody listens at {})", place.socket.display()))
            .hint("`larder daemon start` starts it, and so does any command that needs it")
    })
}

/// Connects again to the daemon that this run speaks to; `None` where it does not answer now.
///
/// # Errors
/// Fails as [`try_connect`] does.
pub(crate) async fn try_again(place: &Place) -> Result<Option<Client>, Error> {
    match Remote::chosen() {
        Some(remote) => Ok(remote.connect().await.ok()),
        None => try_connect(&place.socket).await,
    }
}

/// Connects to a socket; `None` where nobody listens.
///
/// # Errors
/// Fails where the socket cannot be reached for another reason, or another user listens.
pub(crate) async fn try_connect(socket: &Path) -> Result<Option<Client>, Error> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Ok(Err(error)) => {
            let message = format!("cannot connect to larderd at {}: {}", socket.display(), words_of(&error));
            return Err(
                Error::new("no-connection", message).hint("LARDER_HOME and LARDER_SOCKET say where it is looked for")
            );
        }
        Err(_) => {
            let message = format!("larderd at {} takes no connection", socket.display());
            return Err(Error::new("no-connection", message).hint("`larder daemon stop` and try again"));
        }
    };
    let peer = stream.peer_cred().map_err(|error| Error::file(&format!("{}", socket.display()), &error))?;
    check_owner(socket, peer.uid(), rustix::process::geteuid().as_raw())?;
    match over(stream).await {
        Ok(channel) => Ok(Some(Client { channel, pid: peer.pid() })),
        // It went away between accepting and speaking.
        Err(_) => Ok(None),
    }
}

/// Speaks gRPC over a connection whose other end was checked.
async fn over<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let endpoint = Endpoint::from_static("http://larder")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    endpoint.connect_with_connector(Connector(Arc::new(Mutex::new(Some(stream))))).await
}

/// Refuses a socket behind which another user listens: they would read what is asked and forge verdicts.
fn check_owner(socket: &Path, peer: u32, own: u32) -> Result<(), Error> {
    if peer == own || peer == 0 {
        return Ok(());
    }
    let message = format!("{} belongs to user {peer}, who is neither you (user {own}) nor root", socket.display());
    Err(Error::new("foreign-daemon", message).hint("nothing was sent; LARDER_HOME names a home of your own"))
}

/// Hands out one connection that is made and checked already, and no second one: a channel that reconnected by itself
/// would reach a daemon whose owner nobody checked.
struct Connector<S>(Arc<Mutex<Option<S>>>);

impl<S: Send + 'static> Service<Uri> for Connector<S> {
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let stream = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stream = stream.map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into());
        Box::pin(std::future::ready(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_socket_is_refused() {
        let socket = Path::new("/run/larder.sock");
        assert!(check_owner(socket, 1000, 1000).is_ok());
        assert!(check_owner(socket, 0, 1000).is_ok());
        let error = check_owner(socket, 1001, 1000).expect_err("another user");
        assert_eq!(error.reason(), "foreign-daemon");
        assert!(check_owner(socket, 1000, 0).is_err(), "root does not trust a user's daemon");
    }

    #[test]
    fn the_place_is_the_daemons() {
        let place = Place::from_variables(|name| (name == "LARDER_HOME").then(|| "/srv/larder".into()));
        let place = place.expect("a place");
        assert_eq!(place.home, Path::new("/srv/larder"));
        assert_eq!(place.socket, Path::new("/srv/larder/larder.sock"));
        assert_eq!(Place::from_variables(|_| None).expect_err("nothing is set").reason(), "no-place");
    }

    #[tokio::test]
    async fn nobody_listening_is_no_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("larder.sock");
        assert!(try_connect(&socket).await.expect("no error").is_none());
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
        assert!(try_connect(&socket).await.expect("no error").is_none(), "left behind by one that was killed");
        let place = Place { home: folder.path().to_owned(), socket };
        assert_eq!(connect_to_running(&place).await.expect_err("none runs").reason(), "not-running");
    }
}
