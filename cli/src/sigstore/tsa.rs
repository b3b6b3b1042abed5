//! A timestamp authority (RFC 3161, 3.4).

use bytes::Bytes;
use larder_core::keyless::timestamp_request;
use reqwest::{Method, Url};

use super::http::{Ask, Http};
use crate::error::Error;

const WHO: &str = "the timestamp authority";

/// Asks for a timestamp over `message`: a TimeStampResp, DER. Whether it proves anything is for the caller to say.
///
/// # Errors
/// Fails where the authority refuses.
pub(super) async fn stamp(http: &Http, url: &Url, message: &[u8]) -> Result<Bytes, Error> {
    let ask = Ask {
        who: WHO,
        method: Method::POST,
        url: url.clone(),
        content_type: "application/timestamp-query",
        accept: "application/timestamp-reply",
        bearer: None,
        body: timestamp_request(message).into(),
    };
    http.send(&ask).await?.success(WHO, "is this the URL that takes timestamp requests?")
}
