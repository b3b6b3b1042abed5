//! What a signer's certificate says (RFC 5280; Fulcio's extensions: facts/sigstore.md 6.4).
//!
//! Read only: whether it was issued by anybody who is trusted is [`chain`](super::chain)'s to say.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use p256::pkcs8::ObjectIdentifier;
use p256::pkcs8::der::Tag;

use super::asn1::{Elements, Malformed, context, wrap};
use super::window::Window;
use crate::key::PublicKey;

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// Extensions that may be critical and are webpki's to look at, or say nothing about what a certificate may do: key
/// identifiers, name constraints, revocation lists, policies.
const PASSED_OVER: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.14"),
    ObjectIdentifier::new_unwrap("2.5.29.30"),
    ObjectIdentifier::new_unwrap("2.5.29.31"),
    ObjectIdentifier::new_unwrap("2.5.29.32"),
    ObjectIdentifier::new_unwrap("2.5.29.35"),
];
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
const FULCIO: &str = "1.3.6.1.4.1.57264.1.";
/// Fulcio's extensions whose value is bare text; later ones are an UTF8String.
const BARE: RangeInclusive<u8> = 1..=6;
/// Fulcio's extensions that are known.
const KNOWN: RangeInclusive<u8> = 1..=24;
/// The bit of key usage that lets a key sign certificates (keyCertSign), in its first byte.
const CERT_SIGN: u8 = 0x04;

/// A certificate, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// The whole certificate.
    pub(super) der: Bytes,
    /// The issuer's name, DER.
    pub(super) issuer: Vec<u8>,
    /// The subject's name, DER.
    pub(super) subject: Vec<u8>,
    /// The serial number, as written.
    pub(super) serial: Vec<u8>,
    /// When it is valid.
    pub(super) validity: Window,
    /// The SubjectPublicKeyInfo, DER.
    pub(super) spki: Vec<u8>,
    /// It is an authority's.
    pub(super) is_ca: bool,
    /// It may sign certificates, or does not say what it may.
    pub(super) may_issue: bool,
    /// How many authorities may stand between it and a leaf; `None` where it does not say.
    pub(super) path_length: Option<usize>,
    /// It has a critical extension that nobody here knows.
    pub(super) has_unknown_critical: bool,
    /// What it may be used for; `None` where it does not say.
    pub(super) usages: Option<Usages>,
    /// Who it is for: the first URI, else the first e-mail address, else Fulcio's OtherName.
    pub(super) identity: Option<String>,
    /// Fulcio's extensions by their last number, 1 to 24.
    pub(super) extensions: BTreeMap<u8, String>,
    /// The list of SCTs, as RFC 6962 writes it.
    pub(super) scts: Option<Vec<u8>>,
    /// The TBSCertificate without that list: what the SCTs' logs signed.
    pub(super) precertificate: Vec<u8>,
}

/// The extended key usages of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usages {
    pub(super) critical: bool,
    pub(super) oids: Vec<ObjectIdentifier>,
}

/// Returns the key of a certificate (DER); `None` where it is of a kind that is not supported. Says nothing about who issued it.
///
/// # Errors
/// Fails where it is no certificate.
pub fn certificate_key(der: &Bytes) -> Result<Option<PublicKey>, Malformed> {
    Ok(PublicKey::from_der(&Certificate::parse(der)?.spki).ok())
}

impl Certificate {
    /// Takes a certificate apart.
    pub(super) fn parse(der: &Bytes) -> Result<Self, Malformed> {
        let mut outer = Elements::of_sequence(der, "the certificate")?;
        let tbs = outer.value(Tag::Sequence)?;
        let mut read = Elements::of(tbs, "the certificate")?;
        let head_end = |read: &Elements<'_>| tbs.len() - remaining(read, tbs);
        read.optional(context(0, true))?;
        let serial = read.value(Tag::Integer)?.to_vec();
        read.sequence()?;
        let issuer = read.whole()?.to_vec();
        let mut validity = read.sequence()?;
        let validity = Window { start: Some(validity.time()?), end: Some(validity.time()?) };
        let subject = read.whole()?.to_vec();
        let spki = read.whole()?.to_vec();
        read.optional(context(1, false))?;
        read.optional(context(2, false))?;
        let head = tbs.get(..head_end(&read)).ok_or(Malformed("the certificate"))?;
        let extensions = read.optional(context(3, true))?.unwrap_or_default();
        read.finish()?;
        let mut found = Self {
            der: der.clone(),
            issuer,
            subject,
            serial,
            validity,
            spki,
            is_ca: false,
            may_issue: true,
            path_length: None,
            has_unknown_critical: false,
            usages: None,
            identity: None,
            extensions: BTreeMap::new(),
            scts: None,
            precertificate: Vec::new(),
        };
        let kept = found.read_extensions(extensions)?;
        let tail = wrap(0xa3, &wrap(0x30, &kept));
        found.precertificate = wrap(0x30, &[head, if kept.is_empty() { &[] } else { &tail }].concat());
        Ok(found)
    }

    /// Reads the extensions; returns them all but the SCTs', as they are.
    fn read_extensions(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut kept = Vec::with_capacity(bytes.len());
        if bytes.is_empty() {
            return Ok(kept);
        }
        let (mut list, mut seen) = (Elements::of_sequence(bytes, "an extension")?, Vec::new());
        while !list.is_finished() {
            let whole = list.whole()?;
            let mut extension = Elements::of_sequence(whole, "an extension")?;
            let oid = extension.oid()?;
            let critical = extension.optional_true()?;
            let value = extension.value(Tag::OctetString)?;
            extension.finish()?;
            if seen.contains(&oid) {
                return Err(Malformed("an extension that is there twice"));
            }
            seen.push(oid);
            if oid == SCT_LIST {
                let mut outer = Elements::of(value, "the list of SCTs")?;
                self.scts = Some(outer.value(Tag::OctetString)?.to_vec());
                outer.finish()?;
                continue;
            }
            kept.extend_from_slice(whole);
            self.read_extension(oid, critical, value)?;
        }
        Ok(kept)
    }

    fn read_extension(&mut self, oid: ObjectIdentifier, critical: bool, value: &[u8]) -> Result<(), Malformed> {
        match oid {
            SUBJECT_ALT_NAME => self.identity = identity(value)?,
            BASIC_CONSTRAINTS => {
                let mut constraints = Elements::of_sequence(value, "the basic constraints")?;
                self.is_ca = constraints.optional_true()?;
                self.path_length = constraints.optional(Tag::Integer)?.map(path_length).transpose()?;
            }
            KEY_USAGE => {
                let bits = Elements::of(value, "the key usage")?.value(Tag::BitString)?;
                self.may_issue = bits.get(1).is_some_and(|byte| byte & CERT_SIGN != 0);
            }
            EXTENDED_KEY_USAGE => {
                let mut list = Elements::of_sequence(value, "the extended key usage")?;
                let mut oids = Vec::new();
                while !list.is_finished() {
                    oids.push(list.oid()?);
                }
                self.usages = Some(Usages { critical, oids });
            }
            _ => {
                let number = oid.to_string().strip_prefix(FULCIO).and_then(|number| number.parse::<u8>().ok());
                if let Some(number) = number.filter(|number| KNOWN.contains(number)) {
                    self.extensions.insert(number, fulcio_text(number, value)?);
                } else if critical && !PASSED_OVER.contains(&oid) {
                    self.has_unknown_critical = true;
                }
            }
        }
        Ok(())
    }

    /// Returns who vouched for the identity: Fulcio's extension 8, else the old 1.
    pub(super) fn oidc_issuer(&self) -> Option<&str> {
        self.extensions.get(&8).or_else(|| self.extensions.get(&1)).map(String::as_str)
    }

    /// Says whether it is for `usage` where it says what it is for.
    pub(super) fn allows(&self, usage: ObjectIdentifier) -> bool {
        const ANY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
        self.usages.as_ref().is_none_or(|usages| usages.oids.iter().any(|oid| *oid == usage || *oid == ANY))
    }
}

/// Returns how many bytes of `whole` are yet to be read.
fn remaining(read: &Elements<'_>, whole: &[u8]) -> usize {
    let mut rest = read.clone();
    let mut length = 0;
    while let Ok(element) = rest.whole() {
        length += element.len();
    }
    length.min(whole.len())
}

/// Reads a path length; one that is beyond all chains is as good as none.
fn path_length(value: &[u8]) -> Result<usize, Malformed> {
    match value {
        [] => Err(Malformed("the path length")),
        [first, ..] if *first >= 0x80 => Err(Malformed("the path length")),
        [length] => Ok(usize::from(*length)),
        _ => Ok(usize::MAX),
    }
}

/// Finds out who a certificate is for, in sigstore-go's order (facts/sigstore.md 6.3, 5).
fn identity(value: &[u8]) -> Result<Option<String>, Malformed> {
    const WHAT: &str = "the subject alternative name";
    let mut names = Elements::of_sequence(value, WHAT)?;
    let (mut uri, mut email, mut other) = (None, None, None);
    while !names.is_finished() {
        let name = names.any()?;
        let text = || str::from_utf8(name.value()).map(str::to_owned).map_err(|_| Malformed(WHAT));
        let tag = p256::pkcs8::der::Tagged::tag(&name);
        if tag == context(6, false) {
            uri.get_or_insert(text()?);
        } else if tag == context(1, false) {
            email.get_or_insert(text()?);
        } else if tag == context(0, true) {
            let mut inner = Elements::of(name.value(), WHAT)?;
            if inner.oid()? == OTHER_NAME {
                let mut wrapped = Elements::of(inner.value(context(0, true))?, WHAT)?;
                let bytes = wrapped.value(Tag::Utf8String)?;
                other.get_or_insert(str::from_utf8(bytes).map_err(|_| Malformed(WHAT))?.to_owned());
            }
        }
    }
    Ok(uri.or(email).or(other).filter(|identity| !identity.is_empty()))
}

fn fulcio_text(number: u8, value: &[u8]) -> Result<String, Malformed> {
    const WHAT: &str = "one of Fulcio's extensions";
    let bytes = if BARE.contains(&number) {
        value
    } else {
        let mut outer = Elements::of(value, WHAT)?;
        let bytes = if number == 7 { outer.any()?.value() } else { outer.value(Tag::Utf8String)? };
        outer.finish()?;
        bytes
    };
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| Malformed(WHAT))
}
