//! Timestamps (RFC 3161).

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::certificate::{Role, issuer_and_serial, sign};
use super::der::{OCTET_STRING, SET, algorithm, context, der, generalized_time, integer, oid, sequence};

const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";

/// Stamps a message: a TimeStampResp that brings the authority's certificate.
pub(crate) fn stamp(message: &[u8], at: Timestamp, role: &Role, certificate: &[u8], key: u8) -> Vec<u8> {
    let imprint = sequence(&[&algorithm(SHA256), &der(OCTET_STRING, &[&Sha256::digest(message)])]);
    let info = sequence(&[&integer(1), &oid("1.3.6.1.4.1.57264.2"), &imprint, &integer(1), &generalized_time(at)]);
    let attribute = |id: &str, value: &[u8]| sequence(&[&oid(id), &der(SET, &[value])]);
    let attributes = [
        attribute("1.2.840.113549.1.9.3", &oid(TST_INFO)),
        attribute("1.2.840.113549.1.9.4", &der(OCTET_STRING, &[&Sha256::digest(&info)])),
    ]
    .concat();
    let signature = sign(key, &der(SET, &[&attributes]));
    let signer = sequence(&[
        &integer(1),
        &issuer_and_serial(role),
        &algorithm(SHA256),
        &context(0, &[&attributes]),
        &algorithm("1.2.840.10045.4.3.2"),
        &der(OCTET_STRING, &[&signature]),
    ]);
    let content = sequence(&[&oid(TST_INFO), &context(0, &[&der(OCTET_STRING, &[&info])])]);
    let data = sequence(&[
        &integer(3),
        &der(SET, &[&algorithm(SHA256)]),
        &content,
        &context(0, &[certificate]),
        &der(SET, &[&signer]),
    ]);
    let signed_data = sequence(&[&oid("1.2.840.113549.1.7.2"), &context(0, &[&data])]);
    sequence(&[&sequence(&[&integer(0)]), &signed_data])
}
