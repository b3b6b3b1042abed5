//! A disk that is really full.

use std::path::{Path, PathBuf};

use harness::{FakeRegistry, Home, Image, Signer};
use larder_proto::v1::State;

use crate::tools::run;

/// A small file system in memory; unmounted when dropped.
struct Small {
    place: PathBuf,
    _folder: Home,
}

impl Small {
    fn mount(size: &str) -> Self {
        let folder = Home::new();
        let place = folder.beside("small");
        std::fs::create_dir(&place).expect("a folder");
        run("mount", ["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs", path(&place)]);
        Self { place, _folder: folder }
    }

    fn grow(&self, size: &str) {
        run("mount", ["-o", &format!("remount,size={size}"), path(&self.place)]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = crate::tools::attempt("umount", ["-l", path(&self.place)], &[]);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub(crate) fn a_small_tmpfs() {
    let small = Small::mount("24m");
    let (registry, release) = (FakeRegistry::start(), Signer::new("release"));
    let home = Home::inside(&small.place);
    let mut daemon = home.start();
    home.trust().key("release", &release);
    daemon.client().trust_becomes("settled", 1, 0);
    let fits = Image::small("fits");
    registry.put("store/app", "fits", &fits);
    registry.put_signature("store/app", &fits.digest(), &release.signature_of(&fits));
    home.larder(["pull", "--verified", &registry.reference("store/app", "fits")]).exits(0);
    let large = Image::new("large").layer(harness::image::noise("large", 40 << 20)).build();
    registry.put("store/app", "large", &large);
    home.larder(["pull", &registry.reference("store/app", "large")]).exits(1).is_a_clear_error("no room");
    daemon.assert_up();
    assert!(daemon.client().query(&registry.reference("store/app", "large")).is_err(), "nothing half-visible");
    assert_eq!(daemon.client().state(&registry.reference("store/app", "fits")), State::Verified, "nothing lost");
    home.larder(["pull", &registry.reference("store/app", "fits")]).exits(0);
    small.grow("128m");
    home.larder(["pull", &registry.reference("store/app", "large")]).exits(0);
    home.assert_blobs_are_whole();
    // So full that not even a record fits: a change that narrows takes effect all the same.
    let filler = small.place.join("filler");
    let _ = std::fs::write(&filler, vec![0_u8; 256 << 20]);
    home.trust().remove_key("release");
    daemon.client().becomes(&registry.reference("store/app", "fits"), State::Untrusted);
    std::fs::remove_file(&filler).expect("the filler's removal");
    daemon.assert_up();
    drop(daemon);
    drop(home);
}
