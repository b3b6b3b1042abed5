//! Signed statements as they are stored: DSSE envelopes, Sigstore bundles, and the manifests that hang a bundle on its
//! subject (facts/sigstore.md 4.3, 5.1, 5.2).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bundle::EntryJson;
use super::dsse::IN_TOTO;
use super::go_json;
use super::manifest_json::{DescriptorJson, ManifestJson};
use super::material::VerificationMaterial;
use crate::artifact::EMPTY_JSON;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::key::PublicKey;
use crate::manifest::OCI_MANIFEST;

/// The media type of the bundles that are written: as bundle, as layer and as artifact.
pub const BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The config of every referrer that holds a bundle.
pub const EMPTY_CONFIG: &[u8] = b"{}";

const CONTENT_ANNOTATION: &str = "dev.sigstore.bundle.content";
const PREDICATE_TYPE_ANNOTATION: &str = "dev.sigstore.bundle.predicateType";
const CREATED_ANNOTATION: &str = "org.opencontainers.image.created";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeJson<'a> {
    payload: String,
    payload_type: &'a str,
    signatures: [SignatureJson; 1],
}

#[derive(Serialize)]
struct SignatureJson {
    sig: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BundleJson<'a> {
    media_type: &'a str,
    verification_material: MaterialJson<'a>,
    dsse_envelope: EnvelopeJson<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MaterialJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<HintJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<CertificateJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tlog_entries: Vec<EntryJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_verification_data: Option<TimestampsJson>,
}

#[derive(Serialize)]
struct HintJson {
    hint: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateJson {
    raw_bytes: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimestampsJson {
    rfc3161_timestamps: Vec<TimestampJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimestampJson {
    signed_timestamp: String,
}

impl<'a> MaterialJson<'a> {
    /// A bundle v0.3 has the signer's certificate alone: readers know its issuers.
    fn of(key: &PublicKey, material: &'a VerificationMaterial) -> Self {
        let certificate =
            material.certificates().first().map(|leaf| CertificateJson { raw_bytes: STANDARD.encode(leaf) });
        let stamp = |bytes: &Bytes| TimestampJson { signed_timestamp: STANDARD.encode(bytes) };
        let stamps: Vec<TimestampJson> = material.timestamps().iter().map(stamp).collect();
        Self {
            public_key: certificate.is_none().then(|| HintJson { hint: STANDARD.encode(key.id().0) }),
            certificate,
            tlog_entries: material.entries().iter().map(EntryJson::from).collect(),
            timestamp_verification_data: (!stamps.is_empty()).then_some(TimestampsJson { rfc3161_timestamps: stamps }),
        }
    }
}

fn envelope_json(statement: &[u8], signature: &[u8]) -> EnvelopeJson<'static> {
    EnvelopeJson {
        payload: STANDARD.encode(statement),
        payload_type: IN_TOTO,
        signatures: [SignatureJson { sig: STANDARD.encode(signature) }],
    }
}

/// Writes a signed statement as the layer of a classic attestation, as cosign 3 does.
pub fn envelope(statement: &[u8], signature: &[u8]) -> Bytes {
    go_json::to_vec(&envelope_json(statement, signature)).into()
}

/// Writes a signed statement as a bundle, as cosign 3 does: with the signer's certificate, else with a hint at the key, and
/// with what logs and timestamp authorities said.
pub fn bundle(key: &PublicKey, material: &VerificationMaterial, statement: &[u8], signature: &[u8]) -> Bytes {
    let bundle = BundleJson {
        media_type: BUNDLE_V03,
        verification_material: MaterialJson::of(key, material),
        dsse_envelope: envelope_json(statement, signature),
    };
    go_json::to_vec(&bundle).into()
}

/// Writes the manifest that hangs a bundle on its subject.
pub fn referrer(bundle: &[u8], subject: &Descriptor, predicate_type: &str, created: Timestamp) -> Bytes {
    let mut config = Descriptor::new(EMPTY_JSON, Digest::of(EMPTY_CONFIG), EMPTY_CONFIG.len() as u64);
    config.artifact_type = Some(BUNDLE_V03.to_owned());
    let layer = Descriptor::new(BUNDLE_V03, Digest::of(bundle), bundle.len() as u64);
    let seconds = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let annotations = BTreeMap::from([
        (CONTENT_ANNOTATION.to_owned(), "dsse-envelope".to_owned()),
        (PREDICATE_TYPE_ANNOTATION.to_owned(), predicate_type.to_owned()),
        (CREATED_ANNOTATION.to_owned(), seconds),
    ]);
    let subject = Descriptor::new(&subject.media_type, subject.digest, subject.size);
    let manifest = ManifestJson {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        config: (&config).into(),
        layers: vec![DescriptorJson::from(&layer)],
        annotations: &annotations,
        subject: Some((&subject).into()),
        artifact_type: Some(BUNDLE_V03.to_owned()),
    };
    go_json::to_vec(&manifest).into()
}

/// Returns the signature over `statement` in an envelope or bundle as it is written here; `None` for other bytes and
/// other statements. Only finds what is there already: it verifies nothing.
pub fn signature_over(statement: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bundle {
        dsse_envelope: Envelope,
    }
    #[derive(Deserialize)]
    struct Envelope {
        payload: String,
        signatures: [Signature; 1],
    }
    #[derive(Deserialize)]
    struct Signature {
        sig: String,
    }
    let bundle = serde_json::from_slice::<Bundle>(stored).map(|bundle| bundle.dsse_envelope);
    let Envelope { payload, signatures: [signature] } = bundle.or_else(|_| serde_json::from_slice(stored)).ok()?;
    (STANDARD.decode(payload).ok()? == statement).then(|| STANDARD.decode(signature.sig).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Checker, SignedHash};
    use crate::signature::dsse::{COSIGN_SIGN, pae};
    use crate::signature::statement::signature;

    /// facts/sigstore.md, annex A.
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE26cFJmX54hx8/GIEuI9u92hCsls8
kDN2/8K4Edsj50RoZ3hB/oOaU5AGuuWTPnCA2n6tvB95RAXyl5rBXZGJIw==
-----END PUBLIC KEY-----
";
    const SIGNATURE: &str =
        "MEYCIQD+Tkd/v91Kp2PIDvg6HBDG8dZDX52E0ZULVd/AvhwfegIhAMbi1Drjz/D/yQmdi+V0VxIjgCAeafswNXSrq1y0yXGM";

    fn digest() -> Digest {
        "sha256:2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc".parse().expect("digest")
    }

    #[test]
    fn annex_a2_to_the_byte() {
        let key = PublicKey::from_pem(PUBLIC.as_bytes()).expect("a key");
        let (statement, raw) = (signature(&digest(), &BTreeMap::new()), STANDARD.decode(SIGNATURE).expect("base64"));
        let valid = Checker::new(&pae(IN_TOTO, &statement), &raw).check(&key);
        assert_eq!(valid, Some(SignedHash::Sha256));
        let bundle = bundle(&key, &VerificationMaterial::default(), &statement, &raw);
        assert_eq!(bundle.len(), 659);
        assert_eq!(Digest::of(&bundle).hex(), "2ebc25898230c200ff000660fd9d6de957338e2df5c3c2e69ac601f5c3e107f6");
        let subject = Descriptor::new(OCI_MANIFEST, digest(), 1234);
        let created = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        let manifest = referrer(&bundle, &subject, COSIGN_SIGN, created);
        assert_eq!(manifest.len(), 878, "{}", String::from_utf8_lossy(&manifest));
        assert_eq!(Digest::of(&manifest).hex(), "54415f2263bf311688854481f47af9c717e47d926a9fb742ef1e9daff9b9a109");
    }

    #[test]
    fn what_is_stored_is_found_again() {
        let key = PublicKey::from_pem(PUBLIC.as_bytes()).expect("a key");
        let none = VerificationMaterial::default();
        for stored in [bundle(&key, &none, b"{}", b"sig"), envelope(b"{}", b"sig")] {
            assert_eq!(signature_over(b"{}", &stored).as_deref(), Some(&b"sig"[..]));
            assert_eq!(signature_over(b"{ }", &stored), None);
            assert_eq!(signature_over(b"{}", &stored[1..]), None);
        }
    }
}
