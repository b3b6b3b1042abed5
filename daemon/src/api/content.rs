//! `larder.v1.Content`.

use std::io::SeekFrom;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use larder_core::{Digest, Repository, Tag};
use larder_proto::v1::content_server::Content;
use larder_proto::{CHUNK_BYTES, v1};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::calls::{caller, too_large};
use super::roles::Role;
use super::status::ApiError;
use super::{actor, stopping};
use crate::ops::Ctx;
use crate::ops::content::{self, ContentBytes, Mode, WriteName, Writes};
use crate::ops::receive;
use crate::ops::serve::Named;

/// The most digests that are asked for at once.
const MAX_DIGESTS: usize = 1000;
/// How many chunks may wait for a slow client.
const CHUNKS: usize = 2;
/// How long a client may be silent in the middle of a write, or leave a chunk unread.
const SILENCE: Duration = Duration::from_secs(60);

pub(super) struct Service {
    pub(super) ctx: Ctx,
    pub(super) writes: Writes,
    pub(super) cancel: CancellationToken,
}

type Chunks = mpsc::Sender<Result<v1::ReadResponse, Status>>;
type Answers = mpsc::Sender<Result<v1::WriteResponse, Status>>;

#[tonic::async_trait]
impl Content for Service {
    type ReadStream = ReceiverStream<Result<v1::ReadResponse, Status>>;
    type WriteStream = ReceiverStream<Result<v1::WriteResponse, Status>>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let role = request.extensions().get::<Role>().copied();
        let request = request.into_inner();
        let mode = mode(&request, role)?;
        let digest: Digest = request.digest.parse().map_err(ApiError::from)?;
        let content = content::read(&self.ctx, &mode, digest).await.map_err(ApiError::from)?;
        if request.offset > content.size {
            let message = format!("{digest} has {} bytes; byte {} is behind its end", content.size, request.offset);
            return Err(ApiError { code: Code::OutOfRange, ..ApiError::invalid("wrong-offset", message) }.into());
        }
        let rest = content.size.saturating_sub(request.offset);
        let count = if request.length == 0 { rest } else { request.length.min(rest) };
        Ok(Response::new(stream(&self.ctx, &self.cancel, digest, content, request.offset, count)))
    }

    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let digests = request.into_inner().digests;
        if digests.len() > MAX_DIGESTS {
            let message = format!("at most {MAX_DIGESTS} digests are asked for at once");
            return Err(ApiError::invalid("invalid-argument", message).into());
        }
        let digests: Vec<Digest> =
            digests.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(ApiError::from)?;
        let ctx = self.ctx.clone();
        // Each is a look at the file system.
        let missing = tokio::task::spawn_blocking(move || content::missing(&ctx, &digests)).await;
        let missing = missing.map_err(|_| ApiError::unavailable("stopping", "larderd is stopping"))?;
        Ok(Response::new(v1::FindMissingResponse { missing: missing.iter().map(ToString::to_string).collect() }))
    }

    async fn write(
        &self,
        request: Request<Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let caller = match caller(&request) {
            (Some(uid), _) => format!("uid {uid}"),
            (None, name) => name.map(|name| name.to_string()).unwrap_or_default(),
        };
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(1);
        let (ctx, writes, cancel) = (self.ctx.clone(), self.writes.clone(), self.cancel.clone());
        self.ctx.tasks.spawn(async move {
            let mut current = None;
            loop {
                let request = tokio::select! {
                    () = cancel.cancelled() => return stopping(&answers).await,
                    () = answers.closed() => return,
                    next = next(&mut requests) => match next {
                        Ok(Some(request)) => request,
                        Ok(None) => return,
                        Err(error) => return fail(&answers, error).await,
                    },
                };
                // Seen to its end, whether or not the client still waits: half an append would be no append.
                let answer = match step(&ctx, &writes, &caller, &mut current, request).await {
                    Ok(answer) => answer,
                    Err(error) => return fail(&answers, error).await,
                };
                if !matches!(tokio::time::timeout(SILENCE, answers.send(Ok(answer))).await, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn put_manifest(
        &self,
        request: Request<v1::PutManifestRequest>,
    ) -> Result<Response<v1::PutManifestResponse>, Status> {
        let actor = actor(&request, "put-manifest");
        let request = request.into_inner();
        let repository: Repository = request.repository.parse().map_err(ApiError::from)?;
        let digest = match request.digest.as_str() {
            "" => None,
            text => Some(text.parse::<Digest>().map_err(ApiError::from)?),
        };
        let named = match (request.tag.as_str(), digest) {
            ("", Some(digest)) => Named::Digest(digest),
            ("", None) => {
                return Err(ApiError::invalid("invalid-argument", "a manifest is put at a tag or by its digest").into());
            }
            (tag, digest) => {
                if let Some(digest) = digest
                    && Digest::with(digest.algorithm(), &request.manifest) != digest
                {
                    let message = format!("the manifest has not the digest {digest}");
                    return Err(ApiError::invalid("invalid-manifest", message).into());
                }
                Named::Tag(tag.parse::<Tag>().map_err(|error| ApiError::invalid("invalid-name", error.to_string()))?)
            }
        };
        let announced = Some(request.media_type.as_str()).filter(|text| !text.is_empty());
        let received = receive::manifest(&self.ctx, actor, &repository, &named, announced, request.manifest);
        let received = received.await.map_err(ApiError::from)?;
        Ok(Response::new(v1::PutManifestResponse {
            digest: received.digest.to_string(),
            subject: received.subject.map(|digest| digest.to_string()).unwrap_or_default(),
            seq: received.seq,
        }))
    }
}

/// Reads through what is read. Past the gate only for an operator; who is not known is none.
fn mode(request: &v1::ReadRequest, role: Option<Role>) -> Result<Mode, ApiError> {
    match v1::ReadMode::try_from(request.mode) {
        Ok(v1::ReadMode::Unspecified) if request.repository.is_empty() => {
            Err(ApiError::invalid("invalid-argument", "a read through the gate names a repository"))
        }
        Ok(v1::ReadMode::Unspecified) => Ok(Mode::Gated(request.repository.parse().map_err(ApiError::from)?)),
        Ok(v1::ReadMode::AnyState) if role == Some(Role::Operator) => Ok(Mode::AnyState),
        Ok(v1::ReadMode::AnyState) => Err(ApiError {
            code: Code::PermissionDenied,
            ..ApiError::invalid("role", "reading content in any state is for operators").hint(
                "without --unverified it passes the gate; role = \"operator\" is given in the daemon's config.toml",
            )
        }),
        Err(_) => Err(ApiError::invalid("invalid-argument", "the read mode is none of this version")),
    }
}

/// Streams `count` bytes from `offset` on.
pub(super) fn stream(
    ctx: &Ctx,
    cancel: &CancellationToken,
    digest: Digest,
    content: content::Content,
    offset: u64,
    count: u64,
) -> ReceiverStream<Result<v1::ReadResponse, Status>> {
    let (chunks, stream) = mpsc::channel(CHUNKS);
    let cancel = cancel.clone();
    ctx.tasks.spawn(async move {
        tokio::select! {
            () = send(&chunks, digest, content, offset, count) => {}
            () = chunks.closed() => {}
            () = cancel.cancelled() => stopping(&chunks).await,
        }
    });
    ReceiverStream::new(stream)
}

/// Sends `count` bytes from `offset` on.
async fn send(chunks: &Chunks, digest: Digest, content: content::Content, offset: u64, count: u64) {
    let mut head = v1::ReadResponse {
        size: content.size,
        warning: content.warning.unwrap_or_default(),
        offset,
        ..v1::ReadResponse::default()
    };
    let mut source = match open(content.bytes, offset, count).await {
        Ok(source) => source,
        Err(error) => return broken(chunks, digest, &error).await,
    };
    let (mut at, end) = (offset, offset.saturating_add(count));
    let mut first = true;
    while at < end || first {
        let data = match source.next(end - at).await {
            Ok(data) if data.is_empty() && at < end => {
                return broken(chunks, digest, &std::io::ErrorKind::UnexpectedEof.into()).await;
            }
            Ok(data) => data,
            Err(error) => return broken(chunks, digest, &error).await,
        };
        let response = v1::ReadResponse { offset: at, ..std::mem::take(&mut head) };
        at = at.saturating_add(data.len() as u64);
        first = false;
        // A client that left, or that reads nothing, needs no more.
        let sent = tokio::time::timeout(SILENCE, chunks.send(Ok(v1::ReadResponse { data, ..response })));
        if !matches!(sent.await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn broken(chunks: &Chunks, digest: Digest, error: &std::io::Error) {
    tracing::error!(%digest, %error, "content could not be read");
    let lost =
        ApiError { code: Code::DataLoss, ..ApiError::invalid("unreadable", format!("{digest} could not be read")) };
    let _ = chunks.send(Err(lost.into())).await;
}

/// Bytes being read.
enum Source {
    Memory(Bytes),
    File(tokio::fs::File),
}

async fn open(bytes: ContentBytes, offset: u64, count: u64) -> std::io::Result<Source> {
    match bytes {
        ContentBytes::Memory(bytes) => {
            let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).min(bytes.len());
            Ok(Source::Memory(bytes.slice(place(offset)..place(offset.saturating_add(count)))))
        }
        ContentBytes::File(mut file) => {
            file.seek(SeekFrom::Start(offset)).await?;
            Ok(Source::File(file))
        }
    }
}

impl Source {
    /// Reads the next chunk, of at most `limit` bytes; empty at the end.
    async fn next(&mut self, limit: u64) -> std::io::Result<Bytes> {
        let length = usize::try_from(limit).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        match self {
            Self::Memory(bytes) => Ok(bytes.split_to(length.min(bytes.len()))),
            Self::File(file) => {
                let mut chunk = BytesMut::zeroed(length);
                let mut filled = 0;
                while filled < length {
                    match file.read(&mut chunk[filled..]).await? {
                        0 => break,
                        count => filled += count,
                    }
                }
                chunk.truncate(filled);
                Ok(chunk.freeze())
            }
        }
    }
}

async fn next(requests: &mut Streaming<v1::WriteRequest>) -> Result<Option<v1::WriteRequest>, ApiError> {
    match tokio::time::timeout(SILENCE, requests.message()).await {
        Ok(Ok(request)) => Ok(request),
        Ok(Err(status)) => {
            let message = format!("the stream broke off: {}", status.message());
            Err(too_large(status).unwrap_or_else(|| ApiError::unavailable("interrupted", message)))
        }
        Err(_) => {
            let message = format!("nothing came for {} seconds", SILENCE.as_secs());
            Err(ApiError::unavailable("interrupted", message))
        }
    }
}

async fn fail(answers: &Answers, error: ApiError) {
    // A client that has gone needs no answer.
    let _ = answers.send(Err(error.into())).await;
}

async fn step(
    ctx: &Ctx,
    writes: &Writes,
    caller: &str,
    current: &mut Option<WriteName>,
    request: v1::WriteRequest,
) -> Result<v1::WriteResponse, ApiError> {
    if !request.r#ref.is_empty() {
        *current = Some(WriteName::new(caller, &request.r#ref)?);
    }
    let Some(name) = current.as_ref() else {
        return Err(ApiError::invalid("invalid-argument", "the first request of a stream names a write in `ref`"));
    };
    let (action, offset, data) = (request.action(), request.offset, request.data);
    let answer = v1::WriteResponse { action: action.into(), r#ref: name.as_str().to_owned(), ..Default::default() };
    match action {
        v1::WriteAction::Stat => Ok(v1::WriteResponse { offset: writes.stat(name)?, ..answer }),
        v1::WriteAction::Write => {
            Ok(v1::WriteResponse { offset: writes.append(ctx, name, offset, data).await?, ..answer })
        }
        v1::WriteAction::Commit => {
            let expected: Digest = request.expected.parse()?;
            let total = Some(request.total).filter(|total| *total != 0);
            let (digest, length) = writes.commit(ctx, name, offset, data, total, expected).await?;
            Ok(v1::WriteResponse { offset: length, digest: digest.to_string(), ..answer })
        }
        v1::WriteAction::Abort => {
            writes.abort(name)?;
            Ok(answer)
        }
        v1::WriteAction::Unspecified => {
            Err(ApiError::invalid("invalid-argument", "a request says what it does: STAT, WRITE, COMMIT or ABORT"))
        }
    }
}
