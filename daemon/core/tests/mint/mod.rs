//! A private Sigstore that is made anew for each vector, from keys that are numbers, so that each of its parts can be expired,
//! misissued or foreign at will: authority, intermediate, certificate and SCT, Rekor of both versions, timestamp authority.
//!
//! A [`Plan`] goes in, as a vector writes it, and a bundle and a trusted root come out. Nothing here is Larder's: that the
//! plan without a change is accepted says that what is made is well made.

pub(crate) mod certificate;
pub(crate) mod der;
pub(crate) mod log;
pub(crate) mod stamp;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use certificate::{CODE_SIGNING, CertificatePlan, Role, TIME_STAMPING, issue, sign, spki, to_be_signed};
use log::{CT_LOG, Logged, REKOR_1, b64};

const ROOT: u8 = 11;
const INTERMEDIATE: u8 = 12;
const LEAF: u8 = 13;
const TSA_ROOT: u8 = 21;
const TSA_INTERMEDIATE: u8 = 22;
const TSA: u8 = 23;

/// What is changed; what is not named is good.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) root: CertificatePlan,
    pub(crate) intermediate: CertificatePlan,
    pub(crate) leaf: CertificatePlan,
    pub(crate) tsa_root: CertificatePlan,
    pub(crate) tsa_intermediate: CertificatePlan,
    pub(crate) tsa: CertificatePlan,
    /// What is signed: a file, a classic payload, or an in-toto statement in an envelope.
    pub(crate) signs: Signs,
    /// The Rekors that took it in, 1 or 2; the first where nothing is said.
    pub(crate) rekor: Option<Vec<u8>>,
    /// When Rekor v1 took it in, when the SCT and the timestamp are of.
    pub(crate) logged_at: Option<At>,
    pub(crate) sct_at: Option<At>,
    pub(crate) stamped_at: Option<At>,
    /// The certificate brings no SCT.
    pub(crate) no_sct: bool,
    /// The key that signs the SCT, and the one that it says issued the certificate.
    pub(crate) sct_key: Option<u8>,
    pub(crate) sct_issuer: Option<u8>,
    /// There is no timestamp; or what is stamped is something else.
    pub(crate) no_stamp: bool,
    pub(crate) stamps_other: bool,
    /// The key that signs the timestamp.
    pub(crate) stamp_key: Option<u8>,
    /// The windows in the trusted root: first and last instant.
    pub(crate) authority_window: Option<[Option<At>; 2]>,
    pub(crate) tsa_window: Option<[Option<At>; 2]>,
    pub(crate) rekor_window: Option<[Option<At>; 2]>,
    pub(crate) ct_log_window: Option<[Option<At>; 2]>,
}

/// A time, as vectors write it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct At(pub(crate) Timestamp);

impl TryFrom<String> for At {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Signs {
    /// [`MESSAGE`].
    #[default]
    File,
    /// A statement about [`IMAGE`].
    Statement,
    /// cosign's classic payload about [`IMAGE`].
    Payload,
}

pub(crate) const MESSAGE: &[u8] = b"a message";
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";
pub(crate) const PREDICATE: &str = "https://spdx.dev/Document";
pub(crate) const IDENTITY: &str = "alice@example.com";
pub(crate) const OIDC_ISSUER: &str = "https://accounts.example.com";

/// What came of a plan.
pub(crate) struct Made {
    /// A bundle v0.3.
    pub(crate) bundle: Value,
    /// The trusted root that goes with it.
    pub(crate) root: Value,
    /// The same evidence as a classic layer's annotations.
    pub(crate) annotations: Value,
    /// What was signed, or is in the envelope.
    pub(crate) signed: Vec<u8>,
    /// The authority's chain, the intermediate first.
    pub(crate) chain: [Vec<u8>; 2],
}

/// Returns the SHA-256 of the image that statements and payloads are about.
pub(crate) fn image() -> String {
    log::hex(&Sha256::digest("image"))
}

pub(crate) fn statement(predicate_type: &str) -> Vec<u8> {
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": image()}}],
        "predicateType": predicate_type, "predicate": {}});
    statement.to_string().into_bytes()
}

pub(crate) fn payload() -> Vec<u8> {
    let payload = json!({"critical": {"identity": {"docker-reference": "registry.example/app"},
        "image": {"docker-manifest-digest": format!("sha256:{}", image())},
        "type": "cosign container image signature"}, "optional": null});
    payload.to_string().into_bytes()
}

/// Writes DSSE's pre-authentication encoding.
pub(crate) fn pae(payload: &[u8]) -> Vec<u8> {
    [format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len()).as_bytes(), payload].concat()
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// When it was signed.
fn then() -> Timestamp {
    time("2026-06-01T12:00:00Z")
}

/// Makes what a plan says.
pub(crate) fn mint(plan: &Plan) -> Made {
    let signed = match plan.signs {
        Signs::File => MESSAGE.to_vec(),
        Signs::Statement => statement(PREDICATE),
        Signs::Payload => payload(),
    };
    let encoded = if plan.signs == Signs::Statement { pae(&signed) } else { signed.clone() };
    let signature = sign(plan.leaf.key.unwrap_or(LEAF), &encoded);
    let certificate = leaf(plan);
    let hash = Sha256::digest(&encoded);
    let logged = Logged { signature: &signature, hash: &hash, certificate: &certificate };
    let entry = |version: &u8| match version {
        1 => log::rekor_1(&logged, plan.logged_at.map_or_else(then, |at| at.0)),
        _ => log::rekor_2(&logged),
    };
    let entries: Vec<Value> = plan.rekor.as_deref().unwrap_or(&[1]).iter().map(entry).collect();
    let stamp = (!plan.no_stamp).then(|| stamp(plan, if plan.stamps_other { b"other" } else { &signature }));
    let chain = [
        issue(&plan.intermediate, &role("intermediate", "root", INTERMEDIATE, ROOT), None),
        issue(&plan.root, &role("root", "root", ROOT, ROOT), None),
    ];
    Made {
        bundle: bundle(plan.signs, &signed, &signature, &certificate, &entries, stamp.as_deref()),
        root: trusted_root(plan, &chain),
        annotations: annotations(&signature, &certificate, &chain, entries.first(), stamp.as_deref()),
        signed,
        chain,
    }
}

/// An authority's role.
fn role(subject: &'static str, issuer: &'static str, key: u8, signer: u8) -> Role {
    let (from, to) = (time("2020-01-01T00:00:00Z"), time("2040-01-01T00:00:00Z"));
    Role { subject, issuer, key, signer, from, to, ca: true, usages: &[], identity: None, oidc_issuer: None }
}

fn leaf(plan: &Plan) -> Vec<u8> {
    let role = Role {
        from: then() - SignedDuration::from_secs(30),
        to: then() + SignedDuration::from_mins(10),
        ca: false,
        usages: &[CODE_SIGNING],
        identity: Some(IDENTITY),
        oidc_issuer: Some(OIDC_ISSUER),
        ..role("leaf", "intermediate", LEAF, INTERMEDIATE)
    };
    if plan.no_sct {
        return issue(&plan.leaf, &role, None);
    }
    let precertificate = to_be_signed(&plan.leaf, &role, None);
    let issuer = plan.sct_issuer.unwrap_or_else(|| plan.intermediate.key.unwrap_or(INTERMEDIATE));
    let scts =
        log::scts(&precertificate, issuer, plan.sct_at.map_or_else(then, |at| at.0), plan.sct_key.unwrap_or(CT_LOG));
    issue(&plan.leaf, &role, Some(&scts))
}

fn stamp(plan: &Plan, message: &[u8]) -> Vec<u8> {
    let at = plan.stamped_at.map_or_else(|| then() + SignedDuration::from_secs(1), |at| at.0);
    stamp::stamp(message, at, &tsa_role(), &tsa(plan), plan.stamp_key.unwrap_or(TSA))
}

fn tsa_role() -> Role {
    Role { ca: false, usages: &[TIME_STAMPING], ..role("tsa", "tsa intermediate", TSA, TSA_INTERMEDIATE) }
}

fn tsa(plan: &Plan) -> Vec<u8> {
    issue(&plan.tsa, &tsa_role(), None)
}

fn bundle(
    signs: Signs,
    signed: &[u8],
    signature: &[u8],
    certificate: &[u8],
    entries: &[Value],
    stamp: Option<&[u8]>,
) -> Value {
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"certificate": {"rawBytes": b64(certificate)}, "tlogEntries": entries}
    });
    if let Some(stamp) = stamp {
        bundle["verificationMaterial"]["timestampVerificationData"] =
            json!({"rfc3161Timestamps": [{"signedTimestamp": b64(stamp)}]});
    }
    if signs == Signs::Statement {
        bundle["dsseEnvelope"] =
            json!({"payload": b64(signed), "payloadType": IN_TOTO, "signatures": [{"sig": b64(signature)}]});
    } else {
        bundle["messageSignature"] = json!({
            "messageDigest": {"algorithm": "SHA2_256", "digest": b64(Sha256::digest(signed))},
            "signature": b64(signature)
        });
    }
    bundle
}

fn annotations(
    signature: &[u8],
    certificate: &[u8],
    chain: &[Vec<u8>],
    entry: Option<&Value>,
    stamp: Option<&[u8]>,
) -> Value {
    let certificates: Vec<String> = chain.iter().map(|one| der::pem("CERTIFICATE", one)).collect();
    let mut annotations = json!({
        "dev.cosignproject.cosign/signature": b64(signature),
        "dev.sigstore.cosign/certificate": der::pem("CERTIFICATE", certificate),
        "dev.sigstore.cosign/chain": certificates.concat(),
    });
    if let Some(entry) = entry.filter(|entry| entry.get("inclusionPromise").is_some()) {
        let id = Sha256::digest(spki(REKOR_1));
        let number = |name: &str| entry[name].as_str().and_then(|text| text.parse::<u64>().ok());
        let bundle = json!({
            "SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"],
            "Payload": {"body": entry["canonicalizedBody"], "integratedTime": number("integratedTime"),
                "logIndex": number("logIndex"), "logID": log::hex(&id)}
        });
        annotations["dev.sigstore.cosign/bundle"] = json!(bundle.to_string());
    }
    if let Some(stamp) = stamp {
        let stamp = json!({"SignedRFC3161Timestamp": b64(stamp)});
        annotations["dev.sigstore.cosign/rfc3161timestamp"] = json!(stamp.to_string());
    }
    annotations
}

fn trusted_root(plan: &Plan, chain: &[Vec<u8>]) -> Value {
    let window = |given: &Option<[Option<At>; 2]>| {
        let [start, end] = given.unwrap_or([Some(At(time("2020-01-01T00:00:00Z"))), None]);
        let mut window = json!({});
        for (name, time) in [("start", start), ("end", end)] {
            if let Some(time) = time {
                window[name] = json!(time.0.to_string());
            }
        }
        window
    };
    let log = |spki: &[u8], details: &str, window: Value| {
        json!({"baseUrl": "https://log.test", "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": b64(spki), "keyDetails": details, "validFor": window},
            "logId": {"keyId": b64(Sha256::digest(spki))}})
    };
    let authority = |uri: &str, chain: &[Vec<u8>], window: Value| {
        let certificates: Vec<Value> = chain.iter().map(|one| json!({"rawBytes": b64(one)})).collect();
        json!({"subject": {"organization": "test", "commonName": uri}, "uri": uri,
            "certChain": {"certificates": certificates}, "validFor": window})
    };
    let stamps = [
        tsa(plan),
        issue(&plan.tsa_intermediate, &role("tsa intermediate", "tsa root", TSA_INTERMEDIATE, TSA_ROOT), None),
        issue(&plan.tsa_root, &role("tsa root", "tsa root", TSA_ROOT, TSA_ROOT), None),
    ];
    const P256: &str = "PKIX_ECDSA_P256_SHA_256";
    json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [
            log(&spki(REKOR_1), P256, window(&plan.rekor_window)),
            log(&log::ed25519_spki(), "PKIX_ED25519", window(&plan.rekor_window)),
        ],
        "certificateAuthorities": [authority("https://ca.test", chain, window(&plan.authority_window))],
        "ctlogs": [log(&spki(CT_LOG), P256, window(&plan.ct_log_window))],
        "timestampAuthorities": [authority("https://tsa.test", &stamps, window(&plan.tsa_window))],
    })
}
