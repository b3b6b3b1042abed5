//! Signatures that are made to hurt whoever looks at them.

use harness::signer::signature_image;
use harness::{Image, Signer};
use serde_json::json;

use super::world::{APP, World};

/// How much more memory the daemon may have had than before, in KiB.
const GROWTH_KIB: u64 = 60 << 10;

/// A payload of 200 MB that is truly signed, by a key that is asked for: its bytes are neither asked for to be judged nor held
/// in memory to be kept, and a good signature beside it counts.
#[test]
fn a_payload_of_200_mb() {
    let world = World::start();
    let signer = Signer::new("somebody");
    let key = world.home.write_beside("somebody.pub", signer.public_pem());
    let image = Image::small("1.0");
    world.registry.put(APP, "1.0", &image);
    let huge = signer.sign_with(&image.digest(), &json!({"note": "x".repeat(200 << 20)}));
    assert!(huge.payload.len() > 200 << 20);
    world.registry.put_signature(APP, &image.digest(), &signature_image(std::slice::from_ref(&huge)));
    let before = world.daemon.memory_kib("VmHWM");
    let verify = || {
        let arguments = ["verify".into(), "--key".into(), key.clone(), world.reference("1.0").into()];
        world.home.larder(arguments)
    };
    let refused = verify().exits(12);
    assert!(refused.stderr.contains("at most 1 MiB"), "{}", refused.stderr);
    world.home.larder(["pull", &world.reference("1.0")]);
    verify().exits(12);
    let good = signer.sign(&image.digest());
    world.registry.put_signature(APP, &image.digest(), &signature_image(&[huge, good]));
    world.home.larder(["pull", &world.reference("1.0")]);
    verify().exits(0);
    let grown = world.daemon.memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < GROWTH_KIB, "{grown} KiB more at the peak");
    world.home.assert_blobs_are_whole();
}
