//! What can go wrong at a registry.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use larder_core::manifest::ManifestError;
use larder_core::{Digest, Repository};

use super::address::RefusedAddress;
use super::credentials::CredentialError;
use super::tls::TlsFault;

/// The thing at a registry that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The registry as references name it.
    pub registry: String,
    /// What was asked of it, as in `store/app:1.4` or `store/app@sha256:… (referrers)`.
    pub what: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.what)
    }
}

/// What a registry said in words; cleaned of control characters and cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer(pub(super) String);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

/// Says why a registry did not do what was asked: names the registry, what was asked for, what it answered, and
/// ([`Self::hint`]) the remedy.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The repository is a local one.
    #[error("{0} is a local repository; no registry stands behind it")]
    LocalRepository(Repository),
    /// 401, by the registry or by its token service.
    #[error("{at}: {}{answer}", refused_user(.user.as_deref()))]
    Unauthorized {
        /// What was asked for.
        at: At,
        /// As whom; `None` is anonymous.
        user: Option<String>,
        /// What the registry said.
        answer: Answer,
    },
    /// 403.
    #[error("{at}: the registry denied the access (403){answer}")]
    Denied {
        /// What was asked for.
        at: At,
        /// As whom; `None` is anonymous.
        user: Option<String>,
        /// What the registry said.
        answer: Answer,
    },
    /// 404.
    #[error("{at} is not there: the registry answered 404 for the {kind}")]
    NotFound {
        /// What was asked for.
        at: At,
        /// `tag`, `manifest`, `blob`, …
        kind: &'static str,
    },
    /// 429, after the retries that the registry's own waiting time allows.
    #[error("{at}: the registry limits the rate of requests (429){}{answer}", later(*.retry_after))]
    RateLimited {
        /// What was asked for.
        at: At,
        /// When to come back.
        retry_after: Option<Duration>,
        /// What the registry said.
        answer: Answer,
    },
    /// 5xx, after retries.
    #[error("{at}: the registry failed ({status}){answer}")]
    Server {
        /// What was asked for.
        at: At,
        /// The status.
        status: u16,
        /// What the registry said.
        answer: Answer,
    },
    /// Any other status that does not belong to the request.
    #[error("{at}: the registry answered {status}{answer}")]
    Unexpected {
        /// What was asked for.
        at: At,
        /// The status.
        status: u16,
        /// What the registry said.
        answer: Answer,
    },
    /// No connection, or it broke.
    #[error("{at}: the registry cannot be reached: {why}")]
    Unreachable {
        /// What was asked for.
        at: At,
        /// What happened.
        why: String,
    },
    /// Nothing came for too long.
    #[error("{at}: nothing came from the registry for {} s", .waited.as_secs())]
    Stalled {
        /// What was asked for.
        at: At,
        /// For how long.
        waited: Duration,
    },
    /// It comes so slowly that it may never end.
    #[error("{at}: the registry is too slow: {received} bytes came in {} s", .waited.as_secs())]
    TooSlow {
        /// What was asked for.
        at: At,
        /// How many bytes came.
        received: u64,
        /// In what time.
        waited: Duration,
    },
    /// It is this very daemon.
    #[error("{at}: this is the endpoint of larderd itself")]
    Itself {
        /// What was asked for.
        at: At,
    },
    /// The registry, or what it led to, is at an address that is not connected to.
    #[error("{at}: not connected: {refused}")]
    RefusedAddress {
        /// What was asked for.
        at: At,
        /// Which address, and of which kind.
        refused: RefusedAddress,
    },
    /// Something led to plain HTTP at a host that may not be spoken to so.
    #[error("{at}: a redirect to plain HTTP at {host} is refused")]
    PlainHttp {
        /// What was asked for.
        at: At,
        /// The host, with its port.
        host: String,
    },
    /// A redirect that is not followed.
    #[error("{at}: the registry's redirect is not followed: {why}")]
    Redirect {
        /// What was asked for.
        at: At,
        /// Why not.
        why: String,
    },
    /// The token service did not give a token.
    #[error("{at}: no token from {realm}: {why}")]
    Token {
        /// What was asked for.
        at: At,
        /// The token service's host.
        realm: String,
        /// Why not.
        why: String,
    },
    /// TLS did not come about.
    #[error("{at}: {}", .fault.about(host))]
    Tls {
        /// What was asked for.
        at: At,
        /// The host, with its port.
        host: String,
        /// What is wrong.
        fault: TlsFault,
    },
    /// A file with certificates or a key cannot be used.
    #[error("the certificates for {host}: {}: {why}", path.display())]
    Certificates {
        /// The host that they are for.
        host: String,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Credentials are there and cannot be used, or cannot be kept.
    #[error("the credentials for {registry}: {source}")]
    Credentials {
        /// The registry.
        registry: String,
        /// What is wrong.
        source: Box<CredentialError>,
    },
    /// The configured password cannot be used.
    #[error("the password for {registry} in {}: {why}", path.display())]
    Password {
        /// The registry.
        registry: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes have another digest than the one that they were asked for by.
    #[error("{at}: the digest is {actual}, not {expected}")]
    DigestMismatch {
        /// What was asked for.
        at: At,
        /// The digest that was asked for.
        expected: Box<Digest>,
        /// What came.
        actual: Box<Digest>,
    },
    /// Content has another length than its descriptor says.
    #[error("{at}: the registry sends {actual} bytes, the descriptor says {expected}")]
    LengthMismatch {
        /// What was asked for.
        at: At,
        /// What the descriptor says.
        expected: u64,
        /// What came, or was announced.
        actual: u64,
    },
    /// The registry closed the connection in the middle of content, after retries.
    #[error("{at}: the registry closed the connection after {received} of {expected} bytes")]
    Truncated {
        /// What was asked for.
        at: At,
        /// What the descriptor says.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// An answer, or a list over all its pages, is longer than is read.
    #[error("{at}: the answer is longer than {limit}")]
    TooLarge {
        /// What was asked for.
        at: At,
        /// The limit with its unit.
        limit: String,
    },
    /// A manifest is not one.
    #[error("{at}: {source}")]
    Manifest {
        /// What was asked for.
        at: At,
        /// What is wrong with it.
        source: Box<ManifestError>,
    },
    /// An answer is not what the distribution specification says.
    #[error("{at}: the answer is malformed: {why}")]
    Malformed {
        /// What was asked for.
        at: At,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes to be uploaded cannot be read.
    #[error("{at}: the bytes to upload cannot be read: {source}")]
    Source {
        /// What was to be uploaded.
        at: At,
        /// Why not.
        source: std::io::Error,
    },
    /// The HTTP client cannot be built.
    #[error("the registry client cannot be set up: {0}")]
    Setup(String),
}

fn refused_user(user: Option<&str>) -> String {
    match user {
        Some(user) => format!("the registry does not accept the credentials of {user} (401)"),
        None => "the registry wants credentials (401)".into(),
    }
}

fn later(retry_after: Option<Duration>) -> String {
    retry_after.map(|wait| format!("; come back in {} s", wait.as_secs())).unwrap_or_default()
}

impl RemoteError {
    pub(super) fn digest_mismatch(at: At, expected: Digest, actual: Digest) -> Self {
        Self::DigestMismatch { at, expected: Box::new(expected), actual: Box::new(actual) }
    }

    /// Returns a stable reason for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::LocalRepository(_) => "local-repository",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Denied { .. } => "denied",
            Self::NotFound { .. } => "not-found",
            Self::RateLimited { .. } => "rate-limited",
            Self::Server { .. } | Self::Unexpected { .. } => "registry-error",
            Self::Unreachable { .. } | Self::Stalled { .. } | Self::TooSlow { .. } => "unreachable",
            Self::Itself { .. } => "itself",
            Self::RefusedAddress { .. } => "refused-address",
            Self::PlainHttp { .. } => "plain-http",
            Self::Redirect { .. } => "refused-redirect",
            Self::Token { .. } => "no-token",
            Self::Tls { fault, .. } => fault.reason(),
            Self::Certificates { .. } => "certificates-unusable",
            Self::Credentials { source, .. } => source.reason(),
            Self::Password { .. } => "password-unusable",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::Truncated { .. } => "truncated",
            Self::TooLarge { .. } => "too-large",
            Self::Manifest { source, .. } => match **source {
                ManifestError::DigestMismatch { .. } => "digest-mismatch",
                ManifestError::TooLarge(_) => "too-large",
                _ => "malformed-manifest",
            },
            Self::Malformed { .. } => "malformed-answer",
            Self::Source { .. } => "unreadable-source",
            Self::Setup(_) => "client-setup",
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::LocalRepository(_) => "name a repository with its registry, as in registry.example.org/store/app".into(),
            Self::Unauthorized { at, user: None, .. } | Self::Denied { at, user: None, .. } => format!(
                "check the name: registries answer so for repositories that do not exist, too; if it is private, `larder login {}`",
                at.registry
            ),
            Self::Unauthorized { at, user: Some(_), .. } => format!(
                "`larder login {0}` tries and keeps new ones; config.toml's [registry.{0:?}] goes before them (a token may have expired)",
                at.registry
            ),
            Self::Denied { user: Some(user), .. } => {
                format!("check the name, and whether {user} may do this at the registry")
            }
            Self::RateLimited { at, .. } => format!(
                "try again later; after `larder login {}` registries often allow more",
                at.registry
            ),
            Self::Server { .. } => "the fault is the registry's; try again later".into(),
            Self::Itself { .. } => {
                "what is held is there already; name the registry that it is to come from, or push to the endpoint".into()
            }
            Self::Unreachable { at, .. } | Self::Stalled { at, .. } | Self::TooSlow { at, .. } => {
                format!("check the name {:?} and the network; what is held already stays usable", at.registry)
            }
            Self::RefusedAddress { .. } => {
                "a registry may lead to its own kind of address or to public ones, and nothing may be link-local; if this registry is yours, correct the address that it redirects to or names as its realm".into()
            }
            Self::PlainHttp { host, .. } => {
                format!("use https; or, in a network that you trust, write plain_http = true under [registry.{host:?}] in config.toml")
            }
            Self::Tls { host, fault, .. } => fault.hint(host),
            Self::Certificates { path, .. } => {
                format!("mend {}: PEM, with a private key that only its owner may read; the registry is not asked meanwhile", path.display())
            }
            Self::Credentials { source, .. } => source.hint(),
            Self::Password { path, .. } => {
                format!("it must be a file with one line that only its owner may read: chmod 600 {}", path.display())
            }
            Self::DigestMismatch { .. } | Self::LengthMismatch { .. } => {
                "the registry, or something on the way, changed the content; nothing of it was kept".into()
            }
            Self::Manifest { source, .. } if matches!(**source, ManifestError::DigestMismatch { .. }) => {
                "the registry, or something on the way, changed the manifest; nothing of it was kept".into()
            }
            Self::Truncated { .. } => "try again".into(),
            Self::NotFound { at, .. } => {
                format!("check the name, and whether {} still has it; what is held already stays usable", at.registry)
            }
            Self::Unexpected { at, .. } => {
                format!("check that {} is a registry; if it is, its owner has to say why it refuses this", at.registry)
            }
            Self::Redirect { at, .. } => {
                format!("the owner of {} has to correct where it leads; nothing was fetched from there", at.registry)
            }
            Self::Token { at, realm, .. } => format!(
                "the token service is at fault: try again later, or tell the owner of {}, which names {realm}",
                at.registry
            ),
            Self::TooLarge { .. } => {
                "no registry needs as much, and nothing of it was kept; ask its owner what is wrong there".into()
            }
            Self::Manifest { .. } => "nothing of it was kept; its publisher has to mend it".into(),
            Self::Malformed { at, .. } => format!(
                "check that {} is a registry, and that no proxy or sign-in page answers in its place",
                at.registry
            ),
            Self::Source { .. } => {
                "look at the disk that holds the home; at the registry nothing names what was uploaded".into()
            }
            Self::Setup(_) => "check the certificates that SSL_CERT_FILE and SSL_CERT_DIR name, and start larderd again".into(),
        })
    }
}

/// Cleans text from a registry for people's terminals and logs: no control characters, and not too much of it.
pub(super) fn clean(text: &str) -> String {
    const MOST: usize = 200;
    let mut clean: String =
        text.chars().map(|c| if c.is_control() || is_bidi(c) { ' ' } else { c }).take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        clean.push('…');
    }
    clean.trim().to_owned()
}

/// Says whether a character reorders the text around it, which can make one host look like another.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_cannot_play_with_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\r\nc\u{202e}d"), "a [31mb  c d");
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), 201);
    }

    #[test]
    fn messages_name_the_thing_and_the_remedy() {
        let at = At { registry: "quay.io".into(), what: "a/b:1".into() };
        let error = RemoteError::NotFound { at: at.clone(), kind: "tag" };
        assert_eq!(error.to_string(), "quay.io/a/b:1 is not there: the registry answered 404 for the tag");
        let error = RemoteError::Unauthorized { at, user: None, answer: Answer("UNAUTHORIZED: no".into()) };
        assert_eq!(error.to_string(), "quay.io/a/b:1: the registry wants credentials (401): UNAUTHORIZED: no");
        assert!(error.hint().expect("hint").contains("`larder login quay.io`"));
    }
}
