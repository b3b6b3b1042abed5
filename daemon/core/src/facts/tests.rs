use super::*;
use crate::check::SignedHash;
use crate::key::AnchorId;

const A: AnchorId = AnchorId([1; 32]);
const B: AnchorId = AnchorId([2; 32]);

fn repository(name: &str) -> Repository {
    name.parse().expect("repository")
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("time")
}

fn signature(text: &str, names: &str) -> SignatureRow {
    SignatureRow {
        id: SignatureId(digest(text).as_bytes().try_into().expect("32 bytes")),
        format: Format::SimpleSigning,
        names: Some(digest(names)),
        says: Says::Signed,
        first_seen: time(7),
        manifest: digest("manifest"),
        layer: 3,
    }
}

/// Something that is told to a table.
type Step<'a> = Box<dyn Fn(&mut Facts) + 'a>;

/// A table with something of everything, filled in one of two orders.
fn filled(reversed: bool) -> Facts {
    let (acme, quay) = (repository("docker.io/acme/app"), repository("quay.io/x/y"));
    let long = Digest::with(crate::digest::Algorithm::Sha512, b"long");
    let bundle = SignatureRow {
        format: Format::Bundle,
        names: None,
        says: Says::Attested("a type".into()),
        ..signature("bundle", "")
    };
    let mut steps: Vec<Step<'_>> = vec![
        Box::new(|facts| facts.add_subject(&acme, digest("app"), time(1))),
        Box::new(|facts| facts.add_subject(&acme, digest("index"), time(2))),
        Box::new(|facts| facts.add_subject(&quay, digest("app"), time(3))),
        Box::new(|facts| facts.add_subject(&quay, long, time(4))),
        Box::new(|facts| facts.add_parent(&acme, digest("app"), digest("index"))),
        Box::new(|facts| facts.add_parent(&acme, digest("app"), digest("other"))),
        Box::new(|facts| facts.add_signature(signature("s", "app"), &acme, digest("app"))),
        Box::new(|facts| facts.add_signature(signature("s", "app"), &quay, digest("index"))),
        Box::new(|facts| facts.add_signature(signature("t", "index"), &quay, digest("app"))),
        Box::new(|facts| facts.add_signature(bundle.clone(), &quay, long)),
        Box::new(|facts| facts.add_uncounted(&quay, long, 5)),
        Box::new(|facts| facts.set_corrupt(long, true)),
    ];
    let mut checks: Vec<Step<'_>> = vec![
        Box::new(|facts| facts.record_check(signature("s", "app").id, A, Some(SignedHash::Sha256))),
        Box::new(|facts| facts.record_check(signature("s", "app").id, B, None)),
        Box::new(|facts| facts.record_check(signature("t", "index").id, B, Some(SignedHash::None))),
        Box::new(|facts| facts.set_told(&acme, digest("app"), Told { state: State::Verified, seq: 9 })),
    ];
    if reversed {
        steps.reverse();
        checks.reverse();
    }
    let mut facts = Facts::default();
    steps.into_iter().chain(checks).for_each(|step| step(&mut facts));
    facts
}

#[test]
fn what_was_added_is_found() {
    let facts = filled(false);
    let (acme, quay) = (repository("docker.io/acme/app"), repository("quay.io/x/y"));
    let (s, t) = (signature("s", "app"), signature("t", "index"));
    assert_eq!((facts.len(), facts.is_empty()), (4, false));
    assert_eq!(facts.repositories_of(digest("app")), [acme.clone(), quay.clone()]);
    assert_eq!(facts.first_seen(&quay, digest("app")), Some(time(3)));
    assert_eq!(facts.parents(&acme, digest("app")), [digest("index")], "an index that is no subject is none");
    assert_eq!(facts.parents(&quay, digest("app")), [], "of the same repository only");
    assert_eq!(facts.children_of(&acme, digest("index")), [digest("app")]);
    assert_eq!(facts.signature(s.id).as_ref(), Some(&s));
    assert_eq!(facts.named_by(digest("app")), [s.id]);
    assert_eq!(facts.signatures_of(digest("app")).len(), 2, "one names it, one hangs on it");
    assert_eq!(facts.found_at(s.id), [(acme.clone(), digest("app")), (quay.clone(), digest("index"))]);
    assert!(!facts.contains(&quay, digest("index")), "a place where a signature hangs is no subject by that");
    assert_eq!(facts.told(&acme, digest("app")), Some(Told { state: State::Verified, seq: 9 }));
    assert_eq!(facts.told(&quay, digest("app")), None);
    assert_eq!(facts.missing_checks(&[A, B], None), [(t.id, A)], "what names nothing is never checked");
    assert_eq!(facts.missing_checks(&[A, B], Some(digest("index"))), [(t.id, A)]);
    assert_eq!(facts.missing_checks(&[AnchorId([3; 32])], Some(digest("nothing"))), []);
    assert_eq!((facts.valid_under(A), facts.valid_under(B)), (1, 1));
    assert_eq!(facts.subjects().count(), 4);
}

#[test]
fn a_known_good_signature_does_not_count_towards_the_limit() {
    let facts = filled(false);
    let (acme, quay) = (repository("docker.io/acme/app"), repository("quay.io/x/y"));
    assert_eq!(facts.signatures_found(&acme, digest("app")), 0);
    let long = Digest::with(crate::digest::Algorithm::Sha512, b"long");
    assert_eq!(facts.signatures_found(&quay, long), 1);
    assert_eq!(facts.uncounted(long), 5);
}

#[test]
fn a_check_computed_anew_replaces_the_old_result() {
    let mut facts = filled(false);
    let s = signature("s", "app").id;
    facts.record_check(s, A, None);
    assert_eq!(facts.valid_under(A), 0);
    facts.record_check(s, A, Some(SignedHash::Sha512));
    assert_eq!(facts.valid_under(A), 1);
    assert_eq!(facts.missing_checks(&[A, B], Some(digest("app"))).len(), 1);
}

#[test]
fn corruption_is_of_content_and_heals() {
    let mut facts = filled(false);
    let long = Digest::with(crate::digest::Algorithm::Sha512, b"long");
    assert!(facts.is_corrupt(long) && !facts.is_corrupt(digest("app")));
    facts.set_corrupt(long, false);
    assert!(!facts.is_corrupt(long));
}

#[test]
fn the_same_table_gives_the_same_bytes_and_comes_back() {
    let bytes = filled(false).to_bytes();
    assert_eq!(bytes, filled(true).to_bytes());
    let back = Facts::from_bytes(&bytes).expect("a snapshot");
    assert_eq!(back.to_bytes(), bytes);
    assert_eq!(back.len(), 4);
    assert_eq!(back.missing_checks(&[A, B], None), filled(false).missing_checks(&[A, B], None));
    assert_eq!(Facts::from_bytes(&Facts::default().to_bytes()).expect("empty").len(), 0);
}

#[test]
fn broken_bytes_are_errors_and_never_panics() {
    let bytes = filled(false).to_bytes();
    for end in 0..bytes.len() {
        assert!(Facts::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
    for place in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[place] ^= change;
            // Some changes give another valid table; none may panic or hang.
            if let Ok(facts) = Facts::from_bytes(&broken) {
                let _ = facts.to_bytes();
            }
        }
    }
}

/// DESIGN section 2: under 300 bytes a subject with its first signature.
#[test]
fn a_subject_is_small() {
    const SUBJECTS: usize = 20_000;
    let mut facts = Facts::default();
    let acme = repository("docker.io/acme/app");
    for number in 0..SUBJECTS {
        let name = format!("{number}");
        facts.add_subject(&acme, digest(&name), time(1));
        let row = SignatureRow { manifest: digest(&format!("m{name}")), ..signature(&format!("s{name}"), &name) };
        facts.record_check(row.id, A, Some(SignedHash::Sha256));
        facts.add_signature(row, &acme, digest(&name));
    }
    let with_signature = facts.bytes() / SUBJECTS;
    assert!(with_signature < 300, "{with_signature} bytes a subject with a signature");
    let mut bare = Facts::default();
    (0..SUBJECTS).for_each(|number| bare.add_subject(&acme, digest(&format!("{number}")), time(1)));
    let bare = bare.bytes() / SUBJECTS;
    println!("{bare} bytes a bare subject, {with_signature} with a signature of its own manifest");
    assert!(bare < 300, "{bare} bytes a bare subject");
}
