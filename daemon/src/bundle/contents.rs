//! What an archive holds: images and their names, and what is attached to which digest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use larder_core::artifact::{DigestTag, TagSuffix};
use larder_core::manifest::{MAX_MANIFEST_BYTES, Manifest, is_manifest};
use larder_core::{Descriptor, Digest, Reference, Tag};
use serde::Deserialize;

use super::index::{entry_name, image_name};
use super::{BundleError, Carrier, FileStream, INDEX, Index, Kind, MARKER, MAX_INDEX_BYTES, blob_name, docker};

/// Blobs up to this length are looked through for referrers that nobody lists, as cosign 3 leaves them.
const MAX_ORPHAN: u64 = 256 << 10;
/// At most so many are looked through, and so many bytes of them.
const MAX_ORPHANS: usize = 20_000;
const MAX_ORPHAN_BYTES: u64 = 256 << 20;
/// The most bytes of `oci-layout`.
const MAX_MARKER: u64 = 4096;

/// An image in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its digest.
    pub digest: Digest,
    /// What the archive calls it: a tag, or a whole reference.
    pub entry_name: Option<String>,
    /// The whole reference that the archive claims for it.
    pub reference: Option<Reference>,
    /// The tag in its name.
    pub tag: Option<Tag>,
}

/// What an archive holds.
#[derive(Debug)]
pub struct Contents {
    carrier: Carrier,
    /// Its images, in the archive's order.
    pub images: Vec<Image>,
    /// What a person should know of it, as lines.
    pub notes: Vec<String>,
    /// Manifests that refer to a digest.
    referrers: BTreeMap<Digest, BTreeSet<Digest>>,
    /// What lies under cosign's tags of a digest.
    tagged: BTreeMap<Digest, BTreeSet<(Tag, Digest)>>,
    /// Where blobs are that have other names than a layout gives them.
    pub(super) places: HashMap<Digest, String>,
    /// Manifests that were made, for the archive has none.
    pub(super) made: HashMap<Digest, Manifest>,
}

impl Contents {
    /// Reads what is in an archive; blobs that are no manifests stay unread.
    ///
    /// # Errors
    /// Fails where it is no layout and no archive of docker's, or anything that is listed in it is not what it should be.
    pub async fn open(carrier: Carrier) -> Result<Self, BundleError> {
        let mut contents = Self {
            carrier,
            images: Vec::new(),
            notes: Vec::new(),
            referrers: BTreeMap::new(),
            tagged: BTreeMap::new(),
            places: HashMap::new(),
            made: HashMap::new(),
        };
        if contents.carrier.length(MARKER).is_some() && contents.carrier.length(INDEX).is_some() {
            contents.read_layout().await?;
        } else if contents.carrier.length(docker::DOCKER_MANIFEST).is_some() {
            docker::read(&mut contents).await?;
        } else {
            return Err(BundleError::Unknown);
        }
        if contents.images.is_empty() {
            return Err(BundleError::Empty);
        }
        Ok(contents)
    }

    /// Returns the files.
    pub fn carrier(&self) -> &Carrier {
        &self.carrier
    }

    /// Returns the name of a blob's file.
    pub fn place(&self, digest: &Digest) -> String {
        self.places.get(digest).cloned().unwrap_or_else(|| blob_name(digest))
    }

    /// Returns what refers to a digest, and what lies under cosign's tags of it.
    pub fn attached(&self, subject: &Digest) -> (Vec<Digest>, Vec<(Tag, Digest)>) {
        let referrers = self.referrers.get(subject).into_iter().flatten().copied().collect();
        let tagged = self.tagged.get(subject).into_iter().flatten().cloned().collect();
        (referrers, tagged)
    }

    /// Returns the digests that something is attached to.
    pub fn subjects(&self) -> impl Iterator<Item = Digest> {
        let subjects: BTreeSet<Digest> = self.referrers.keys().chain(self.tagged.keys()).copied().collect();
        subjects.into_iter()
    }

    /// Reads a manifest; `None` where it is not there.
    ///
    /// # Errors
    /// Fails where its bytes are not those of its digest, or no manifest.
    pub async fn manifest(&self, digest: &Digest, announced: Option<&str>) -> Result<Option<Manifest>, BundleError> {
        if let Some(made) = self.made.get(digest) {
            return Ok(Some(made.clone()));
        }
        let name = blob_name(digest);
        if self.carrier.length(&name).is_none() {
            return Ok(None);
        }
        let bytes = self.carrier.small(&name, MAX_MANIFEST_BYTES).await?;
        let actual = Digest::with(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(BundleError::Digest { name, expected: *digest, actual });
        }
        let parsed = Manifest::parse_as(bytes, announced, *digest);
        parsed.map(Some).map_err(|source| BundleError::Manifest { name, source })
    }

    /// Reads a blob, without so many bytes at its beginning; its taker verifies its digest.
    ///
    /// # Errors
    /// Fails where it is not there, or has another length than it is listed with.
    pub async fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<FileStream, BundleError> {
        let name = self.place(&descriptor.digest);
        match self.carrier.length(&name) {
            None => Err(BundleError::Missing(name)),
            Some(actual) if actual != descriptor.size => {
                Err(BundleError::Length { name, listed: descriptor.size, actual })
            }
            Some(_) => self.carrier.read(&name, from).await,
        }
    }

    async fn read_layout(&mut self) -> Result<(), BundleError> {
        self.check_marker().await?;
        let index = Index::parse(&self.carrier.small(INDEX, MAX_INDEX_BYTES).await?)?;
        let mut seen = HashSet::new();
        let mut children = HashSet::new();
        let mut by_kind = Vec::new();
        let mut cosigns_image = None;
        for entry in index.entries() {
            let Some(manifest) = self.listed(entry).await? else { continue };
            seen.insert(entry.digest);
            children.extend(manifest.children().iter().map(|child| child.digest));
            let image = Image::of(entry);
            if let Some(tag) = image.tag.as_ref().filter(|tag| DigestTag::is_reserved(tag)) {
                self.take_tagged(tag, &manifest);
                continue;
            }
            match Kind::of(entry) {
                Some(Kind::Signatures) => by_kind.push((TagSuffix::Signature, entry.digest)),
                Some(Kind::Attestations) => by_kind.push((TagSuffix::Attestation, entry.digest)),
                Some(Kind::Image | Kind::ImageIndex) => {
                    cosigns_image.get_or_insert(entry.digest);
                    self.take_image(image, &manifest);
                }
                None => self.take_image(image, &manifest),
            }
        }
        // What an index lists is part of it, unless it has a name of its own; some tools list every manifest.
        let is_named = |image: &&Image| image.is_named();
        let named: HashSet<Digest> = self.images.iter().filter(is_named).map(|image| image.digest).collect();
        let is_part = |image: &Image| children.contains(&image.digest) || named.contains(&image.digest);
        self.images.retain(|image| image.is_named() || !is_part(image));
        // cosign's own layouts hold one image, and name neither it nor its signatures.
        let cosigns_image = cosigns_image.or_else(|| self.images.first().map(|image| image.digest));
        for (suffix, digest) in by_kind {
            let tag = cosigns_image.and_then(|image| Some((image, DigestTag { digest: image, suffix }.tag()?)));
            if let Some((image, tag)) = tag {
                self.tagged.entry(image).or_default().insert((tag, digest));
            }
        }
        self.find_orphans(&seen).await
    }

    /// Reads the manifest that an entry lists; `None` where it lists something else.
    async fn listed(&mut self, entry: &Descriptor) -> Result<Option<Manifest>, BundleError> {
        if !entry.media_type.is_empty() && !is_manifest(&entry.media_type) {
            self.notes.push(format!("{} is left: a {:?} is no manifest", entry.digest, cut(&entry.media_type)));
            return Ok(None);
        }
        let name = blob_name(&entry.digest);
        let announced = Some(entry.media_type.as_str()).filter(|media_type| !media_type.is_empty());
        let Some(manifest) = self.manifest(&entry.digest, announced).await? else {
            return Err(BundleError::Missing(name));
        };
        let actual = manifest.raw().len() as u64;
        if actual != entry.size {
            return Err(BundleError::Length { name, listed: entry.size, actual });
        }
        Ok(Some(manifest))
    }

    /// Takes an entry that is an image, a referrer, or with a name both.
    fn take_image(&mut self, image: Image, manifest: &Manifest) {
        if let Some(subject) = manifest.subject() {
            self.referrers.entry(subject.digest).or_default().insert(image.digest);
            if !image.is_named() {
                return;
            }
        }
        if !self.images.contains(&image) {
            self.images.push(image);
        }
    }

    /// Takes what lies under a tag that names a digest.
    fn take_tagged(&mut self, tag: &Tag, manifest: &Manifest) {
        match DigestTag::parse(tag) {
            Some(DigestTag { digest, suffix: TagSuffix::Fallback }) if manifest.is_index() => {
                let listed = manifest.children().iter().map(|child| child.digest);
                self.referrers.entry(digest).or_default().extend(listed);
            }
            Some(DigestTag { digest, suffix }) if suffix != TagSuffix::Fallback => {
                self.tagged.entry(digest).or_default().insert((tag.clone(), manifest.digest()));
            }
            _ => self.notes.push(format!("{tag} is left: such a tag names no image")),
        }
    }

    /// Finds manifests that refer to something and that nobody lists.
    async fn find_orphans(&mut self, seen: &HashSet<Digest>) -> Result<(), BundleError> {
        let (mut count, mut bytes) = (0, 0);
        let small = |(digest, length): &(Digest, u64)| (2..=MAX_ORPHAN).contains(length) && !seen.contains(digest);
        let orphans: Vec<(Digest, u64)> = self.carrier.blobs().filter(small).collect();
        for (digest, length) in orphans {
            count += 1;
            bytes += length;
            if count > MAX_ORPHANS || bytes > MAX_ORPHAN_BYTES {
                self.notes.push(format!(
                    "referrers that index.json does not list were looked for in {MAX_ORPHANS} small blobs only"
                ));
                break;
            }
            let raw = self.carrier.small(&blob_name(&digest), MAX_ORPHAN).await?;
            // Configs, payloads and layers are none, and nobody says that they are.
            if !raw.starts_with(b"{") || !raw.windows(9).any(|part| part == b"\"subject\"") {
                continue;
            }
            if let Ok(manifest) = Manifest::parse_as(raw, None, digest)
                && let Some(subject) = manifest.subject()
            {
                self.referrers.entry(subject.digest).or_default().insert(digest);
            }
        }
        Ok(())
    }

    async fn check_marker(&self) -> Result<(), BundleError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        let malformed = |why: String| BundleError::Malformed { name: MARKER.to_owned(), why };
        let bytes = self.carrier.small(MARKER, MAX_MARKER).await?;
        let marker: Marker = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        match marker.image_layout_version.split('.').next() {
            Some("1") => Ok(()),
            _ => Err(malformed(format!("layouts of version {:?} are not known", cut(&marker.image_layout_version)))),
        }
    }
}

impl Image {
    fn of(entry: &Descriptor) -> Self {
        Self::named(entry.digest, entry_name(entry), image_name(entry))
    }

    /// Reads the names of an image: a short one, which may be a tag or a whole reference, and a whole one.
    pub(super) fn named(digest: Digest, entry_name: Option<&str>, image_name: Option<&str>) -> Self {
        // A tag alone has neither / nor :, and would be read as a repository of Docker Hub.
        let whole = |name: &str| name.contains(['/', ':']).then(|| name.parse::<Reference>().ok())?;
        let reference = image_name.and_then(whole).or_else(|| entry_name.and_then(whole));
        let reference = reference.filter(|reference| reference.digest.is_none_or(|named| named == digest));
        let alone = entry_name.and_then(|name| name.parse::<Tag>().ok());
        let tag = alone.or_else(|| reference.as_ref().and_then(|reference| reference.tag.clone()));
        Self { digest, entry_name: entry_name.or(image_name).map(cut), reference, tag }
    }

    fn is_named(&self) -> bool {
        self.entry_name.is_some() || self.reference.is_some()
    }

    /// Says whether somebody means this image by `name`: its name, its tag, its whole reference, or its digest.
    pub fn goes_by(&self, name: &str) -> bool {
        let same = |reference: &Reference| {
            name.parse::<Reference>().is_ok_and(|wanted| {
                wanted.repository == reference.repository
                    && wanted.tag_or_latest() == reference.tag_or_latest()
                    && wanted.digest.is_none_or(|digest| digest == self.digest)
            })
        };
        self.entry_name.as_deref() == Some(name)
            || self.tag.as_ref().is_some_and(|tag| tag.as_str() == name)
            || name.parse().is_ok_and(|digest: Digest| digest == self.digest)
            || self.reference.as_ref().is_some_and(same)
    }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::super::MARKER_BYTES;
    use super::super::carrier::tests::in_memory;
    use super::*;

    const NAME: &str = "org.opencontainers.image.ref.name";

    /// A layout that is being put together.
    #[derive(Default)]
    struct Layout {
        files: Vec<(String, Bytes)>,
        entries: Vec<Value>,
    }

    impl Layout {
        fn blob(&mut self, bytes: &[u8]) -> Digest {
            let digest = Digest::of(bytes);
            let name = blob_name(&digest);
            if !self.files.iter().any(|(there, _)| *there == name) {
                self.files.push((name, Bytes::copy_from_slice(bytes)));
            }
            digest
        }

        fn image(&mut self, text: &str, subject: Option<Digest>) -> (Digest, usize) {
            let layer = self.blob(text.as_bytes());
            let mut manifest = json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "c", "digest": layer, "size": text.len()},
                "layers": [],
            });
            if let Some(subject) = subject {
                manifest["subject"] = json!({"mediaType": "m", "digest": subject, "size": 1});
            }
            let bytes = manifest.to_string();
            (self.blob(bytes.as_bytes()), bytes.len())
        }

        fn index(&mut self, of: &[(Digest, usize)]) -> (Digest, usize) {
            let children: Vec<Value> = of.iter().map(|(digest, size)| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size})).collect();
            let bytes = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children}).to_string();
            (self.blob(bytes.as_bytes()), bytes.len())
        }

        fn list(&mut self, (digest, size): (Digest, usize), annotations: Value) {
            self.entries.push(json!({"digest": digest, "size": size, "annotations": annotations}));
        }

        fn carrier(mut self) -> Carrier {
            self.files.push((MARKER.to_owned(), Bytes::from_static(MARKER_BYTES)));
            let index = json!({"schemaVersion": 2, "manifests": self.entries}).to_string();
            self.files.push((INDEX.to_owned(), index.into()));
            in_memory(self.files)
        }
    }

    #[tokio::test]
    async fn names_as_tools_write_them() {
        let digest = Digest::of(b"x");
        let image = |entry: Option<&str>, image: Option<&str>| {
            let image = Image::named(digest, entry, image);
            (image.reference.map(|reference| reference.to_string()), image.tag.map(|tag| tag.to_string()))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(image(Some("1.0"), None), (None, text("1.0")), "skopeo, oras: the tag alone");
        assert_eq!(
            image(Some("1.0"), Some("docker.io/library/app:1.0")),
            (text("docker.io/library/app:1.0"), text("1.0"))
        );
        assert_eq!(image(Some("localhost/app:1.0"), None), (text("localhost/app:1.0"), text("1.0")), "podman");
        assert_eq!(image(None, Some("alpine:3.22")), (text("docker.io/library/alpine:3.22"), text("3.22")), "docker");
        assert_eq!(image(Some("Not A Name"), None), (None, None));
        assert_eq!(image(None, None), (None, None));
        let named = Image::named(digest, Some("1.0"), Some("docker.io/library/app:1.0"));
        for name in ["1.0", "app:1.0", "docker.io/library/app:1.0", &digest.to_string()] {
            assert!(named.goes_by(name), "{name}");
        }
        for name in ["1.1", "app", "other:1.0", "sha256:00"] {
            assert!(!named.goes_by(name), "{name}");
        }
    }

    #[tokio::test]
    async fn images_and_what_is_attached() {
        let mut layout = Layout::default();
        let (a, b) = (layout.image("a", None), layout.image("b", None));
        let index = layout.index(&[a, b]);
        let signature = layout.image("signature", None);
        let (listed, fallen, orphan) =
            (layout.image("l", Some(index.0)), layout.image("f", Some(a.0)), layout.image("o", Some(index.0)));
        let fallback = layout.index(&[fallen]);
        layout.list(index, json!({NAME: "1.0"}));
        layout.list(a, json!({})); // oras lists every manifest
        layout.list(signature, json!({NAME: format!("sha256-{}.sig", index.0.hex())}));
        layout.list(fallback, json!({NAME: format!("sha256-{}", a.0.hex())}));
        layout.list(listed, json!({}));
        let contents = Contents::open(layout.carrier()).await.expect("a layout");
        let names: Vec<_> = contents.images.iter().map(|image| (image.digest, image.entry_name.clone())).collect();
        assert_eq!(names, [(index.0, Some("1.0".to_owned()))]);
        let (referrers, tagged) = contents.attached(&index.0);
        assert_eq!(referrers.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([listed.0, orphan.0]));
        assert_eq!(tagged.iter().map(|(_, digest)| *digest).collect::<Vec<_>>(), [signature.0]);
        assert_eq!(contents.attached(&a.0).0, [fallen.0]);
    }

    #[tokio::test]
    async fn a_layout_of_cosigns() {
        let mut layout = Layout::default();
        let (image, signature) = (layout.image("image", None), layout.image("signature", None));
        layout.list(image, json!({"kind": "dev.cosignproject.cosign/image"}));
        layout.list(signature, json!({"kind": "dev.cosignproject.cosign/sigs"}));
        let contents = Contents::open(layout.carrier()).await.expect("a layout");
        assert_eq!(contents.images, [Image { digest: image.0, entry_name: None, reference: None, tag: None }]);
        let tag = format!("sha256-{}.sig", image.0.hex()).parse().expect("a tag");
        assert_eq!(contents.attached(&image.0).1, [(tag, signature.0)]);
    }

    #[tokio::test]
    async fn what_is_not_as_it_is_listed_is_refused() {
        let error = |layout: Layout| async { Contents::open(layout.carrier()).await.expect_err("a fault").to_string() };
        let mut missing = Layout::default();
        missing.list((Digest::of(b"gone"), 4), json!({}));
        assert!(error(missing).await.contains("is not there"));

        let mut lying = Layout::default();
        let (digest, size) = lying.image("a", None);
        lying.list((digest, size + 1), json!({}));
        assert!(error(lying).await.contains(&digest.hex()));

        let mut other = Layout::default();
        let image = other.image("a", None);
        if let Some((_, bytes)) = other.files.iter_mut().find(|(name, _)| *name == blob_name(&image.0)) {
            *bytes = Bytes::from(bytes.iter().map(|byte| if *byte == b'c' { b'd' } else { *byte }).collect::<Vec<_>>());
        }
        other.list(image, json!({}));
        assert!(error(other).await.contains("has the digest"));

        assert!(error(Layout::default()).await.contains("no image"));
        let unknown = Contents::open(in_memory(vec![("readme".to_owned(), Bytes::new())])).await;
        assert!(matches!(unknown, Err(BundleError::Unknown)));
        let future = in_memory(vec![
            (MARKER.to_owned(), Bytes::from_static(br#"{"imageLayoutVersion":"2.0.0"}"#)),
            (INDEX.to_owned(), Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#)),
        ]);
        assert!(matches!(Contents::open(future).await, Err(BundleError::Malformed { .. })));
    }
}
