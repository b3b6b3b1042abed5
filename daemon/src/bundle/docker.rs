//! What `docker save` wrote before version 25, and `podman save` and `skopeo … docker-archive:` still do: configs and
//! layers, and no manifest.
//!
//! A manifest is made, always the same for the same archive: the config as it is, so that the image's id stays, and the
//! layers as they are, compressed or not. The digest that the image had at a registry cannot be had from such an
//! archive, for that was the digest of a manifest which it lacks; no signature names what is made here.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use larder_core::Digest;
use larder_core::digest::Algorithm;
use larder_core::manifest::{Content, MAX_MANIFEST_BYTES, Manifest, OCI_MANIFEST};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BundleError, Carrier, Contents, Hashing, Image, MAX_INDEX_BYTES, blob_name};

/// Lists the images, for docker.
pub const DOCKER_MANIFEST: &str = "manifest.json";
use DOCKER_MANIFEST as MANIFEST;
/// The most images of one archive, and the most layers of an image.
const MAX_IMAGES: usize = 1000;
const MAX_LAYERS: usize = 1000;

/// Lists images for docker and for `podman load`, which read a tar by this file, and find the blobs where the layout has
/// them. Indexes are left out: docker loads one image.
pub fn for_docker<'a>(images: impl IntoIterator<Item = (Option<&'a str>, &'a Manifest)>) -> Option<Vec<u8>> {
    let listed = images.into_iter().filter_map(|(name, manifest)| match manifest.content() {
        Content::Image { config, layers } => Some(json!({
            "Config": blob_name(&config.digest),
            "RepoTags": name.map_or(Value::Null, |name| json!([name])),
            "Layers": layers.iter().map(|layer| blob_name(&layer.digest)).collect::<Vec<_>>(),
        })),
        Content::Index { .. } => None,
    });
    let listed: Vec<Value> = listed.collect();
    if listed.is_empty() { None } else { serde_json::to_vec(&listed).ok() }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

/// A layer in an archive.
#[derive(Clone, Copy)]
struct Layer {
    media_type: &'static str,
    digest: Digest,
    size: u64,
}

/// Reads an archive.
///
/// # Errors
/// Fails where it is malformed, or lacks what it lists.
pub(super) async fn read(contents: &mut Contents) -> Result<(), BundleError> {
    let malformed = |name: &str, why: String| BundleError::Malformed { name: name.to_owned(), why };
    let bytes = contents.carrier().small(MANIFEST, MAX_INDEX_BYTES).await?;
    let saved: Vec<Saved> = serde_json::from_slice(&bytes).map_err(|error| malformed(MANIFEST, error.to_string()))?;
    if saved.len() > MAX_IMAGES {
        return Err(BundleError::TooManyEntries { name: MANIFEST, count: saved.len(), limit: MAX_IMAGES });
    }
    let mut known = HashMap::new();
    for Saved { config, repo_tags, layers } in saved {
        let config_bytes = contents.carrier().small(&config, MAX_MANIFEST_BYTES).await?;
        let parsed: Config =
            serde_json::from_slice(&config_bytes).map_err(|error| malformed(&config, error.to_string()))?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != layers.len() || layers.len() > MAX_LAYERS {
            let why = format!(
                "{} layers are listed, {config} has {}; at most {MAX_LAYERS} are read",
                layers.len(),
                diff_ids.len()
            );
            return Err(malformed(MANIFEST, why));
        }
        let mut listed = Vec::new();
        for (name, diff_id) in layers.iter().zip(&diff_ids) {
            let layer = layer(contents, &mut known, name, *diff_id).await?;
            listed.push(json!({"mediaType": layer.media_type, "digest": layer.digest.to_string(), "size": layer.size}));
        }
        let config_digest = Digest::of(&config_bytes);
        contents.places.insert(config_digest, config);
        let manifest = made(config_digest, config_bytes.len(), &listed)?;
        let digest = manifest.digest();
        contents.made.insert(digest, manifest);
        contents.notes.push(format!(
            "the archive has no manifest for the image {}: {digest} was made for it, which no signature names",
            config_digest.short()
        ));
        let names = repo_tags.unwrap_or_default();
        for name in &names {
            contents.images.push(Image::named(digest, None, Some(name)));
        }
        if names.is_empty() {
            contents.images.push(Image::named(digest, None, None));
        }
    }
    Ok(())
}

/// Finds out a layer's digest. What is no archive by itself is compressed, and has to be read through for it.
async fn layer(
    contents: &mut Contents,
    known: &mut HashMap<String, Layer>,
    name: &str,
    diff_id: Digest,
) -> Result<Layer, BundleError> {
    if let Some(layer) = known.get(name) {
        return Ok(*layer);
    }
    let Some(size) = contents.carrier().length(name) else {
        // docker links a layer that it has written already; links are not followed, and need not be.
        let twin = known.values().find(|layer| layer.digest == diff_id);
        return twin.copied().ok_or_else(|| BundleError::Missing(name.to_owned()));
    };
    let media_type = match contents.carrier().beginning(name, 4).await?.as_ref() {
        [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
        _ => "application/vnd.oci.image.layer.v1.tar",
    };
    let digest = if media_type.ends_with("tar") { diff_id } else { hashed(contents.carrier(), name).await? };
    let layer = Layer { media_type, digest, size };
    contents.places.insert(digest, name.to_owned());
    known.insert(name.to_owned(), layer);
    Ok(layer)
}

async fn hashed(carrier: &Carrier, name: &str) -> Result<Digest, BundleError> {
    let hashing = Hashing::begin(Algorithm::Sha256);
    let mut pieces = carrier.read(name, 0).await?;
    while let Some(piece) = pieces.try_next().await? {
        hashing.update(piece).await;
    }
    hashing.finish().await.map(|(digest, _)| digest).ok_or(BundleError::Gone)
}

fn made(config: Digest, size: usize, layers: &[Value]) -> Result<Manifest, BundleError> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": size},
        "layers": layers,
    });
    let parsed = Manifest::parse(manifest.to_string().into(), None);
    parsed.map_err(|source| BundleError::Manifest { name: MANIFEST.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::carrier::tests::in_memory;
    use super::*;

    const PLAIN: &[u8] = b"a plain layer";
    const GZIPPED: &[u8] = b"\x1f\x8b\x08 a compressed layer";

    fn archive(repo_tags: &str, diff_ids: &[Digest]) -> Vec<(String, Bytes)> {
        let ids: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
        let manifest = format!(
            r#"[{{"Config":"c.json","RepoTags":{repo_tags},"Layers":["1/layer.tar","2.tar.gz","3/layer.tar"]}}]"#
        );
        vec![
            ("c.json".to_owned(), config.to_string().into()),
            ("1/layer.tar".to_owned(), Bytes::from_static(PLAIN)),
            ("2.tar.gz".to_owned(), Bytes::from_static(GZIPPED)),
            (MANIFEST.to_owned(), manifest.into()),
        ]
    }

    #[tokio::test]
    async fn a_manifest_is_made_and_always_the_same() {
        // The third is a link to the first, and so is no file.
        let ids = [Digest::of(PLAIN), Digest::of(b"unpacked"), Digest::of(PLAIN)];
        let tags = r#"["alpine:3.22","localhost/x:1"]"#;
        let contents = Contents::open(in_memory(archive(tags, &ids))).await.expect("an archive");
        let names: Vec<_> =
            contents.images.iter().filter_map(|image| image.reference.as_ref()).map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/alpine:3.22", "localhost/x:1"]);
        let digest = contents.images[0].digest;
        let manifest = contents.manifest(&digest, None).await.expect("read").expect("made");
        let layers: Vec<Digest> = manifest.layers().iter().map(|layer| layer.digest).collect();
        assert_eq!(layers, [Digest::of(PLAIN), Digest::of(GZIPPED), Digest::of(PLAIN)]);
        for layer in manifest.successors() {
            let bytes: Vec<Bytes> = contents.blob(layer, 0).await.expect("there").try_collect().await.expect("read");
            assert_eq!(Digest::of(&bytes.concat()), layer.digest);
        }
        let again = Contents::open(in_memory(archive("null", &ids))).await.expect("an archive");
        assert_eq!(again.images, [Image { digest, entry_name: None, reference: None, tag: None }]);
    }

    #[tokio::test]
    async fn what_is_missing_or_does_not_fit_is_refused() {
        let (plain, other) = (Digest::of(PLAIN), Digest::of(b"other"));
        let unlinked = Contents::open(in_memory(archive("null", &[plain, other, other]))).await;
        assert!(matches!(unlinked, Err(BundleError::Missing(name)) if name == "3/layer.tar"));
        let fewer = Contents::open(in_memory(archive("null", &[plain]))).await;
        assert!(matches!(fewer, Err(BundleError::Malformed { .. })));
        let mut no_config = archive("null", &[plain, other, plain]);
        no_config.remove(0);
        assert!(
            matches!(Contents::open(in_memory(no_config)).await, Err(BundleError::Missing(name)) if name == "c.json")
        );
        let nonsense = in_memory(vec![(MANIFEST.to_owned(), Bytes::from_static(b"{}"))]);
        assert!(matches!(Contents::open(nonsense).await, Err(BundleError::Malformed { .. })));
    }
}
