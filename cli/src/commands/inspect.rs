//! `larder inspect`: what skopeo says of an image, from the store.

use clap::Args;
use larder_proto::v1;
use serde_json::{Value, json};

use super::ls;
use crate::connect::{Client, connect};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, json};

/// Describe an image as `skopeo inspect` does, from what is held here
///
/// Prints JSON, whatever --output says: Name, Digest, RepoTags, Created, Labels, Architecture, Os, Layers, LayersData and
/// Env. Of an index, the image for --platform is described. RepoTags are the tags that are held. For the verdict and what is
/// attached, see `larder show` and `larder tree`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder inspect docker.io/library/alpine:3.22 | jq .Labels
  larder inspect --raw docker.io/library/alpine:3.22 | sha256sum
  larder inspect --config --platform linux/arm64 docker.io/library/alpine:3.22")]
pub(crate) struct Arguments {
    /// Something that is held here
    #[arg(value_name = "REF")]
    reference: String,
    /// Print the manifest's own bytes
    #[arg(long, conflicts_with = "config")]
    raw: bool,
    /// Print the config's own bytes
    #[arg(long)]
    config: bool,
    /// The image to take of an index [default: this machine's, or the only one that is held]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

pub(super) async fn run(arguments: Arguments, output: &Output) -> Result<Exit, Error> {
    let reference = arguments.reference;
    let client = connect(output).await?;
    let root = get(&client, reference.clone()).await?;
    if arguments.raw {
        output.content(&root.manifest)?;
        return Ok(Exit::Done);
    }
    let summary = root.summary.clone().unwrap_or_default();
    let is_index = root.successors.iter().any(|one| one.verdict.is_some()) || is_index(&summary.media_type);
    let image = if is_index {
        let digest = child(&root, arguments.platform.as_deref(), &reference)?;
        get(&client, format!("{}@{digest}", summary.repository)).await?
    } else {
        root
    };
    if arguments.config {
        if image.config.is_empty() {
            return Err(no_config(&reference));
        }
        output.content(&image.config)?;
        return Ok(Exit::Done);
    }
    let mut tags: Vec<String> = ls::list(&client, &summary.repository, false)
        .await?
        .into_iter()
        .filter(|one| one.repository == summary.repository && !one.tag.is_empty())
        .map(|one| one.tag)
        .collect();
    tags.sort();
    output.document(&describe(&summary, &image, &tags))?;
    Ok(Exit::Done)
}

/// Returns the reference of the image for a platform, in an index; without a platform, the reference itself.
///
/// # Errors
/// Fails where nothing is held under it, it is no index, or has no such image here.
pub(super) async fn image_of(client: &Client, reference: &str, platform: Option<&str>) -> Result<String, Error> {
    let Some(platform) = platform else { return Ok(reference.to_owned()) };
    let root = get(client, reference.to_owned()).await?;
    let summary = root.summary.clone().unwrap_or_default();
    if !is_index(&summary.media_type) {
        return Err(Error::new("no-platform", format!("{reference} is one image and no index"))
            .hint("ask without `--platform`"));
    }
    Ok(format!("{}@{}", summary.repository, child(&root, Some(platform), reference)?))
}

async fn get(client: &Client, reference: String) -> Result<v1::GetArtifactResponse, Error> {
    let request = v1::GetArtifactRequest { reference, config: true };
    Ok(client.artifacts().get_artifact(request).await?.into_inner())
}

fn is_index(media_type: &str) -> bool {
    media_type.contains("image.index") || media_type.contains("manifest.list")
}

fn no_config(reference: &str) -> Error {
    Error::new("no-config", format!("{reference} has no config here that can be printed"))
        .hint("`larder inspect --raw` prints its manifest, which says what it consists of")
}

/// Chooses an image of an index among those that are held.
fn child(index: &v1::GetArtifactResponse, platform: Option<&str>, reference: &str) -> Result<String, Error> {
    let name = |one: &v1::Successor| {
        let platform = one.descriptor.as_ref().and_then(|descriptor| descriptor.platform.as_ref());
        platform.map(json::platform_name).unwrap_or_default()
    };
    let images = || index.successors.iter().filter(|one| name(one) != "unknown/unknown");
    let held: Vec<&v1::Successor> = images().filter(|one| one.held).collect();
    let own = format!("linux/{}", architecture());
    let wanted = platform.unwrap_or(&own);
    let fits = |one: &&&v1::Successor| {
        let offered = name(one);
        offered == wanted || offered.strip_prefix(wanted).is_some_and(|variant| variant.starts_with('/'))
    };
    let found = match (held.iter().find(fits), held.as_slice()) {
        (Some(found), _) => Some(*found),
        (None, [only]) if platform.is_none() => Some(*only),
        (None, _) => None,
    };
    let digest = found.and_then(|one| one.descriptor.as_ref()).map(|descriptor| descriptor.digest.clone());
    digest.ok_or_else(|| {
        let here: Vec<String> = held.iter().map(|one| name(one)).collect();
        let error = Error::new("no-platform", format!("{reference} holds no image for {wanted}"));
        match here.as_slice() {
            [] => error.hint(format!("`larder pull --platform all {reference}` brings its images")),
            here => error.hint(format!("held are: {}; `--platform` takes one", here.join(", "))),
        }
    })
}

/// Returns what images for this machine call its processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Builds skopeo's description. What a config does not say, or does not say in the right form, is null or empty.
fn describe(summary: &v1::ArtifactSummary, image: &v1::GetArtifactResponse, tags: &[String]) -> Value {
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap_or_default();
    let config: Value = serde_json::from_slice(&image.config).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = manifest["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let data = |layer: &Value| {
        json!({
            "MIMEType": text(&layer["mediaType"]),
            "Digest": text(&layer["digest"]),
            "Size": layer["size"],
            "Annotations": layer["annotations"],
        })
    };
    json!({
        "Name": summary.repository,
        "Digest": summary.digest,
        "RepoTags": tags,
        "Created": config["created"],
        "DockerVersion": text(&config["docker_version"]),
        "Labels": config["config"]["Labels"],
        "Architecture": text(&config["architecture"]),
        "Os": text(&config["os"]),
        "Layers": layers.iter().map(|layer| text(&layer["digest"])).collect::<Vec<_>>(),
        "LayersData": layers.iter().map(data).collect::<Vec<_>>(),
        "Env": config["config"]["Env"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(architecture: &str, held: bool) -> v1::Successor {
        let platform = v1::Platform {
            os: if architecture == "unknown" { "unknown" } else { "linux" }.to_owned(),
            architecture: architecture.to_owned(),
            variant: if architecture == "arm64" { "v8" } else { "" }.to_owned(),
        };
        let digest = format!("sha256:{architecture}");
        let descriptor = v1::Descriptor { digest, platform: Some(platform), ..v1::Descriptor::default() };
        v1::Successor { descriptor: Some(descriptor), held, ..v1::Successor::default() }
    }

    #[test]
    fn an_index_has_one_image_that_is_meant() {
        let index = |images: &[(&str, bool)]| v1::GetArtifactResponse {
            successors: images.iter().map(|(name, held)| image(name, *held)).collect(),
            ..v1::GetArtifactResponse::default()
        };
        let both = index(&[("amd64", true), ("arm64", true), ("unknown", true)]);
        let of = |index: &v1::GetArtifactResponse, platform| {
            child(index, platform, "r/a").map_err(|error| error.reason().to_owned())
        };
        assert_eq!(of(&both, Some("linux/arm64")), Ok("sha256:arm64".to_owned()));
        assert_eq!(of(&both, Some("linux/arm64/v8")), Ok("sha256:arm64".to_owned()));
        assert_eq!(of(&both, None), Ok(format!("sha256:{}", architecture())));
        assert_eq!(of(&both, Some("linux/s390x")), Err("no-platform".to_owned()));
        let only = index(&[("amd64", false), ("s390x", true)]);
        assert_eq!(of(&only, None), Ok("sha256:s390x".to_owned()), "the only one that is held");
        assert_eq!(of(&only, Some("linux/amd64")), Err("no-platform".to_owned()));
    }

    #[test]
    fn a_description_has_skopeos_names() {
        let summary = v1::ArtifactSummary {
            repository: "r.io/app".to_owned(),
            digest: "sha256:00".to_owned(),
            ..v1::ArtifactSummary::default()
        };
        let config = r#"{"created":"2026-01-02T03:04:05Z","architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Labels":{"a":"b"}}}"#;
        let manifest = r#"{"layers":[{"mediaType":"application/x","digest":"sha256:aa","size":7}]}"#;
        let image = v1::GetArtifactResponse {
            manifest: manifest.into(),
            config: config.into(),
            ..v1::GetArtifactResponse::default()
        };
        assert_eq!(
            describe(&summary, &image, &["1".to_owned()]).to_string(),
            r#"{"Name":"r.io/app","Digest":"sha256:00","RepoTags":["1"],"Created":"2026-01-02T03:04:05Z","DockerVersion":"","Labels":{"a":"b"},"Architecture":"amd64","Os":"linux","Layers":["sha256:aa"],"LayersData":[{"MIMEType":"application/x","Digest":"sha256:aa","Size":7,"Annotations":null}],"Env":["PATH=/bin"]}"#
        );
        let odd = v1::GetArtifactResponse { config: "{}".into(), manifest: "[]".into(), ..image };
        let described = describe(&summary, &odd, &[]);
        assert_eq!(
            (&described["Labels"], &described["Layers"], &described["Os"]),
            (&Value::Null, &json!([]), &json!(""))
        );
    }
}
