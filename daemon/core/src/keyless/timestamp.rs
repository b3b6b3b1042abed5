//! RFC 3161 timestamps: a TimeStampResp, checked against the authorities of a trusted root (facts/sigstore.md 6.2).

use bytes::Bytes;
use jiff::Timestamp;
use p256::pkcs8::ObjectIdentifier;
use p256::pkcs8::der::Tag;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::asn1::{Elements, Malformed, context, wrap};
use super::certificate::Certificate;
use super::chain::{TIME_STAMPING, paths};
use super::root::Authority;
use crate::check::Checker;
use crate::key::{AnchorId, PublicKey};

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// Said of a timestamp where the root names nobody who could have signed it.
pub(super) const NO_AUTHORITY: &str = "no timestamp authority is trusted";
/// The most certificates that a token may bring.
const MAX_CERTIFICATES: usize = 10;
const WHAT: &str = "the timestamp";

/// A time that an authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenTime {
    /// The authority.
    pub authority: AnchorId,
    /// Where it is; two timestamps of one place count as one.
    pub uri: String,
    /// The time.
    pub at: Timestamp,
}

/// A TimeStampResp, taken apart.
#[derive(Clone, Debug)]
pub struct Token {
    /// The signed TSTInfo.
    info: Vec<u8>,
    imprint: (ObjectIdentifier, Vec<u8>),
    at: Timestamp,
    certificates: Vec<Bytes>,
    /// The signer's issuer (DER) and serial number.
    signer: (Vec<u8>, Vec<u8>),
    digest: ObjectIdentifier,
    /// The value of the signed attributes.
    attributes: Vec<u8>,
    signature: Vec<u8>,
}

impl Token {
    /// Parses a TimeStampResp in DER (RFC 3161, 2.4.2; RFC 5652, 5): granted, with one signer.
    ///
    /// # Errors
    /// Fails for anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut response = Elements::of_sequence(bytes, WHAT)?;
        let status = response.sequence()?.value(Tag::Integer)?;
        if !matches!(status, [0 | 1]) {
            return Err(Malformed("the timestamp's status"));
        }
        let mut content = response.sequence()?;
        response.finish()?;
        if content.oid()? != SIGNED_DATA {
            return Err(Malformed("the timestamp's content type"));
        }
        let mut data = Elements::of_sequence(content.value(context(0, true))?, WHAT)?;
        content.finish()?;
        data.value(Tag::Integer)?;
        data.value(Tag::Set)?;
        let mut inner = data.sequence()?;
        if inner.oid()? != TST_INFO {
            return Err(Malformed("the timestamp's inner content type"));
        }
        let info = Elements::of(inner.value(context(0, true))?, WHAT)?.value(Tag::OctetString)?;
        inner.finish()?;
        let certificates = certificates(data.optional(context(0, true))?.unwrap_or_default())?;
        data.optional(context(1, true))?;
        let mut signers = Elements::of(data.value(Tag::Set)?, "the timestamp's signers")?;
        data.finish()?;
        let mut signer = signers.sequence()?;
        signers.finish()?;
        signer.value(Tag::Integer)?;
        let mut id = signer.sequence()?;
        let signer_id = (id.whole()?.to_vec(), id.value(Tag::Integer)?.to_vec());
        id.finish()?;
        let digest = signer.sequence()?.oid()?;
        let attributes = signer.value(context(0, true))?.to_vec();
        signer.sequence()?;
        let signature = signer.value(Tag::OctetString)?.to_vec();
        signer.optional(context(1, true))?;
        signer.finish()?;
        let (imprint, at) = read_info(info)?;
        Ok(Self { info: info.to_vec(), imprint, at, certificates, signer: signer_id, digest, attributes, signature })
    }

    /// Checks it against every authority: which of them says that `message` was there, and when.
    ///
    /// # Errors
    /// Fails with what is wrong, in words, where none does.
    pub(super) fn verify(&self, message: &[u8], authorities: &[Authority]) -> Result<ProvenTime, String> {
        let (algorithm, imprint) = &self.imprint;
        if hash(*algorithm, message).ok_or("its hash is none that is known")? != *imprint {
            return Err("it is over something else".to_owned());
        }
        let mut fault = NO_AUTHORITY.to_owned();
        for authority in authorities {
            match self.verify_by(authority) {
                Ok(()) => {
                    return Ok(ProvenTime { authority: authority.id, uri: authority.uri.clone(), at: self.at });
                }
                Err(words) => fault = words,
            }
        }
        Err(fault)
    }

    fn verify_by(&self, authority: &Authority) -> Result<(), String> {
        let signer = self.signer(authority)?;
        let usages = signer.usages.as_ref().filter(|usages| usages.critical && usages.oids == [TIME_STAMPING]);
        usages.ok_or("its signer's certificate is not for timestamps alone")?;
        self.check_attributes(&signer)?;
        let key =
            PublicKey::from_der(&signer.spki).map_err(|error| format!("its signer's key is not usable: {error}"))?;
        // RFC 5652, 5.4: the attributes are signed as a SET, whatever tag they are sent behind.
        let signed = wrap(0x31, &self.attributes);
        Checker::new(&signed, &self.signature).check(&key).ok_or("its signature does not verify")?;
        let paths = paths(&signer, &authority.chain, &self.certificates, TIME_STAMPING)
            .map_err(|words| format!("its signer's certificate {words}"))?;
        if !paths.iter().any(|path| path.window.contains(self.at)) {
            return Err(format!("it is of {}, when its signer's certificate was not valid", self.at));
        }
        if !authority.window.contains(self.at) {
            return Err(format!("it is of {}, when its authority was not valid", self.at));
        }
        Ok(())
    }

    /// Finds the signer's certificate: the authority's own, or, where the root has none, the one that the token brings.
    fn signer(&self, authority: &Authority) -> Result<Certificate, String> {
        let is_signer = |one: &Certificate| one.issuer == self.signer.0 && one.serial == self.signer.1;
        let brought: Vec<_> = self.certificates.iter().filter_map(|der| Certificate::parse(der).ok()).collect();
        let own = authority.chain.first().and_then(|der| Certificate::parse(der).ok()).filter(|one| !one.is_ca);
        let Some(own) = own else {
            return brought
                .into_iter()
                .find(is_signer)
                .ok_or_else(|| "its signer's certificate is not there".to_owned());
        };
        let brings_another = !brought.is_empty() && !brought.iter().any(|one| one.der == own.der);
        if !is_signer(&own) || brings_another {
            return Err("it is by an authority that is not trusted".to_owned());
        }
        Ok(own)
    }

    /// Checks what the signer signed: the content's type and hash, and its own certificate's hash where it says it.
    fn check_attributes(&self, signer: &Certificate) -> Result<(), String> {
        let malformed = |error: Malformed| error.to_string();
        let content_type = self.attribute(CONTENT_TYPE).map_err(malformed)?.ok_or("its content type is not signed")?;
        if Elements::of(content_type, WHAT).and_then(|mut read| read.oid()).map_err(malformed)? != TST_INFO {
            return Err("its signed content type is another".to_owned());
        }
        let digest = self.attribute(MESSAGE_DIGEST).map_err(malformed)?.ok_or("its content's hash is not signed")?;
        let digest = Elements::of(digest, WHAT).and_then(|mut read| read.value(Tag::OctetString)).map_err(malformed)?;
        if hash(self.digest, &self.info).is_none_or(|hash| hash != digest) {
            return Err("its content is not what was signed".to_owned());
        }
        match self.attribute(SIGNING_CERTIFICATE_V2).map_err(malformed)? {
            Some(value) if !names(value, &signer.der).map_err(malformed)? => {
                Err("it was signed by another certificate than it says".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Returns the one value of a signed attribute.
    fn attribute(&self, wanted: ObjectIdentifier) -> Result<Option<&[u8]>, Malformed> {
        const WHAT: &str = "a signed attribute of the timestamp";
        let (mut list, mut found) = (Elements::of(&self.attributes, WHAT)?, None);
        while !list.is_finished() {
            let mut attribute = list.sequence()?;
            let oid = attribute.oid()?;
            let mut values = Elements::of(attribute.value(Tag::Set)?, WHAT)?;
            attribute.finish()?;
            if oid == wanted {
                let value = values.whole()?;
                values.finish()?;
                if found.replace(value).is_some() {
                    return Err(Malformed("a signed attribute that is there twice"));
                }
            }
        }
        Ok(found)
    }
}

/// Says whether a SigningCertificateV2 (RFC 5035, 4) names this certificate first.
fn names(value: &[u8], certificate: &[u8]) -> Result<bool, Malformed> {
    let mut first = Elements::of_sequence(value, WHAT)?.sequence()?.sequence()?;
    let algorithm = match first.optional(Tag::Sequence)? {
        None => SHA256,
        Some(algorithm) => Elements::of(algorithm, WHAT)?.oid()?,
    };
    let expected = first.value(Tag::OctetString)?;
    Ok(hash(algorithm, certificate).is_some_and(|hash| hash == expected))
}

fn certificates(set: &[u8]) -> Result<Vec<Bytes>, Malformed> {
    let (mut read, mut found) = (Elements::of(set, "the timestamp's certificates")?, Vec::new());
    while !read.is_finished() {
        if found.len() == MAX_CERTIFICATES {
            return Err(Malformed("the number of the timestamp's certificates"));
        }
        found.push(Bytes::copy_from_slice(read.whole()?));
    }
    Ok(found)
}

/// Reads the hash and the time out of a TSTInfo (RFC 3161, 2.4.2).
fn read_info(bytes: &[u8]) -> Result<((ObjectIdentifier, Vec<u8>), Timestamp), Malformed> {
    let mut info = Elements::of_sequence(bytes, "the timestamp's TSTInfo")?;
    if info.value(Tag::Integer)? != [1] {
        return Err(Malformed("the version of the timestamp's TSTInfo"));
    }
    info.oid()?;
    let mut imprint = info.sequence()?;
    let algorithm = imprint.sequence()?.oid()?;
    let value = imprint.value(Tag::OctetString)?.to_vec();
    imprint.finish()?;
    info.value(Tag::Integer)?;
    let at = generalized(info.value(Tag::GeneralizedTime)?).ok_or(Malformed("the timestamp's time"))?;
    Ok(((algorithm, value), at))
}

/// Reads a GeneralizedTime in UTC, which here may have parts of a second: `20261123054432.25Z`.
fn generalized(bytes: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let (digits, fraction) = match text.split_once('.') {
        Some((digits, fraction)) if !fraction.is_empty() && fraction.len() <= 9 => (digits, format!(".{fraction}")),
        Some(_) => return None,
        None => (text, String::new()),
    };
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.len() != 14 || !is_plain(digits) || !is_plain(fraction.trim_start_matches('.')) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to);
    let date = format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?);
    format!("{date}T{}:{}:{}{fraction}Z", part(8, 10)?, part(10, 12)?, part(12, 14)?).parse().ok()
}

fn hash(algorithm: ObjectIdentifier, bytes: &[u8]) -> Option<Vec<u8>> {
    match algorithm {
        SHA256 => Some(Sha256::digest(bytes).to_vec()),
        SHA384 => Some(Sha384::digest(bytes).to_vec()),
        SHA512 => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_have_parts_of_a_second() {
        let time = |text: &str| generalized(text.as_bytes()).map(|time| time.to_string());
        assert_eq!(time("20261123054432Z").as_deref(), Some("2026-11-23T05:44:32Z"));
        assert_eq!(time("20261123054432.25Z").as_deref(), Some("2026-11-23T05:44:32.25Z"));
        for bad in [
            "",
            "Z",
            "20261123054432",
            "20261123054432.Z",
            "2026112305443Z",
            "20261123054432+0100",
            "2026112305443xZ",
            "20261323054432Z",
        ] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
