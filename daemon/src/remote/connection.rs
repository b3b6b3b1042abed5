//! One registry: sends requests with credentials, redirects and retries, within its limit of requests under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use reqwest::{Body, Request, Response, Url};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use super::address::Reach;
use super::auth::{Accepted, Challenge, Scope, TokenAnswer, challenge};
use super::credentials::{Credentials, Login, Proof};
use super::error::{At, RemoteError, clean};
use super::redirect::{MAX_REDIRECTS, Misled, PlainHosts, same_origin, target};
use super::retry;
use super::transport::{Clients, Whose, failure, read_all};

/// The most bytes that a token service's answer may have.
const MAX_TOKEN_BODY: u64 = 64 << 10;
/// How we call ourselves at token services.
const CLIENT_ID: &str = "larder";
/// The media type of a form.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A registry, with what is known of it and how much is under way there.
pub(super) struct Connection {
    /// The registry as references name it: a host, with its port if it has one.
    pub(super) host: String,
    /// Where it is, with an empty path.
    pub(super) origin: Url,
    /// Where it is said who we are there.
    pub(super) credentials: Credentials,
    /// Which other hosts may be spoken to in plain HTTP.
    pub(super) plain: Arc<PlainList>,
    /// The HTTP clients, shared with the other registries.
    pub(super) clients: Arc<Clients>,
    /// What was accepted last.
    pub(super) accepted: Accepted,
    /// Held while a token is asked for, so that many requests that start together ask for one.
    pub(super) asking: Mutex<()>,
    /// Held while a fallback index is read and written, so that two pushes of ours do not lose each other's entry.
    pub(super) fallback: Mutex<()>,
    /// Bounds what is under way, uploads apart.
    pub(super) reads: Arc<Semaphore>,
    /// Bounds uploads. Apart from the reads: an upload may itself wait for a read at the same registry.
    pub(super) writes: Arc<Semaphore>,
}

/// The hosts that the configuration allows plain HTTP.
#[derive(Default)]
pub(super) struct PlainList(pub(super) BTreeSet<String>);

impl PlainHosts for PlainList {
    fn is_configured(&self, host: &str) -> bool {
        self.0.contains(host)
    }
}

/// A request that can be sent again.
#[derive(Clone)]
pub(super) struct Call {
    /// What it is about.
    pub(super) at: At,
    /// What tokens for it must allow.
    pub(super) scope: Scope,
    /// The method.
    pub(super) method: Method,
    /// Where to; at the registry's origin it is sent with credentials.
    pub(super) url: Url,
    /// Further headers.
    pub(super) headers: HeaderMap,
    /// What is sent, empty for most.
    pub(super) body: bytes::Bytes,
}

impl Connection {
    /// Waits until another request may be under way; the permit is kept until its body has passed.
    pub(super) async fn admit(&self, at: &At, method: &Method) -> Result<OwnedSemaphorePermit, RemoteError> {
        let semaphore = if is_read(method) { &self.reads } else { &self.writes };
        let permit = Arc::clone(semaphore).acquire_owned().await;
        permit.map_err(|_| RemoteError::Unreachable { at: at.clone(), why: "the daemon is shutting down".into() })
    }

    /// Sends one request to the registry or to where it led; only the registry itself sees our client certificate.
    pub(super) async fn exchange(
        &self,
        at: &At,
        reach: Reach,
        request: Request,
        sent: &AtomicU64,
    ) -> Result<Response, RemoteError> {
        let whose = if same_origin(request.url(), &self.origin) { Whose::Registry(&self.host) } else { Whose::Other };
        self.clients.exchange(at, reach, whose, request, sent).await
    }

    /// Sends a request, again where that can help, and returns the last answer, whatever its status.
    ///
    /// Every request that is sent through here may be sent twice: reads, whole manifests, and the start of an upload,
    /// of which a registry forgets an abandoned one.
    pub(super) async fn call(&self, call: &Call) -> Result<Response, RemoteError> {
        let mut attempt = 0;
        loop {
            let outcome = self.authorized(call).await;
            let Some(wait) = retry::wait_after(&outcome, attempt) else { return outcome };
            // A connection that is waited with cannot be used by others.
            drop(outcome);
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends a request; where the registry asks who we are, once more with the answer to that.
    async fn authorized(&self, call: &Call) -> Result<Response, RemoteError> {
        let known = self.accepted.find(&call.scope);
        let (response, own) = self.follow(call, known.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !own {
            return Ok(response);
        }
        let Some(challenge) = challenge(response.headers()) else { return Ok(response) };
        let Some(authorization) = self.answer_to(call, &response, &challenge, known).await? else {
            return Ok(response);
        };
        drop(response);
        let (response, own) = self.follow(call, Some(authorization)).await?;
        if response.status() == StatusCode::UNAUTHORIZED && own {
            self.accepted.forget(&call.scope);
        }
        Ok(response)
    }

    /// Returns the header that answers a response's challenge; `None` where there is none but the one that was refused.
    pub(super) async fn answer_to(
        &self,
        call: &Call,
        response: &Response,
        challenge: &Challenge,
        refused: Option<HeaderValue>,
    ) -> Result<Option<HeaderValue>, RemoteError> {
        let _asking = self.asking.lock().await;
        // Somebody else may have asked while we waited.
        let known = self.accepted.find(&call.scope);
        if known.is_some() && known != refused {
            return Ok(known);
        }
        let login = self.credentials.find(&self.host, &call.scope.path).await?;
        self.accepted.note(&call.scope, login.as_ref());
        let own = match (challenge, &login) {
            (_, Some(login @ Login { proof: Proof::RegistryToken(_), .. })) => login.registry_token(),
            (Challenge::Basic, login) => login.as_ref().and_then(Login::basic),
            (Challenge::Bearer { realm, service, scope }, login) => {
                let scopes = call.scope.with_challenge(scope.as_deref());
                return self.token(call, response, login.as_ref(), realm, service.as_deref(), &scopes).await.map(Some);
            }
        };
        let Some(value) = own.filter(|value| Some(value) != refused.as_ref()) else { return Ok(None) };
        self.accepted.keep_own(&call.scope, value.clone());
        Ok(Some(value))
    }

    /// Asks the token service at `realm`, which a response names, for a token, and keeps it.
    async fn token(
        &self,
        call: &Call,
        named_by: &Response,
        login: Option<&Login>,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<HeaderValue, RemoteError> {
        let no_token = |why: String| RemoteError::Token { at: call.at.clone(), realm: clean(realm), why };
        let mut url = match target(&self.origin, realm, &*self.plain) {
            Ok(url) => url,
            Err(Misled::PlainHttp(host)) => return Err(RemoteError::PlainHttp { at: call.at.clone(), host }),
            Err(Misled::Downgrade(_)) => return Err(no_token("it is not https, as the registry is".into())),
            Err(Misled::Unusable(why)) => return Err(no_token(why)),
        };
        let form = match login.map(|login| &login.proof) {
            Some(Proof::IdentityToken(token)) => Some(refresh_form(&url, token.reveal(), service, scopes)),
            _ => {
                url.query_pairs_mut()
                    .extend_pairs(service.map(|service| ("service", service)))
                    .extend_pairs(scopes.iter().map(|scope| ("scope", scope.as_str())))
                    .append_pair("client_id", CLIENT_ID);
                None
            }
        };
        let reach = self.reach(&url, named_by);
        let mut attempt = 0;
        let response = loop {
            let mut request = Request::new(Method::GET, url.clone());
            if let Some(form) = &form {
                *request.method_mut() = Method::POST;
                request.headers_mut().insert(CONTENT_TYPE, FORM);
                *request.body_mut() = Some(Body::from(form.clone()));
            } else if let Some(login) = login {
                let value = login.basic().ok_or_else(|| no_token(format!("{login} cannot be sent")))?;
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let outcome = self.exchange(&call.at, reach, request, &AtomicU64::new(0)).await;
            let Some(wait) = retry::wait_after(&outcome, attempt) else { break outcome? };
            drop(outcome);
            tokio::time::sleep(wait).await;
            attempt += 1;
        };
        if response.status().is_redirection() {
            return Err(no_token("it redirects, and credentials do not go along".into()));
        }
        if response.status() != StatusCode::OK {
            let user = login.map(ToString::to_string);
            return Err(match failure(&call.at, user.as_deref(), response, "token").await {
                RemoteError::NotFound { .. } => no_token("it answered 404".into()),
                RemoteError::Unexpected { status, answer, .. } | RemoteError::Server { status, answer, .. } => {
                    no_token(format!("it answered {status}{answer}"))
                }
                error => error,
            });
        }
        let headers = response.headers().clone();
        let body = read_all(&call.at, response, MAX_TOKEN_BODY).await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&body).map_err(|_| no_token("its answer is malformed".into()))?;
        let (value, lifetime) = answer.authorization(&headers).map_err(|why| no_token(why.into()))?;
        self.accepted.keep(&call.scope, value.clone(), lifetime);
        Ok(value)
    }

    /// Sends a request and follows redirects of reads; says whether the answer is the registry's own rather than that
    /// of a place that it led to. The authorization is for the first request only.
    async fn follow(
        &self,
        call: &Call,
        mut authorization: Option<HeaderValue>,
    ) -> Result<(Response, bool), RemoteError> {
        // What is called is the registry itself.
        let (mut url, mut reach) = (call.url.clone(), Reach::Anywhere);
        for hop in 0..=MAX_REDIRECTS {
            let mut request = Request::new(call.method.clone(), url.clone());
            *request.headers_mut() = call.headers.clone();
            if !call.body.is_empty() {
                *request.body_mut() = Some(Body::from(call.body.clone()));
            }
            let own = hop == 0 && same_origin(&url, &self.origin);
            if let Some(authorization) = authorization.take().filter(|_| own) {
                request.headers_mut().insert(AUTHORIZATION, authorization);
            }
            let response = self.exchange(&call.at, reach, request, &AtomicU64::new(0)).await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect {
                return Ok((response, own));
            }
            if !is_read(&call.method) {
                let why = "only reads are redirected".into();
                return Err(RemoteError::Redirect { at: call.at.clone(), why });
            }
            (url, reach) = self.leads_to(&call.at, &url, &response)?;
        }
        Err(RemoteError::Redirect { at: call.at.clone(), why: format!("more than {MAX_REDIRECTS} in a row") })
    }

    /// Returns where the `Location` of an answer from `from` leads, and how far inward that may be.
    pub(super) fn leads_to(&self, at: &At, from: &Url, response: &Response) -> Result<(Url, Reach), RemoteError> {
        let refuse = |why: String| RemoteError::Redirect { at: at.clone(), why };
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| refuse("it does not say where to".into()))?;
        let url = target(from, location, &*self.plain).map_err(|misled| match misled {
            Misled::PlainHttp(host) => RemoteError::PlainHttp { at: at.clone(), host },
            Misled::Downgrade(host) => refuse(format!("it leads from https to plain HTTP at {host}")),
            Misled::Unusable(why) => refuse(clean(&why)),
        })?;
        let reach = self.reach(&url, response);
        Ok((url, reach))
    }

    /// Returns how far inward a request to `url` may reach that an answer leads to: anywhere at the registry itself,
    /// elsewhere no nearer than where the answer came from.
    fn reach(&self, url: &Url, led_by: &Response) -> Reach {
        if same_origin(url, &self.origin) { Reach::Anywhere } else { Reach::led_by(led_by.remote_addr()) }
    }
}

/// Writes the form of OAuth 2.0's refresh grant (RFC 6749, section 6; distribution-spec's token authentication).
fn refresh_form(realm: &Url, token: &str, service: Option<&str>, scopes: &[String]) -> String {
    let mut form = realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", CLIENT_ID)
        .extend_pairs(service.map(|service| ("service", service)))
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token);
    form.query().unwrap_or_default().to_owned()
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
