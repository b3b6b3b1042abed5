//! Fulcio: a certificate for whoever holds an identity token and a key (`/api/v2/signingCert`).

use bytes::Bytes;
use larder_core::keyless::{certificate_request, certificates};
use pem::{EncodeConfig, LineEnding, Pem};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fresh_key;
use super::http::{Ask, Http, below};
use super::token::Token;
use crate::error::Error;
use crate::key_file::PrivateKey;

const WHO: &str = "Fulcio";
const PATH: &str = "/api/v2/signingCert";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    signed_certificate_embedded_sct: Option<Certified>,
    signed_certificate_detached_sct: Option<Certified>,
}

#[derive(Deserialize)]
struct Certified {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

/// Asks for a certificate over `key`: the signer's own, then its issuers up to the root, DER. Whether to believe them is for
/// the caller to say.
///
/// # Errors
/// Fails where Fulcio refuses, or answers with something else.
pub(super) async fn certify(http: &Http, url: &Url, key: &PrivateKey, token: &Token) -> Result<Vec<Bytes>, Error> {
    let request = certificate_request(key.spki(), |info| key.sign(info)).map_err(|error| fresh_key(&error))?;
    let request = Pem::new("CERTIFICATE REQUEST", request);
    let request = pem::encode_config(&request, EncodeConfig::new().set_line_ending(LineEnding::LF));
    let body = json!({
        "credentials": {"oidcIdentityToken": token.as_str()},
        "certificateSigningRequest": STANDARD.encode(request),
    });
    let ask = Ask {
        who: WHO,
        method: Method::POST,
        url: below(WHO, url, PATH)?,
        content_type: "application/json",
        accept: "application/json",
        bearer: None,
        body: body.to_string().into(),
    };
    let hint = "has the identity token ended, or is it for another Fulcio? ask for a fresh one";
    let body = http.send(&ask).await?.success(WHO, hint)?;
    let odd = |what: &str| {
        Error::new("bad-certificate", format!("what Fulcio at {url} answered {what}"))
            .hint("is this the URL of a Fulcio? nothing was stored")
    };
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| odd("holds no certificate"))?;
    let certified = match (answer.signed_certificate_embedded_sct, answer.signed_certificate_detached_sct) {
        (Some(certified), None) => certified,
        // No format has room for an SCT beside the certificate.
        (None, Some(_)) => return Err(odd("has its SCT beside the certificate, not in it")),
        _ => return Err(odd("holds no certificate")),
    };
    certificates(certified.chain.certificates.join("\n").as_bytes())
        .map_err(|error| odd(&format!("cannot be read: {error}")))
}
