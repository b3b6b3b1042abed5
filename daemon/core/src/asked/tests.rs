use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::artifact::DSSE_ENVELOPE;
use crate::signature::found::tests::{BUNDLE, SPDX, bundle, by_key, envelope, key, read_one, statement};

fn image() -> Digest {
    Digest::of(b"image")
}

fn asked(says: Wanted) -> Asked {
    let now = "2030-01-01T00:00:00Z".parse().expect("a time");
    Asked {
        signers: Signers::Keys(vec![key()]),
        root: TrustedRoot::default(),
        demands: Demands { logs: 0, ..Demands::key(now) },
        claims: Claims::Checked,
        annotations: BTreeMap::new(),
        says,
    }
}

fn attestation(key_id: &str, digest: Digest) -> FoundSignature {
    let mut envelope = envelope(&statement(SPDX, &[digest]));
    envelope["signatures"][0]["keyid"] = json!(key_id);
    read_one(DSSE_ENVELOPE, envelope.to_string().as_bytes()).remove(0)
}

#[test]
fn a_foreign_key_id_is_refused_beside_an_image_as_in_a_file() {
    let asked = asked(Wanted::Attestation(None));
    assert!(asked.holds(&attestation("", image()), image()).is_ok());
    let refused = asked.holds(&attestation("SHA256:other", image()), image()).expect_err("a foreign key id");
    assert_eq!(refused.check, Check::Signature, "{refused}");
}

#[test]
fn a_broken_attestation_is_no_signature() {
    let broken = |media_type: &str| read_one(media_type, b"{").remove(0);
    let (attestation, bundle) = (broken(DSSE_ENVELOPE), broken(BUNDLE));
    assert!(attestation.fault.is_some() && bundle.fault.is_some());
    for (says, of_attestation, of_bundle) in [
        (Wanted::Signature, false, true),
        (Wanted::SignatureOrBundle, false, true),
        (Wanted::Attestation(None), true, true),
    ] {
        let asked = asked(says);
        let concerns = (asked.concerns(&attestation), asked.concerns(&bundle));
        assert_eq!(concerns, (of_attestation, of_bundle), "{:?}", asked.says);
    }
}

/// cosign's `--check-claims=false`: what is classic may have been moved, a bundle may not.
#[test]
fn claims_are_ignored_in_classic_formats_alone() {
    let elsewhere = Digest::of(b"elsewhere");
    let checked = asked(Wanted::Attestation(None));
    let ignored = Asked { claims: Claims::Ignored, ..checked.clone() };
    let (classic, bundle) =
        (attestation("", elsewhere), read_one(BUNDLE, &bundle(&by_key(), &statement(SPDX, &[elsewhere]))).remove(0));
    let held = ignored.holds(&classic, image()).expect("a moved attestation");
    assert!(!held.names_digest, "what was not compared is not told");
    for (asked, found) in [(&checked, &classic), (&checked, &bundle), (&ignored, &bundle)] {
        assert_eq!(asked.holds(found, image()).expect_err("moved").check, Check::Artifact);
    }
    let tampered = FoundSignature { payload: Bytes::from(statement(SPDX, &[image()])), ..classic };
    assert_eq!(ignored.holds(&tampered, image()).expect_err("tampered").check, Check::Signature);
}
