use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

use super::*;
use crate::check::SignedHash;
use crate::facts::SignatureRow;
use crate::key::PublicKey;
use crate::policy::{Rules, TrustFiles};
use crate::signature::{Format, Says, SignatureId};

const REPOSITORY: &str = "quay.io/acme/tool";

fn key(number: u8) -> PublicKey {
    let key = p256::ecdsa::SigningKey::from_slice(&[number; 32]).expect("a key");
    let pem = p256::PublicKey::from(key.verifying_key()).to_public_key_pem(LineEnding::LF).expect("PEM");
    PublicKey::from_pem(pem.as_bytes()).expect("a public key")
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a time")
}

fn repository() -> Repository {
    REPOSITORY.parse().expect("a repository")
}

fn trust(policy: Option<&str>) -> Arc<TrustSet> {
    let mut files = TrustFiles::default();
    files.0.insert("keys/release.pub".into(), key(1).to_pem().into());
    if let Some(spec) = policy {
        let text = format!("apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec: {spec}\n");
        files.0.insert("policies/acme.yaml".into(), Bytes::from(text));
    }
    let reading = TrustSet::read(&files);
    assert_eq!(reading.faults, []);
    reading.set
}

/// Adds a signature at `at`, valid under key 1 over `hash` if there is one.
fn sign(facts: &mut Facts, at: &str, format: Format, names: Option<&str>, hash: Option<SignedHash>) -> SignatureId {
    let id = digest(&format!("{at} {format:?} {names:?} {hash:?}"));
    let id = SignatureId(id.as_bytes().try_into().expect("32 bytes"));
    let names = names.map(digest);
    let row = SignatureRow {
        id,
        format,
        names,
        says: Says::Signed,
        first_seen: now(),
        manifest: digest("manifest"),
        layer: 0,
    };
    facts.add_signature(row, &repository(), digest(at));
    if format.is_checked() {
        facts.record_check(id, key(1).id(), hash);
    }
    id
}

/// Adds an attestation of a type at `at`, valid under key 1.
fn attest(facts: &mut Facts, at: &str, format: Format, predicate_type: &str) {
    let id = digest(&format!("{at} {format:?} {predicate_type}"));
    let id = SignatureId(id.as_bytes().try_into().expect("32 bytes"));
    let says = Says::Attested(predicate_type.into());
    let names = Some(digest(at));
    let row = SignatureRow { id, format, names, says, first_seen: now(), manifest: digest("manifest"), layer: 0 };
    facts.add_signature(row, &repository(), digest(at));
    facts.record_check(id, key(1).id(), Some(SignedHash::Sha256));
}

fn with(subjects: &[&str]) -> Facts {
    let mut facts = Facts::default();
    for subject in subjects {
        facts.add_subject(&repository(), digest(subject), now());
    }
    facts
}

fn under(facts: &Facts, trust: &TrustSet, subject: &str) -> Verdict {
    judge(facts, trust, &repository(), digest(subject), now())
}

fn texts(verdict: &Verdict) -> Vec<String> {
    verdict.reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn what_was_found_is_never_unsigned() {
    let trust = trust(None);
    let mut facts = with(&["a", "b", "c", "d"]);
    sign(&mut facts, "a", Format::Notation, None, None);
    sign(&mut facts, "b", Format::SimpleSigning, None, None);
    facts.add_uncounted(&repository(), digest("c"), 7);
    for (subject, reason) in
        [("a", "unsupported: notation"), ("b", "unreadable-payload: 1 signature"), ("c", "too-many-signatures: 7")]
    {
        let verdict = under(&facts, &trust, subject);
        assert_eq!((verdict.state, texts(&verdict)), (State::Untrusted, vec![reason.to_owned()]), "{subject}");
    }
    assert_eq!(under(&facts, &trust, "d").state, State::Unsigned);
    assert_eq!(under(&facts, &trust, "never heard of").state, State::Unsigned);
}

#[test]
fn the_hash_that_a_policy_asks_for_counts() {
    let spec = |hash: &str| {
        format!(
            "{{images: [{{glob: \"**\"}}], authorities: [{{key: {{secretRef: {{name: release}}, hashAlgorithm: {hash}}}}}]}}"
        )
    };
    let mut facts = with(&["a"]);
    sign(&mut facts, "a", Format::SimpleSigning, Some("a"), Some(SignedHash::Sha256));
    assert_eq!(under(&facts, &trust(Some(&spec("sha256"))), "a").state, State::Verified);
    let verdict = under(&facts, &trust(Some(&spec("sha512"))), "a");
    assert_eq!(verdict.state, State::Untrusted);
    assert_eq!(texts(&verdict), ["policy-failed: acme", "wrong-hash: release: sha256"]);
}

#[test]
fn acceptance_comes_down_past_cycles_and_not_past_what_is_denied_or_corrupt() {
    let trust = trust(None);
    let mut facts = with(&["child", "inner", "outer"]);
    for (child, index) in [("child", "inner"), ("inner", "outer"), ("outer", "inner"), ("child", "child")] {
        facts.add_parent(&repository(), digest(child), digest(index));
    }
    assert_eq!(under(&facts, &trust, "child").state, State::Unsigned);
    let id = sign(&mut facts, "outer", Format::SimpleSigning, Some("outer"), Some(SignedHash::Sha256));
    let verdict = under(&facts, &trust, "child");
    assert_eq!(verdict.state, State::Verified);
    assert_eq!(texts(&verdict), [format!("via-index: {}", digest("outer")), "signed-by: release".to_owned()]);
    let view = TrustView::Settled(Arc::clone(&trust));
    let [support] = &support(&facts, &view, &repository(), digest("child"), now())[..] else { panic!("one signature") };
    assert_eq!((support.signature, support.subject, support.key.as_str()), (id, digest("outer"), "release"));
    facts.set_corrupt(digest("inner"), true);
    assert_eq!(under(&facts, &trust, "child").state, State::Unsigned, "nothing comes through what is corrupt");
    assert_eq!(under(&facts, &trust, "inner").state, State::Corrupt);
}

#[test]
fn nesting_beyond_the_bound_is_not_accepted_and_ends() {
    let trust = trust(None);
    let names: Vec<String> = (0..bench::MAX_ANCESTORS + 10).map(|number| format!("{number}")).collect();
    let mut facts = with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for pair in names.windows(2) {
        facts.add_parent(&repository(), digest(&pair[0]), digest(&pair[1]));
    }
    let last = names.last().expect("a name");
    sign(&mut facts, last, Format::SimpleSigning, Some(last), Some(SignedHash::Sha256));
    assert_eq!(under(&facts, &trust, "0").state, State::Unsigned);
    assert_eq!(under(&facts, &trust, "100").state, State::Verified);
}

#[test]
fn explained_like_the_transcript() {
    let spec = "{images: [{glob: \"quay.io/acme/**\"}], authorities: [{key: {secretRef: {name: release}}}, {keyless: {}}, {key: {secretRef: {name: gone}}}]}";
    let mut facts = with(&["a"]);
    sign(&mut facts, "a", Format::SimpleSigning, Some("a"), None);
    let view = TrustView::Settled(trust(Some(spec)));
    let (verdict, tree) = explain(&facts, &view, &repository(), digest("a"), now());
    assert_eq!(verdict.state, State::Untrusted);
    let mut lines = Vec::new();
    fn walk(node: &Node, depth: usize, lines: &mut Vec<String>) {
        lines.push(format!("{}{} {} | {} | {}", "  ".repeat(depth), node.kind, node.label, node.outcome, node.code));
        node.children.iter().for_each(|child| walk(child, depth + 1, lines));
    }
    walk(&tree, 0, &mut lines);
    let short = digest("a").short();
    let id: String = facts.named_by(digest("a"))[0].to_string().chars().take(12).collect();
    assert_eq!(
        lines,
        [
            format!("subject {REPOSITORY}  {short} | untrusted | policy-failed"),
            format!("  note policies for {REPOSITORY} |  | "),
            "    policy acme.yaml (quay.io/acme/**) | no authority holds | policy-failed".to_owned(),
            "      authority key release (release.pub) | 1 signature tried | ".to_owned(),
            format!(
                "        signature classic signature {id}…, found at {REPOSITORY}@{short} | does not verify: made by another key | unknown-key"
            ),
            "      authority identities of authority-1 | keyless without identities is not evaluated by this version | unsupported".to_owned(),
            "      authority key gone (gone.pub) | there is no keys/gone.pub | key-missing".to_owned(),
        ]
    );
}

#[test]
fn a_sweep_spares_whom_a_new_key_cannot_concern() {
    let mut facts = with(&["signed", "unsigned", "tried"]);
    sign(&mut facts, "signed", Format::SimpleSigning, Some("signed"), Some(SignedHash::Sha256));
    sign(&mut facts, "tried", Format::SimpleSigning, Some("tried"), None);
    let empty = TrustView::Settled(Arc::default());
    let full = TrustView::Settled(trust(None));
    let concern = Concern::between((&empty, now()), (&full, now()));
    assert_eq!(concern.subjects(&facts).collect::<Vec<_>>(), [(&repository(), digest("signed"))]);
    assert!(Concern::between((&full, now()), (&full, now())).is_empty());
    assert!(Concern::between((&TrustView::Starting, now()), (&full, now())).covers(
        &facts,
        &repository(),
        digest("tried")
    ));
}

const SPDX: &str = "https://spdx.dev/Document";

#[test]
fn an_attestation_is_not_a_signature_nor_the_other_way_round() {
    let mut facts = with(&["attested", "signed", "both"]);
    attest(&mut facts, "attested", Format::Bundle, SPDX);
    sign(&mut facts, "signed", Format::Bundle, Some("signed"), Some(SignedHash::Sha256));
    attest(&mut facts, "both", Format::Attestation, SPDX);
    sign(&mut facts, "both", Format::SimpleSigning, Some("both"), Some(SignedHash::Sha256));
    let keys = trust(None);
    let verdict = under(&facts, &keys, "attested");
    assert_eq!((verdict.state, texts(&verdict)), (State::Untrusted, vec!["only-attested: release".to_owned()]));
    assert_eq!(under(&facts, &keys, "signed").state, State::Verified);
    assert_eq!(under(&facts, &keys, "both").state, State::Verified);

    let asks = "{images: [{glob: \"**\"}], authorities: [{key: {secretRef: {name: release}}, attestations: [{name: sbom, predicateType: spdx}]}]}";
    let policy = trust(Some(asks));
    assert_eq!(under(&facts, &policy, "attested").state, State::Verified);
    assert_eq!(under(&facts, &policy, "both").state, State::Verified);
    let verdict = under(&facts, &policy, "signed");
    let reasons = ["policy-failed: acme", "attestation-missing: sbom: https://spdx.dev/Document", "other-key: release"];
    assert_eq!((verdict.state, texts(&verdict)), (State::Untrusted, reasons.map(str::to_owned).to_vec()));
}

#[test]
fn each_entry_of_attestations_is_met_and_in_the_format_asked_for() {
    let mut facts = with(&["one", "two"]);
    attest(&mut facts, "one", Format::Bundle, SPDX);
    attest(&mut facts, "two", Format::Bundle, SPDX);
    attest(&mut facts, "two", Format::Attestation, "https://example.org/report");
    let asks = |format: &str| {
        trust(Some(&format!(
            "{{images: [{{glob: \"**\"}}], authorities: [{{{format}key: {{secretRef: {{name: release}}}}, attestations: [{{predicateType: spdxjson}}, {{predicateType: \"https://example.org/report\"}}]}}]}}"
        )))
    };
    assert_eq!(under(&facts, &asks(""), "one").state, State::Untrusted);
    assert_eq!(under(&facts, &asks(""), "two").state, State::Verified);
    for format in ["bundle", "legacy"] {
        assert_eq!(under(&facts, &asks(&format!("signatureFormat: {format}, ")), "two").state, State::Untrusted);
    }
}

#[test]
fn a_source_restricts_where_a_signature_was_found() {
    let mut facts = with(&["a"]);
    sign(&mut facts, "a", Format::SimpleSigning, Some("a"), Some(SignedHash::Sha256));
    let asks = |source: &str| {
        trust(Some(&format!(
            "{{images: [{{glob: \"**\"}}], authorities: [{{key: {{secretRef: {{name: release}}}}, source: [{{oci: {source}}}]}}]}}"
        )))
    };
    assert_eq!(under(&facts, &asks(REPOSITORY), "a").state, State::Verified);
    let verdict = under(&facts, &asks("quay.io/acme/signatures"), "a");
    assert_eq!((verdict.state, texts(&verdict)[1].as_str()), (State::Untrusted, "not-as-asked: release"));
}

#[test]
fn what_is_asked_beside_static_is_not_let_in() {
    let facts = with(&["a"]);
    let asks =
        "{images: [{glob: \"**\"}], authorities: [{static: {action: pass}, attestations: [{predicateType: spdx}]}]}";
    assert_eq!(under(&facts, &trust(Some(asks)), "a").state, State::Unsigned);
}

#[test]
fn who_signed_is_who_counts_here_and_now() {
    let mut facts = Facts::default();
    let good = sign(&mut facts, "sbom", Format::SimpleSigning, Some("sbom"), Some(SignedHash::Sha256));
    let bad = sign(&mut facts, "sbom", Format::SimpleSigning, Some("sbom"), None);
    let elsewhere = sign(&mut facts, "sbom", Format::SimpleSigning, Some("other"), Some(SignedHash::Sha256));
    let set = trust(None);
    let by = |view: &TrustView, ids: &[SignatureId]| {
        signed(&facts, view, &repository(), digest("sbom"), &ids.iter().copied().collect(), now())
    };
    let release = Signed::By(vec![Signer::Key { name: "release".to_owned(), anchor: key(1).id() }]);
    let settled = TrustView::Settled(Arc::clone(&set));
    assert_eq!(by(&settled, &[]), Signed::No);
    assert_eq!(by(&settled, &[bad, good]), release, "no subject has to be there");
    assert_eq!(by(&settled, &[bad]), Signed::Untrusted);
    assert_eq!(by(&settled, &[elsewhere]), Signed::Untrusted, "it names another digest");
    let unmet = r#"{"images": [{"glob": "**"}], "authorities": [{"static": {"action": "fail"}}]}"#;
    assert_eq!(by(&TrustView::Settled(trust(Some(unmet))), &[good]), Signed::Untrusted, "denied by a policy");
    assert_eq!(by(&TrustView::Starting, &[good]), Signed::Pending);
    assert_eq!(by(&TrustView::Missing { settled: Arc::clone(&set) }, &[good]), Signed::Pending);
    let mut files = TrustFiles::default();
    files.0.insert("keys/new.pub".into(), key(2).to_pem().into());
    let new = TrustView::Settled(TrustSet::read(&files).set);
    assert_eq!(by(&new, &[good]), Signed::Pending, "it was not tried against that key");
    files.0.insert("keys/new.yaml".into(), "for: [\"docker.io/**\"]\n".into());
    let elsewhere = TrustView::Settled(TrustSet::read(&files).set);
    assert_eq!(by(&elsewhere, &[good]), Signed::Untrusted, "that key is not for this repository");
    let none = TrustSet::read(&TrustFiles::default()).set;
    assert_eq!(by(&TrustView::Settled(Arc::clone(&none)), &[good]), Signed::Untrusted);
    let disturbed = |settled: &Arc<TrustSet>, readable: &Arc<TrustSet>| TrustView::Disturbed {
        settled: Arc::clone(settled),
        readable: Arc::clone(readable),
    };
    assert_eq!(by(&disturbed(&set, &none), &[good]), Signed::Untrusted, "a key that is being taken away");
    assert_eq!(by(&disturbed(&none, &set), &[good]), Signed::Untrusted, "a key that is being added");
    assert_eq!(by(&disturbed(&set, &set), &[good]), release);
    let mut fresh = Facts::default();
    let unchecked = sign(&mut fresh, "sbom", Format::Notation, Some("sbom"), None);
    let ids = BTreeSet::from([unchecked]);
    assert_eq!(signed(&fresh, &settled, &repository(), digest("sbom"), &ids, now()), Signed::Untrusted);
}

/// A folder with the shipped root and a policy that asks for one identity.
fn asking_for_identities(as_of: &str, max_age: Option<jiff::SignedDuration>) -> Arc<TrustSet> {
    let policy = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec: {images: [{glob: quay.io/**}], \
        authorities: [{name: people, keyless: {identities: [{issuer: i, subject: s}]}}]}\n";
    let files = [
        ("roots/good.json", include_str!("../keyless/public_good.json").to_owned()),
        ("roots/good.yaml", format!("asOf: {as_of}\n")),
        ("policies/acme.yaml", policy.to_owned()),
    ];
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), Bytes::from(text)));
    let reading = TrustSet::read_under(&TrustFiles(files.collect()), Rules { root_max_age: max_age });
    assert_eq!(reading.faults, []);
    reading.set
}

#[test]
fn a_root_that_is_too_old_satisfies_nobody_from_that_instant_on() {
    let mut facts = with(&["a"]);
    let id = sign(&mut facts, "a", Format::Bundle, Some("a"), None);
    let day = jiff::SignedDuration::from_hours(24);
    let set = asking_for_identities("2026-05-02", Some(day * 30));
    facts.record_evidence(id, set.roots["good"].id, None);
    let codes = |time: Timestamp| {
        let verdict = judge(&facts, &set, &repository(), digest("a"), time);
        verdict.reasons.iter().map(|reason| reason.code).collect::<Vec<_>>()
    };
    let end = now();
    let before = end - jiff::SignedDuration::from_secs(1);
    assert!(!codes(before).contains(&Code::RootTooOld));
    assert!(codes(end).contains(&Code::RootTooOld), "{:?}", codes(end));
    let texts = texts(&judge(&facts, &set, &repository(), digest("a"), end));
    assert!(texts.contains(&"root-too-old: good, as of 2026-05-02T00:00:00Z".to_owned()), "{texts:?}");
    let view = TrustView::Settled(Arc::clone(&set));
    assert_eq!(view.next_change(before), Some(end), "it is a timer");
    let concern = Concern::between((&view, before), (&view, end));
    assert!(concern.covers(&facts, &repository(), digest("a")), "the timer finds whom it concerns");
    assert!(Concern::between((&view, before), (&view, before)).is_empty());
    let unlimited = asking_for_identities("2026-05-02", None);
    let verdict = judge(&facts, &unlimited, &repository(), digest("a"), end);
    assert!(verdict.reasons.iter().all(|reason| reason.code != Code::RootTooOld));
}

#[test]
fn an_unchecked_signature_is_not_waited_for_under_a_root_that_is_too_old() {
    let mut facts = with(&["a"]);
    sign(&mut facts, "a", Format::Bundle, Some("a"), None);
    let day = jiff::SignedDuration::from_hours(24);
    let fresh = asking_for_identities("2026-05-31", Some(day * 30));
    assert_eq!(under(&facts, &fresh, "a").state, State::Pending);
    let old = asking_for_identities("2026-01-01", Some(day * 30));
    assert_eq!(under(&facts, &old, "a").state, State::Untrusted);
}
