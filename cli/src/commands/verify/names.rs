//! References as cosign names them: whole, and Docker Hub by the name of its index (facts/sigstore.md 3.4).

use larder_core::{Digest, Reference};

use crate::commands::sign::inspect::cosign_name;

/// Returns what cosign calls a reference: the registry is there, the tag `latest` where none is said, and of a tag and a
/// digest the digest. What is no reference stays as it is: a bare digest, or a layout's folder.
pub(crate) fn full(reference: &str) -> String {
    // A bare digest could be read as an image of Docker Hub's that is called sha256.
    if reference.parse::<Digest>().is_ok() {
        return reference.to_owned();
    }
    let Ok(parsed) = reference.parse::<Reference>() else { return reference.to_owned() };
    let repository = parsed.repository.cosign_name();
    match (parsed.digest, parsed.tag_or_latest()) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => repository,
    }
}

/// Returns what cosign calls a tag of a repository.
pub(crate) fn tagged(repository: &str, tag: &str) -> String {
    format!("{}:{tag}", cosign_name(repository))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_named_as_cosign_names_them() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (given, expected) in [
            ("alpine", "index.docker.io/library/alpine:latest".to_owned()),
            ("docker.io/library/alpine:3.22", "index.docker.io/library/alpine:3.22".to_owned()),
            ("team/app", "index.docker.io/team/app:latest".to_owned()),
            ("quay.io/a/b", "quay.io/a/b:latest".to_owned()),
            ("127.0.0.1:5001/a/b:1", "127.0.0.1:5001/a/b:1".to_owned()),
            (&format!("quay.io/a/b:1@{digest}"), format!("quay.io/a/b@{digest}")),
            ("localhost/team/app:dev", "localhost/team/app:dev".to_owned()),
            (&digest, digest.clone()),
        ] {
            assert_eq!(full(given), expected, "{given}");
        }
    }
}
