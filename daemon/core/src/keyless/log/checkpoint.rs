//! Checkpoints: a log's signed note about its tree (C2SP tlog-checkpoint and signed-note; facts/sigstore.md 6.2).

use sha2::{Digest as _, Sha256};

use crate::check::Checker;
use crate::key::{KeyAlgorithm, PublicKey};
use crate::protojson;

/// The most signature lines that are read: the log's own and its witnesses'.
const MAX_SIGNATURES: usize = 64;
/// The number of Ed25519 among a note's kinds of signature.
const ED25519: u8 = 1;

/// A checkpoint, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, and Rekor v1's tree.
    pub origin: String,
    /// How many leaves the tree has.
    pub size: u64,
    /// The tree's root.
    pub root: [u8; 32],
    /// The signed text.
    text: String,
    signatures: Vec<Line>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: String,
    hint: [u8; 4],
    signature: Vec<u8>,
}

/// Says why text is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its checkpoint has {0}")]
pub struct CheckpointError(&'static str);

impl Checkpoint {
    /// Parses a checkpoint.
    ///
    /// # Errors
    /// Fails where a line is missing or is not as it must be.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let (text, lines) = note.rsplit_once("\n\n").ok_or(CheckpointError("no signatures"))?;
        let text = format!("{text}\n");
        let mut head = text.lines();
        let origin = head.next().filter(|origin| !origin.is_empty()).ok_or(CheckpointError("no origin"))?;
        let is_number = |size: &&str| {
            !size.is_empty()
                && size.bytes().all(|byte| byte.is_ascii_digit())
                && (*size == "0" || !size.starts_with('0'))
        };
        let size = head.next().filter(is_number).and_then(|size| size.parse().ok());
        let size = size.ok_or(CheckpointError("no size"))?;
        let root = head.next().and_then(protojson::base64).and_then(|root| <[u8; 32]>::try_from(&root[..]).ok());
        let root = root.ok_or(CheckpointError("no root hash"))?;
        let body = lines.strip_suffix('\n').ok_or(CheckpointError("no end"))?;
        let signatures = body.split('\n').take(MAX_SIGNATURES + 1).map(Line::parse).collect::<Option<Vec<_>>>();
        let signatures = signatures.ok_or(CheckpointError("a malformed signature line"))?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(CheckpointError("too many signatures"));
        }
        Ok(Self { origin: origin.to_owned(), size, root, text: text.clone(), signatures })
    }

    /// Checks it as Rekor v1's: every signature is the log's own.
    pub(super) fn verify_v1(&self, key: &PublicKey) -> Result<(), String> {
        let hint = first_four(&Sha256::digest(key.to_der()));
        let is_good = |line: &Line| line.hint == hint && self.is_signed(line, key);
        if !self.signatures.is_empty() && self.signatures.iter().all(is_good) {
            Ok(())
        } else {
            Err("its checkpoint is not signed by its log".to_owned())
        }
    }

    /// Checks it as Rekor v2's: `name` is its origin, and the first line by that name and this key is good; other lines are
    /// witnesses' and prove nothing here.
    pub(super) fn verify_v2(&self, key: &PublicKey, name: &str) -> Result<(), String> {
        if self.origin != name {
            return Err("its checkpoint is of another log".to_owned());
        }
        let hint = note_hint(key, name);
        let own = self.signatures.iter().find(|line| line.name == name && line.hint == hint);
        match own {
            Some(line) if self.is_signed(line, key) => Ok(()),
            Some(_) => Err("its checkpoint's signature does not verify".to_owned()),
            None => Err("its checkpoint is not signed by its log".to_owned()),
        }
    }

    fn is_signed(&self, line: &Line, key: &PublicKey) -> bool {
        Checker::new(self.text.as_bytes(), &line.signature).check(key).is_some()
    }
}

impl Line {
    /// Parses `— NAME BASE64`, where the bytes are four of the key's hash and the signature.
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = protojson::base64(encoded)?;
        let (hint, signature) = bytes.split_first_chunk::<4>()?;
        let is_whole = !name.is_empty() && !signature.is_empty();
        is_whole.then(|| Self { name: name.to_owned(), hint: *hint, signature: signature.to_vec() })
    }
}

/// Returns the start of a key's hash as signed notes have it; ECDSA's has no name in it.
fn note_hint(key: &PublicKey, name: &str) -> [u8; 4] {
    let named = |kind: &[u8], bytes: &[u8]| {
        let hasher = Sha256::new().chain_update(name).chain_update(b"\n").chain_update(kind).chain_update(bytes);
        first_four(&hasher.finalize())
    };
    let spki = key.to_der();
    match key.algorithm() {
        KeyAlgorithm::Ed25519 => named(&[ED25519], spki.last_chunk::<32>().map_or(&[], |bytes| &bytes[..])),
        KeyAlgorithm::Rsa => named(b"\xffPKIX-RSA-PKCS#1v1.5", spki),
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521 => {
            first_four(&Sha256::digest(spki))
        }
    }
}

fn first_four(hash: &[u8]) -> [u8; 4] {
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    const ROOT: &str = "U7HM7nIkCc+UKX9N1tNsApkMC+GOICJR0AOlNv40gfo=";

    fn key(seed: u8) -> (SigningKey, PublicKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let spki = [&prefix[..], signing.verifying_key().as_bytes()].concat();
        (signing, PublicKey::from_der(&spki).expect("a key"))
    }

    fn line(text: &str, name: &str, key: &(SigningKey, PublicKey)) -> String {
        use base64::Engine as _;
        let bytes = [&note_hint(&key.1, name)[..], &key.0.sign(text.as_bytes()).to_bytes()].concat();
        format!("\u{2014} {name} {}\n", base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    #[test]
    fn the_log_signs_and_witnesses_may() {
        let (log, witness) = (key(1), key(2));
        let text = format!("log.test\n7\n{ROOT}\n");
        let (own, other) = (line(&text, "log.test", &log), line(&text, "witness.test", &witness));
        let check =
            |lines: &str| Checkpoint::parse(&format!("{text}\n{lines}")).expect("a note").verify_v2(&log.1, "log.test");
        assert_eq!(check(&own), Ok(()));
        assert_eq!(check(&format!("{own}{other}")), Ok(()));
        assert_eq!(check(&format!("{other}{own}")), Ok(()), "its own need not be first");
        assert!(check(&other).is_err(), "a witness is not the log");
        assert!(check(&line(&text, "log.test", &witness)).is_err(), "the log's name, another key");
        assert!(check(&line("other", "log.test", &log)).is_err(), "a signature over other text");
        let elsewhere = Checkpoint::parse(&format!("{text}\n{own}")).expect("a note").verify_v2(&log.1, "other.test");
        assert_eq!(elsewhere, Err("its checkpoint is of another log".to_owned()));
    }

    #[test]
    fn notes_with_a_line_missing_are_refused() {
        let good = format!("log.test\n7\n{ROOT}\nextension\n\n\u{2014} log.test AAAAAAA=\n");
        assert_eq!(Checkpoint::parse(&good).map(|note| note.size), Ok(7));
        for (from, to) in [
            ("log.test\n7", "\n7"),
            ("\n7\n", "\n"),
            ("\n7\n", "\n07\n"),
            ("\n7\n", "\n-7\n"),
            ("\n7\n", "\n18446744073709551616\n"),
            (ROOT, "AAAA"),
            ("extension\n\n", "extension\n"),
            ("\u{2014} ", "- "),
            (" AAAAAAA=", ""),
            ("AAAAAAA=", "AAAA"),
            ("AAAAAAA=\n", "AAAAAAA="),
        ] {
            assert!(Checkpoint::parse(&good.replacen(from, to, 1)).is_err(), "{from:?} to {to:?}");
        }
    }
}
