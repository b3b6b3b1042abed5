//! Where cosign keeps things, SBOMs that are attached and shown, and signatures as files.

use crate::world::{APP, World};

#[test]
fn places_are_named_for_what_is_held() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let (reference, repository) = (world.reference("1.0"), format!("{}/{APP}", world.registry.host()));
    let says = |arguments: &[&str]| world.home.larder([&["triangulate"], arguments].concat()).exits(0).stdout;
    let place = |suffix: &str| format!("{repository}:{}\n", image.digest_tag(suffix));
    assert_eq!(says(&[&reference]), place(".sig"));
    assert_eq!(says(&["--type", "attestation", &reference]), place(".att"));
    assert_eq!(says(&["--type", "sbom", &reference]), place(".sbom"));
    assert_eq!(says(&["--type", "digest", &reference]), format!("{repository}@{}\n", image.digest()));
    assert_eq!(says(&[&format!("{repository}@{}", image.digest())]), place(".sig"));
    world.home.larder(["triangulate", &world.reference("none")]).exits(1).is_a_clear_error("not held").hints();
    world.home.larder(["triangulate", &format!("{repository}:{}", image.digest_tag(".sig"))]).exits(1).hints();
    world.home.larder(["triangulate", "--type", "referrer", &reference]).exits(2);
}
