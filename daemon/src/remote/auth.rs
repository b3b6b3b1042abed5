//! What a registry asks for and is answered: challenges, scopes, tokens (distribution-spec's token authentication).
//!
//! Credentials go to the registry and to the https realm that it names, and nowhere else. A token that is refused is
//! an error: to ask again as nobody would turn "you may not" into "there is nothing".

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http_auth::parser::ChallengeParser;
use tokio::time::Instant;

use super::Access;
use super::credentials::{Login, Secret};

/// The most tokens that are kept for one registry.
const MAX_TOKENS: usize = 1024;
/// How long a token holds that does not say so, and the least that one holds that does.
const LEAST_LIFETIME: Duration = Duration::from_secs(60);
/// The longest that a token is used, whatever it says.
const MOST_LIFETIME: Duration = Duration::from_secs(3600);
/// How long before its end a token is no longer used, so that none ends on its way.
const MARGIN: Duration = Duration::from_secs(10);
/// The least time that a token is used, so that what follows at once need not ask again.
const LEAST_USE: Duration = Duration::from_secs(5);
/// How long a password is used before it is looked for again.
const PASSWORD_LIFETIME: Duration = Duration::from_secs(300);
/// The most bytes of one challenge that are read.
const MAX_CHALLENGE: usize = 8 << 10;

/// What a request needs to be allowed to do; tokens are given for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The repository's path; empty for the registry itself, which needs no scope.
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
        let mut scopes = if self.path.is_empty() { Vec::new() } else { vec![own.clone()] };
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
        // What stands before something that nobody can read still counts.
        for parsed in ChallengeParser::new(text).map_while(Result::ok) {
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
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<serde_json::Number>,
    issued_at: Option<String>,
}

impl TokenAnswer {
    /// Returns the value of an `Authorization` header, and how long it may be used. The answer's own headers say what
    /// time it is where the token was issued.
    pub(super) fn authorization(self, headers: &HeaderMap) -> Result<(HeaderValue, Duration), &'static str> {
        let some = |token: Option<Secret>| token.filter(|token| !token.is_empty());
        let age = self.age(headers);
        let token = some(self.token).or_else(|| some(self.access_token)).ok_or("its answer has no token")?;
        let value = format!("Bearer {}", token.reveal());
        let mut value = HeaderValue::from_str(&value).map_err(|_| "its token cannot be sent")?;
        value.set_sensitive(true);
        let seconds = self.expires_in.and_then(|seconds| seconds.as_u64()).unwrap_or(0);
        let lifetime = Duration::from_secs(seconds).clamp(LEAST_LIFETIME, MOST_LIFETIME);
        Ok((value, lifetime.saturating_sub(age).saturating_sub(MARGIN).max(LEAST_USE)))
    }

    /// Returns how old the token is: a service may hand out one that it gave before.
    fn age(&self, headers: &HeaderMap) -> Duration {
        let issued = self.issued_at.as_ref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let now = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok());
        let seconds = issued.zip(now).map_or(0, |(issued, now)| now.as_second().saturating_sub(issued.as_second()));
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

/// The headers that were accepted last, by scope.
#[derive(Default)]
pub(super) struct Accepted {
    /// Held only to look up or to insert.
    by_scope: Mutex<HashMap<Scope, (HeaderValue, Instant)>>,
    /// As whom a scope was asked for last; held as the other is, and never with it.
    as_whom: Mutex<HashMap<Scope, String>>,
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

    /// Keeps a header that holds what the user's own files hold, which may change.
    pub(super) fn keep_own(&self, scope: &Scope, value: HeaderValue) {
        self.keep(scope, value, PASSWORD_LIFETIME);
    }

    /// Notes as whom a scope is asked for.
    pub(super) fn note(&self, scope: &Scope, login: Option<&Login>) {
        let mut as_whom = self.as_whom.lock().unwrap_or_else(PoisonError::into_inner);
        if as_whom.len() >= MAX_TOKENS {
            as_whom.clear();
        }
        match login {
            Some(login) => as_whom.insert(scope.clone(), login.to_string()),
            None => as_whom.remove(scope),
        };
    }

    /// Says as whom a scope was asked for last; `None` is nobody.
    pub(super) fn user(&self, scope: &Scope) -> Option<String> {
        self.as_whom.lock().unwrap_or_else(PoisonError::into_inner).get(scope).cloned()
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
        assert_eq!(challenge_of(&["Basic realm=\"x\", Negotiate YIIFoo=="]), Some(Challenge::Basic));
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
        let mount = pull.with_challenge(Some("repository:a/b:pull,push repository:c/d:pull"));
        assert_eq!(mount, ["repository:a/b:pull", "repository:a/b:pull,push", "repository:c/d:pull"]);
        let registry = Scope { path: String::new(), access: Access::Pull };
        assert!(registry.with_challenge(None).is_empty());
    }

    #[test]
    fn answers_of_token_services() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().expect("date"));
        let read = |text: &str| serde_json::from_str::<TokenAnswer>(text).expect(text).authorization(&headers);
        let seconds = |text: &str| read(text).expect(text).1.as_secs();
        assert_eq!(read(r#"{"token":"t"}"#).expect("token").0, "Bearer t");
        assert_eq!(read(r#"{"token":"","access_token":"a"}"#).expect("token").0, "Bearer a");
        assert_eq!(seconds(r#"{"token":"t"}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":1}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":300}"#), 290);
        assert_eq!(seconds(r#"{"token":"t","expires_in":18446744073709551615}"#), 3590);
        assert_eq!(seconds(r#"{"token":"t","expires_in":-1e300}"#), 50);
        // One that was given before: four of its five minutes are over; a clock that is ahead changes nothing.
        assert_eq!(seconds(r#"{"token":"t","expires_in":300,"issued_at":"1994-11-06T08:45:37Z"}"#), 50);
        assert_eq!(seconds(r#"{"token":"t","expires_in":300,"issued_at":"1994-11-06T07:00:00Z"}"#), 5);
        assert_eq!(seconds(r#"{"token":"t","expires_in":300,"issued_at":"2994-11-06T08:45:37Z"}"#), 290);
        assert_eq!(seconds(r#"{"token":"t","expires_in":300,"issued_at":"yesterday"}"#), 290);
        assert!(read("{}").is_err());
        assert!(read("{\"token\":\"a\\r\\nHost: x\"}").is_err());
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
