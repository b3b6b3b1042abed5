//! Manifests as go-containerregistry writes them, for bytes that must equal cosign's.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::descriptor::{Descriptor, Platform};
use crate::digest::Digest;

/// The fields in the order of go-containerregistry's `v1.Manifest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestJson<'a> {
    pub(super) schema_version: u8,
    pub(super) media_type: &'a str,
    pub(super) config: DescriptorJson<'a>,
    pub(super) layers: Vec<DescriptorJson<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<DescriptorJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
}

/// The fields in the order of go-containerregistry's `v1.Descriptor`: the size before the digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescriptorJson<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<PlatformJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
}

#[derive(Serialize)]
struct PlatformJson<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl<'a> From<&'a Descriptor> for DescriptorJson<'a> {
    fn from(descriptor: &'a Descriptor) -> Self {
        Self {
            media_type: &descriptor.media_type,
            size: descriptor.size,
            digest: &descriptor.digest,
            data: descriptor.data.as_deref(),
            annotations: &descriptor.annotations,
            platform: descriptor.platform.as_ref().map(|Platform { os, architecture, variant }| PlatformJson {
                architecture,
                os,
                variant: variant.as_deref(),
            }),
            artifact_type: descriptor.artifact_type.as_deref(),
        }
    }
}
