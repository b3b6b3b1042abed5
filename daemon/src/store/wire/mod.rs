//! Records and rows as bytes (protocol buffers, written down here as Rust types).
//!
//! Numbers of fields are for ever: a field may be added, none may change its meaning. What is read may come from a
//! damaged disk, so every value is parsed again into the type that cannot be wrong.

mod operation;
mod told;

use jiff::Timestamp;
use larder_core::{Digest, Repository, Tag};
use prost::Message;

use super::record;

/// Says what in some bytes is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::store) struct Malformed(pub(in crate::store) String);

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

fn malformed(what: &str) -> Malformed {
    Malformed(format!("{what} cannot be read"))
}

/// A type with a written form.
pub(in crate::store) trait Wire: Sized {
    /// The written form.
    type Form: Message + Default;

    /// Returns the written form.
    fn form(&self) -> Self::Form;

    /// Reads the written form.
    fn read(form: Self::Form) -> Result<Self, Malformed>;

    /// Writes.
    fn to_bytes(&self) -> Vec<u8> {
        self.form().encode_to_vec()
    }

    /// Reads.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(Self::Form::decode(bytes)?)
    }
}

fn forms<T: Wire>(values: &[T]) -> Vec<T::Form> {
    values.iter().map(Wire::form).collect()
}

fn read_all<T: Wire>(forms: Vec<T::Form>) -> Result<Vec<T>, Malformed> {
    forms.into_iter().map(T::read).collect()
}

/// Writes a digest: its algorithm is told by its length.
pub(in crate::store) fn digest_bytes(digest: &Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

/// Reads a digest.
pub(in crate::store) fn digest(bytes: &[u8]) -> Result<Digest, Malformed> {
    match bytes.len() {
        32 => bytes.try_into().map(Digest::Sha256).map_err(|_| malformed("a digest")),
        64 => bytes.try_into().map(Digest::Sha512).map_err(|_| malformed("a digest")),
        _ => Err(malformed("a digest")),
    }
}

fn digest_or_none(bytes: &[u8]) -> Result<Option<Digest>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { digest(bytes).map(Some) }
}

fn bytes_or_empty(digest: Option<&Digest>) -> Vec<u8> {
    digest.map(digest_bytes).unwrap_or_default()
}

fn repository(text: &str) -> Result<Repository, Malformed> {
    text.parse().map_err(|_| malformed("a repository"))
}

fn tag(text: &str) -> Result<Tag, Malformed> {
    text.parse().map_err(|_| malformed("a tag"))
}

pub(in crate::store) fn time(milliseconds: i64) -> Result<Timestamp, Malformed> {
    Timestamp::from_millisecond(milliseconds).map_err(|_| malformed("a time"))
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], Malformed> {
    bytes.try_into().map_err(|_| malformed("a hash"))
}

/// What an event is, in a record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::store) enum Kind {
    Operation = 1,
    TrustChanged = 2,
    VerdictsTold = 3,
    Corruption = 4,
    Pruned = 5,
}

impl Kind {
    pub(in crate::store) fn of(event: &record::Event) -> Self {
        match event {
            record::Event::Operation(_) => Self::Operation,
            record::Event::TrustChanged(_) => Self::TrustChanged,
            record::Event::VerdictsTold(_) => Self::VerdictsTold,
            record::Event::Corruption(_) => Self::Corruption,
            record::Event::Pruned(_) => Self::Pruned,
        }
    }

    fn from_number(number: u32) -> Result<Self, Malformed> {
        [Self::Operation, Self::TrustChanged, Self::VerdictsTold, Self::Corruption, Self::Pruned]
            .into_iter()
            .find(|kind| *kind as u32 == number)
            .ok_or_else(|| Malformed(format!("kind {number} of records is not known to this version")))
    }
}

/// A record's header; the chain runs over its bytes.
#[derive(Clone, PartialEq, Message)]
pub(in crate::store) struct Header {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) seq: u64,
    /// How many seqs it takes.
    #[prost(uint64, tag = "2")]
    pub(in crate::store) seqs: u64,
    /// In milliseconds since 1970.
    #[prost(int64, tag = "3")]
    pub(in crate::store) time: i64,
    #[prost(uint32, tag = "4")]
    pub(in crate::store) kind: u32,
    #[prost(uint32, optional, tag = "5")]
    pub(in crate::store) uid: Option<u32>,
    #[prost(string, tag = "6")]
    pub(in crate::store) via: String,
    /// SHA-256 of the header before.
    #[prost(bytes = "vec", tag = "7")]
    pub(in crate::store) previous: Vec<u8>,
    /// SHA-256 of the body.
    #[prost(bytes = "vec", tag = "8")]
    pub(in crate::store) body: Vec<u8>,
}

/// Writes an event's body.
pub(in crate::store) fn body(event: &record::Event) -> Vec<u8> {
    match event {
        record::Event::Operation(operation) => operation.to_bytes(),
        record::Event::TrustChanged(changed) => changed.to_bytes(),
        record::Event::VerdictsTold(told) => told.to_bytes(),
        record::Event::Corruption(corruption) => corruption.to_bytes(),
        record::Event::Pruned(pruned) => pruned.to_bytes(),
    }
}

/// Reads a record from its header and body, whose hash the caller has verified.
pub(in crate::store) fn read_record(header: Header, body: &[u8]) -> Result<record::Record, Malformed> {
    let event = match Kind::from_number(header.kind)? {
        Kind::Operation => record::Event::Operation(Wire::from_bytes(body)?),
        Kind::TrustChanged => record::Event::TrustChanged(Wire::from_bytes(body)?),
        Kind::VerdictsTold => record::Event::VerdictsTold(Wire::from_bytes(body)?),
        Kind::Corruption => record::Event::Corruption(Wire::from_bytes(body)?),
        Kind::Pruned => record::Event::Pruned(Wire::from_bytes(body)?),
    };
    let record = record::Record {
        seq: header.seq,
        time: time(header.time)?,
        actor: record::Actor { uid: header.uid, via: header.via },
        event,
    };
    if record.seqs() == header.seqs { Ok(record) } else { Err(malformed("a record's number of seqs")) }
}

/// Returns the number that stands for a value.
fn number<T: PartialEq + Copy>(table: &[(T, u32)], value: T) -> u32 {
    table.iter().find(|(of, _)| *of == value).map_or(0, |(_, number)| *number)
}

fn value<T: Copy>(table: &[(T, u32)], number: u32, what: &str) -> Result<T, Malformed> {
    table.iter().find(|(_, of)| *of == number).map(|(value, _)| *value).ok_or_else(|| malformed(what))
}
