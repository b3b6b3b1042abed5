//! DER, taken apart element by element; lengths and tags are the `der` crate's to check.

use jiff::Timestamp;
use p256::pkcs8::ObjectIdentifier;
use p256::pkcs8::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use p256::pkcs8::der::{Decode as _, Reader as _, SliceReader, Tag, TagNumber, Tagged as _};

/// Bytes that are no DER of the shape that they must have; names the element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not as it must be")]
pub struct Malformed(pub &'static str);

/// The elements of one constructed value, read from the front.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a> {
    what: &'static str,
    reader: SliceReader<'a>,
}

impl<'a> Elements<'a> {
    /// Begins to read `bytes`, which are called `what` where they are malformed.
    pub(super) fn of(bytes: &'a [u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(Self { what, reader: SliceReader::new(bytes).map_err(|_| Malformed(what))? })
    }

    /// Reads `bytes` that are one SEQUENCE and nothing else.
    pub(super) fn of_sequence(bytes: &'a [u8], what: &'static str) -> Result<Self, Malformed> {
        let mut outer = Self::of(bytes, what)?;
        let inner = outer.sequence()?;
        outer.finish()?;
        Ok(inner)
    }

    pub(super) fn any(&mut self) -> Result<AnyRef<'a>, Malformed> {
        AnyRef::decode(&mut self.reader).map_err(|_| Malformed(self.what))
    }

    /// Takes the next element whole, tag and length included.
    pub(super) fn whole(&mut self) -> Result<&'a [u8], Malformed> {
        self.reader.tlv_bytes().map_err(|_| Malformed(self.what))
    }

    /// Takes the value of the next element, which must have this tag.
    pub(super) fn value(&mut self, tag: Tag) -> Result<&'a [u8], Malformed> {
        let element = self.any()?;
        if element.tag() == tag { Ok(element.value()) } else { Err(Malformed(self.what)) }
    }

    /// Takes the value of the next element where it has this tag.
    pub(super) fn optional(&mut self, tag: Tag) -> Result<Option<&'a [u8]>, Malformed> {
        let is_next = !self.is_finished() && Tag::peek(&self.reader).is_ok_and(|next| next == tag);
        if is_next { self.value(tag).map(Some) } else { Ok(None) }
    }

    pub(super) fn sequence(&mut self) -> Result<Self, Malformed> {
        let what = self.what;
        Self::of(self.value(Tag::Sequence)?, what)
    }

    pub(super) fn oid(&mut self) -> Result<ObjectIdentifier, Malformed> {
        let value = self.value(Tag::ObjectIdentifier)?;
        ObjectIdentifier::from_bytes(value).map_err(|_| Malformed(self.what))
    }

    /// Takes a BOOLEAN that is left out where it is FALSE.
    pub(super) fn optional_true(&mut self) -> Result<bool, Malformed> {
        match self.optional(Tag::Boolean)? {
            None => Ok(false),
            Some([0xff]) => Ok(true),
            Some([0]) => Ok(false),
            Some(_) => Err(Malformed(self.what)),
        }
    }

    /// Takes a time as certificates have it.
    pub(super) fn time(&mut self) -> Result<Timestamp, Malformed> {
        let element = self.any()?;
        let since_epoch = match element.tag() {
            Tag::UtcTime => element.decode_as::<UtcTime>().map(|time| time.to_unix_duration()),
            _ => element.decode_as::<GeneralizedTime>().map(|time| time.to_unix_duration()),
        };
        let seconds = since_epoch.ok().and_then(|since| i64::try_from(since.as_secs()).ok());
        seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).ok_or(Malformed(self.what))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.is_finished() { Ok(()) } else { Err(Malformed(self.what)) }
    }
}

/// Returns the context-specific tag `[number]`.
pub(super) fn context(number: u32, constructed: bool) -> Tag {
    Tag::ContextSpecific { constructed, number: TagNumber(number) }
}

/// Writes a value behind a tag's byte and its length.
pub(super) fn wrap(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let significant = length.iter().position(|byte| *byte != 0).map_or(&length[..0], |start| &length[start..]);
    let mut bytes = Vec::with_capacity(value.len() + 10);
    bytes.push(tag);
    if value.len() < 0x80 {
        bytes.extend(significant.last().or(Some(&0)));
    } else {
        bytes.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
        bytes.extend_from_slice(significant);
    }
    bytes.extend_from_slice(value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_der_has_them() {
        assert_eq!(wrap(0x30, b""), [0x30, 0]);
        assert_eq!(wrap(0x30, b"ab"), [0x30, 2, b'a', b'b']);
        assert_eq!(&wrap(0x30, &[0; 0x7f])[..2], [0x30, 0x7f]);
        assert_eq!(&wrap(0x30, &[0; 0x80])[..3], [0x30, 0x81, 0x80]);
        assert_eq!(&wrap(0x30, &[0; 0x1234])[..4], [0x30, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        for bytes in [&[][..], &[0x30], &[0x30, 2, 5], &[0x30, 0x80, 0, 0], &[0x30, 0, 0]] {
            assert!(Elements::of_sequence(bytes, "test").is_err(), "{bytes:?}");
        }
        let mut read = Elements::of_sequence(&[0x30, 3, 1, 1, 0xff], "test").expect("a sequence");
        assert_eq!(read.optional_true(), Ok(true));
        assert_eq!(read.optional_true(), Ok(false));
        assert!(read.finish().is_ok());
    }
}
