//! Images and indexes, made on the spot.

use bytes::Bytes;
use larder_core::Digest;
use larder_core::manifest::{OCI_INDEX, OCI_MANIFEST};
use serde_json::{Value, json};

/// `application/vnd.oci.image.config.v1+json`
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// `application/vnd.oci.image.layer.v1.tar`
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A manifest's bytes.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Bytes,
}

impl RawManifest {
    /// Returns its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

/// Manifests, successors first and the root last, with all their blobs.
#[derive(Clone, Debug, Default)]
pub struct Content {
    manifests: Vec<RawManifest>,
    blobs: Vec<Bytes>,
}

impl Content {
    /// Makes content of one manifest, well-formed or not.
    pub fn of(media_type: &str, manifest: &Value, blobs: Vec<Bytes>) -> Self {
        Self::of_bytes(media_type, manifest.to_string(), blobs)
    }

    /// Makes content of one manifest's bytes, well-formed or not.
    pub fn of_bytes(media_type: &str, manifest: impl Into<Bytes>, blobs: Vec<Bytes>) -> Self {
        Self { manifests: vec![RawManifest { media_type: media_type.to_owned(), bytes: manifest.into() }], blobs }
    }

    /// Returns the manifests, the root last.
    pub fn manifests(&self) -> &[RawManifest] {
        &self.manifests
    }

    /// Returns the blobs.
    pub fn blobs(&self) -> &[Bytes] {
        &self.blobs
    }

    /// Returns the root.
    pub fn root(&self) -> &RawManifest {
        self.manifests.last().expect("content has a root")
    }

    /// Returns the root's digest.
    pub fn digest(&self) -> Digest {
        self.root().digest()
    }

    /// Returns the root's descriptor.
    pub fn descriptor(&self) -> Value {
        let root = self.root();
        json!({"mediaType": root.media_type, "digest": root.digest().to_string(), "size": root.bytes.len()})
    }

    /// Returns the digest of the last blob: an image's top layer.
    pub fn top_layer(&self) -> Digest {
        Digest::of(self.blobs.last().expect("an image with a layer"))
    }

    /// Returns the digest tag of the root with a suffix: `sha256-<hex>.sig`.
    pub fn digest_tag(&self, suffix: &str) -> String {
        digest_tag(&self.digest(), suffix)
    }
}

/// Returns `sha256-<hex><suffix>`.
pub fn digest_tag(digest: &Digest, suffix: &str) -> String {
    format!("sha256-{}{suffix}", digest.hex())
}

/// Returns a descriptor of a blob.
pub fn describe(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}

/// An image that is being made.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    layers: Vec<Bytes>,
    os: String,
    architecture: String,
    subject: Option<Value>,
    artifact_type: Option<String>,
}

impl Image {
    /// Begins an image; images of different names have different digests.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            layers: Vec::new(),
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            subject: None,
            artifact_type: None,
        }
    }

    /// Returns a finished image of two small layers, the first shared by all.
    pub fn small(name: &str) -> Content {
        Self::new(name).layer(noise("base", 8_000)).layer(noise(name, 4_000)).build()
    }

    /// Adds a layer.
    #[must_use]
    pub fn layer(mut self, bytes: impl Into<Bytes>) -> Self {
        self.layers.push(bytes.into());
        self
    }

    /// Sets the architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Hangs it on a subject.
    #[must_use]
    pub fn subject(mut self, subject: &Content, artifact_type: &str) -> Self {
        self.subject = Some(subject.descriptor());
        self.artifact_type = Some(artifact_type.to_owned());
        self
    }

    /// Finishes it.
    pub fn build(self) -> Content {
        self.build_with(OCI_LAYER)
    }

    /// Finishes it with layers of this media type.
    pub fn build_with(self, layer_type: &str) -> Content {
        let config = json!({"architecture": self.architecture, "os": self.os, "name": self.name,
            "rootfs": {"type": "layers", "diff_ids": self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect::<Vec<_>>()}});
        let config = Bytes::from(config.to_string());
        let layers: Vec<_> = self.layers.iter().map(|layer| describe(layer_type, layer)).collect();
        let mut manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": describe(OCI_CONFIG, &config), "layers": layers});
        if let Some(subject) = self.subject {
            manifest["subject"] = subject;
        }
        if let Some(artifact_type) = self.artifact_type {
            manifest["artifactType"] = artifact_type.into();
        }
        let mut blobs = vec![config];
        blobs.extend(self.layers);
        Content::of(OCI_MANIFEST, &manifest, blobs)
    }
}

/// An index that is being made.
#[derive(Clone, Debug, Default)]
pub struct Index {
    children: Vec<Value>,
    content: Content,
}

impl Index {
    /// Begins an index.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a child for a platform.
    #[must_use]
    pub fn child(self, content: &Content, os: &str, architecture: &str) -> Self {
        let mut descriptor = content.descriptor();
        descriptor["platform"] = json!({"os": os, "architecture": architecture});
        self.entry(content, descriptor)
    }

    /// Adds a child under a descriptor of the caller's.
    #[must_use]
    pub fn entry(mut self, content: &Content, descriptor: Value) -> Self {
        self.children.push(descriptor);
        self.content.manifests.extend(content.manifests.iter().cloned());
        self.content.blobs.extend(content.blobs.iter().cloned());
        self
    }

    /// Finishes it.
    pub fn build(mut self) -> Content {
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.children});
        self.content.manifests.push(RawManifest { media_type: OCI_INDEX.to_owned(), bytes: index.to_string().into() });
        self.content
    }
}

/// Returns the architecture of this machine, as images call it.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Returns bytes that do not compress and are the same for the same seed.
pub fn noise(seed: &str, length: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut block = Digest::of(seed.as_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(block.as_bytes());
        block = Digest::of(block.as_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}
