//! `--local-image`: the image and its signatures are in an OCI layout. Nobody is asked, and no daemon either: the layout is
//! read here, by the same checks.

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use larder_core::artifact::DigestTag;
use larder_core::asked::{Asked, Claims, Signers, Strictness, Wanted, said};
use larder_core::key::PublicKey;
use larder_core::keyless::{Identity, Pattern, RootFiles, TrustedRoot};
use larder_core::manifest::{MAX_MANIFEST_BYTES, Manifest, OCI_INDEX};
use larder_core::signature::{FoundSignature, found, predicate};
use larder_core::{Descriptor, Digest, Tag};
use larder_proto::v1;

use crate::archive::Archive;
use crate::commands::key_place::PUBLIC_KEYS;
use crate::commands::verify_blob::trust;
use crate::error::Error;
use crate::exit::Exit;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What cosign calls the entries that hold signatures (facts/sigstore.md 4.8).
const KIND: &str = "kind";
const SIGNATURES: [&str; 2] = ["dev.cosignproject.cosign/sigs", "dev.cosignproject.cosign/atts"];
/// The most refused signatures that are named, as the daemon has it.
const MAX_REFUSED: usize = 100;

/// A layout that is open, and the image in it that is asked for.
struct Layout {
    archive: Archive,
    name: String,
    subject: Digest,
    /// The manifests that hold its classic signatures, by their tags; where it is the only image, every one does.
    meant: Meant,
}

enum Meant {
    All,
    These(HashSet<Digest>),
}

/// Holds the signatures in a layout against a request.
///
/// # Errors
/// Fails where there is no such layout, it does not say which image is meant, or the request is none.
pub(super) fn verify(request: &v1::VerifySignaturesRequest) -> Result<v1::VerifySignaturesResponse, Error> {
    let asked = asked(request)?;
    let layout = Layout::open(&request.reference)?;
    let mut answer =
        v1::VerifySignaturesResponse { digest: layout.subject.to_string(), held: true, ..Default::default() };
    let mut seen = HashSet::new();
    for manifest in layout.attached()? {
        let found_at = format!("{}@{}", layout.name, manifest.digest());
        let mut layers = Vec::new();
        for layer in found::layers(&manifest) {
            let bytes = if layer.is_read() { layout.blob(layer.descriptor) } else { None };
            layers.push(layer.read(bytes));
        }
        layers.push(found::bare(&manifest).into_iter().collect());
        for rows in layers {
            let about = rows.iter().position(|row| row.names == Some(layout.subject));
            let is_anothers = about.is_none() && manifest.subject().is_none() && !layout.meant.holds(&manifest);
            let Some(found) = rows.into_iter().nth(about.unwrap_or(0)).filter(|_| !is_anothers) else { continue };
            if seen.insert(found.id) {
                hold(&asked, &found, layout.subject, &found_at, &mut answer);
            }
        }
    }
    Ok(answer)
}

fn hold(
    asked: &Asked,
    found: &FoundSignature,
    digest: Digest,
    found_at: &str,
    answer: &mut v1::VerifySignaturesResponse,
) {
    if !asked.concerns(found) {
        answer.others += 1;
        return;
    }
    let held = match asked.holds(found, digest) {
        Ok(held) => held,
        Err(finding) => {
            answer.refused_total += 1;
            if answer.refused.len() < MAX_REFUSED {
                answer.refused.push(v1::RefusedSignature {
                    format: found.format.name().to_owned(),
                    found_at: found_at.to_owned(),
                    check: finding.reason().to_owned(),
                    message: finding.words,
                });
            }
            return;
        }
    };
    let checks = held.checks(!asked.annotations.is_empty()).into_iter().map(str::to_owned).collect();
    let (log_entry, timestamp) = held.written(found);
    let (subject, issuer, extensions) = match held.certificate {
        None => Default::default(),
        Some(facts) => (facts.identity.unwrap_or_default(), facts.issuer.unwrap_or_default(), facts.extensions),
    };
    answer.accepted.push(v1::AcceptedSignature {
        format: found.format.name().to_owned(),
        predicate_type: found.predicate_type().unwrap_or_default().to_owned(),
        payload: found.payload.clone(),
        signature: found.signature.clone(),
        annotations: said(found, digest).into_iter().collect(),
        key_id: held.key.map(|key| key.to_string()).unwrap_or_default(),
        subject,
        issuer,
        extensions: extensions.into_iter().map(|(number, text)| (u32::from(number), text)).collect(),
        found_at: found_at.to_owned(),
        log_entry,
        timestamp,
        checks,
        broken: held.broken.iter().map(|one| format!("{}: {}", one.reason(), one.words)).collect(),
    });
}

/// Reads what is asked for, as the daemon reads it.
fn asked(request: &v1::VerifySignaturesRequest) -> Result<Asked, Error> {
    let root = root(request)?;
    let key = |pem: &String| {
        PublicKey::from_pem(pem.as_bytes()).map_err(|error| {
            Error::new("invalid-key", format!("a public key cannot be read: {error}")).hint(PUBLIC_KEYS)
        })
    };
    let keys = request.public_keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
    let identities = request.identities.iter().map(identity).collect::<Result<Vec<_>, _>>()?;
    let signers = if keys.is_empty() { Signers::Identities } else { Signers::Keys(keys) };
    let strictness = Strictness {
        ignore_log: request.ignore_log,
        ignore_sct: request.ignore_sct,
        signed_timestamps: request.signed_timestamps,
        certificate_chain: request.certificate_chain,
    };
    let predicate_type = Some(predicate::uri_of(&request.predicate_type)).filter(|text| !text.is_empty());
    Ok(Asked {
        signers,
        demands: strictness.demands(identities, root.as_ref(), Timestamp::now()),
        root: root.unwrap_or_default(),
        claims: if request.ignore_claims { Claims::Ignored } else { Claims::Checked },
        annotations: request.annotations.clone().into_iter().collect(),
        says: match (request.attestations, request.bundles_sign) {
            (true, _) => Wanted::Attestation(predicate_type.map(str::to_owned)),
            (false, true) => Wanted::SignatureOrBundle,
            (false, false) => Wanted::Signature,
        },
    })
}

fn root(request: &v1::VerifySignaturesRequest) -> Result<Option<TrustedRoot>, Error> {
    let invalid = |message: String| Error::new("invalid-root", message).hint(trust::NO_ROOT);
    if !request.trusted_root.is_empty() {
        let root = TrustedRoot::parse(&request.trusted_root);
        return root.map(Some).map_err(|error| invalid(format!("the trusted root cannot be read: {error}")));
    }
    let Some(files) = &request.root_files else { return Ok(None) };
    let files = RootFiles {
        authority: &files.authority,
        timestamp_authority: &files.timestamp_authority,
        log: &files.log,
        ct_log: &files.ct_log,
    };
    files.root().map(Some).map_err(|error| invalid(error.to_string()))
}

fn identity(of: &v1::Identity) -> Result<Identity, Error> {
    let pattern = |exact: &str, expression: &str| {
        Pattern::new(Some(exact), Some(expression))
            .map_err(|error| Error::new("invalid-identity", error.to_string()).hint("it is read as Go's RE2 reads it"))
    };
    let extensions =
        of.extensions.iter().filter_map(|(number, text)| Some((u8::try_from(*number).ok()?, text.clone())));
    Ok(Identity {
        subject: pattern(&of.subject, &of.subject_regexp)?,
        issuer: pattern(&of.issuer, &of.issuer_regexp)?,
        extensions: extensions.collect(),
    })
}

impl Layout {
    /// Opens a layout, and finds the one image in it, or the one that is named behind it: `DIR:TAG`, `DIR@DIGEST`.
    fn open(place: &str) -> Result<Self, Error> {
        let (path, wanted) = split(place);
        let archive = Archive::open(Path::new(path)).map_err(|error| error.exits(Exit::VerifyNotFound))?;
        let index = read(&archive, "index.json", MAX_MANIFEST_BYTES)
            .and_then(|bytes| Manifest::parse(bytes, Some(OCI_INDEX)).map_err(|error| error.to_string()))
            .map_err(|words| not_a_layout(path, &format!("index.json: {words}")))?;
        let mut subjects: Vec<&Descriptor> = Vec::new();
        for entry in index.children() {
            if !is_attached(entry) && !subjects.iter().any(|subject| subject.digest == entry.digest) {
                subjects.push(entry);
            }
        }
        let manifest = |entry: &Descriptor| {
            let bytes = read(&archive, &file_of(&entry.digest), MAX_MANIFEST_BYTES)
                .and_then(|bytes| Manifest::parse_as(bytes, None, entry.digest).map_err(|error| error.to_string()));
            bytes.map_err(|words| not_a_layout(path, &format!("{}: {words}", entry.digest)))
        };
        // Of an index with a referrer in it only what refers to nothing is an image.
        let mut images = Vec::new();
        for entry in subjects {
            if manifest(entry)?.subject().is_none() {
                images.push(entry);
            }
        }
        let is_alone = images.len() == 1;
        let tags_of = |subject: Digest| {
            let of_subject = |entry: &&Descriptor| named_digest(entry).is_some_and(|named| named.digest == subject);
            index.children().iter().filter(of_subject).map(|entry| entry.digest).collect()
        };
        images.retain(|entry| wanted.is_none_or(|wanted| is_named(index.children(), entry.digest, wanted)));
        let subject = match images.as_slice() {
            [one] => one.digest,
            [] => {
                let what = wanted.map_or_else(|| "no image".to_owned(), |wanted| format!("no {wanted}"));
                return Err(not_a_layout(path, &format!("there is {what} in it")).exits(Exit::VerifyNotFound));
            }
            several => {
                return Err(Error::usage(format!("{path} holds {} images", several.len()))
                    .hint(format!("name one: {path}:TAG, or {path}@DIGEST")));
            }
        };
        let meant = if is_alone { Meant::All } else { Meant::These(tags_of(subject)) };
        Ok(Self { archive, name: path.to_owned(), subject, meant })
    }

    /// Returns every manifest in the layout that may hold signatures of the image: `cosign save` lists not all of them.
    fn attached(&self) -> Result<Vec<Manifest>, Error> {
        let mut found = Vec::new();
        for (file, size) in self.archive.files() {
            let Some(digest) = digest_of(file).filter(|digest| *size <= MAX_MANIFEST_BYTES && *digest != self.subject)
            else {
                continue;
            };
            let first = read_part(&self.archive, file, (*size).min(1)).unwrap_or_default();
            if first.as_ref() != b"{" {
                continue;
            }
            let bytes =
                read(&self.archive, file, MAX_MANIFEST_BYTES).map_err(|words| not_a_layout(&self.name, &words))?;
            let Ok(manifest) = Manifest::parse_as(bytes, None, digest) else { continue };
            let is_here = manifest.subject().is_none_or(|subject| subject.digest == self.subject);
            if is_here && (found::layers(&manifest).next().is_some() || found::bare(&manifest).is_some()) {
                found.push(manifest);
            }
        }
        Ok(found)
    }

    /// Returns a blob's bytes; `None` where it is not there, or is not what it should be.
    fn blob(&self, descriptor: &Descriptor) -> Option<Bytes> {
        let bytes = read(&self.archive, &file_of(&descriptor.digest), descriptor.size).ok()?;
        (Digest::with(descriptor.digest.algorithm(), &bytes) == descriptor.digest).then_some(bytes)
    }
}

impl Meant {
    fn holds(&self, manifest: &Manifest) -> bool {
        match self {
            Self::All => true,
            Self::These(digests) => digests.contains(&manifest.digest()),
        }
    }
}

/// Parts what is named into the layout and the image in it.
fn split(place: &str) -> (&str, Option<&str>) {
    if place == "-" || Path::new(place).exists() {
        return (place, None);
    }
    let (path, wanted) = place.split_once('@').or_else(|| place.rsplit_once(':')).unwrap_or((place, ""));
    (path, Some(wanted).filter(|wanted| !wanted.is_empty()))
}

/// Says whether an entry holds signatures, by its name.
fn is_attached(entry: &Descriptor) -> bool {
    let kind = entry.annotations.get(KIND).map(String::as_str);
    let by_kind = kind.is_some_and(|kind| SIGNATURES.contains(&kind));
    by_kind || tag_of(entry).and_then(|tag| tag.parse::<Tag>().ok()).is_some_and(|tag| DigestTag::is_reserved(&tag))
}

/// Returns the digest that an entry's tag names, where it is one of cosign's.
fn named_digest(entry: &Descriptor) -> Option<DigestTag> {
    DigestTag::parse(&tag_of(entry)?.parse().ok()?)
}

/// Returns the tag in an entry's name, which may be a whole reference.
fn tag_of(entry: &Descriptor) -> Option<&str> {
    let name = entry.annotations.get(REF_NAME)?;
    Some(name.rsplit_once(':').map_or(name.as_str(), |(_, tag)| tag))
}

fn is_named(entries: &[Descriptor], digest: Digest, wanted: &str) -> bool {
    let named = |entry: &&Descriptor| {
        tag_of(entry) == Some(wanted) || entry.annotations.get(REF_NAME).is_some_and(|name| name == wanted)
    };
    digest.to_string() == wanted || entries.iter().filter(|entry| entry.digest == digest).any(|entry| named(&entry))
}

fn file_of(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replacen(':', "/", 1))
}

fn digest_of(file: &str) -> Option<Digest> {
    file.strip_prefix("blobs/")?.replacen('/', ":", 1).parse().ok()
}

/// Reads a file whole, if it has at most `limit` bytes.
fn read(archive: &Archive, file: &str, limit: u64) -> Result<Bytes, String> {
    // They are sorted by name.
    let place = archive.files().binary_search_by(|(name, _)| name.as_str().cmp(file)).map_err(|_| "it is not there")?;
    let size = archive.files().get(place).map_or(0, |(_, size)| *size);
    if size > limit {
        return Err(format!("it has {size} bytes, and should have at most {limit}"));
    }
    read_part(archive, file, size)
}

fn read_part(archive: &Archive, file: &str, length: u64) -> Result<Bytes, String> {
    let mut part = archive.read(file, 0, length)?;
    let limit = usize::try_from(length).map_err(|_| "it is too long".to_owned())?;
    Ok(part.next(limit)?.0.into())
}

fn not_a_layout(path: &str, words: &str) -> Error {
    Error::new("invalid-archive", format!("{path}: {words}"))
        .hint("an OCI layout is asked for, as `larder save` and `cosign save` write it")
}
