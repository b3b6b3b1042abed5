//! Certificates of any shape, also of those that no honest authority issues.

use jiff::Timestamp;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::At;
use super::der::{BIT_STRING, BOOLEAN, OCTET_STRING, SET, algorithm, context, der, integer, oid, sequence, utc_time};

const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";
pub(crate) const CODE_SIGNING: &str = "1.3.6.1.5.5.7.3.3";
pub(crate) const TIME_STAMPING: &str = "1.3.6.1.5.5.7.3.8";

/// What is changed in a certificate; what is not named is as its role has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CertificatePlan {
    /// The first and the last instant.
    pub(crate) from: Option<At>,
    pub(crate) to: Option<At>,
    /// Whether it is an authority's.
    pub(crate) ca: Option<bool>,
    /// How many authorities may be below.
    pub(crate) path_length: Option<u8>,
    /// What its key may do, as KeyUsage's first byte; 0 leaves it out.
    pub(crate) key_usage: Option<u8>,
    /// Extended key usages, as object identifiers; an empty list leaves them out.
    pub(crate) usages: Option<Vec<String>>,
    pub(crate) usages_critical: Option<bool>,
    /// Extensions that nobody knows: each an object identifier, and whether it is critical.
    pub(crate) unknown: Vec<(String, bool)>,
    /// The names, if others.
    pub(crate) issuer: Option<String>,
    pub(crate) subject: Option<String>,
    /// The key that signs it, and its own, each by its number.
    pub(crate) signer: Option<u8>,
    pub(crate) key: Option<u8>,
    /// A leaf's name; an empty one leaves it out.
    pub(crate) identity: Option<String>,
    /// Who vouched for a leaf; an empty one leaves it out.
    pub(crate) oidc_issuer: Option<String>,
}

/// What a certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) subject: &'static str,
    pub(crate) issuer: &'static str,
    pub(crate) key: u8,
    pub(crate) signer: u8,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) ca: bool,
    pub(crate) usages: &'static [&'static str],
    pub(crate) identity: Option<&'static str>,
    pub(crate) oidc_issuer: Option<&'static str>,
}

/// Returns the key of a number.
pub(crate) fn key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).expect("a scalar")
}

/// Returns its SubjectPublicKeyInfo.
pub(crate) fn spki(number: u8) -> Vec<u8> {
    key(number).verifying_key().to_public_key_der().expect("DER").as_bytes().to_vec()
}

/// Signs as ECDSA does, the same each time.
pub(crate) fn sign(number: u8, bytes: &[u8]) -> Vec<u8> {
    let signature: p256::ecdsa::DerSignature = key(number).sign(bytes);
    signature.as_bytes().to_vec()
}

/// Issues a certificate, with the list of SCTs that it is to bring.
pub(crate) fn issue(plan: &CertificatePlan, role: &Role, scts: Option<&[u8]>) -> Vec<u8> {
    let tbs = to_be_signed(plan, role, scts);
    let signature = sign(plan.signer.unwrap_or(role.signer), &tbs);
    sequence(&[&tbs, &algorithm(ECDSA_WITH_SHA256), &der(BIT_STRING, &[&[0], &signature])])
}

/// Writes what is signed of a certificate.
pub(crate) fn to_be_signed(plan: &CertificatePlan, role: &Role, scts: Option<&[u8]>) -> Vec<u8> {
    let key = plan.key.unwrap_or(role.key);
    let validity = [plan.from.map_or(role.from, |at| at.0), plan.to.map_or(role.to, |at| at.0)].map(utc_time);
    let serial = &Sha256::digest(role.subject)[..8];
    sequence(&[
        &context(0, &[&integer(2)]),
        &der(super::der::INTEGER, &[&[1], serial]),
        &algorithm(ECDSA_WITH_SHA256),
        &name(plan.issuer.as_deref().unwrap_or(role.issuer)),
        &sequence(&[&validity[0], &validity[1]]),
        &name(plan.subject.as_deref().unwrap_or(role.subject)),
        &spki(key),
        &context(3, &[&sequence(&[&extensions(plan, role, scts)])]),
    ])
}

/// Returns the issuer's name and the serial number, as CMS names a signer.
pub(crate) fn issuer_and_serial(role: &Role) -> Vec<u8> {
    let serial = &Sha256::digest(role.subject)[..8];
    sequence(&[&name(role.issuer), &der(super::der::INTEGER, &[&[1], serial])])
}

fn name(text: &str) -> Vec<u8> {
    let common_name = sequence(&[&oid("2.5.4.3"), &der(0x0c, &[text.as_bytes()])]);
    sequence(&[&der(SET, &[&common_name])])
}

fn extensions(plan: &CertificatePlan, role: &Role, scts: Option<&[u8]>) -> Vec<u8> {
    let mut written = Vec::new();
    let mut add = |id: &str, critical: bool, value: &[u8]| {
        let critical = if critical { der(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
        written.extend(sequence(&[&oid(id), &critical, &der(OCTET_STRING, &[value])]));
    };
    let is_ca = plan.ca.unwrap_or(role.ca);
    // 0x04 signs certificates, 0x80 other things.
    let key_usage = plan.key_usage.unwrap_or(if is_ca { 0x06 } else { 0x80 });
    if key_usage != 0 {
        add("2.5.29.15", true, &der(BIT_STRING, &[&[0, key_usage]]));
    }
    if role.ca || plan.ca.is_some() {
        let flag = if is_ca { der(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
        let length = plan.path_length.map(integer).unwrap_or_default();
        add("2.5.29.19", true, &sequence(&[&flag, &length]));
    }
    let usages: Vec<String> =
        plan.usages.clone().unwrap_or_else(|| role.usages.iter().map(|&usage| usage.to_owned()).collect());
    if !usages.is_empty() {
        let critical = plan.usages_critical.unwrap_or(usages == [TIME_STAMPING]);
        let list: Vec<u8> = usages.iter().flat_map(|usage| oid(usage)).collect();
        add("2.5.29.37", critical, &sequence(&[&list]));
    }
    let identity = plan.identity.as_deref().or(role.identity).unwrap_or_default();
    if !identity.is_empty() {
        add("2.5.29.17", true, &sequence(&[&der(0x81, &[identity.as_bytes()])]));
    }
    let oidc_issuer = plan.oidc_issuer.as_deref().or(role.oidc_issuer).unwrap_or_default();
    if !oidc_issuer.is_empty() {
        add("1.3.6.1.4.1.57264.1.1", false, oidc_issuer.as_bytes());
        add("1.3.6.1.4.1.57264.1.8", false, &der(0x0c, &[oidc_issuer.as_bytes()]));
    }
    for (id, critical) in &plan.unknown {
        add(id, *critical, &integer(1));
    }
    if let Some(scts) = scts {
        add("1.3.6.1.4.1.11129.2.4.2", false, &der(OCTET_STRING, &[scts]));
    }
    written
}
