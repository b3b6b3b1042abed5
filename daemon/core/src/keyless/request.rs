//! What a signer asks for: a certificate (PKCS#10, RFC 2986) and a timestamp (RFC 3161, 2.4.1). DER.

use p256::pkcs8::ObjectIdentifier;
use sha2::{Digest as _, Sha256};

use super::asn1::wrap;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const ATTRIBUTES: u8 = 0xa0;
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Writes a request for a certificate over an ECDSA key, which the key signs: proof that whoever asks has it. It names nobody:
/// Fulcio takes the name from the identity token.
///
/// # Errors
/// Fails where `sign` does; it signs by SHA-256, in DER.
pub fn certificate_request<E>(spki: &[u8], sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
    let nobody = wrap(SEQUENCE, &[]);
    let info = sequence(&[&wrap(INTEGER, &[0]), &nobody, spki, &wrap(ATTRIBUTES, &[])]);
    let signature = sign(&info)?;
    let algorithm = sequence(&[&wrap(OBJECT_IDENTIFIER, ECDSA_WITH_SHA256.as_bytes())]);
    Ok(sequence(&[&info, &algorithm, &wrap(BIT_STRING, &[&[0], signature.as_slice()].concat())]))
}

/// Writes a request for a timestamp over `message`, with the authority's certificate in it. It has no nonce: a signature that was
/// just made has no older timestamp that could be sent in its place.
pub fn timestamp_request(message: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[&wrap(OBJECT_IDENTIFIER, SHA256.as_bytes()), &wrap(NULL, &[])]);
    let imprint = sequence(&[&algorithm, &wrap(OCTET_STRING, &Sha256::digest(message))]);
    sequence(&[&wrap(INTEGER, &[1]), &imprint, &[0x01, 0x01, 0xff]])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    wrap(SEQUENCE, &parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::hex;

    #[test]
    fn a_timestamp_request_to_the_byte() {
        let hash = hex(&Sha256::digest(b"signature"));
        let expected = format!("3039020101303 1300d060960864801650304020105000420{hash}0101ff").replace(' ', "");
        assert_eq!(hex(&timestamp_request(b"signature")), expected);
    }

    #[test]
    fn a_certificate_request_to_the_byte() {
        let request = certificate_request(&[0x30, 0x00], |info| {
            assert_eq!(hex(info), "300902010030003000a000");
            Ok::<_, ()>(vec![0xaa])
        });
        assert_eq!(hex(&request.expect("a request")), "301b300902010030003000a000300a06082a8648ce3d040302030200aa");
    }

    #[test]
    fn a_signer_that_fails_asks_for_nothing() {
        assert_eq!(certificate_request(&[0x30, 0x00], |_| Err("no")), Err("no"));
    }
}
