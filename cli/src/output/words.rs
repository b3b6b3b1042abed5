//! Reasons, in words.

use larder_proto::v1::{Reason, State, Verdict};

use super::text::{quoted, short};

/// Says why a state is what it is: the most telling reasons in words.
pub(crate) fn because(reasons: &[Reason]) -> String {
    /// More than these make a line too long; `explain` has all.
    const TOLD: usize = 3;
    let told: Vec<String> = reasons.iter().take(TOLD).map(reason).collect();
    told.join("; ")
}

/// Says a reason in words; one that this client does not know, as its code.
pub(crate) fn reason(reason: &Reason) -> String {
    let detail = reason.detail.as_str();
    match reason.code.as_str() {
        "signed-by" => format!("by {detail}"),
        "static-pass" => format!("accepted unsigned by policy {detail}"),
        "via-index" => format!("through the index {}", short(detail)),
        "first-seen" => format!("signed by {detail} before it was retired, as first seen here"),
        "corrupt" => "its bytes failed their digest".to_owned(),
        "denied-digest" => format!("denied: {detail}"),
        "static-fail" => format!("denied by policy {detail}"),
        "check-missing" => format!("the check by key {detail} is still being computed"),
        "starting" => "larderd has not read its trust folder yet".to_owned(),
        "trust-missing" => "the trust folder cannot be read".to_owned(),
        "rebuilding" => "the look-up index is being rebuilt".to_owned(),
        "key-revoked" | "key-expired" | "key-not-yet-valid" => format!("key {detail}"),
        "no-policy" => "neither a key nor a policy is for this repository".to_owned(),
        "policy-failed" => format!("policy {detail} does not hold"),
        "key-missing" => format!("a policy asks for key {detail}, which is not there"),
        "unsupported" => format!("this version does not evaluate {detail}"),
        "key-not-for-repository" => format!("key {detail} is not for this repository"),
        "other-key" => format!("signed by {detail}, which does not count here"),
        "unknown-key" => "signed by a key that nothing trusts".to_owned(),
        "wrong-hash" => format!("signed over another hash than the policy asks for: {detail}"),
        "not-as-asked" => format!("signed by {detail}, in another format or found elsewhere than the policy asks for"),
        "attestation-missing" => format!("a policy asks for an attestation that is not there: {detail}"),
        "only-attested" => format!("attested by {detail}, which is not a signature"),
        "root-missing" if detail.is_empty() => "a policy asks for identities, and there is no trusted root".to_owned(),
        "root-missing" => format!("a policy asks for the trusted root {detail}, which is not there"),
        "proof-missing" => format!("signed, and not proven by a log or a timestamp as the policy asks: {detail}"),
        "condition-failed" => format!("what is attested does not meet the policy's condition {detail}"),
        "root-too-old" => format!("the trusted root is older than is allowed here: {detail}"),
        "identity-refused" => format!("not signed by whom the policy asks for: {detail}"),
        "names-another-digest" => format!("a signature here is for another image: {}", short(detail)),
        "unreadable-payload" => "a signature's payload cannot be read".to_owned(),
        "too-many-signatures" => "more signatures than are counted".to_owned(),
        "no-signature" => "nobody signed it that we could find".to_owned(),
        code if detail.is_empty() => code.to_owned(),
        code => format!("{code}: {detail}"),
    }
}

/// Says what would make it accepted; nothing for what is, or what only waiting mends.
pub(crate) fn remedy(verdict: &Verdict) -> Option<String> {
    let glob = glob_around(&verdict.repository);
    match verdict.state() {
        State::Unsigned => Some(format!(
            "`larder trust allow {}` accepts it unsigned; `larder trust add KEY.pub --for {}` trusts a signer",
            quoted(&glob),
            quoted(&glob)
        )),
        State::Untrusted => Some(format!(
            "`larder trust add KEY.pub --for {}` trusts its signer; `larder explain` shows what was tried",
            quoted(&glob)
        )),
        State::Revoked => Some("have it signed anew by a key that counts; `larder explain` shows which do".to_owned()),
        State::Denied => {
            Some("trust/deny.yaml or a policy with `static: fail` denies it; `larder explain` says which".to_owned())
        }
        State::Corrupt => Some("pull it again; the bad bytes are kept in quarantine/".to_owned()),
        State::Pending => Some("ask again in a moment; `larder daemon status` says what is waited for".to_owned()),
        State::Verified | State::Allowed | State::Unspecified => None,
    }
}

/// Returns a glob over a repository's neighbours: those of the same registry and first folders.
fn glob_around(repository: &str) -> String {
    match repository.rsplit_once('/') {
        // Never a whole registry.
        Some((folder, _)) if folder.contains('/') => format!("{folder}/**"),
        _ => repository.to_owned(),
    }
}

/// Says what brought a change about.
pub(crate) fn cause(cause: &Reason) -> String {
    match (cause.code.as_str(), cause.detail.as_str()) {
        (code, "") => code.to_owned(),
        (_, detail) => detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, detail: &str) -> Reason {
        Reason { code: code.to_owned(), detail: detail.to_owned() }
    }

    #[test]
    fn reasons_in_words() {
        assert_eq!(because(&[of("no-signature", "")]), "nobody signed it that we could find");
        assert_eq!(
            because(&[of("via-index", "sha256:4bcff63911fcb444"), of("signed-by", "release")]),
            "through the index 4bcff63911fc; by release"
        );
        assert_eq!(because(&[of("brand-new", "x")]), "brand-new: x");
        assert_eq!(because(&[]), "");
        assert_eq!(cause(&of("trust-changed", "keys/release.pub removed")), "keys/release.pub removed");
    }

    #[test]
    fn every_documented_code_has_words() {
        let page = include_str!("../../../docs/reasons.md");
        let codes: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|line| line.split_once('`'))
            .map(|(code, _)| code)
            .collect();
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            assert_ne!(reason(&of(code, "DETAIL")), format!("{code}: DETAIL"), "{code}");
        }
    }

    #[test]
    fn the_remedy_names_a_glob_and_never_a_whole_registry() {
        let verdict = |repository: &str| Verdict {
            repository: repository.to_owned(),
            state: State::Unsigned.into(),
            ..Verdict::default()
        };
        let remedy_of = |repository: &str| remedy(&verdict(repository)).expect("a remedy");
        assert!(remedy_of("docker.io/library/alpine").contains("`larder trust allow 'docker.io/library/**'`"));
        assert!(remedy_of("ghcr.io/tool").contains("`larder trust allow ghcr.io/tool`"));
    }
}
