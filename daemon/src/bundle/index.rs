//! `index.json`: what a layout lists, and under which names (image-spec, image-layout.md, "index.json file").

use std::collections::BTreeMap;

use larder_core::Descriptor;
use larder_core::manifest::{MAX_SUCCESSORS, Manifest, OCI_INDEX};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{BundleError, INDEX, MAX_INDEX_BYTES};

/// The name by which tools ask for an entry: a tag, or a whole reference (image-spec, annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole reference, as containerd, BuildKit, docker and podman write and read it.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// What an entry is to cosign (facts/sigstore.md 4.8).
const KIND: &str = "kind";

/// What an entry is to cosign, which knows one image a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The image.
    Image,
    /// The index.
    ImageIndex,
    /// The image at its `.sig` tag.
    Signatures,
    /// The image at its `.att` tag.
    Attestations,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Image, Self::ImageIndex, Self::Signatures, Self::Attestations];

    fn name(self) -> &'static str {
        match self {
            Self::Image => "dev.cosignproject.cosign/image",
            Self::ImageIndex => "dev.cosignproject.cosign/imageIndex",
            Self::Signatures => "dev.cosignproject.cosign/sigs",
            Self::Attestations => "dev.cosignproject.cosign/atts",
        }
    }

    /// Returns what `entry` is to cosign, if it says so.
    pub fn of(entry: &Descriptor) -> Option<Self> {
        let name = entry.annotations.get(KIND)?;
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a layout lists. Entries keep every field that they came with.
#[derive(Clone, Debug)]
pub struct Index {
    document: Document,
    entries: Vec<Descriptor>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Document {
    #[serde(rename = "schemaVersion")]
    schema_version: u64,
    #[serde(flatten)]
    rest: Map<String, Value>,
    manifests: Vec<Value>,
}

impl Index {
    /// Returns the index of a layout without entries.
    pub fn new() -> Self {
        let rest = Map::from_iter([("mediaType".to_owned(), Value::from(OCI_INDEX))]);
        Self { document: Document { schema_version: 2, rest, manifests: Vec::new() }, entries: Vec::new() }
    }

    /// Reads an index.
    ///
    /// # Errors
    /// Fails where it is malformed or lists too much.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let malformed = |why: String| BundleError::Malformed { name: INDEX.to_owned(), why };
        let document: Document = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if document.schema_version != 2 {
            return Err(malformed("schemaVersion is not 2".to_owned()));
        }
        let media_type = document.rest.get("mediaType");
        if media_type.is_some_and(|media_type| media_type != OCI_INDEX) {
            return Err(malformed("its mediaType is not that of an index".to_owned()));
        }
        let count = document.manifests.len();
        if count > MAX_SUCCESSORS {
            return Err(BundleError::TooManyEntries { name: INDEX, count, limit: MAX_SUCCESSORS });
        }
        let entry = |value: &Value| {
            let entry = Descriptor::deserialize(value).map_err(|error| malformed(error.to_string()))?;
            let steers = |text: &str| text.chars().any(char::is_control);
            if steers(&entry.media_type)
                || [REF_NAME, IMAGE_NAME]
                    .iter()
                    .any(|name| entry.annotations.get(*name).is_some_and(|text| steers(text)))
            {
                return Err(malformed("a media type or a name has control characters".to_owned()));
            }
            Ok(entry)
        };
        let entries = document.manifests.iter().map(entry).collect::<Result<_, _>>()?;
        Ok(Self { document, entries })
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// Says whether cosign finds its image in the layout.
    pub fn has_cosigns_image(&self) -> bool {
        self.entries.iter().any(|entry| matches!(Kind::of(entry), Some(Kind::Image | Kind::ImageIndex)))
    }

    /// Returns the digest that goes by a name.
    pub fn named(&self, name: &str) -> Option<&Descriptor> {
        self.entries.iter().find(|entry| entry_name(entry) == Some(name))
    }

    /// Chooses the name of an entry: its tag, by which tools ask for it; the whole reference where another image has the tag.
    pub fn name_for<'a>(&self, tag: &'a str, whole: &'a str) -> &'a str {
        match self.named(tag) {
            Some(entry) if image_name(entry) != Some(whole) => whole,
            _ => tag,
        }
    }

    /// Lists a manifest. An entry of the same name, and one of the same digest without a name, make room for it.
    pub fn add(&mut self, manifest: &Manifest, name: Option<&str>, image_name: Option<&str>, kind: Option<Kind>) {
        let digest = manifest.digest();
        // What cosign knew by this digest, it goes on knowing.
        let kind = kind.or_else(|| self.entries.iter().filter(|entry| entry.digest == digest).find_map(Kind::of));
        let before: Vec<bool> = self
            .entries
            .iter()
            .map(|entry| match (entry_name(entry), name) {
                (Some(there), Some(name)) => there != name,
                (None, _) => entry.digest != digest,
                (Some(_), None) => true,
            })
            .collect();
        // Who is kept is decided once, for the entries and for what they came as.
        let mut keep = before.iter().copied();
        self.entries.retain(|_| keep.next().unwrap_or(true));
        let mut keep = before.into_iter();
        self.document.manifests.retain(|_| keep.next().unwrap_or(true));

        let mut annotations = BTreeMap::new();
        let named = [(REF_NAME, name), (IMAGE_NAME, image_name), (KIND, kind.map(Kind::name))];
        annotations.extend(named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
        let mut entry = manifest.descriptor();
        let mut value = json!({"mediaType": entry.media_type, "digest": digest.to_string(), "size": entry.size});
        if manifest.subject().is_some()
            && let Some(artifact_type) = manifest.artifact_type()
        {
            value["artifactType"] = Value::from(artifact_type);
        }
        if !annotations.is_empty() {
            value["annotations"] = json!(annotations);
        }
        entry.annotations = annotations;
        self.document.manifests.push(value);
        self.entries.push(entry);
    }

    /// Writes the index.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Maps of texts and numbers always serialise.
        serde_json::to_vec(&self.document).unwrap_or_default()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes the index that a registry without the referrers API has under a subject's fallback tag (distribution-spec,
/// "Referrers Tag Schema"), in the order of digests, as cosign writes it; `None` where it would be too long for a manifest.
pub fn fallback_index<'a>(referrers: impl IntoIterator<Item = &'a Manifest>) -> Option<Vec<u8>> {
    let mut listed: BTreeMap<String, Value> = BTreeMap::new();
    for manifest in referrers {
        let Descriptor { media_type, size, .. } = manifest.descriptor();
        let digest = manifest.digest().to_string();
        let mut entry = json!({"mediaType": media_type, "size": size, "digest": digest});
        if let Some(artifact_type) = manifest.artifact_type() {
            entry["artifactType"] = Value::from(artifact_type);
        }
        if !manifest.annotations().is_empty() {
            entry["annotations"] = json!(manifest.annotations());
        }
        listed.insert(digest, entry);
    }
    let manifests: Vec<Value> = listed.into_values().collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    serde_json::to_vec(&index).ok().filter(|bytes| bytes.len() as u64 <= MAX_INDEX_BYTES)
}

/// Returns the name by which tools ask for an entry.
pub(super) fn entry_name(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(REF_NAME).map(String::as_str).filter(|name| !name.is_empty())
}

/// Returns the whole reference of an entry.
pub(super) fn image_name(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(IMAGE_NAME).map(String::as_str).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use larder_core::Digest;

    use super::*;

    fn manifest(text: &str) -> Manifest {
        let digest = Digest::of(text.as_bytes());
        let raw =
            format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"c","size":1,"digest":"{digest}"}},"layers":[]}}"#);
        Manifest::parse(raw.into(), None).expect("a manifest")
    }

    #[test]
    fn what_is_not_understood_stays() {
        let theirs = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","annotations":{{"a":"b"}},"manifests":[{{"mediaType":"x/y","digest":"{}","size":3,"future":[1,{{"z":null}}]}}]}}"#,
            Digest::of(b"theirs")
        );
        let mut index = Index::parse(theirs.as_bytes()).expect("an index");
        assert_eq!(index.to_bytes(), theirs.as_bytes());
        index.add(&manifest("a"), Some("1.0"), Some("localhost/a:1.0"), Some(Kind::Image));
        let again = Index::parse(&index.to_bytes()).expect("an index");
        assert_eq!(again.entries().len(), 2);
        assert!(String::from_utf8(again.to_bytes()).expect("text").contains(r#""future":[1,{"z":null}]"#));
        let entry = again.named("1.0").expect("listed");
        assert_eq!((entry.digest, Kind::of(entry)), (manifest("a").digest(), Some(Kind::Image)));
        assert_eq!(image_name(entry), Some("localhost/a:1.0"));
    }

    #[test]
    fn a_fallback_index_is_a_manifest_like_any_other() {
        let (a, b) = (manifest("a"), manifest("b"));
        let bytes = fallback_index([&b, &a, &b]).expect("short");
        let index = Manifest::parse(bytes.into(), Some(OCI_INDEX)).expect("an index");
        let mut digests = vec![a.digest(), b.digest()];
        digests.sort_by_key(ToString::to_string);
        assert_eq!(index.children().iter().map(|child| child.digest).collect::<Vec<_>>(), digests);
        assert!(index.children().iter().all(|child| child.artifact_type.as_deref() == Some("c")));
    }

    #[test]
    fn a_name_names_one() {
        let mut index = Index::new();
        index.add(&manifest("a"), Some("1.0"), None, None);
        index.add(&manifest("b"), None, None, None);
        index.add(&manifest("b"), None, None, None);
        index.add(&manifest("b"), Some("1.0"), None, None);
        assert_eq!(index.entries().len(), 1, "the nameless entry of the same digest made room too");
        index.add(&manifest("b"), Some("1.1"), Some("localhost/b:1.1"), None);
        assert_eq!(index.entries().len(), 2);
        assert_eq!(index.name_for("1.1", "localhost/b:1.1"), "1.1", "its own");
        assert_eq!(index.name_for("1.1", "localhost/c:1.1"), "localhost/c:1.1", "another's");
        assert_eq!(index.name_for("1.2", "localhost/c:1.2"), "1.2");
        assert_eq!(Index::parse(&index.to_bytes()).expect("an index").entries(), index.entries());
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let digest = Digest::of(b"x");
        for text in [
            String::new(),
            "[]".to_owned(),
            r#"{"schemaVersion":2}"#.to_owned(),
            r#"{"schemaVersion":1,"manifests":[]}"#.to_owned(),
            r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#.to_owned(),
            r#"{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}"#.to_owned(),
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":-1}}]}}"#),
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":1,"mediaType":"a\u001bb"}}]}}"#),
        ] {
            assert!(Index::parse(text.as_bytes()).is_err(), "{text}");
        }
        let entry = format!(r#"{{"digest":"{digest}","size":1}}"#);
        let many = vec![entry; MAX_SUCCESSORS + 1].join(",");
        let error = Index::parse(format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#).as_bytes());
        assert!(matches!(error, Err(BundleError::TooManyEntries { .. })));
    }
}
