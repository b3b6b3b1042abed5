//! Who we are at a registry: challenges, basic credentials, bearer tokens (distribution-spec's token authentication).
//!
//! Credentials go to the registry and to the https realm that it names, and nowhere else. A token that is refused is
//! an error: to ask again as nobody would turn "you may not" into "there is nothing".

use std::collections::HashMap;
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use tokio::time::Instant;

use super::Access;
use super::error::RemoteError;

/// The most tokens that are kept for one registry.
const MAX_TOKENS: usize = 1024;
/// How long a token holds that does not say so, and the least that one holds that does.
const LEAST_LIFETIME: Duration = Duration::from_secs(60);
/// The longest that a token is used, whatever it says.
const MOST_LIFETIME: Duration = Duration::from_secs(3600);
/// How long before its end a token is no longer used, so that none ends on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// The most bytes that a password file may have.
const MAX_PASSWORD: u64 = 64 << 10;
/// The most bytes of one challenge that are read.
const MAX_CHALLENGE: usize = 8 << 10;

/// A user and where the password is. The file is read when it is needed, so that a new password takes no restart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// The user's name.
    pub(super) username: String,
    /// The file with the password.
    pub(super) password_file: PathBuf,
}

impl Credentials {
    /// Reads the password and returns the value of an `Authorization` header.
    pub(super) async fn basic(&self, registry: &str) -> Result<HeaderValue, RemoteError> {
        let (this, file) = (self.clone(), self.password_file.clone());
        let unusable = |why: String| RemoteError::Password { registry: registry.to_owned(), path: file.clone(), why };
        let password = tokio::task::spawn_blocking(move || this.password())
            .await
            .map_err(|_| unusable("reading it was interrupted".into()))?
            .map_err(&unusable)?;
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{}:{password}", self.username))))
                .map_err(|_| unusable("it cannot be sent".into()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn password(&self) -> Result<String, String> {
        let file = std::fs::File::open(&self.password_file).map_err(|error| error.to_string())?;
        let about = file.metadata().map_err(|error| error.to_string())?;
        if !about.is_file() {
            return Err("it is no regular file".into());
        }
        let mode = about.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!("others than its owner may use it (mode {mode:03o})"));
        }
        let mut password = String::new();
        file.take(MAX_PASSWORD + 1).read_to_string(&mut password).map_err(|error| error.to_string())?;
        if password.len() as u64 > MAX_PASSWORD {
            return Err(format!("it is longer than {MAX_PASSWORD} bytes"));
        }
        let password = password.strip_suffix('\n').unwrap_or(&password);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err("it is empty".into());
        }
        Ok(password.to_owned())
    }
}

/// What a request needs to be allowed to do; tokens are given for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The repository's path.
    pub(super) path: String,
    /// Read, or write too.
    pub(super) access: Access,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        write!(f, "repository:{}:{actions}", self.path)
    }
}

impl Scope {
    /// Returns the scopes to ask for: this one, and the challenge's where it wants more than that.
    pub(super) fn with_challenge(&self, challenge: Option<&str>) -> Vec<String> {
        let own = self.to_string();
        let mut scopes = vec![own.clone()];
        let wanted = challenge.into_iter().flat_map(str::split_ascii_whitespace).take(4);
        scopes.extend(wanted.filter(|wanted| !covers(&own, wanted)).map(str::to_owned));
        scopes
    }
}

/// Says whether `own` allows all that `wanted` does; both are `type:name:action,action`.
fn covers(own: &str, wanted: &str) -> bool {
    match (own.rsplit_once(':'), wanted.rsplit_once(':')) {
        (Some((resource, actions)), Some((other, wanted))) => {
            resource == other && wanted.split(',').all(|wanted| actions.split(',').any(|action| action == wanted))
        }
        _ => false,
    }
}

/// What a registry wants of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token of the service at `realm`.
    Bearer {
        /// A URL.
        realm: String,
        /// What the token service knows the registry by.
        service: Option<String>,
        /// What the request would have needed.
        scope: Option<String>,
    },
    /// User and password.
    Basic,
}

/// Reads the challenges of an answer; tokens are preferred to passwords, unknown schemes are passed over.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut basic = None;
    for text in texts.filter(|text| text.len() <= MAX_CHALLENGE) {
        for parsed in http_auth::parse_challenges(text).unwrap_or_default() {
            let parameter = |name: &str| {
                let found = parsed.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
            };
            if parsed.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            } else if parsed.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter("realm")
            {
                return Some(Challenge::Bearer { realm, service: parameter("service"), scope: parameter("scope") });
            }
        }
    }
    basic
}

/// What the token service answers.
#[derive(serde::Deserialize)]
pub(super) struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Number>,
}

impl TokenAnswer {
    /// Returns the value of an `Authorization` header, and how long it may be used.
    pub(super) fn authorization(self) -> Result<(HeaderValue, Duration), &'static str> {
        let some = |token: Option<String>| token.filter(|token| !token.is_empty());
        let token = some(self.token).or_else(|| some(self.access_token)).ok_or("its answer has no token")?;
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| "its token cannot be sent")?;
        value.set_sensitive(true);
        let seconds = self.expires_in.and_then(|seconds| seconds.as_u64()).unwrap_or(0);
        let lifetime = Duration::from_secs(seconds).clamp(LEAST_LIFETIME, MOST_LIFETIME);
        Ok((value, lifetime.saturating_sub(MARGIN)))
    }
}

/// The headers that were accepted last, by scope.
#[derive(Default)]
pub(super) struct Accepted {
    /// Held only to look up or to insert.
    by_scope: Mutex<HashMap<Scope, (HeaderValue, Instant)>>,
}

impl Accepted {
    /// Returns the header for a scope, if one is kept that still holds.
    pub(super) fn find(&self, scope: &Scope) -> Option<HeaderValue> {
        let kept = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(scope).filter(|(_, until)| *until > Instant::now()).map(|(value, _)| value.clone())
    }

    /// Keeps the header for a scope.
    pub(super) fn keep(&self, scope: &Scope, value: HeaderValue, lifetime: Duration) {
        let mut kept = self.by_scope.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if kept.len() >= MAX_TOKENS {
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() >= MAX_TOKENS {
            kept.clear();
        }
        kept.insert(scope.clone(), (value, now + lifetime));
    }

    /// Keeps a header that rests on a password, for as long as a token may hold.
    pub(super) fn keep_password(&self, scope: &Scope, value: HeaderValue) {
        self.keep(scope, value, MOST_LIFETIME);
    }

    /// Drops the header for a scope.
    pub(super) fn forget(&self, scope: &Scope) {
        self.by_scope.lock().unwrap_or_else(PoisonError::into_inner).remove(scope);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge_of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().expect("value"));
        }
        challenge(&headers)
    }

    #[test]
    fn challenges() {
        let bearer = |scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://auth.io/token".into(),
                service: Some("r.io".into()),
                scope: scope.map(str::to_owned),
            })
        };
        let text = r#"Bearer realm="https://auth.io/token",service="r.io",scope="repository:a/b:pull,push""#;
        assert_eq!(challenge_of(&[text]), bearer(Some("repository:a/b:pull,push")));
        let both = r#"Basic realm="x", bearer Realm="https://auth.io/token", service="r.io""#;
        assert_eq!(challenge_of(&[both]), bearer(None));
        assert_eq!(challenge_of(&["Basic realm=\"x\"", text]), bearer(Some("repository:a/b:pull,push")));
        assert_eq!(challenge_of(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        for none in ["Negotiate", "Bearer service=\"x\"", "Bearer realm=\"\"", "Bearer realm=\"unclosed", "", "=,="] {
            assert_eq!(challenge_of(&[none]), None, "{none}");
        }
        assert_eq!(challenge_of(&[&format!("Bearer realm=\"{}\"", "x".repeat(9000))]), None);
    }

    #[test]
    fn a_challenge_may_widen_the_scope() {
        let push = Scope { path: "a/b".into(), access: Access::Push };
        assert_eq!(push.with_challenge(None), ["repository:a/b:pull,push"]);
        assert_eq!(push.with_challenge(Some("repository:a/b:pull")), ["repository:a/b:pull,push"]);
        let pull = Scope { path: "a/b".into(), access: Access::Pull };
        assert_eq!(
            pull.with_challenge(Some("repository:a/b:pull registry:catalog:*")),
            ["repository:a/b:pull", "registry:catalog:*"]
        );
        assert_eq!(pull.with_challenge(Some(&"x ".repeat(100))).len(), 5);
    }

    #[test]
    fn answers_of_token_services() {
        let read = |text: &str| serde_json::from_str::<TokenAnswer>(text).expect(text).authorization();
        let seconds = |text: &str| read(text).expect(text).1.as_secs();
        assert_eq!(read(r#"{"token":"t"}"#).expect("token").0, "Bearer t");
        assert_eq!(read(r#"{"token":"","access_token":"a"}"#).expect("token").0, "Bearer a");
        assert_eq!(seconds(r#"{"token":"t"}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":1}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":300}"#), 290);
        assert_eq!(seconds(r#"{"token":"t","expires_in":18446744073709551615}"#), 3590);
        assert_eq!(seconds(r#"{"token":"t","expires_in":-1e300}"#), 50);
        assert!(read("{}").is_err());
        assert!(read("{\"token\":\"a\\r\\nHost: x\"}").is_err());
    }

    #[tokio::test]
    async fn a_password_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("password");
        let credentials = Credentials { username: "robot".into(), password_file: file.clone() };
        let set = |text: &str, mode: u32| {
            std::fs::write(&file, text).expect("write");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        assert!(matches!(credentials.basic("r").await, Err(RemoteError::Password { .. })));
        set("s3cret: ü\n", 0o600);
        let expected = format!("Basic {}", STANDARD.encode("robot:s3cret: ü"));
        assert_eq!(credentials.basic("r").await.expect("good"), expected);
        for (text, mode) in [("x\n", 0o640), ("x\n", 0o604), ("\n", 0o600), ("", 0o400)] {
            set(text, mode);
            assert!(matches!(credentials.basic("r").await, Err(RemoteError::Password { .. })), "{text:?} {mode:o}");
        }
    }

    #[test]
    fn tokens_end_and_are_bounded() {
        let accepted = Accepted::default();
        let scope = |path: usize| Scope { path: path.to_string(), access: Access::Pull };
        accepted.keep(&scope(0), HeaderValue::from_static("x"), Duration::from_secs(50));
        assert!(accepted.find(&scope(0)).is_some());
        accepted.keep(&scope(0), HeaderValue::from_static("x"), Duration::ZERO);
        assert!(accepted.find(&scope(0)).is_none());
        for path in 0..3 * MAX_TOKENS {
            accepted.keep(&scope(path), HeaderValue::from_static("x"), Duration::from_secs(50));
        }
        assert!(accepted.by_scope.lock().expect("lock").len() <= MAX_TOKENS);
    }
}
