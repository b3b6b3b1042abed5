//! Bytes of a file on their way to the daemon, in pieces: neither side ever holds all of them.

use std::io::ErrorKind;

use bytes::Bytes;
use futures_util::stream;
use larder_proto::v1;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::connect::Client;
use crate::error::Error;

/// How many bytes go in one request.
const PIECE: usize = 256 << 10;

/// A blob that the daemon has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// `sha256:<hex>`
    pub(crate) digest: String,
    /// How many bytes it has.
    pub(crate) size: u64,
}

/// Writes what a reader gives as a blob. `limit` bytes are read and one more, never all of an endless source.
///
/// # Errors
/// Fails where it cannot be read or has more than `limit` bytes, and as the daemon does; then no blob is there.
pub(crate) async fn upload(
    client: &Client,
    name: &str,
    mut source: impl AsyncRead + Unpin,
    limit: u64,
) -> Result<Uploaded, Error> {
    let mut write = Write::begin(client).await?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    loop {
        let piece = match read_piece(&mut source).await {
            Ok(piece) => piece,
            Err(error) => {
                write.abort().await;
                return Err(Error::file(name, &error).and_hint("nothing was changed"));
            }
        };
        let behind = size.saturating_add(piece.len() as u64);
        if behind > limit {
            write.abort().await;
            return Err(Error::new("too-long", format!("{name} has more than {} MiB", limit >> 20))
                .hint("is it the right file? nothing was changed"));
        }
        hash.update(&piece);
        if piece.is_empty() {
            let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let digest = format!("sha256:{digest}");
            write.commit(size, &digest).await?;
            return Ok(Uploaded { digest, size });
        }
        write.append(size, piece).await?;
        size = behind;
    }
}

/// Reads as much as fits a piece; empty at the end.
async fn read_piece(source: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE);
    while piece.len() < PIECE {
        let room = (PIECE - piece.len()) as u64;
        match (&mut *source).take(room).read_to_end(&mut piece).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(piece.into())
}

/// A stream of `Content.Write`: each request is answered before the next one goes.
struct Write {
    requests: mpsc::Sender<v1::WriteRequest>,
    answers: Streaming<v1::WriteResponse>,
}

impl Write {
    async fn begin(client: &Client) -> Result<Self, Error> {
        let (requests, mut queue) = mpsc::channel(1);
        let queue = stream::poll_fn(move |context| queue.poll_recv(context));
        let mut nonce = [0_u8; 8];
        getrandom::fill(&mut nonce).map_err(|error| {
            Error::new("random", format!("the system gives no random numbers: {error}"))
                .hint("nothing was sent; try again")
        })?;
        let begin = v1::WriteRequest {
            action: v1::WriteAction::Stat.into(),
            r#ref: format!("upload-{:016x}", u64::from_be_bytes(nonce)),
            ..Default::default()
        };
        // The answer to the call comes with the answer to its first request.
        let _ = requests.send(begin).await;
        let answers = client.content().write(queue).await?.into_inner();
        let mut write = Self { requests, answers };
        write.answered().await?;
        Ok(write)
    }

    async fn append(&mut self, offset: u64, data: Bytes) -> Result<(), Error> {
        self.ask(v1::WriteRequest { action: v1::WriteAction::Write.into(), offset, data, ..Default::default() }).await
    }

    async fn commit(mut self, size: u64, digest: &str) -> Result<(), Error> {
        self.ask(v1::WriteRequest {
            action: v1::WriteAction::Commit.into(),
            offset: size,
            total: size,
            expected: digest.to_owned(),
            ..Default::default()
        })
        .await
    }

    /// Drops what was written; where that fails, it is dropped once it was idle for long enough.
    async fn abort(mut self) {
        let _ = self.ask(v1::WriteRequest { action: v1::WriteAction::Abort.into(), ..Default::default() }).await;
    }

    async fn ask(&mut self, request: v1::WriteRequest) -> Result<(), Error> {
        // Where the daemon ended the stream, the answer says why.
        let _ = self.requests.send(request).await;
        self.answered().await
    }

    async fn answered(&mut self) -> Result<(), Error> {
        match self.answers.message().await? {
            Some(_) => Ok(()),
            None => Err(Error::new("interrupted", "larderd ended the upload").hint("nothing was changed; try again")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_full_but_for_the_last() {
        let bytes = vec![7_u8; PIECE * 2 + 5];
        let mut source = bytes.as_slice();
        let mut sizes = Vec::new();
        loop {
            let piece = read_piece(&mut source).await.expect("memory can be read");
            sizes.push(piece.len());
            if piece.is_empty() {
                break;
            }
        }
        assert_eq!(sizes, [PIECE, PIECE, 5, 0]);
    }
}
