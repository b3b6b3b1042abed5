//! Requests to services: bounded, without redirects, encrypted unless they stay on this machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take; Rekor answers when the entry is in its tree, which takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 2 << 20;
/// The most characters of an error that are repeated.
const MAX_WORDS: usize = 300;
/// How often a request is sent where the service is busy or away for the moment.
const TRIES: u32 = 3;
/// The first pause before a request is sent again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest pause that a service may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Asks services.
pub(super) struct Http {
    /// For https: it goes through the proxy that the environment names, if any.
    encrypted: Client,
    /// For http on this machine, where no proxy is.
    local: Client,
}

/// What is asked of a service.
pub(super) struct Ask<'a> {
    /// Who it is, in words.
    pub(super) who: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) content_type: &'static str,
    pub(super) accept: &'static str,
    pub(super) bearer: Option<&'a str>,
    pub(super) body: Bytes,
}

/// An answer that is no server's fault.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Where else it is, if the service says so.
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
}

impl Http {
    /// Makes the client, with the system's root certificates, or Mozilla's where the system has none.
    ///
    /// # Errors
    /// Fails where TLS cannot be set up.
    pub(super) fn new() -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| no_tls(&error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let build = |local: bool| {
            let builder = Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .user_agent(concat!("larder/", env!("CARGO_PKG_VERSION")));
            let builder = if local { builder.no_proxy() } else { builder };
            builder.build().map_err(|error| no_tls(&root(&error)))
        };
        Ok(Self { encrypted: build(false)?, local: build(true)? })
    }

    /// Sends a request, again where the service is busy or away for the moment.
    ///
    /// # Errors
    /// Fails where the service cannot be reached, fails itself, or answers with too much.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Answer, Error> {
        check(ask.who, &ask.url)?;
        let (mut pause, mut left) = (PAUSE, TRIES);
        loop {
            let (fault, wanted) = match self.once(ask).await {
                Ok(response) if !is_passing(response.status()) => return read(ask, response).await,
                Ok(response) => (format!("it answered {}", response.status()), retry_after(&response)),
                Err(error) => (root(&error), None),
            };
            left -= 1;
            if left == 0 {
                return Err(Error::new("unreachable", format!("{} at {} is away: {fault}", ask.who, ask.url))
                    .hint("nothing was stored; try again later, or name another service"));
            }
            tokio::time::sleep(wanted.unwrap_or(pause).min(MAX_PAUSE)).await;
            pause *= 2;
        }
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Response, reqwest::Error> {
        let client = if ask.url.scheme() == "https" { &self.encrypted } else { &self.local };
        let mut request = client.request(ask.method.clone(), ask.url.clone()).header(ACCEPT, ask.accept);
        if !ask.body.is_empty() {
            request = request.header(CONTENT_TYPE, ask.content_type).body(ask.body.clone());
        }
        if let Some(token) = ask.bearer
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}"))
        {
            value.set_sensitive(true);
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        request.send().await
    }
}

impl Answer {
    /// Returns the body of a success.
    ///
    /// # Errors
    /// Fails with what the service said, where it refused.
    pub(super) fn success(self, who: &str, hint: &str) -> Result<Bytes, Error> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let said = words(&self.body);
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let message = format!("{who} refused: it answered {}{said}", self.status);
        Err(Error::new("refused", message).hint(format!("{hint}; nothing was stored")))
    }
}

fn no_tls(why: &str) -> Error {
    Error::new("tls", format!("TLS cannot be set up: {why}"))
        .hint("SSL_CERT_FILE and SSL_CERT_DIR say where this machine's certificates are")
}

/// Reads where a service is: https, or http on this machine, for what is sent must not be read on the way.
///
/// # Errors
/// Fails for anything else.
pub(super) fn service_url(who: &str, text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|error| {
        Error::usage(format!("{text:?} is no URL of {who}: {error}")).hint("as in https://fulcio.example.org")
    })?;
    check(who, &url)?;
    Ok(url)
}

fn check(who: &str, url: &Url) -> Result<(), Error> {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" if !host.is_empty() => Ok(()),
        "http" if is_here => Ok(()),
        _ => Err(Error::usage(format!("{url} is no place for {who}: it must be https"))
            .hint("plain http is spoken on this machine only")),
    }
}

/// Appends a path to a service's URL.
///
/// # Errors
/// Fails where the result is no URL.
pub(super) fn below(who: &str, url: &Url, path: &str) -> Result<Url, Error> {
    service_url(who, &format!("{}{path}", url.as_str().trim_end_matches('/')))
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

async fn read(ask: &Ask<'_>, mut response: Response) -> Result<Answer, Error> {
    let status = response.status();
    let location = response.headers().get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.map(str::to_owned);
    let mut body = BytesMut::new();
    let broken = |fault: String| {
        Error::new("unreachable", format!("the answer of {} at {} cannot be read: {fault}", ask.who, ask.url))
            .hint("nothing was stored; try again later")
    };
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(root(&error)))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(broken("it is longer than 2 MiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, location, body: body.freeze() })
}

/// Returns the innermost cause, without the URL, which may hold what nobody else should see.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { shown(&cause.to_string()) }
}

/// Returns what a service says of an error: the message in its JSON, else its text.
fn words(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json.get("message")).and_then(serde_json::Value::as_str);
    shown(message.unwrap_or(&String::from_utf8_lossy(body)).trim())
}

/// Returns the start of foreign text, without what could steer a terminal.
fn shown(text: &str) -> String {
    text.chars().take(MAX_WORDS).map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_cannot_be_read_on_the_way() {
        for good in ["https://fulcio.example.org", "http://127.0.0.1:8403", "http://[::1]:1/", "http://localhost:1"] {
            assert!(service_url("Fulcio", good).is_ok(), "{good}");
        }
        for bad in
            ["http://fulcio.example.org", "http://10.0.0.1", "ftp://127.0.0.1", "file:///etc/passwd", "x", "https://"]
        {
            assert!(service_url("Fulcio", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_appended() {
        let at = |url: &str| below("Rekor", &Url::parse(url).expect("a URL"), "/api/v1").expect("a URL").to_string();
        assert_eq!(at("https://rekor.example.org"), "https://rekor.example.org/api/v1");
        assert_eq!(at("https://example.org/rekor/"), "https://example.org/rekor/api/v1");
    }

    #[test]
    fn what_a_service_says_is_shown_in_one_line() {
        assert_eq!(words(br#"{"code":3,"message":"no\u001b[2J token"}"#), "no [2J token");
        assert_eq!(words(b"<html>\nno</html>"), "<html> no</html>");
        assert_eq!(words(&[b'x'; 1000]).len(), MAX_WORDS);
    }
}
