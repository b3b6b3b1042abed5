//! DER, written element by element.

use jiff::Timestamp;

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const BOOLEAN: u8 = 0x01;

/// Writes a value of some parts behind its tag and its length.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut bytes = vec![tag];
    match value.len() {
        short @ 0..0x80 => bytes.push(u8::try_from(short).expect("short")),
        long => {
            let length = long.to_be_bytes();
            let significant = &length[length.iter().position(|byte| *byte != 0).expect("long")..];
            bytes.push(0x80 | u8::try_from(significant.len()).expect("short"));
            bytes.extend(significant);
        }
    }
    bytes.extend(value);
    bytes
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(SEQUENCE, parts)
}

/// Writes a small number.
pub(crate) fn integer(number: u8) -> Vec<u8> {
    der(INTEGER, &[&[number]])
}

/// Writes a value behind the context-specific, constructed tag `[number]`.
pub(crate) fn context(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    der(0xa0 | number, parts)
}

/// Writes an object identifier, as `2.5.29.19`.
pub(crate) fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u32> = text.split('.').map(|arc| arc.parse().expect("an arc")).collect();
    let mut bytes = Vec::new();
    for arc in [arcs[0] * 40 + arcs[1]].into_iter().chain(arcs[2..].iter().copied()) {
        let groups = (0..5).rev().map(|place| u8::try_from(arc >> (7 * place) & 0x7f).expect("seven bits"));
        let mut groups: Vec<u8> = groups.skip_while(|group| *group == 0).collect();
        let last = groups.pop().unwrap_or(0);
        bytes.extend(groups.into_iter().map(|group| group | 0x80).chain([last]));
    }
    der(0x06, &[&bytes])
}

/// Writes an AlgorithmIdentifier without parameters.
pub(crate) fn algorithm(text: &str) -> Vec<u8> {
    sequence(&[&oid(text)])
}

/// Writes a time of before 2050, as certificates have it.
pub(crate) fn utc_time(time: Timestamp) -> Vec<u8> {
    der(0x17, &[time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()])
}

/// Writes a time as timestamps have it.
pub(crate) fn generalized_time(time: Timestamp) -> Vec<u8> {
    der(0x18, &[time.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()])
}

/// Writes PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}
