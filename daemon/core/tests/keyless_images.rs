//! The keyless image cases of the fixtures, by the engine alone: what a registry would give is read out of the layouts.
//!
//! Shown here is that every format that cosign wrote beside an image (classic signatures and attestations, `dsse` and
//! `intoto` entries, bundles) can be claimed and is examined rightly; whoever asks by references and tags is tested elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use larder_core::Digest;
use larder_core::key::PublicKey;
use larder_core::keyless::{
    Claim, ClassicEvidence, Demands, GivenDigest, Identity, Message, Pattern, Signed, TrustedRoot, certificates,
    examine,
};
use larder_core::signature::bundle::{Bundle, Content};
use larder_core::signature::dsse::{COSIGN_SIGN, Envelope, Statement};
use serde_json::Value;

/// Cases that come out otherwise than with cosign 3, and why.
const DIFFERENCES: [(&str, &str); 13] = [
    ("image/image-attest-rekor1-tsa", NOT_A_SIGNATURE),
    ("image/image-attest-rekor1-tsa/stamps", NOT_A_SIGNATURE),
    ("image/image-attest-rekor1-tsa/no-tlog-stamps", NOT_A_SIGNATURE),
    ("image/image-attest-rekor2-tsa", NOT_A_SIGNATURE),
    ("image/image-attest-rekor2-tsa/stamps", NOT_A_SIGNATURE),
    ("image/image-attest-rekor2-tsa/no-tlog-stamps", NOT_A_SIGNATURE),
    ("image/image-legacy/stamps", NO_TIMESTAMP),
    ("image/image-legacy/keys-stamps", NO_TIMESTAMP),
    ("image/image-legacy-actions/stamps", NO_TIMESTAMP),
    ("image/image-legacy-actions/keys-stamps", NO_TIMESTAMP),
    ("image/image-v2made-rekor2-dsse", DSSE_IN_REKOR_2),
    ("image/image-v2made-rekor2-dsse/stamps", DSSE_IN_REKOR_2),
    ("image/image-v2made-rekor2-dsse/no-tlog-stamps", DSSE_IN_REKOR_2),
];
const NOT_A_SIGNATURE: &str = "an attestation is not a signature";
const NO_TIMESTAMP: &str = "asked for a timestamp, an old signature without one is refused";
const DSSE_IN_REKOR_2: &str = "what cosign 2 logged in Rekor v2 is a good signature";

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cosign/keyless")
}

fn read(path: &str) -> Vec<u8> {
    fs::read(fixtures().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// A layer of something that is attached to an image.
struct Layer {
    media_type: String,
    annotations: BTreeMap<String, String>,
    bytes: Bytes,
}

/// A layout, by tags.
struct Layout {
    name: String,
    tags: BTreeMap<String, String>,
}

impl Layout {
    fn open(name: &str) -> Option<Self> {
        let index = fs::read(fixtures().join(format!("layouts/{name}/index.json"))).ok()?;
        let index = json(&index);
        let entries = index["manifests"].as_array().expect("manifests");
        let tag = |entry: &Value| {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
            Some((name.to_owned(), entry["digest"].as_str()?.to_owned()))
        };
        Some(Self { name: name.to_owned(), tags: entries.iter().filter_map(tag).collect() })
    }

    fn blob(&self, digest: &str) -> Bytes {
        read(&format!("layouts/{}/blobs/{}", self.name, digest.replace(':', "/"))).into()
    }

    fn layers(&self, digest: &str) -> Vec<Layer> {
        let manifest = json(&self.blob(digest));
        let layer = |layer: &Value| Layer {
            media_type: layer["mediaType"].as_str().expect("a media type").to_owned(),
            annotations: serde_json::from_value(layer["annotations"].clone()).unwrap_or_default(),
            bytes: self.blob(layer["digest"].as_str().expect("a digest")),
        };
        manifest["layers"].as_array().into_iter().flatten().map(layer).collect()
    }

    /// Returns every layer that is attached to an image, by its tags.
    fn attached(&self, image: &str) -> Vec<Layer> {
        let tag = image.replace(':', "-");
        let mut found = Vec::new();
        for ending in [".sig", ".att"] {
            found.extend(self.tags.get(&format!("{tag}{ending}")).into_iter().flat_map(|digest| self.layers(digest)));
        }
        if let Some(index) = self.tags.get(&tag) {
            let index = json(&self.blob(index));
            let digests = index["manifests"].as_array().into_iter().flatten().filter_map(|one| one["digest"].as_str());
            found.extend(digests.flat_map(|digest| self.layers(digest)));
        }
        found
    }
}

/// What a case asks for.
#[derive(Default)]
struct Asked {
    root: TrustedRoot,
    flags: BTreeMap<String, String>,
    image: String,
    wants_attestation: bool,
}

impl Asked {
    fn of(case: &Value) -> Option<Self> {
        let mut asked = Self::default();
        let words: Vec<&str> = case["argv"].as_array()?.iter().filter_map(Value::as_str).collect();
        asked.wants_attestation = *words.first()? == "verify-attestation";
        let mut rest = words[1..].iter();
        while let Some(word) = rest.next() {
            match word.split_once('=') {
                Some((name, value)) if word.starts_with("--") => asked.flags.insert(name.to_owned(), value.to_owned()),
                _ if word.starts_with("--certificate") || ["--trusted-root", "--type", "-a"].contains(word) => {
                    asked.flags.insert((*word).to_owned(), (*rest.next()?).to_owned())
                }
                _ if word.starts_with('-') => asked.flags.insert((*word).to_owned(), String::new()),
                _ => {
                    asked.image = word.strip_prefix("{reg}/keyless/")?.to_owned();
                    None
                }
            };
        }
        let file = |name: &str| case["env"][name].as_str().map(|path| read(path.trim_start_matches("{fx}/")));
        asked.root = match (asked.flags.get("--trusted-root"), file("SIGSTORE_ROOT_FILE")) {
            (Some(path), _) => TrustedRoot::parse(&read(path.trim_start_matches("{fx}/"))).ok()?,
            (None, Some(issuers)) => {
                let key =
                    |name: &str| file(name).and_then(|bytes| PublicKey::from_pem(&bytes).ok()).into_iter().collect();
                let stamps = certificates(&file("SIGSTORE_TSA_CERTIFICATE_FILE")?).ok()?;
                let (logs, ct_logs) = (key("SIGSTORE_REKOR_PUBLIC_KEY"), key("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE"));
                TrustedRoot::assemble(&certificates(&issuers).ok()?, &stamps, logs, ct_logs).ok()?
            }
            (None, None) => return None,
        };
        Some(asked)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag)
    }

    fn demands(&self) -> Option<Demands> {
        let flag = |name: &str| self.flags.get(name).map(String::as_str);
        let pattern = |name: &str| Pattern::new(flag(name), flag(&format!("{name}-regexp"))).ok();
        let subject = pattern("--certificate-identity").filter(|pattern| !pattern.is_any())?;
        let issuer = pattern("--certificate-oidc-issuer").filter(|pattern| !pattern.is_any())?;
        let names = ["trigger", "sha", "name", "repository", "ref"];
        let extension =
            |(number, name)| Some((number, flag(&format!("--certificate-github-workflow-{name}"))?.to_owned()));
        let extensions = (2_u8..).zip(names).filter_map(extension).collect();
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().ok()?;
        let mut demands = Demands::keyless(vec![Identity { subject, issuer, extensions }], now);
        demands.logs = usize::from(!self.has("--insecure-ignore-tlog"));
        demands.signed_timestamps = self.has("--use-signed-timestamps");
        demands.sct = !self.has("--insecure-ignore-sct");
        Some(demands)
    }

    /// Says whether anything that is attached to the image is what is asked for.
    fn is_met(&self) -> bool {
        let Some(demands) = self.demands() else { return false };
        let Some((name, tag)) = self.image.split_once(':') else { return false };
        let Some(layout) = Layout::open(name) else { return false };
        let Some(image) = layout.tags.get(tag) else { return false };
        let digest = image.parse().expect("a digest");
        layout.attached(image).iter().any(|layer| self.counts(layer, &digest, &demands).unwrap_or(false))
    }

    fn counts(&self, layer: &Layer, image: &Digest, demands: &Demands) -> Option<bool> {
        if layer.media_type.starts_with("application/vnd.dev.sigstore.bundle") {
            let bundle = Bundle::parse(&layer.bytes).ok()?;
            let claim = Claim::of_bundle(&bundle, None, None).ok()?;
            examine(&claim, &self.root).meets(demands).ok()?;
            let Content::Envelope(envelope) = &bundle.content else { return None };
            return self.is_about(&envelope.payload, image);
        }
        let evidence = ClassicEvidence::read(&layer.annotations);
        let envelope = Envelope::parse(&layer.bytes).ok();
        let signature = layer.annotations.get("dev.cosignproject.cosign/signature");
        let signature = base64::engine::general_purpose::STANDARD.decode(signature?).ok()?;
        let (signed, raw, stamped) = match &envelope {
            Some(envelope) => {
                let Envelope { payload_type, payload, .. } = envelope;
                let signed = Signed::Envelope { payload_type, payload, written: Some(&layer.bytes) };
                (signed, &envelope.signature[..], &layer.bytes[..])
            }
            None => (Signed::Message(Message::Bytes(&layer.bytes)), &signature[..], &signature[..]),
        };
        let claim = Claim {
            signed,
            signature: raw,
            digest: GivenDigest::NotAsked,
            key_id: envelope.as_ref().and_then(|envelope| envelope.key_id.as_deref()),
            signer: evidence.signer()?,
            entries: &evidence.entries,
            timestamps: &evidence.timestamps,
            stamped,
        };
        examine(&claim, &self.root).meets(demands).ok()?;
        match envelope {
            Some(envelope) => self.is_about(&envelope.payload, image),
            None if self.wants_attestation || self.has("-a") => Some(false),
            None if self.has("--check-claims") => Some(true),
            None => {
                let claimed = json(&layer.bytes)["critical"]["image"]["docker-manifest-digest"].clone();
                Some(claimed == image.to_string())
            }
        }
    }

    fn is_about(&self, payload: &[u8], image: &Digest) -> Option<bool> {
        const CUSTOM: &str = "https://cosign.sigstore.dev/attestation/v1";
        let statement = Statement::parse(payload).ok()?;
        let wanted = match (self.wants_attestation, self.flags.get("--type").map(String::as_str)) {
            (false, _) => COSIGN_SIGN,
            (true, None | Some("custom")) => CUSTOM,
            (true, Some(_)) => return Some(false),
        };
        // Nothing in these fixtures has the annotations that some cases ask for.
        Some(statement.predicate_type == wanted && statement.names(image) && !self.has("-a"))
    }
}

#[test]
fn every_image_case_comes_out_as_it_is_true() {
    let expected = json(&read("expected.json"));
    let cases = expected["cases"].as_array().expect("cases");
    let is_image = |case: &&Value| case["argv"][0].as_str().is_some_and(|verb| !verb.starts_with("verify-blob"));
    let (mut count, mut wrong) = (0, Vec::new());
    for case in cases.iter().filter(is_image) {
        count += 1;
        let name = case["name"].as_str().expect("a name");
        let met = Asked::of(case).is_some_and(|asked| asked.is_met());
        let cosign = case["cosign3"]["exit"] == 0;
        let difference = DIFFERENCES.iter().find(|(case, _)| *case == name);
        if met == cosign && difference.is_some() || met != cosign && difference.is_none() {
            let why = difference.map_or("cosign 3's", |(_, why)| why);
            wrong.push(format!("{name}: {met}, not {why}; {}", case["cosign3"]["stderr"]));
        }
    }
    assert_eq!(count, 191);
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
