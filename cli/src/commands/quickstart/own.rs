//! The story with an image of the user's own. Its registry is read and never written: what is signed, is signed here.

use larder_proto::v1;

use super::stage::{Machine, Stage};
use super::{KEY, Subject, Told, change_of_trust, read_back, served};
use crate::error::Error;

/// Pulls, signs, trusts, reads back, and takes the key away.
pub(super) async fn story(stage: &mut Stage, image: &str) -> Result<Told, Error> {
    stage.step("A daemon with a throw-away home: it trusts nobody yet.")?;
    let here = stage.start("here", None).await?;

    stage.step("Your image, with the signatures and SBOMs that its registry offers. Ctrl-C stops the story and leaves nothing.")?;
    stage.larder(&here, &["pull", image], 0).await?;
    let subject = subject_of(&here, image).await?;
    stage.larder(&here, &["tree", &subject.reference], 0).await?;

    stage.step("Held is not accepted: the endpoint serves nothing that no key or policy vouches for.")?;
    stage.larder(&here, &["status", &subject.reference], 3).await?;

    stage.step("A key pair in cosign's format, and a signature, which stays here: your registry is only read.")?;
    stage.larder(&here, &["key", "generate"], 0).await?;
    stage.larder(&here, &["sign", "--key", "cosign.key", &subject.reference], 0).await?;

    stage.step("This machine trusts the key, and the image is verified.")?;
    stage.larder(&here, &["trust", "add", "cosign.pub", "--name", KEY], 0).await?;
    stage.larder(&here, &["verify", &subject.reference], 0).await?;
    read_back(stage, &here, &subject).await?;
    change_of_trust(stage, &here, subject).await
}

/// Asks what was pulled: under which name and digest, and which blobs there are to read.
async fn subject_of(here: &Machine, image: &str) -> Result<Subject, Error> {
    let root = get(here, image).await?;
    let summary = root.summary.clone().unwrap_or_default();
    let children = root.successors.iter().filter(|child| child.held && child.verdict.is_some());
    let children: Vec<String> = children.filter_map(|child| Some(child.descriptor.as_ref()?.digest.clone())).collect();
    let mut blobs = blobs_of(&root);
    // An index lists manifests: the blobs are those of its first image that has any.
    for child in &children {
        if blobs.is_empty() {
            blobs = blobs_of(&get(here, &format!("{}@{child}", summary.repository)).await?);
        }
    }
    let (name, tag) = match summary.tag.as_str() {
        "" => (format!("{}@{}", summary.repository, summary.digest), summary.digest.clone()),
        tag => (format!("{}:{tag}", summary.repository), tag.to_owned()),
    };
    if blobs.is_empty() {
        return Err(Error::new("quickstart", format!("{name} has no layer that the story could be told with"))
            .hint("name an image for this machine's platform"));
    }
    Ok(Subject {
        reference: name,
        served: served(&summary.repository),
        tag,
        digest: summary.digest,
        manifest: root.manifest.to_vec(),
        blobs,
    })
}

async fn get(here: &Machine, reference: &str) -> Result<v1::GetArtifactResponse, Error> {
    let request = v1::GetArtifactRequest { reference: reference.to_owned(), config: false };
    Ok(here.client.artifacts().get_artifact(request).await?.into_inner())
}

/// Returns an image's config, and the smallest of its layers: it is read several times.
fn blobs_of(image: &v1::GetArtifactResponse) -> Vec<String> {
    let blobs = image.successors.iter().filter(|one| one.held && one.verdict.is_none());
    let mut blobs: Vec<&v1::Descriptor> = blobs.filter_map(|one| one.descriptor.as_ref()).collect();
    if blobs.len() < 2 {
        return Vec::new();
    }
    let config = blobs.remove(0);
    let layer = blobs.iter().min_by_key(|layer| layer.size);
    layer.map(|layer| vec![config.digest.clone(), layer.digest.clone()]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_layer_is_read() {
        let blob = |digest: &str, size: u64| v1::Successor {
            descriptor: Some(v1::Descriptor { digest: digest.to_owned(), size, ..v1::Descriptor::default() }),
            held: true,
            ..v1::Successor::default()
        };
        let mut image = v1::GetArtifactResponse {
            successors: vec![blob("config", 1), blob("large", 9), blob("small", 2)],
            ..v1::GetArtifactResponse::default()
        };
        assert_eq!(blobs_of(&image), ["config", "small"]);
        image.successors.truncate(1);
        assert!(blobs_of(&image).is_empty(), "nothing to serve or refuse");
    }
}
