//! What every call passes before a service sees it: its caller's role, the room that there is, and a time limit.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower_layer::Layer;

use super::peer::Peer;
use super::roles::{Role, Rule, rule};
use super::status::ApiError;
use super::tls::Identity;

/// How many calls may be under way at once, streams included, over all connections.
pub(super) const MAX_CALLS: usize = 512;

/// Lets calls in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    /// Bounds memory: a call may hold a message, a file and a few chunks.
    room: Arc<Semaphore>,
}

impl Default for Admission {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_CALLS)) }
    }
}

impl<S> Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { admission: self.clone(), inner }
    }
}

/// A service behind [`Admission`].
#[derive(Clone, Debug)]
pub(super) struct Admitted<S> {
    admission: Admission,
    inner: S,
}

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let rule = rule(request.uri().path());
        let role = match admit(&request, rule) {
            Ok(role) => role,
            Err(refused) => return Box::pin(std::future::ready(Ok(answer(refused)))),
        };
        request.extensions_mut().insert(role);
        let Ok(permit) = Arc::clone(&self.admission.room).try_acquire_owned() else {
            let full = format!("{MAX_CALLS} calls are under way");
            return Box::pin(std::future::ready(Ok(answer(ApiError::exhausted("too-many-calls", full)))));
        };
        let called = self.inner.call(request);
        Box::pin(async move {
            let Ok(answered) = tokio::time::timeout(rule.within, called).await else {
                let message = format!("the call took longer than {} s and was given up", rule.within.as_secs());
                let late = ApiError { code: Code::DeadlineExceeded, ..ApiError::unavailable("timeout", message) };
                return Ok(answer(late));
            };
            let answered = answered?;
            if let Some(status) = Status::from_header_map(answered.headers()).and_then(too_large) {
                return Ok(answer(status));
            }
            // The permit lives as long as the answer's stream does.
            Ok(answered.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &permit;
                    frame
                }))
            }))
        })
    }
}

fn answer(error: impl Into<Status>) -> Response<Body> {
    error.into().into_http()
}

/// Says what a caller may do, if it may make this call at all.
fn admit(request: &Request<Body>, rule: Rule) -> Result<Role, ApiError> {
    if request.extensions().get::<Peer>().is_some() {
        // Admitted by its uid, which is the daemon's or root's.
        return Ok(Role::Operator);
    }
    let denied = |reason, message, hint: &str| ApiError {
        code: Code::PermissionDenied,
        reason,
        message,
        hint: Some(hint.to_owned()),
        detail: None,
    };
    let Some(identity) = request.extensions().get::<Identity>() else {
        return Err(denied("no-role", "nobody knows who calls".to_owned(), "call through the socket"));
    };
    match identity.role {
        Some(role) if role >= rule.role => Ok(role),
        Some(_) => {
            let message = format!("{} is a reader, and {} is for operators", identity.name, request.uri().path());
            Err(denied("role", message, "role = \"operator\" in [[grpc.client]] of the daemon's config.toml"))
        }
        None => {
            let message = format!("the certificate of {} has no role", identity.name);
            Err(denied("no-role", message, "[[grpc.client]] in the daemon's config.toml gives it one"))
        }
    }
}

/// Gives tonic's refusal of a long message its code and reason; `None` for every other status.
pub(super) fn too_large(status: Status) -> Option<ApiError> {
    let is = status.code() == Code::OutOfRange && status.message().contains("decoded message length too large");
    is.then(|| ApiError::exhausted("message-too-large", "the message is longer than the daemon takes (docs/api.md)"))
}

/// Who made a request, as the journal names it: the uid and the way for the socket, the certificate's name for TCP.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> (Option<u32>, Option<impl Display + use<T>>) {
    let uid = request.extensions().get::<Peer>().map(|peer| peer.uid);
    (uid, request.extensions().get::<Identity>().map(|identity| identity.name.clone()))
}
