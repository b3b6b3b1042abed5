//! Identity tokens: who vouches for the signer. A token is shown to Fulcio and to nobody else, and never printed.

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use bytes::Bytes;
use clap::ValueEnum;
use reqwest::{Method, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::flags::Flags;
use super::http::{Ask, Http, service_url};
use crate::error::Error;

/// The most bytes that a token may have: it is one header's worth.
const MAX_TOKEN: usize = 16 << 10;
/// For whom tokens are made: Fulcio's client id.
const AUDIENCE: &str = "sigstore";
/// Where cosign looks: of the environment, and of clusters that put a token into a file.
const VARIABLE: &str = "SIGSTORE_ID_TOKEN";
const CLUSTER_FILE: &str = "/var/run/sigstore/cosign/oidc-token";
/// What GitHub Actions gives a workflow that may ask for tokens.
const ACTIONS_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const ACTIONS_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Where a token comes from by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Provider {
    /// The variable SIGSTORE_ID_TOKEN, as GitLab sets it
    Envvar,
    /// GitHub Actions, in a workflow with `id-token: write`
    #[value(alias = "github")]
    GithubActions,
    /// The file in which clusters put one
    Filesystem,
}

/// A token: three parts of base64, divided by dots.
pub(super) struct Token(Zeroizing<String>);

impl Token {
    fn new(text: Zeroizing<String>, source: &str) -> Result<Self, Error> {
        let text = Zeroizing::new(text.trim().to_owned());
        let is_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
        };
        if text.len() > MAX_TOKEN || text.split('.').count() != 3 || !text.split('.').all(is_part) {
            // The text itself is not shown: it may be most of a token.
            return Err(Error::new(
                "bad-token",
                format!("{source} is no identity token: that is three parts of base64, with dots between"),
            )
            .hint("--identity-token takes the token, or the path of a file that holds it"));
        }
        Ok(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Finds a token: the one that is named, else what the surroundings offer.
///
/// # Errors
/// Fails where there is none, or it is none.
pub(super) async fn find(flags: &Flags, http: &Http) -> Result<Token, Error> {
    if let Some(given) = &flags.identity_token {
        return named(given.as_str());
    }
    let providers = match (flags.oidc_provider, flags.oidc_disable_ambient_providers.unwrap_or_default()) {
        (Some(provider), _) => vec![provider],
        (None, true) => vec![Provider::Envvar],
        (None, false) => Provider::value_variants().to_vec(),
    };
    for provider in providers {
        if let Some(token) = offered(provider, http).await? {
            return Ok(token);
        }
    }
    Err(Error::usage("there is neither a key nor an identity token to sign with").hint(format!(
        "--key FILE signs with a key; --identity-token FILE, {VARIABLE}, or a workflow with `id-token: write` without one"
    )))
}

/// Takes a token as it is, or out of the file that it names.
fn named(given: &str) -> Result<Token, Error> {
    match read_file(Path::new(given)) {
        Ok(text) => Token::new(text, given),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => {
            Token::new(Zeroizing::new(given.to_owned()), "--identity-token")
        }
        Err(error) => Err(Error::file(given, &error)),
    }
}

fn read_file(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_TOKEN as u64 + 2).read_to_string(&mut text)?;
    Ok(text)
}

fn variable(name: &str) -> Option<Zeroizing<String>> {
    env::var(name).ok().filter(|text| !text.is_empty()).map(Zeroizing::new)
}

async fn offered(provider: Provider, http: &Http) -> Result<Option<Token>, Error> {
    match provider {
        Provider::Envvar => variable(VARIABLE).map(|text| Token::new(text, VARIABLE)).transpose(),
        Provider::Filesystem => match read_file(Path::new(CLUSTER_FILE)) {
            Ok(text) => Token::new(text, CLUSTER_FILE).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(CLUSTER_FILE, &error)),
        },
        Provider::GithubActions => match (variable(ACTIONS_URL), variable(ACTIONS_TOKEN)) {
            (Some(url), Some(bearer)) => from_actions(&url, &bearer, http).await.map(Some),
            _ => Ok(None),
        },
    }
}

/// Asks GitHub Actions for a token for Fulcio.
async fn from_actions(url: &str, bearer: &str, http: &Http) -> Result<Token, Error> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    const WHO: &str = "GitHub Actions";
    let mut url: Url = service_url(WHO, url)?;
    url.query_pairs_mut().append_pair("audience", AUDIENCE);
    let ask = Ask {
        who: WHO,
        method: Method::GET,
        url,
        content_type: "",
        accept: "application/json",
        bearer: Some(bearer),
        body: Bytes::new(),
    };
    let body = http.send(&ask).await?.success(WHO, "does the workflow have the permission `id-token: write`?")?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| {
        Error::new("bad-token", "the answer of GitHub Actions holds no identity token")
            .hint("does the workflow have the permission `id-token: write`? nothing was signed")
    })?;
    Token::new(Zeroizing::new(answer.value), "what GitHub Actions answered")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_three_parts() {
        let token = |text: &str| Token::new(Zeroizing::new(text.to_owned()), "test");
        assert_eq!(token(" eyJh.eyJz.c2ln-_ \n").expect("a token").as_str(), "eyJh.eyJz.c2ln-_");
        for bad in ["", "a.b", "a.b.c.d", "a..c", "a.b.c d", "a.b.c\r\nX: y", "/no/such/file"] {
            assert!(token(bad).is_err(), "{bad:?}");
        }
        assert!(token(&format!("a.b.{}", "c".repeat(MAX_TOKEN))).is_err());
    }

    #[test]
    fn a_file_or_the_token_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "a.b.c\n").expect("written");
        assert_eq!(named(path.to_str().expect("UTF-8")).expect("a token").as_str(), "a.b.c");
        assert_eq!(named("a.b.c").expect("a token").as_str(), "a.b.c");
        assert_eq!(named(&format!("a.b.{}", "c".repeat(5000))).expect("a token").as_str().len(), 5004);
        let refused = named("no-such-file").err().expect("refused");
        assert_eq!(refused.reason(), "bad-token");
        assert_eq!(named(folder.path().to_str().expect("UTF-8")).err().expect("a folder").reason(), "file");
    }
}
