use bytes::Bytes;
use jiff::SignedDuration;
use p256::pkcs8::{EncodePublicKey as _, LineEnding};

use super::*;

fn pem(number: u8) -> String {
    let key = p256::ecdsa::SigningKey::from_slice(&[number; 32]).expect("a key");
    p256::PublicKey::from(key.verifying_key()).to_public_key_pem(LineEnding::LF).expect("PEM")
}

fn read(files: &[(&str, &str)]) -> Reading {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes())));
    TrustSet::read(&TrustFiles(files.collect()))
}

fn with_settings(settings: &str) -> Reading {
    read(&[("keys/a.pub", &pem(1)), ("keys/a.yaml", settings)])
}

fn policy(spec: &str) -> Reading {
    let text = format!("apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec:\n{spec}");
    read(&[("policies/p.yaml", &text)])
}

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Reads a folder that must have exactly this fault.
fn fault(reading: Reading, path: &str, words: &str) {
    let [fault] = &reading.faults[..] else { panic!("{path} {words}: {:?}", reading.faults) };
    assert_eq!(fault.path, path, "{fault:?}");
    assert!(fault.message.contains(words), "{words}: {fault:?}");
}

#[test]
fn a_key_and_its_settings() {
    let reading = with_settings(
        "for: [\"ghcr.io/team/**\"]\nvalidFor: {start: 2026-01-01, end: 2026-06-01T12:00:00+02:00}\nrevoked: {since: 2026-03-01, reason: leaked}\n",
    );
    assert_eq!(reading.faults, []);
    let key = &reading.set.keys["a"];
    assert_eq!(key.scope.iter().map(Glob::as_str).collect::<Vec<_>>(), ["ghcr.io/team/**"]);
    assert_eq!(key.valid_from, Some(time("2026-01-01T00:00:00Z")));
    assert_eq!(key.valid_until, Some(time("2026-06-01T10:00:00Z")));
    assert_eq!(key.revoked.as_deref(), Some("revoked since 2026-03-01T00:00:00Z: leaked"));
    assert_eq!(reading.set.names_of(&key.key.id()), ["a"]);
    assert_eq!(reading.set.next_change(time("2026-02-01T00:00:00Z")), Some(time("2026-06-01T10:00:00Z")));
    assert_eq!(reading.set.next_change(time("2026-06-01T10:00:00Z")), None);
}

#[test]
fn what_was_begun_to_be_revoked_is_revoked() {
    for settings in ["revoked:\n", "revoked: {}\n", "revoked: ~\n", "retired:\n", "retired: {at: 2030-01-01}\n"] {
        let reading = with_settings(settings);
        assert_eq!(reading.faults, [], "{settings}");
        assert!(reading.set.keys["a"].revoked.is_some(), "{settings}");
        let for_ever = !settings.contains("at:");
        assert_eq!(reading.set.keys["a"].ends.for_ever, for_ever, "{settings}");
        assert_eq!(reading.set.keys["a"].ends.before().is_some(), !for_ever, "{settings}");
    }
    assert_eq!(with_settings("{}\n").set.keys["a"].revoked, None);
}

#[test]
fn settings_that_cannot_be_read_leave_the_key_out() {
    for (settings, words) in [
        ("", "empty"),
        ("for:\n", "no value"),
        ("for: []\n", "lists no repositories"),
        ("for: ghcr.io/**\n", ""),
        ("for: [\"a b\"]\n", "not a glob"),
        ("validFor:\n", "no value"),
        ("validFor: {end: }\n", "no value"),
        ("validFor: {end: tomorrow}\n", "tomorrow"),
        ("validFor: {until: 2026-01-01}\n", "until"),
        ("for: [\"**\"]\nfor: [\"**\"]\n", "line 2"),
        ("revokd: {}\n", "line 1"),
        ("revoked: true\n", ""),
        ("revoked: {reason: x, when: y}\n", "when"),
        ("{}\n---\nrevoked: {}\n", "document"),
        ("\u{0}", ""),
    ] {
        let reading = with_settings(settings);
        assert!(reading.set.keys.is_empty(), "{settings}");
        fault(reading, "keys/a.yaml", words);
    }
}

#[test]
fn one_bad_file_leaves_the_others() {
    let reading = read(&[("keys/a.pub", "no key"), ("keys/b.pub", &pem(2)), ("keys/c.yaml", "revoked: {}\n")]);
    assert_eq!(reading.set.keys.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(reading.warnings.len(), 1, "settings without a key are no fault: {:?}", reading.warnings);
    fault(reading, "keys/a.pub", "not a public key");
    fault(read(&[("keys/c.yaml", "not: read\n")]), "keys/c.yaml", "line 1");
    let large = "#".repeat(MAX_FILE_BYTES + 1);
    let reading = read(&[("keys/a.pub", &pem(1)), ("keys/a.yaml", &large)]);
    assert!(reading.set.keys.is_empty());
    fault(reading, "keys/a.yaml", "bytes");
}

#[test]
fn deny_lists_what_is_refused() {
    let digest = Digest::of(b"bad");
    let text = format!(
        "digests: [{{digest: {digest}, reason: broken}}]\nkeys: [{{key: a}}]\nidentities: [{{issuer: i, subject: s, reason: r}}]\n"
    );
    let reading = read(&[("deny.yaml", &text), ("keys/a.pub", &pem(1)), ("keys/b.pub", &pem(1))]);
    assert_eq!((reading.faults, reading.warnings), (vec![], vec![]));
    assert_eq!(reading.set.deny.digests[&digest], "broken");
    let anchor = reading.set.anchors().pop().expect("one key in two files");
    let life = &reading.set.anchor(&anchor.id()).expect("an anchor").life;
    assert_eq!(life.standing(Timestamp::UNIX_EPOCH), Standing::Revoked, "whatever the name of the file that is denied");
    for (text, words) in
        [("digests: [{digest: sha256:12}]\n", "digest"), ("digest: []\n", "line 1"), ("", "empty"), ("keys: [a]\n", "")]
    {
        fault(read(&[("deny.yaml", text)]), "deny.yaml", words);
    }
}

#[test]
fn several_files_of_one_key_unite_scopes_and_take_the_strictest_life() {
    let reading = read(&[
        ("keys/a.pub", &pem(1)),
        ("keys/a.yaml", "for: [\"quay.io/**\"]\nvalidFor: {start: 2026-02-01, end: 2026-05-01}\n"),
        ("keys/b.pub", &pem(1)),
        ("keys/b.yaml", "for: [\"ghcr.io/**\"]\nvalidFor: {start: 2026-01-01, end: 2026-04-01}\n"),
    ]);
    let key = reading.set.keys["a"].key.id();
    let anchor = reading.set.anchor(&key).expect("an anchor");
    let (quay, ghcr, hub) = ("quay.io/x/y", "ghcr.io/x/y", "docker.io/x/y");
    for (name, is) in [(quay, true), (ghcr, true), (hub, false)] {
        assert_eq!(anchor.alone.contains(&name.parse().expect(name), &Digest::of(b"")), is, "{name}");
    }
    for (day, standing) in [
        ("2026-01-31T23:59:59Z", Standing::NotYetValid),
        ("2026-02-01T00:00:00Z", Standing::Usable),
        ("2026-03-31T23:59:59Z", Standing::Usable),
        ("2026-04-01T00:00:00Z", Standing::Expired),
    ] {
        assert_eq!(anchor.life.standing(time(day)), standing, "{day}");
    }
}

#[test]
fn a_policy_as_sigstore_users_write_it() {
    let data = pem(3).lines().map(|line| format!("          {line}\n")).collect::<String>();
    let reading = policy(&format!(
        "  mode: warn\n  match: [{{group: apps}}]\n  images:\n    - glob: ghcr.io/team/**\n    - glob: ghcr.io/team/app:1.0\n  authorities:\n    - name: release\n      key:\n        secretRef: {{name: foo}}\n        hashAlgorithm: sha512\n    - key:\n        data: |\n{data}    - static: {{action: fail, message: no}}\n    - keyless: {{identities: []}}\n"
    ));
    assert_eq!(reading.faults, []);
    assert_eq!(reading.warnings.len(), 3, "a tag, match, keyless: {:?}", reading.warnings);
    let policy = &reading.set.policies["p"];
    assert_eq!((policy.mode, policy.unsupported.as_deref()), (Mode::Warn, None));
    let named = |name: &str, hash| AuthorityKind::KeyFile { name: name.to_owned(), hash };
    assert_eq!(policy.authorities[0].name, "release");
    assert_eq!(policy.authorities[0].kind, named("foo", Some(SignedHash::Sha512)));
    assert!(matches!(policy.authorities[1].kind, AuthorityKind::KeyData { .. }));
    assert_eq!(policy.authorities[2].kind, AuthorityKind::StaticFail { message: Some("no".to_owned()) });
    assert_eq!(policy.authorities[3].unsupported.as_deref(), Some("keyless without identities"));
    assert!(!policy.denies());
    assert_eq!(reading.set.policies_naming("foo"), ["p"]);
    let inline = reading.set.anchors().pop().expect("the inline key");
    assert_eq!(reading.set.names_of(&inline.id()), ["policy p, authority-1"]);
}

#[test]
fn what_is_not_evaluated_never_helps() {
    let images = "  images: [{glob: \"**\"}]\n  authorities:";
    for (spec, authority, whole) in [
        (format!("{images} [{{key: {{secretRef: {{name: a}}}}, ctlog: {{id: x}}}}]\n"), Some("ctlog.id"), None),
        (format!("{images} [{{static: {{action: pass}}, ctlog: {{}}}}]\n"), Some("ctlog"), None),
        (format!("{images} [{{key: {{kms: \"awskms://x\"}}}}]\n"), Some("key.kms"), None),
        (
            format!("{images} [{{key: {{secretRef: {{name: a, namespace: b}}}}}}]\n"),
            Some("key.secretRef.namespace"),
            None,
        ),
        (
            format!("{images} [{{key: {{secretRef: {{name: a}}, hashAlgorithm: sha224}}}}]\n"),
            Some("key.hashAlgorithm"),
            None,
        ),
        (format!("{images} [{{key: {{secretRef: {{name: a}}}}, static: {{action: pass}}}}]\n"), Some("static"), None),
        (format!("{images} [{{static: {{action: pass}}, source: [{{oci: x}}]}}]\n"), Some("source"), None),
        (format!("  policy: {{type: cue}}\n{images} [{{static: {{action: pass}}}}]\n"), None, Some("policy")),
        (
            "  images: [{glob: \"**\", x: 1}]\n  authorities: [{static: {action: pass}}]\n".to_owned(),
            None,
            Some("images[0].x"),
        ),
    ] {
        let reading = policy(&spec);
        assert_eq!(reading.faults, [], "{spec}");
        let policy = &reading.set.policies["p"];
        assert_eq!(policy.authorities[0].unsupported.as_deref(), authority, "{spec}");
        assert_eq!(policy.unsupported.as_deref(), whole, "{spec}");
        assert_eq!(reading.warnings.len(), 1, "{:?}", reading.warnings);
    }
}

#[test]
fn a_policy_that_is_none_is_a_fault() {
    let pass = "  authorities: [{static: {action: pass}}]\n";
    for (spec, words) in [
        (pass.to_owned(), "images"),
        (format!("  images: []\n{pass}"), "images"),
        (format!("  images: [{{glob: \"a b\"}}]\n{pass}"), "not a glob"),
        (format!("  images: [{{}}]\n{pass}"), "no glob"),
        (format!("  images: [{{glob: 7}}]\n{pass}"), "quotes"),
        ("  images: [{glob: \"**\"}]\n".to_owned(), "authorities"),
        ("  images: [{glob: \"**\"}]\n  authorities: []\n".to_owned(), "authorities"),
        (
            "  images: [{glob: \"**\"}]\n  authorities: [{static: {action: maybe}}]\n".to_owned(),
            "neither pass nor fail",
        ),
        ("  images: [{glob: \"**\"}]\n  authorities: [{key: {data: nonsense}}]\n".to_owned(), "key.data"),
        ("  images: [{glob: \"**\"}]\n  authorities: [{key: {secretRef: {}}}]\n".to_owned(), "no name"),
        (format!("  images: [{{glob: \"**\"}}]\n  mode: off\n{pass}"), "mode"),
        (format!("  images: [{{glob: \"**\"}}]\n{pass}{pass}"), "line"),
    ] {
        fault(policy(&spec), "policies/p.yaml", words);
    }
    fault(read(&[("policies/p.yaml", "kind: TrustRoot\n")]), "policies/p.yaml", "apiVersion");
    fault(read(&[("policies/p.yaml", "[]\n")]), "policies/p.yaml", "map");
}

#[test]
fn a_policy_confines_the_file_that_it_names_and_no_other_of_the_same_key() {
    let text = "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nspec: {images: [{glob: \"quay.io/**\"}], authorities: [{key: {secretRef: {name: a}}, x: 1}]}\n";
    let repository = "docker.io/x/y".parse().expect("a repository");
    let alone = |reading: &Reading| {
        let id = reading.set.keys["a"].key.id();
        reading.set.anchor(&id).expect("an anchor").alone.contains(&repository, &Digest::of(b""))
    };
    assert!(alone(&read(&[("keys/a.pub", &pem(1))])));
    assert!(!alone(&read(&[("keys/a.pub", &pem(1)), ("policies/p.yaml", text)])), "even where it is not evaluated");
    assert!(alone(&read(&[("keys/a.pub", &pem(1)), ("keys/b.pub", &pem(1)), ("policies/p.yaml", text)])));
}

const ROOT: &str = include_str!("../keyless/public_good.json");

fn aged(days: i64) -> Rules {
    Rules { root_max_age: Some(SignedDuration::from_hours(24 * days)) }
}

fn read_under(files: &[(&str, &str)], rules: Rules) -> Reading {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes())));
    TrustSet::read_under(&TrustFiles(files.collect()), rules)
}

#[test]
fn a_root_is_as_old_as_its_settings_or_its_newest_entry_say() {
    for (settings, dated) in [
        (None, "2025-09-23T00:00:00Z"),
        (Some("asOf: 2026-11-05\n"), "2026-11-05T00:00:00Z"),
        (Some("asOf: 2026-11-05T12:00:00+02:00\n"), "2026-11-05T10:00:00Z"),
        (Some("{}\n"), "2025-09-23T00:00:00Z"),
    ] {
        let files = [("roots/a.json", ROOT)].into_iter().chain(settings.map(|text| ("roots/a.yaml", text)));
        let reading = read_under(&files.collect::<Vec<_>>(), aged(30));
        assert_eq!(reading.faults, []);
        let (root, end) = (&reading.set.roots["a"], time(dated) + SignedDuration::from_hours(24 * 30));
        assert_eq!(root.dated(), Some(time(dated)));
        assert_eq!(reading.set.root_end(root), RootEnd::At(end));
        let before = end - SignedDuration::from_nanos(1);
        assert!(!reading.set.root_end(root).is_over(before) && reading.set.root_end(root).is_over(end));
        assert_eq!((reading.set.next_change(before), reading.set.next_change(end)), (Some(end), None));
        let unlimited = read_under(&[("roots/a.json", ROOT)], Rules::default()).set;
        assert_eq!(unlimited.root_end(&unlimited.roots["a"]), RootEnd::Never);
        assert_eq!(unlimited.next_change(before), None);
    }
}

#[test]
fn a_root_of_no_known_date_is_too_old_for_any_limit() {
    let empty = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
    let set = read_under(&[("roots/a.json", empty)], aged(36_525)).set;
    assert_eq!(set.root_end(&set.roots["a"]), RootEnd::Always);
    assert!(set.root_end(&set.roots["a"]).is_over(Timestamp::MIN));
}

#[test]
fn settings_of_a_root_that_cannot_be_read_leave_it_out() {
    for broken in ["asOf: yesterday\n", "asOf:\n", "asof: 2026-11-05\n", ""] {
        let reading = read(&[("roots/a.json", ROOT), ("roots/a.yaml", broken)]);
        assert!(reading.set.roots.is_empty(), "{broken:?}");
        fault(reading, "roots/a.yaml", "");
    }
    let alone = read(&[("roots/a.yaml", "asOf: 2026-11-05\n")]);
    assert_eq!((alone.faults.len(), alone.warnings.len()), (0, 1));
}
