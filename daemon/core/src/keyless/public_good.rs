//! The public-good root: whom Sigstore's own instance at sigstore.dev trusts, as it was published once.
//!
//! It is shipped so that a site without network can begin; it counts nowhere before somebody puts it in force. Source:
//! `trusted_root.json` of <https://tuf-repo-cdn.sigstore.dev>, byte for byte as the seed of npm's `@sigstore/tuf` 5.0.1 has
//! it (PyPI's `sigstore` 4.5.1 and crates.io's `sigstore-trust-root` 0.15.1 have the same bytes); all three are Apache-2.0.

use jiff::civil::{Date, date};

use super::root::{RootError, TrustedRoot};

/// The shipped copy's bytes.
const JSON: &[u8] = include_bytes!("public_good.json");
/// The day on which the newest of its sources was published, and the copy so was the current one.
const AS_OF: Date = date(2026, 11, 5);

/// The shipped copy of the public-good root.
#[derive(Clone, Debug)]
pub struct PublicGood {
    /// Whom it names.
    pub root: TrustedRoot,
    /// The file, byte for byte.
    pub json: &'static [u8],
    /// The day on which it was the current one.
    pub as_of: Date,
}

/// Returns the shipped copy of the public-good root. Whoever uses it says its date.
///
/// # Errors
/// None that can happen: a test reads the copy.
pub fn public_good() -> Result<PublicGood, RootError> {
    Ok(PublicGood { root: TrustedRoot::parse(JSON)?, json: JSON, as_of: AS_OF })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_copy_is_a_root_with_all_that_todays_bundles_need() {
        let shipped = public_good().expect("a root");
        let logs: Vec<&str> = shipped.root.logs.iter().map(|log| log.base_url.as_str()).collect();
        assert_eq!(logs, ["https://rekor.sigstore.dev", "https://log2025-1.rekor.sigstore.dev"]);
        assert_eq!((shipped.root.authorities.len(), shipped.root.ct_logs.len()), (2, 2));
        assert_eq!(shipped.root.timestamp_authorities[0].uri, "https://timestamp.sigstore.dev/api/v1/timestamp");
        assert_eq!(shipped.root.newest().map(|time| time.to_string()).as_deref(), Some("2025-09-23T00:00:00Z"));
        let shown = shipped.as_of.to_string();
        assert!(shown.as_str() > "2025-09-23", "it was published after the newest thing that it names");
    }
}
