//! Rekor: a transparency log that takes signatures in.

use larder_core::keyless::{Claim, RekorVersion, proposal, read_v1};
use larder_core::signature::bundle::LogEntry;
use reqwest::{Method, StatusCode, Url};

use super::http::{Answer, Ask, Http, below};
use crate::error::Error;

const WHO: &str = "Rekor";
const HINT: &str = "is this the URL of a Rekor of that version?";

/// A log.
pub(super) struct Log {
    pub(super) url: Url,
    pub(super) version: RekorVersion,
}

/// Has a log take a signature in; returns its entry, as the log tells it. Whether it proves anything is for the caller to say.
///
/// # Errors
/// Fails where the log refuses, or answers with something else.
pub(super) async fn upload(http: &Http, log: &Log, claim: &Claim<'_>) -> Result<LogEntry, Error> {
    let body = proposal(claim, log.version).map_err(|error| {
        Error::new("not-logged", format!("the signature cannot be shown to {}: {error}", log.url))
            .hint("another log, or --tlog-upload=false; nothing was stored")
    })?;
    let ask = ask(Method::POST, below(WHO, &log.url, log.version.path())?, body);
    let answer = http.send(&ask).await?;
    let answer = match (answer.status, &answer.location) {
        // It has this very signature: RSA and Ed25519 keys sign the same twice.
        (StatusCode::CONFLICT, Some(place)) => existing(http, log, place).await?,
        _ => answer,
    };
    let body = answer.success(WHO, HINT)?;
    let entry = match log.version {
        RekorVersion::V1 => read_v1(&body).map_err(|error| error.to_string()),
        RekorVersion::V2 => LogEntry::parse(&body).map_err(|error| error.to_string()),
    };
    entry.map_err(|error| {
        Error::new("bad-entry", format!("what Rekor at {} answered cannot be read: {error}", log.url))
            .hint(format!("{HINT} nothing was stored"))
    })
}

/// Fetches an entry that is there, from the same log and no other place.
async fn existing(http: &Http, log: &Log, place: &str) -> Result<Answer, Error> {
    let url = log.url.join(place).ok().filter(|url| url.origin() == log.url.origin());
    let url = url.ok_or_else(|| {
        Error::new("bad-entry", format!("Rekor at {} says that it has this signature, and not where", log.url))
            .hint(format!("{HINT} nothing was stored"))
    })?;
    http.send(&ask(Method::GET, url, Vec::new())).await
}

fn ask(method: Method, url: Url, body: Vec<u8>) -> Ask<'static> {
    Ask {
        who: WHO,
        method,
        url,
        content_type: "application/json",
        accept: "application/json",
        bearer: None,
        body: body.into(),
    }
}
