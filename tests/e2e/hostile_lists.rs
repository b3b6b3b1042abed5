//! A registry whose lists have no end, or that lists more than anybody has memory for. Each: as in `hostile_registry`.

use std::net::TcpStream;
use std::time::Duration;

use harness::hostile::{Asked, write_answer, write_endlessly, write_head};
use harness::image::RawManifest;
use harness::{Bounded, HostileRegistry};
use larder_core::Digest;
use larder_core::manifest::{OCI_INDEX, OCI_MANIFEST};
use serde_json::json;

use crate::hostile_registry::{Served, Victim, reference};

/// The `Link` to another page, of tags or of what refers to a digest, which is another one each time.
fn another_page(asked: &Asked) -> String {
    let path = asked.path.split('?').next().unwrap_or_default();
    format!("Link: <{path}?n=1000&last=t{}>; rel=\"next\"", asked.before)
}

#[test]
fn a_tag_list_without_end() {
    // Every page names another one.
    let pages = HostileRegistry::start(|asked, stream| {
        let tags: Vec<String> = (0..100).map(|tag| format!("t{}-{tag}", asked.before)).collect();
        let body = json!({"name": "store/app", "tags": tags}).to_string();
        write_answer(stream, "200 OK", &[&another_page(asked), "Content-Type: application/json"], body.as_bytes())
    });
    let mut victim = Victim::start();
    // What there is is shown, and that it is not all.
    let repository = format!("{}/store/app", pages.host());
    let bounded = Bounded::begin(&victim.daemon);
    let output = victim.home.larder(["ls", "--remote", &repository]).exits(0);
    bounded.end("a tag list without end");
    assert_eq!(pages.count(), 101, "pages were asked for");
    let tags: Vec<&str> = output.stdout.lines().collect();
    assert_eq!((tags.len(), tags[0], tags[9_999]), (10_000, "t0-0", "t99-99"));
    let said = format!("warning: these are the first 10,000 tags; {repository} has more\n");
    assert_eq!(output.stderr, said);
    assert_eq!(victim.home.larder(["--quiet", "ls", "--remote", &repository]).exits(0).stderr, said);
    let listed = victim.home.larder(["ls", "--remote", &repository, "--output", "json"]).exits(0).json();
    assert_eq!((listed["tags"].as_array().map(Vec::len), &listed["cut"]), (Some(10_000), &json!(true)));
    victim.home.larder(["pull", "--all-tags", &repository]).exits(1).is_a_clear_error("too many tags");
    victim.is_unharmed();

    // One page has no end.
    let page = HostileRegistry::start(|_, stream| {
        write_head(stream, "200 OK", &["Transfer-Encoding: chunked", "Content-Type: application/json"])?;
        write_endlessly(stream, &[b' '; 65536], Duration::ZERO)
    });
    victim.refuses(&["ls", "--remote", &format!("{}/store/app", page.host())], "4 MiB");
}

#[test]
fn pages_without_end_that_say_nothing() {
    let registry = HostileRegistry::start(|asked, stream| {
        write_answer(stream, "200 OK", &[&another_page(asked)], br#"{"tags":[],"manifests":[]}"#)
    });
    let mut victim = Victim::start();
    victim.refuses(&["ls", "--remote", &format!("{}/store/app", registry.host())], "1000 pages");
    assert_eq!(registry.count(), 1_000);
}

#[test]
fn slow_pages_without_end() {
    // Each comes within the time that a page may take.
    let slow = |asked: &Asked, stream: &mut TcpStream| {
        std::thread::sleep(Duration::from_secs(1));
        write_answer(stream, "200 OK", &[&another_page(asked)], br#"{"tags":["a"],"manifests":[]}"#)
    };
    let registry = HostileRegistry::start(slow);
    let mut victim = Victim::start();
    victim.refuses(&["ls", "--remote", &format!("{}/store/app", registry.host())], "slow");
    let image = Served::image("slow pages");
    let registry = HostileRegistry::start(move |asked, stream| match asked.path.contains("/referrers/") {
        true => slow(asked, stream),
        false => image.answer(asked, stream),
    });
    victim.refuses(&["pull", &reference(&registry)], "slow");
}

#[test]
fn referrers_that_are_long_and_many() {
    // Thirty descriptors of 128 KiB on a page, and a page behind each.
    let image = Served::image("long referrers");
    let registry = HostileRegistry::start(move |asked, stream| {
        if !asked.path.contains("/referrers/") {
            return image.answer(asked, stream);
        }
        let manifests: Vec<_> = (0..30)
            .map(|number| {
                json!({"mediaType": OCI_MANIFEST, "size": 7, "data": "x".repeat(65_536),
                    "digest": Digest::of(format!("{} {number}", asked.before).as_bytes()).to_string(),
                    "annotations": {"long": "y".repeat(65_536)}})
            })
            .collect();
        let page = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).to_string();
        write_answer(stream, "200 OK", &[&another_page(asked)], page.as_bytes())
    });
    let mut victim = Victim::start();
    victim.refuses(&["pull", &reference(&registry)], "32 MiB");
    let pages = registry.asked().iter().filter(|line| line.contains("/referrers/")).count();
    assert!(pages < 10, "{pages} pages");
}

#[test]
fn pages_in_a_circle() {
    let registry = HostileRegistry::start(|asked, stream| {
        let link = format!("Link: </v2/store/app/tags/list?last={}>; rel=\"next\"", asked.before % 2);
        write_answer(stream, "200 OK", &[&link], br#"{"name":"store/app","tags":["a"]}"#)
    });
    let mut victim = Victim::start();
    victim.refuses(&["ls", "--remote", &format!("{}/store/app", registry.host())], "circle");
    assert!(registry.count() < 10, "{}", registry.count());
}

/// A manifest of nearly 4 MiB, most of which says nothing.
fn padded(number: usize) -> RawManifest {
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(b"{}").to_string(), "size": 2});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [],
        "number": number, "pad": "x".repeat((4 << 20) - 1024)});
    RawManifest { media_type: OCI_MANIFEST.to_owned(), bytes: manifest.to_string().into() }
}

/// A manifest that takes many times as much memory as it has bytes: ten thousand layers of one annotation each.
fn swelling(number: usize) -> RawManifest {
    let layer = json!({"digest": Digest::of(b"{}").to_string(), "size": 2, "annotations": {"": ""}});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": layer, "layers": vec![layer.clone(); 10_000],
        "number": number});
    RawManifest { media_type: OCI_MANIFEST.to_owned(), bytes: manifest.to_string().into() }
}

/// Serves these by their digests, a list of them as `1.0`, and what the list is a list of as referrers of an image's.
fn manifests_that_fill_memory(children: Vec<RawManifest>, attached: bool) -> HostileRegistry {
    let descriptor = |child: &RawManifest| json!({"mediaType": OCI_MANIFEST, "digest": child.digest().to_string(), "size": child.bytes.len()});
    let list = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children.iter().map(descriptor).collect::<Vec<_>>()});
    let list = RawManifest { media_type: OCI_INDEX.to_owned(), bytes: list.to_string().into() };
    let served = match attached {
        true => Served::image("with much attached to it"),
        false => Served { root: list.clone(), blobs: Vec::new() },
    };
    // Hashing them at every request would take longer than all else.
    let children: Vec<(String, RawManifest)> =
        children.into_iter().map(|child| (child.digest().to_string(), child)).collect();
    HostileRegistry::start(move |asked, stream| {
        if attached && asked.path.contains("/referrers/") {
            return write_answer(stream, "200 OK", &[], &list.bytes);
        }
        match children.iter().find(|(digest, _)| asked.path.ends_with(digest)) {
            Some((_, child)) => {
                write_answer(stream, "200 OK", &[&format!("Content-Type: {OCI_MANIFEST}")], &child.bytes)
            }
            None => served.answer(asked, stream),
        }
    })
}

#[test]
fn manifests_that_would_fill_memory() {
    let all = ["pull", "--platform", "all"];
    for (children, attached) in [
        ((0..40).map(padded).collect(), false),
        ((0..40).map(padded).collect(), true),
        ((0..24).map(swelling).collect(), false),
        ((0..24).map(swelling).collect::<Vec<_>>(), true),
    ] {
        let registry = manifests_that_fill_memory(children, attached);
        let mut victim = Victim::start();
        // What is kept has 20 MiB; eight manifests of 4 MiB are on their way beside it, as bytes and as what is read of them.
        victim.memory_kib = 128 << 10;
        let reference = reference(&registry);
        victim.refuses(&[&all[..], &[&reference]].concat(), "20 MiB of memory");
        if attached {
            victim.refuses(&["verify", &reference], "20 MiB of memory");
        }
    }
}
