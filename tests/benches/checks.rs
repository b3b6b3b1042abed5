//! How many signatures are checked in a second.
//!
//! By a key (ECDSA P-256, classic signatures): Larder's own check, on one core and as its pool runs it on all, beside the raw
//! speed of aws-lc-rs's `verify_digest_sig` on the same digests. Keyless: a bundle with an entry of Rekor and a timestamp, by the
//! engine in process, and by `larder verify-blob` beside real cosign 3's (`cosign-v3`), each as a process.
//!
//! `cargo bench -p larder-tests --bench checks`

use std::fs;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Digest as RawDigest, SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use harness::Home;
use larder_core::Digest;
use larder_core::key::PublicKey;
use larder_core::keyless::{Claim, Demands, Identity, Message, Pattern, TrustedRoot, examine};
use larder_core::manifest::Manifest;
use larder_core::policy::CheckAnchor;
use larder_core::signature::bundle::Bundle;
use larder_core::signature::{FoundSignature, found, simple_signing};
use larderd::ops::checks::{CheckResult, Pool, check_one};
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::EncodePublicKey as _;
use serde_json::json;

/// How many signatures there are.
const SIGNATURES: usize = 4096;
/// How many of them are in one slice of the pool, as in larderd.
const SLICE: usize = 64;
/// How many slices are waited for at once, as in larderd.
const WAITING: usize = 8;
/// Turns of each side, one after the other; the median counts.
const TURNS: usize = 9;
/// How often the engine, and the processes, verify a bundle in a turn.
const BUNDLES: usize = 500;
const PROCESSES: usize = 40;
/// The aim, of the raw speed.
const AIM: f64 = 0.8;

fn main() {
    by_key();
    keyless();
}

fn by_key() {
    let signing = p256::ecdsa::SigningKey::from_slice(&[7; 32]).expect("a scalar");
    let spki = signing.verifying_key().to_public_key_der().expect("DER");
    let anchors = [CheckAnchor::Key(PublicKey::from_der(spki.as_bytes()).expect("a key"))];
    let found: Vec<FoundSignature> = (0..SIGNATURES).map(|number| signed(&signing, number)).collect();
    let raw_key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki.as_bytes()).expect("a key");
    let raw: Vec<(RawDigest, Vec<u8>)> =
        found.iter().map(|found| (digest(&SHA256, &found.payload), found.signature.to_vec())).collect();

    let verify_raw = |part: &[(RawDigest, Vec<u8>)]| {
        for (digest, signature) in part {
            raw_key.verify_digest_sig(digest, signature).expect("valid");
        }
    };
    let check = |part: &[FoundSignature]| {
        for found in part {
            assert!(check_one(found, &anchors).iter().all(CheckResult::is_valid));
        }
    };
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(timed(|| verify_raw(&raw)));
        ours.push(timed(|| check(&found)));
    }
    told("one core", median(theirs), median(ours));

    let cores = thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let pool = Pool::start().expect("threads");
    let slices: Vec<Arc<[FoundSignature]>> = found.chunks(SLICE).map(Arc::from).collect();
    let anchors = Arc::new(anchors);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(timed(|| {
            thread::scope(|scope| {
                for part in raw.chunks(SIGNATURES.div_ceil(cores)) {
                    scope.spawn(move || verify_raw(part));
                }
            });
        }));
        ours.push(timed(|| {
            let each = |slice: &Arc<[FoundSignature]>| {
                let (pool, slice, anchors) = (pool.clone(), Arc::clone(slice), Arc::clone(&anchors));
                async move {
                    let check = move || -> Vec<CheckResult> {
                        slice.iter().flat_map(|found| check_one(found, &anchors[..])).collect()
                    };
                    let results = pool.run(check).await.expect("checked");
                    assert!(results.iter().all(CheckResult::is_valid));
                }
            };
            runtime.block_on(stream::iter(slices.iter().map(each)).buffer_unordered(WAITING).for_each(async |()| ()));
        }));
    }
    told(&format!("all {cores} cores"), median(theirs), median(ours));
}

/// Makes a classic signature over an image of its own, and reads it as it is found.
fn signed(signing: &p256::ecdsa::SigningKey, number: usize) -> FoundSignature {
    let image = Digest::of(number.to_string().as_bytes());
    let payload = Bytes::from(simple_signing::payload("registry.example/app", &image, &Default::default()));
    let signature: p256::ecdsa::DerSignature = signing.sign(&payload);
    let digest = Digest::of(&payload).to_string();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest},
        "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "size": payload.len(),
            "digest": digest, "annotations": {simple_signing::SIGNATURE_ANNOTATION: base64(signature.as_bytes())}}]});
    let manifest = Manifest::parse(manifest.to_string().into(), None).expect("a manifest");
    found::read(&manifest, |_| Some(payload.clone())).remove(0)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn keyless() {
    let fixtures = harness::binaries::workspace().join("tests/fixtures/cosign/keyless");
    let path = |name: &str| fixtures.join(name);
    let (bundle, root, blob) = (path("bundles/blob-rekor1_tsa.json"), path("roots/good.json"), path("blobs/hello.txt"));
    let read = |path| fs::read(path).expect("a fixture");
    let (text, message) = (read(&bundle), read(&blob));
    let trusted = TrustedRoot::parse(&read(&root)).expect("a root");
    let pattern = |text| Pattern::new(Some(text), None).expect("a pattern");
    let (alice, issuer) = ("alice@example.com", "http://127.0.0.1:8400");
    let identity = Identity { subject: pattern(alice), issuer: pattern(issuer), ..Identity::default() };
    let now = jiff::Timestamp::now();
    let demands = Demands { signed_timestamps: true, ..Demands::keyless(vec![identity], now) };
    let engine = || {
        for _ in 0..BUNDLES {
            let bundle = Bundle::parse(&text).expect("a bundle");
            let claim = Claim::of_bundle(&bundle, Some(Message::Bytes(&message)), None).expect("a claim");
            black_box(examine(&claim, &trusted).meets(&demands).expect("accepted"));
        }
    };
    let per_bundle = median((0..TURNS).map(|_| timed(engine)).collect()) / BUNDLES as u32;
    println!("keyless, the engine in process, one core: {:.0} bundles/s ({per_bundle:?} each)", rate(per_bundle));

    let home = Home::new();
    let arguments = |command: &mut Command| {
        command
            .args(["verify-blob", "--certificate-identity", alice, "--certificate-oidc-issuer", issuer])
            .args(["--use-signed-timestamps", "--bundle"])
            .arg(&bundle)
            .arg("--trusted-root")
            .arg(&root)
            .arg(&blob)
            .env("HOME", home.beside(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    };
    let process = |program: &std::ffi::OsStr| {
        for _ in 0..PROCESSES {
            let mut command = Command::new(program);
            arguments(&mut command);
            assert!(command.status().expect("it can be run").success(), "{program:?} refuses the bundle");
        }
    };
    let larder = harness::binaries().larder.as_os_str();
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TURNS.div_ceil(2) {
        theirs.push(timed(|| process("cosign-v3".as_ref())));
        ours.push(timed(|| process(larder)));
    }
    let [theirs, ours] = [theirs, ours].map(|times| median(times) / PROCESSES as u32);
    println!("keyless, `larder verify-blob` as a process: {:.0}/s ({ours:?} each)", rate(ours));
    println!(
        "keyless, `cosign-v3 verify-blob` as a process: {:.0}/s ({theirs:?} each), {:.1} times as long as larder",
        rate(theirs),
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

fn told(where_: &str, theirs: Duration, ours: Duration) {
    let [theirs, ours] = [theirs, ours].map(|time| rate(time) * SIGNATURES as f64);
    let share = ours / theirs;
    let verdict = if share >= AIM { "reached" } else { "MISSED" };
    println!(
        "P-256 by a key, {where_}: Larder {ours:.0} checks/s, aws-lc-rs raw {theirs:.0}/s: {:.0} % (aim 80 %: {verdict})",
        share * 100.0
    );
}

fn rate(time: Duration) -> f64 {
    1.0 / time.as_secs_f64()
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
