//! Errors as `google.rpc.Status` with a stable reason: the one border where a domain error becomes a gRPC code.

use std::collections::HashMap;

use larder_core::digest::DigestError;
use larder_core::reference::ReferenceError;
use larder_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::ops::artifacts::RemoteError;
use crate::ops::login::LoginError;
use crate::ops::pull::PullError;
use crate::ops::push::PushError;
use crate::ops::query::QueryError;
use crate::ops::sign::SignError;
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
}

impl ApiError {
    pub(super) fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, reason, message: message.into(), hint: None }
    }

    pub(super) fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: Code::Unavailable, reason, message: message.into(), hint: None }
    }

    fn of(reason: &'static str, message: String, hint: Option<String>) -> Self {
        Self { code: code_of(reason), reason, message, hint }
    }
}

/// Returns the gRPC code of a reason.
fn code_of(reason: &str) -> Code {
    match reason {
        "invalid-reference" | "invalid-digest" | "invalid-key" | "invalid-name" | "invalid-glob" | "bad-signature"
        | "local-repository" | "not-a-subject" | "invalid-argument" | "unsupported-digest" => Code::InvalidArgument,
        "not-held" | "not-found" | "no-platform" | "no-such-key" => Code::NotFound,
        "name-taken" => Code::AlreadyExists,
        "left-out" | "trust-faulty" | "needs-consent" | "read-only" => Code::FailedPrecondition,
        "rebuilding" | "stopping" | "unreachable" | "rate-limited" | "interrupted" | "registry-error" => {
            Code::Unavailable
        }
        "unauthorized" => Code::Unauthenticated,
        "denied" => Code::PermissionDenied,
        "cursor-ahead" | "cursor-pruned" => Code::OutOfRange,
        "store-full" => Code::ResourceExhausted,
        "digest-mismatch" | "length-mismatch" => Code::DataLoss,
        _ => Code::Unknown,
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let metadata: HashMap<String, String> = error.hint.into_iter().map(|hint| ("hint".to_owned(), hint)).collect();
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
    LoginError,
    PullError,
    PushError,
    QueryError,
    SignError,
    TrustEditError,
    VerifyError,
    WatchError,
    RemoteError,
    StoreError
);

impl From<ReferenceError> for ApiError {
    fn from(error: ReferenceError) -> Self {
        Self::invalid("invalid-reference", error.to_string())
    }
}

impl From<DigestError> for ApiError {
    fn from(error: DigestError) -> Self {
        Self::invalid("invalid-digest", error.to_string())
    }
}
