//! Trusted roots: whom a site trusts to issue certificates, to keep logs and to tell the time.
//!
//! A `trusted_root.json` goes in ([`TrustedRoot::parse`]; sigstore_trustroot.proto, facts/sigstore.md 6.1), or the PEM
//! files that older clients take one by one ([`TrustedRoot::assemble`]). Each authority and each log is an anchor of its
//! own, whose id is a hash of its whole content: a refreshed root re-keys only what changed.

use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::window::Window;
use crate::key::{AnchorId, KeyAlgorithm, KeyError, PublicKey};
use crate::protojson::{FieldError, Json, Message, shown};

/// The most bytes that a trusted root may have; the public one has 7 KiB.
pub const MAX_ROOT_BYTES: usize = 4 << 20;
/// The most entries of one kind.
const MAX_ENTRIES: usize = 256;
/// The most certificates of one authority.
const MAX_CHAIN: usize = 10;

const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];
const HASHES: [&str; 2] = ["HASH_ALGORITHM_UNSPECIFIED", "SHA2_256"];
/// sigstore_common.proto, PublicKeyDetails, in the order of their numbers; those of no use here are empty.
const KEY_DETAILS: [&str; 14] = [
    "PUBLIC_KEY_DETAILS_UNSPECIFIED",
    "",
    "",
    "PKIX_RSA_PKCS1V5",
    "",
    "PKIX_ECDSA_P256_SHA_256",
    "",
    "PKIX_ED25519",
    "",
    "PKIX_RSA_PKCS1V15_2048_SHA256",
    "PKIX_RSA_PKCS1V15_3072_SHA256",
    "PKIX_RSA_PKCS1V15_4096_SHA256",
    "PKIX_ECDSA_P384_SHA_384",
    "PKIX_ECDSA_P521_SHA_512",
];

/// Whom a site trusts, each with its window.
#[derive(Clone, Debug, Default)]
pub struct TrustedRoot {
    /// Rekor's logs.
    pub logs: Vec<Log>,
    /// Certificate transparency logs.
    pub ct_logs: Vec<Log>,
    /// Authorities that issue signers' certificates.
    pub authorities: Vec<Authority>,
    /// Authorities that sign timestamps.
    pub timestamp_authorities: Vec<Authority>,
}

/// A transparency log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The hash of everything below.
    pub id: AnchorId,
    /// Where it is; its host is the name that Rekor v2 signs checkpoints by.
    pub base_url: String,
    /// The id by which entries and SCTs name it.
    pub log_id: Bytes,
    /// Its key.
    pub key: PublicKey,
    /// When its key is valid.
    pub window: Window,
}

/// A certificate authority, or a timestamp authority.
#[derive(Clone, Debug)]
pub struct Authority {
    /// The hash of everything below.
    pub id: AnchorId,
    /// Where it is; two timestamps of one place count as one.
    pub uri: String,
    /// Its chain, DER, the root last; a timestamp authority's own certificate first.
    pub chain: Vec<Bytes>,
    /// When it is valid.
    pub window: Window,
}

/// Says why bytes are no trusted root that Larder reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// It is longer than [`MAX_ROOT_BYTES`].
    #[error("it has {0} bytes; a trusted root has at most 4 MiB")]
    TooLong(usize),
    /// It is no JSON, or has a field twice.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// It is of another media type.
    #[error("it is no trusted root: its media type is {0:?}")]
    MediaType(String),
    /// A field is missing, doubled, unknown, or not as it must be.
    #[error("its {0}")]
    Field(#[from] FieldError),
    /// A PEM file has no certificate in it.
    #[error("there is no certificate in it")]
    NoCertificate,
}

impl RootError {
    /// Returns the stable name of the fault.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "root-too-long",
            Self::NotJson(_) => "root-not-json",
            Self::MediaType(_) => "root-media-type",
            Self::Field(_) => "root-field",
            Self::NoCertificate => "root-no-certificate",
        }
    }
}

impl TrustedRoot {
    /// Returns the id of the whole: a hash of the ids of all that it names, in any order.
    pub fn id(&self) -> AnchorId {
        let mut hasher = Sha256::new();
        let lists: [(u8, Vec<AnchorId>); 4] = [
            (1, self.logs.iter().map(|log| log.id).collect()),
            (2, self.ct_logs.iter().map(|log| log.id).collect()),
            (3, self.authorities.iter().map(|authority| authority.id).collect()),
            (4, self.timestamp_authorities.iter().map(|authority| authority.id).collect()),
        ];
        hasher.update(b"trusted root");
        for (kind, mut ids) in lists {
            ids.sort_unstable();
            ids.dedup();
            hasher.update([kind]);
            hasher.update((ids.len() as u64).to_be_bytes());
            ids.iter().for_each(|id| hasher.update(id.0));
        }
        AnchorId(hasher.finalize().into())
    }

    /// Returns the newest instant at which something that it names begins: it was not made before that was planned.
    pub fn newest(&self) -> Option<Timestamp> {
        let logs = self.logs.iter().chain(&self.ct_logs).map(|log| log.window.start);
        let authorities = self.authorities.iter().chain(&self.timestamp_authorities);
        logs.chain(authorities.map(|authority| authority.window.start)).flatten().max()
    }

    /// Parses a trusted root, as strictly as cosign does.
    ///
    /// # Errors
    /// Fails with the first field that is missing, doubled, unknown, out of bounds or of the wrong type.
    pub fn parse(bytes: &[u8]) -> Result<Self, RootError> {
        if bytes.len() > MAX_ROOT_BYTES {
            return Err(RootError::TooLong(bytes.len()));
        }
        let json = Json::parse(bytes).map_err(RootError::NotJson)?;
        let mut top = Message::open(json, String::new())?;
        let media_type = top.text("mediaType")?.unwrap_or_default();
        if !MEDIA_TYPES.contains(&media_type.as_str()) {
            return Err(RootError::MediaType(shown(&media_type)));
        }
        let mut logs = |name| {
            let list = top.messages(name, MAX_ENTRIES)?;
            list.into_iter().map(read_log).collect::<Result<Vec<_>, FieldError>>()
        };
        let (rekor, ct_logs) = (logs("tlogs")?, logs("ctlogs")?);
        let mut authorities = |name| {
            let list = top.messages(name, MAX_ENTRIES)?;
            list.into_iter().map(read_authority).collect::<Result<Vec<_>, FieldError>>()
        };
        let (authorities, timestamp_authorities) =
            (authorities("certificateAuthorities")?, authorities("timestampAuthorities")?);
        top.finish()?;
        Ok(Self { logs: rekor, ct_logs, authorities, timestamp_authorities })
    }

    /// Puts a root together from certificates and keys, each valid for all time.
    ///
    /// `issuers` holds the certificates of `SIGSTORE_ROOT_FILE`, `timestamps` the chain of
    /// `SIGSTORE_TSA_CERTIFICATE_FILE`; every self-signed certificate makes an authority, with all the others below it.
    ///
    /// # Errors
    /// Fails where a file with certificates has none that is self-signed.
    pub fn assemble(
        issuers: &[Bytes],
        timestamps: &[Bytes],
        logs: Vec<PublicKey>,
        ct_logs: Vec<PublicKey>,
    ) -> Result<Self, RootError> {
        let log = |key: PublicKey| {
            let log_id = Bytes::copy_from_slice(&key.id().0);
            Log::new(String::new(), log_id, key, Window::default())
        };
        Ok(Self {
            logs: logs.into_iter().map(log).collect(),
            ct_logs: ct_logs.into_iter().map(log).collect(),
            authorities: authorities_of(issuers)?,
            timestamp_authorities: authorities_of(timestamps)?,
        })
    }
}

/// Makes an authority of each self-signed certificate; the others keep their order before it.
fn authorities_of(certificates: &[Bytes]) -> Result<Vec<Authority>, RootError> {
    let is_self_signed =
        |der: &&Bytes| Certificate::parse(der).is_ok_and(|certificate| certificate.issuer == certificate.subject);
    let (roots, others): (Vec<&Bytes>, Vec<&Bytes>) = certificates.iter().partition(is_self_signed);
    if roots.is_empty() && !others.is_empty() {
        return Err(RootError::NoCertificate);
    }
    let chain = |root: &Bytes| others.iter().copied().chain([root]).cloned().collect();
    Ok(roots.into_iter().map(|root| Authority::new(String::new(), chain(root), Window::default())).collect())
}

impl Log {
    fn new(base_url: String, log_id: Bytes, key: PublicKey, window: Window) -> Self {
        let parts = [base_url.as_bytes(), &log_id, key.to_der()];
        Self { id: content_id("log", &parts, window), base_url, log_id, key, window }
    }
}

impl Authority {
    fn new(uri: String, chain: Vec<Bytes>, window: Window) -> Self {
        let parts: Vec<&[u8]> = [uri.as_bytes()].into_iter().chain(chain.iter().map(|der| &der[..])).collect();
        Self { id: content_id("authority", &parts, window), uri, chain, window }
    }
}

/// Hashes an entry's content, each part behind its length.
fn content_id(kind: &str, parts: &[&[u8]], window: Window) -> AnchorId {
    let mut hasher = Sha256::new();
    let times = [window.start, window.end].map(|time| time.map(|time| time.to_string()).unwrap_or_default());
    let parts = [kind.as_bytes(), times[0].as_bytes(), times[1].as_bytes()].into_iter().chain(parts.iter().copied());
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    AnchorId(hasher.finalize().into())
}

fn read_log(mut wire: Message) -> Result<Log, FieldError> {
    let base_url = wire.text("baseUrl")?.unwrap_or_default();
    if wire.choice("hashAlgorithm", &HASHES)? != "SHA2_256" {
        return Err(wire.fault("hashAlgorithm", "is not SHA2_256"));
    }
    let mut public = wire.needed_message("publicKey")?;
    let bytes = public.needed_bytes("rawBytes")?;
    let details = public.choice("keyDetails", &KEY_DETAILS)?;
    let key = PublicKey::from_der(&bytes).map_err(|error| public.fault("rawBytes", format!("is no key: {error}")))?;
    if !fits(details, key.algorithm()) {
        return Err(public.fault("keyDetails", format!("is {details}, and the key is {}", key.algorithm())));
    }
    let mut valid = public.needed_message("validFor")?;
    let window = read_window(&mut valid)?;
    if window.start.is_none() {
        return Err(valid.fault("start", "is missing"));
    }
    valid.finish()?;
    public.finish()?;
    let mut id = wire.needed_message("logId")?;
    let log_id = id.needed_bytes("keyId")?;
    id.finish()?;
    // What v0.2 adds: a hint, and a name for counting.
    if let Some(mut checkpoint) = wire.message("checkpointKeyId")? {
        checkpoint.bytes("keyId")?;
        checkpoint.finish()?;
    }
    wire.text("operator")?;
    wire.finish()?;
    Ok(Log::new(base_url, log_id, key, window))
}

fn fits(details: &str, algorithm: KeyAlgorithm) -> bool {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => details == "PKIX_ECDSA_P256_SHA_256",
        KeyAlgorithm::EcdsaP384 => details == "PKIX_ECDSA_P384_SHA_384",
        KeyAlgorithm::EcdsaP521 => details == "PKIX_ECDSA_P521_SHA_512",
        KeyAlgorithm::Ed25519 => details == "PKIX_ED25519",
        KeyAlgorithm::Rsa => details.starts_with("PKIX_RSA_PKCS1V"),
    }
}

fn read_authority(mut wire: Message) -> Result<Authority, FieldError> {
    if let Some(mut subject) = wire.message("subject")? {
        subject.text("organization")?;
        subject.text("commonName")?;
        subject.finish()?;
    }
    let uri = wire.text("uri")?.unwrap_or_default();
    let mut chain = wire.needed_message("certChain")?;
    let certificates = chain.messages("certificates", MAX_CHAIN)?;
    if certificates.is_empty() {
        return Err(chain.fault("certificates", "is empty"));
    }
    let read = |mut certificate: Message| {
        let der = certificate.needed_bytes("rawBytes")?;
        let parsed = Certificate::parse(&der)
            .map_err(|error| certificate.fault("rawBytes", format!("is no certificate: {error}")))?;
        // A key of a kind that is not supported may stand in a root, and proves nothing; a broken one may not.
        if let Err(KeyError::Malformed(words)) = PublicKey::from_der(&parsed.spki) {
            return Err(certificate.fault("rawBytes", format!("has a key that is malformed: {words}")));
        }
        certificate.finish()?;
        Ok(der)
    };
    let certificates = certificates.into_iter().map(read).collect::<Result<Vec<_>, FieldError>>()?;
    chain.finish()?;
    let window = match wire.message("validFor")? {
        None => Window::default(),
        Some(mut valid) => {
            let window = read_window(&mut valid)?;
            valid.finish()?;
            window
        }
    };
    wire.text("operator")?;
    wire.finish()?;
    Ok(Authority::new(uri, certificates, window))
}

pub(super) fn read_window(wire: &mut Message) -> Result<Window, FieldError> {
    let mut time = |name| match wire.text(name)? {
        None => Ok(None),
        Some(text) => text.parse::<Timestamp>().map(Some).map_err(|_| wire.fault(name, "is no RFC 3339 time")),
    };
    Ok(Window { start: time("start")?, end: time("end")? })
}
