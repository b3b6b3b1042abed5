//! Content digests, and hashing bytes into them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// The digest of some content: an algorithm and a hash value.
///
/// The text form is `sha256:<64 hex>` or `sha512:<128 hex>`, lower case only
/// (OCI image-spec, descriptor.md, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256.
    Sha256([u8; 32]),
    /// SHA-512.
    Sha512([u8; 64]),
}

/// A hash algorithm that content may be addressed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`.
    Sha256,
    /// `sha512`.
    Sha512,
}

impl Algorithm {
    /// Both algorithms.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Returns the algorithm's registered name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

impl Digest {
    /// Hashes `bytes` with SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        Self::Sha256(Sha256::digest(bytes).into())
    }

    /// Hashes `bytes` with `algorithm`.
    pub fn with(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Returns the hash value: 32 or 64 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }

    /// Returns the hash value in lower-case hex.
    pub fn hex(&self) -> String {
        hex(self.as_bytes())
    }

    /// Returns the first twelve hex digits, as shown to people.
    pub fn short(&self) -> String {
        hex(&self.as_bytes()[..6])
    }
}

/// Writes `bytes` in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads lower-case hex; `None` for anything else, odd lengths included.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says why a text is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon, or nothing before it.
    #[error("{0:?} is not a digest: it has no algorithm, as in sha256:<64 hex digits>")]
    NoAlgorithm(String),
    /// The algorithm is neither sha256 nor sha512.
    #[error("{0:?} is not a digest that Larder knows: only sha256 and sha512 are")]
    UnknownAlgorithm(String),
    /// The hash value has the wrong length, or a character that is not lower-case hex.
    #[error("{text:?} is not a digest: {algorithm} takes {length} lower-case hex digits")]
    Malformed {
        /// The text as given.
        text: String,
        /// The algorithm's name.
        algorithm: &'static str,
        /// How many digits it takes.
        length: usize,
    },
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let shown = || text.chars().take(160).collect::<String>();
        let Some((algorithm, value)) = text.split_once(':').filter(|(name, _)| !name.is_empty()) else {
            return Err(DigestError::NoAlgorithm(shown()));
        };
        let malformed = |algorithm: Algorithm, length| DigestError::Malformed {
            text: shown(),
            algorithm: algorithm.name(),
            length,
        };
        match algorithm {
            "sha256" => unhex(value)
                .and_then(|bytes| bytes.try_into().ok())
                .map(Self::Sha256)
                .ok_or_else(|| malformed(Algorithm::Sha256, 64)),
            "sha512" => unhex(value)
                .and_then(|bytes| bytes.try_into().ok())
                .map(Self::Sha512)
                .ok_or_else(|| malformed(Algorithm::Sha512, 128)),
            _ => Err(DigestError::UnknownAlgorithm(shown())),
        }
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes content as it passes.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with nothing hashed.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest of all that was added.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_back() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(Digest::of(b"")));
        let long = Digest::with(Algorithm::Sha512, b"x");
        assert_eq!(long.to_string().parse(), Ok(long));
        assert_eq!(long.hex().len(), 128);
    }

    #[test]
    fn refuses_what_is_no_digest() {
        for text in [
            "",
            "sha256",
            ":",
            "sha256:",
            "sha256:abc",
            &EMPTY.to_uppercase(),
            "md5:00",
            &format!("{EMPTY}0"),
            "sha256:zz",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(EMPTY.to_uppercase().parse::<Digest>().is_err());
    }
}
