use super::*;
use crate::artifact::SIMPLE_SIGNING;
use crate::manifest::Manifest;
use crate::signature::found::read;

const CONFIG: &str = r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

fn manifest(layers: &str, more: &str) -> Manifest {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",{CONFIG},"layers":[{layers}]{more}}}"#
    );
    Manifest::parse(Bytes::from(text), None).expect("manifest")
}

fn layer(media_type: &str, bytes: &[u8], annotations: &str) -> String {
    let (digest, size) = (Digest::of(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}","annotations":{{{annotations}}}}}"#)
}

fn read_one(annotations: &str, bytes: &[u8]) -> FoundSignature {
    let manifest = manifest(&layer(SIMPLE_SIGNING, bytes, annotations), "");
    let mut found = read(&manifest, |_| Some(Bytes::copy_from_slice(bytes)));
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn good_payload() -> Vec<u8> {
    payload("quay.io/a/b", &Digest::of(b"image"), &BTreeMap::new())
}

#[test]
fn a_good_signature() {
    let found = read_one(r#""dev.cosignproject.cosign/signature":"c2ln""#, &good_payload());
    assert_eq!(found.names, Some(Digest::of(b"image")));
    assert_eq!(found.claims.as_deref(), Some("quay.io/a/b"));
    assert_eq!(found.signature, &b"sig"[..]);
    assert_eq!((found.fault, found.layer), (None, 0));
    // Go reads base64 with line ends, and with loose last bits.
    let wrapped = read_one(r#""dev.cosignproject.cosign/signature":"c2\nln\r\n""#, &good_payload());
    assert_eq!(wrapped.id, found.id);
    assert_eq!(read_one(r#""dev.cosignproject.cosign/signature":"c2k=""#, &good_payload()).fault, None);
    assert_eq!(read_one(r#""dev.cosignproject.cosign/signature":"c2l=""#, &good_payload()).fault, None);
}

#[test]
fn a_broken_signature_is_found_with_its_fault() {
    let long = format!(r#""dev.cosignproject.cosign/signature":"{}""#, "A".repeat(30_000));
    let mut ids = Vec::new();
    for (annotations, fault) in [
        ("", "no signature"),
        (r#""dev.cosignproject.cosign/signature":"""#, "no signature"),
        (r#""dev.cosignproject.cosign/signature":"c2l""#, "base64"),
        (r#""dev.cosignproject.cosign/signature":"c2ln!""#, "base64"),
        (r#""dev.cosignproject.cosign/signature":"c2-_""#, "base64"),
        (long.as_str(), "16 KiB"),
    ] {
        let found = read_one(annotations, &good_payload());
        assert!(found.signature.is_empty(), "{annotations}");
        assert!(found.fault.as_deref().is_some_and(|text| text.contains(fault)), "{:?}", found.fault);
        assert_eq!(found.names, Some(Digest::of(b"image")), "what it says can be read all the same");
        ids.push(found.id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 5, "two of them differ in nothing");
}

#[test]
fn the_payload_is_bounded_and_may_be_broken() {
    let annotations = r#""dev.cosignproject.cosign/signature":"c2ln""#;
    let big = vec![b' '; MAX_PAYLOAD_BYTES as usize + 1];
    let found = read_one(annotations, &big);
    assert!(found.names.is_none() && found.payload.is_empty() && found.signature.is_empty());
    assert!(found.fault.is_some_and(|fault| fault.contains("1 MiB")));

    let missing = manifest(&layer(SIMPLE_SIGNING, b"x", annotations), "");
    let missing = read(&missing, |_| None);
    assert!(missing[0].names.is_none() && missing[0].signature.is_empty() && missing[0].fault.is_some());

    let broken = read_one(annotations, b"{\"critical\":");
    assert!(broken.names.is_none() && broken.fault.is_some_and(|fault| fault.contains("malformed")));
    assert_eq!(broken.signature, &b"sig"[..], "the arithmetic can still be done");
}

#[test]
fn the_id_covers_what_is_beside_the_signature() {
    let signature = r#""dev.cosignproject.cosign/signature":"c2ln""#;
    let mut ids = vec![read_one(signature, &good_payload()).id];
    for name in ["certificate", "chain", "bundle", "rfc3161timestamp"] {
        ids.push(read_one(&format!(r#"{signature},"dev.sigstore.cosign/{name}":"x""#), &good_payload()).id);
    }
    ids.push(read_one(signature, b"{}").id);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    let unrelated = read_one(&format!(r#"{signature},"note":"x""#), &good_payload());
    assert_eq!(unrelated.id, read_one(signature, &good_payload()).id);
}

#[test]
fn begins_an_image_as_cosign_does() {
    // facts/sigstore.md, annex A.1
    let digest = "sha256:2640004483400099caaf561d540c6f3feb82d56361b8bdd9f0cc19432c31f0fc".parse().expect("digest");
    let payload = payload("registry.example.com/team/app", &digest, &BTreeMap::new());
    let signature = "MEUCIHyUrILWuKzRpst3kzWCs3f45V11wugknyUeffNvtzKUAiEA6zOQlNHirOZpGGsB2DUJEZiY/0aUCHIE2wUBssO73x0=";
    let image = append(None, &payload, &BASE64.decode(signature).expect("base64"), BTreeMap::new()).expect("new");
    assert_eq!(Digest::of(&image.config).hex(), "814c6da9a6c9c99a6b7ee10985f147a50dd717a73afd2748e08edd91e841b542");
    assert_eq!(Digest::of(&image.manifest).hex(), "331ea30d0b6c3c9e7b80ec7d4bd4b35423cbca42cb3e68e550baa3aee5ee9193");
}

#[test]
fn appends_and_merges_without_losing_any() {
    let parse = |image: SignatureImage| Manifest::parse(image.manifest, None).expect("manifest");
    let one = parse(append(None, &good_payload(), b"one", BTreeMap::new()).expect("new"));
    assert!(append(Some(&one), &good_payload(), b"one", BTreeMap::new()).is_none(), "it is there");
    let two = parse(
        append(Some(&one), &good_payload(), b"two", BTreeMap::new()).expect("another signature of the same payload"),
    );
    assert_eq!(two.layers().len(), 2);
    assert!(merge(&two, &one).is_none() && merge(&two, &two).is_none());

    let three = parse(append(Some(&one), &good_payload(), b"three", BTreeMap::new()).expect("appended"));
    let all = parse(merge(&two, &three).expect("one is new"));
    let signatures: Vec<_> = read(&all, |_| Some(good_payload().into())).into_iter().map(|s| s.signature).collect();
    assert_eq!(signatures, [&b"one"[..], b"two", b"three"]);
    assert_eq!(merge(&one, &two).map(|image| image.manifest), Some(two.raw().clone()));
}

#[test]
fn an_image_keeps_its_flavour() {
    let text = manifest(
        "",
        r#","annotations":{"a":"<b>"},"subject":{"mediaType":"m","size":1,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"artifactType":"t/x""#,
    );
    let image = append(Some(&text), b"{}", b"s", BTreeMap::new()).expect("appended");
    let written = String::from_utf8(image.manifest.to_vec()).expect("UTF-8");
    assert!(
        written.contains(r#""annotations":{"a":"\u003cb\u003e"},"subject":{"mediaType":"m","size":1,"#),
        "{written}"
    );
    assert!(written.ends_with(r#","artifactType":"t/x"}"#), "{written}");
    let again = Manifest::parse(image.manifest, None).expect("manifest");
    assert_eq!((again.annotations(), again.subject()), (text.annotations(), text.subject()));
}
