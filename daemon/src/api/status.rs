//! Errors as `google.rpc.Status` with a stable reason: the one border where a domain error becomes a gRPC code.

use std::collections::HashMap;

use larder_core::digest::DigestError;
use larder_core::reference::ReferenceError;
use larder_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::ops::artifacts::RemoteError;
use crate::ops::attach::AttachError;
use crate::ops::attach_evidence::EvidenceError;
use crate::ops::content::{ReadError, WriteError};
use crate::ops::load::{BundleError, LoadError};
use crate::ops::login::LoginError;
use crate::ops::pull::PullError;
use crate::ops::push::PushError;
use crate::ops::query::QueryError;
use crate::ops::receive::ReceiveError;
use crate::ops::receive::role::RoleError;
use crate::ops::save::SaveError;
use crate::ops::sboms::SbomError;
use crate::ops::serve::ServeError;
use crate::ops::sign::SignError;
use crate::ops::tags::{TagError, UntagError};
use crate::ops::trust_edit::TrustEditError;
use crate::ops::verify::VerifyError;
use crate::ops::watch::WatchError;
use crate::store::StoreError;

/// An error as the API shows it.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) code: Code,
    /// Stable.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
    /// More for programs, by a stable name.
    pub(super) detail: Option<(&'static str, String)>,
}

impl ApiError {
    pub(super) fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, reason, message: message.into(), hint: None, detail: None }
    }

    pub(super) fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: Code::Unavailable, reason, message: message.into(), hint: None, detail: None }
    }

    pub(super) fn exhausted(reason: &'static str, message: impl Into<String>) -> Self {
        let hint = Some("end some, or try again later".to_owned()).filter(|_| reason.starts_with("too-many"));
        Self { code: Code::ResourceExhausted, reason, message: message.into(), hint, detail: None }
    }

    pub(super) fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: Code::NotFound, reason, message: message.into(), hint: None, detail: None }
    }

    pub(super) fn hint(self, hint: &str) -> Self {
        Self { hint: Some(hint.to_owned()), ..self }
    }

    fn of(reason: &'static str, message: String, hint: Option<String>) -> Self {
        Self { code: code_of(reason), reason, message, hint, detail: None }
    }
}

/// Returns the gRPC code of a reason.
fn code_of(reason: &str) -> Code {
    match reason {
        "invalid-reference" | "invalid-digest" | "invalid-key" | "invalid-name" | "invalid-glob" | "bad-signature"
        | "invalid-material" | "local-repository" | "not-a-subject" | "reserved-tag" | "no-tag"
        | "invalid-argument" | "unsupported-digest" | "empty-sbom" | "sbom-too-long" | "invalid-predicate"
        | "invalid-layout" | "unreadable-file" | "no-name" | "invalid-root" => Code::InvalidArgument,
        "not-held" | "no-sbom" | "not-found" | "no-platform" | "no-such-key" | "no-such-root" => Code::NotFound,
        "name-taken" => Code::AlreadyExists,
        "not-accepted" => Code::PermissionDenied,
        "left-out"
        | "missing-content"
        | "trust-faulty"
        | "needs-consent"
        | "foreign-name"
        | "read-only"
        | "itself"
        | "refused-address"
        | "refused-redirect"
        | "plain-http"
        | "no-subject"
        | "too-many-signatures" => Code::FailedPrecondition,
        "rebuilding" | "stopping" | "pending" | "unreachable" | "rate-limited" | "interrupted" | "registry-error" => {
            Code::Unavailable
        }
        "unauthorized" => Code::Unauthenticated,
        "denied" => Code::PermissionDenied,
        "cursor-ahead" | "cursor-pruned" => Code::OutOfRange,
        "store-full" => Code::ResourceExhausted,
        "digest-mismatch" | "length-mismatch" | "unreadable-sbom" => Code::DataLoss,
        _ => Code::Unknown,
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let hint = error.hint.map(|hint| ("hint", hint));
        let named = hint.into_iter().chain(error.detail);
        let metadata: HashMap<String, String> = named.map(|(name, value)| (name.to_owned(), value)).collect();
        let details = ErrorDetails::with_error_info(error.reason, ERROR_DOMAIN, metadata);
        Self::with_error_details(error.code, error.message, details)
    }
}

/// Every story's error has a reason, a message and a hint; this is where all of them are listed.
macro_rules! from_story {
    ($($error:ty),+ $(,)?) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                tracing::debug!(error = &error as &dyn std::error::Error, "a call failed");
                Self::of(error.reason(), error.to_string(), error.hint())
            }
        }
    )+};
}

from_story!(
    BundleError,
    LoadError,
    AttachError,
    EvidenceError,
    LoginError,
    PullError,
    PushError,
    QueryError,
    SaveError,
    SignError,
    TagError,
    TrustEditError,
    UntagError,
    VerifyError,
    RemoteError,
    StoreError
);

impl From<WatchError> for ApiError {
    fn from(error: WatchError) -> Self {
        let detail = error.oldest().map(|oldest| ("oldest_seq", oldest.to_string()));
        Self { detail, ..Self::of(error.reason(), error.to_string(), error.hint()) }
    }
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        let message = error.to_string();
        let as_code = |code, reason| Self { code, reason, message: message.clone(), hint: None, detail: None };
        match error {
            ServeError::BlobUnknown { .. } => {
                as_code(Code::NotFound, "not-held").hint("`larder tree REF` lists what an artifact consists of")
            }
            ServeError::RepositoryUnknown(_) | ServeError::ManifestUnknown(_) => {
                as_code(Code::NotFound, "not-held").hint("`larder pull` brings it")
            }
            ServeError::LeftOut(_) => as_code(Code::FailedPrecondition, "left-out")
                .hint("`larder pull --platform all REF` brings every image of an index"),
            ServeError::Refused { .. } => as_code(Code::PermissionDenied, "not-accepted")
                .hint("`larder explain REF` shows what was found and what failed"),
            ServeError::NotEvidence { .. } => as_code(Code::PermissionDenied, "held-back")
                .hint("`larder tree REF` lists what is attached as evidence"),
            ServeError::Pending { .. } => as_code(Code::Unavailable, "pending")
                .hint("ask again in a moment; `larder daemon status` says what is waited for"),
            ServeError::Store(error) => (*error).into(),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::Serve(error) => error.into(),
            ReadError::NotHeld(_) => Self::not_found("not-held", message),
            ReadError::Corrupt(_) => Self { code: Code::DataLoss, ..Self::invalid("corrupt", message) },
            ReadError::Store(error) => error.into(),
        }
    }
}

impl From<SbomError> for ApiError {
    fn from(error: SbomError) -> Self {
        match error {
            SbomError::Read(error) => error.into(),
            error => Self::of(error.reason(), error.to_string(), error.hint()),
        }
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let message = error.to_string();
        match error {
            WriteError::Name => Self::invalid("invalid-name", message),
            WriteError::Unknown(_) => Self::not_found("no-such-write", message),
            WriteError::Busy(_) => Self { code: Code::Aborted, ..Self::invalid("busy", message) },
            WriteError::TooMany => Self::exhausted("too-many-writes", message),
            WriteError::WrongOffset { .. } => Self {
                code: Code::OutOfRange,
                hint: Some("STAT says where the write stands".to_owned()),
                ..Self::invalid("wrong-offset", message)
            },
            WriteError::Length { .. } => Self::invalid("length-mismatch", message),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl From<ReceiveError> for ApiError {
    fn from(error: ReceiveError) -> Self {
        let message = error.to_string();
        match error {
            ReceiveError::Manifest { .. } | ReceiveError::Length { .. } | ReceiveError::TooDeep(_) => {
                Self::invalid("invalid-manifest", message)
            }
            ReceiveError::Role(RoleError::Foreign { .. }) => {
                Self { code: Code::PermissionDenied, ..Self::invalid("not-writable", message) }
            }
            ReceiveError::NoSuchTag(_) => Self::not_found("not-held", message),
            ReceiveError::Reserved(_) | ReceiveError::RegistrysTag(_) => {
                Self { code: Code::PermissionDenied, ..Self::invalid("not-writable", message) }
            }
            ReceiveError::Missing { .. } => {
                Self { code: Code::FailedPrecondition, ..Self::invalid("missing-content", message) }
            }
            ReceiveError::Store(error) => (*error).into(),
        }
    }
}

impl From<ReferenceError> for ApiError {
    fn from(error: ReferenceError) -> Self {
        Self::invalid("invalid-reference", error.to_string()).hint(error.hint())
    }
}

impl From<DigestError> for ApiError {
    fn from(error: DigestError) -> Self {
        Self::invalid("invalid-digest", error.to_string())
            .hint("a digest is sha256: and 64 hex digits, whole; `larder show REF` and `larder tree REF` print them")
    }
}
