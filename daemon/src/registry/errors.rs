//! The border's table: every error of a story, as a status and a code of the distribution-spec.
//!
//! Outsiders get the sentence that a person can act on; causes that concern only this machine
//! (paths, I/O) go to the log.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use larder_core::Digest;
use larder_core::manifest::ManifestError;

use super::access::Rejection;
use super::route::RouteError;
use crate::ops::receive::ReceiveError;
use crate::ops::receive::role::RoleError;
use crate::ops::receive::uploads::UploadError;
use crate::ops::serve::ServeError;
use crate::store::StoreError;

/// How many seconds a client waits before it asks again.
const RETRY_SECONDS: &str = "1";

/// An error as the endpoint answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) header: Option<(http::HeaderName, HeaderValue)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    fn retry(code: &'static str, message: String) -> Self {
        let header = Some((RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS)));
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// The answer, in the distribution-spec's envelope; without it for HEAD, which has no body.
    pub(super) fn render(self, head: bool) -> Response {
        let envelope = serde_json::json!({ "errors": [{ "code": self.code, "message": self.message }] });
        let envelope = envelope.to_string();
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(envelope.len()));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        if !head {
            *answer.body_mut() = Body::from(envelope);
        }
        answer
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Host => Self::new(
                StatusCode::FORBIDDEN,
                "DENIED",
                "this endpoint is called by a loopback name or address, or one that endpoint.hosts in config.toml lists",
            ),
            Rejection::Origin => {
                Self::new(StatusCode::FORBIDDEN, "DENIED", "this endpoint does not answer pages in a browser")
            }
            Rejection::Unauthorized => Self {
                header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"larder\""))),
                ..Self::new(
                    StatusCode::UNAUTHORIZED,
                    "UNAUTHORIZED",
                    "only the daemon's user and root are known here; others log in with any user name and the password in endpoint.token in the daemon's home",
                )
            },
        }
    }
}

impl From<RouteError> for Failure {
    fn from(error: RouteError) -> Self {
        let allow = |methods| Some((http::header::ALLOW, HeaderValue::from_static(methods)));
        match error {
            RouteError::NoSuchPath => {
                Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such path in the distribution API")
            }
            RouteError::Unsupported(what) => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                format!("{what} are not deleted through the endpoint; tags are"),
            ),
            RouteError::Method(methods) => Self {
                header: allow(methods),
                ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", format!("this path takes {methods}"))
            },
            RouteError::Namespace(error) => Self::new(
                StatusCode::BAD_REQUEST,
                "NAME_INVALID",
                format!("the registry in whose place this asks is none: {error}"),
            ),
            RouteError::Namespaces => Self::new(
                StatusCode::BAD_REQUEST,
                "NAME_INVALID",
                "ns= and what stands in front of /v2/ name two different registries",
            ),
            RouteError::Name(error) => Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", error.to_string()),
            RouteError::Tag(error) => Self::new(StatusCode::BAD_REQUEST, "TAG_INVALID", error.to_string()),
            RouteError::Digest(error) => Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", error.to_string()),
            RouteError::TooLong => {
                Self::new(StatusCode::URI_TOO_LONG, "NAME_INVALID", "the path and its query are too long")
            }
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let message = error.to_string();
        match error {
            ServeError::RepositoryUnknown(_) => Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message),
            ServeError::ManifestUnknown(_) | ServeError::LeftOut(_) => {
                Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
            }
            ServeError::BlobUnknown { .. } => Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message),
            ServeError::Refused { .. } | ServeError::NotEvidence { .. } => {
                Self::new(StatusCode::FORBIDDEN, "DENIED", message)
            }
            ServeError::Pending { .. } => Self::retry("UNAVAILABLE", message),
            ServeError::Store(error) => (*error).into(),
        }
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        let message = error.to_string();
        match error {
            ReceiveError::Manifest { source, .. } => match source {
                ManifestError::TooLarge(_) => Self::too_large(message),
                ManifestError::DigestMismatch { .. } => Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message),
                ManifestError::Malformed(_)
                | ManifestError::UnknownMediaType(_)
                | ManifestError::MediaTypeMismatch { .. }
                | ManifestError::TooManySuccessors(_) => {
                    Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
                }
            },
            ReceiveError::Role(RoleError::Foreign { .. }) => Self::new(StatusCode::FORBIDDEN, "DENIED", message),
            ReceiveError::Missing { .. } => Self::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message),
            ReceiveError::Length { .. } => Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message),
            ReceiveError::NoSuchTag(_) => Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message),
            ReceiveError::Reserved(_) => Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message),
            ReceiveError::RegistrysTag(_) => Self::new(StatusCode::FORBIDDEN, "DENIED", message),
            ReceiveError::TooDeep(_) => Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message),
            ReceiveError::Store(error) => (*error).into(),
        }
    }
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        let message = error.to_string();
        match error {
            UploadError::Unknown { .. } => Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message),
            UploadError::Busy(_) => Self::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", message),
            UploadError::TooMany => Self {
                header: Some((RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS))),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", message)
            },
            UploadError::OutOfOrder { .. } => {
                Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message)
            }
            UploadError::Length { .. } => Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message),
            UploadError::Body { .. } => Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message),
            UploadError::Random(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message),
            UploadError::Store(error) => (*error).into(),
        }
    }
}

impl Failure {
    /// The answer to who reads a blob that was uploaded, and that the gate can judge by no manifest.
    pub(super) fn unlisted(digest: Digest) -> Self {
        let message =
            format!("the blob {digest} was uploaded, and is held back until a manifest lists it: push that manifest");
        Self::new(StatusCode::FORBIDDEN, "DENIED", message)
    }

    /// The answer to a manifest that is longer than one may be.
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        let inner = |error: &StoreError| {
            tracing::error!(%error, "the endpoint could not do what was asked");
            Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "UNKNOWN",
                "the store failed; the daemon's log says how, and larder daemon status whether it still takes anything",
            )
        };
        match &error {
            StoreError::Rebuilding { .. } => Self::retry("UNAVAILABLE", message),
            StoreError::Stopping => Self::retry("UNAVAILABLE", message),
            StoreError::ReadOnly { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message),
            StoreError::Full { .. } | StoreError::NoRoom { .. } => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "UNAVAILABLE",
                "the disk of the daemon's home is full; nothing was taken",
            ),
            StoreError::DigestMismatch { .. } => Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message),
            StoreError::LengthMismatch { .. } => Self::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message),
            StoreError::NotHeld { .. } => Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message),
            StoreError::Incomplete { .. } => Self::new(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", message),
            StoreError::TooLong { .. } | StoreError::Manifest { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
            }
            StoreError::Invalid(_) | StoreError::Journal { .. } | StoreError::Pruned { .. } | StoreError::Io { .. } => {
                inner(&error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::verdict::{Gate, State, Verdict};

    use super::*;

    #[tokio::test]
    async fn the_envelope() {
        let answer = Failure::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "no \"x\"").render(false);
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.expect("body");
        let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(value["errors"][0]["code"], "BLOB_UNKNOWN");
        assert_eq!(value["errors"][0]["message"], "no \"x\"");
        let head = Failure::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "x").render(true);
        assert!(axum::body::to_bytes(head.into_body(), 1000).await.expect("body").is_empty());
    }

    #[test]
    fn the_gate_in_http() {
        let subject: larder_core::Reference =
            format!("docker.io/acme/app@{}", Digest::of(b"x")).parse().expect("reference");
        let verdict = |state, gate| Box::new(Verdict { state, reasons: Vec::new(), gate });
        let refused = Failure::from(ServeError::Refused {
            subject: subject.clone(),
            verdict: verdict(State::Unsigned, Gate::Refuse),
        });
        assert_eq!((refused.status, refused.code), (StatusCode::FORBIDDEN, "DENIED"));
        assert!(refused.message.contains("larder trust"), "{}", refused.message);
        let pending = Failure::from(ServeError::Pending { subject, verdict: verdict(State::Pending, Gate::Retry) });
        assert_eq!(pending.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(pending.header, Some((RETRY_AFTER, HeaderValue::from_static("1"))));
    }

    #[test]
    fn rejections() {
        let failure = Failure::from(Rejection::Unauthorized);
        assert_eq!(failure.status, StatusCode::UNAUTHORIZED);
        assert_eq!(failure.header.expect("challenge").1, "Basic realm=\"larder\"");
        assert_eq!(Failure::from(Rejection::Host).status, StatusCode::FORBIDDEN);
        assert_eq!(Failure::from(Rejection::Origin).status, StatusCode::FORBIDDEN);
        assert_eq!(Failure::from(RouteError::Unsupported("blobs")).status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
