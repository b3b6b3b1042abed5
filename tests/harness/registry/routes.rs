//! What the registry answers when all goes well.

use std::net::SocketAddr;

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method};
use larder_core::Digest;
use serde_json::{Value, json};

use super::{Auth, Inner, TOKEN};

impl Inner {
    fn refuse(&self, address: &SocketAddr, authorization: Option<&str>) -> Option<Response> {
        let (challenge, wanted) = match &self.auth {
            Auth::Anonymous => return None,
            Auth::Basic(user, password) => ("Basic realm=\"fake\"".to_owned(), basic(user, password)),
            Auth::Bearer(..) => (
                format!("Bearer realm=\"http://{address}/token\",service=\"fake\",scope=\"repository:any:pull\""),
                format!("Bearer {TOKEN}"),
            ),
        };
        (authorization != Some(wanted.as_str()))
            .then(|| with(error(401, "UNAUTHORIZED", "authentication required"), WWW_AUTHENTICATE.as_str(), &challenge))
    }

    pub(super) fn route(
        &mut self,
        address: &SocketAddr,
        method: &Method,
        path: &str,
        authorization: Option<&str>,
        kind: &str,
        body: Bytes,
    ) -> Response {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "/token" {
            return self.token(authorization);
        }
        if let Some(refusal) = self.refuse(address, authorization) {
            return refusal;
        }
        let Some(rest) = path.strip_prefix("/v2/") else { return error(404, "NOT_FOUND", "no such path") };
        if rest.is_empty() {
            return respond(200, "application/json", Bytes::from_static(b"{}"));
        }
        if let Some((name, reference)) = rest.rsplit_once("/manifests/") {
            return self.manifests(method, name, reference, kind, body);
        }
        if let Some((name, id)) = rest.split_once("/blobs/uploads/") {
            return self.uploads(method, name, id, query, &body);
        }
        if let Some((name, digest)) = rest.rsplit_once("/blobs/") {
            let blob = self.repositories.get(name).and_then(|held| held.blobs.get(digest));
            return match blob {
                Some(bytes) => {
                    with(content(method, "application/octet-stream", bytes.clone()), "docker-content-digest", digest)
                }
                None => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            };
        }
        if let Some((name, _)) = rest.rsplit_once("/tags/list") {
            return self.tags(name, query);
        }
        match rest.rsplit_once("/referrers/") {
            Some((name, digest)) if self.referrers => self.referrers(name, digest),
            // As Debian's says it, and whatever else knows no such path.
            _ => respond(404, "text/plain; charset=utf-8", Bytes::from_static(b"404 page not found\n")),
        }
    }

    fn token(&self, authorization: Option<&str>) -> Response {
        match &self.auth {
            Auth::Bearer(user, password) if authorization != Some(basic(user, password).as_str()) => {
                error(401, "UNAUTHORIZED", "wrong user or password")
            }
            _ => respond(200, "application/json", json!({"token": TOKEN, "expires_in": 300}).to_string().into()),
        }
    }

    fn manifests(&mut self, method: &Method, name: &str, reference: &str, kind: &str, body: Bytes) -> Response {
        if method == Method::PUT {
            let digest = Digest::of(&body).to_string();
            let subject = serde_json::from_slice::<Value>(&body)
                .ok()
                .and_then(|manifest| manifest["subject"]["digest"].as_str().map(str::to_owned));
            let held = self.repositories.entry(name.to_owned()).or_default();
            held.manifests.insert(digest.clone(), (kind.to_owned(), body));
            if !reference.contains(':') {
                held.tags.insert(reference.to_owned(), digest.clone());
            }
            let created = respond(201, "", Bytes::new());
            let created = with(created, LOCATION.as_str(), &format!("/v2/{name}/manifests/{digest}"));
            let created = with(created, "docker-content-digest", &digest);
            return match subject.filter(|_| self.referrers) {
                Some(subject) => with(created, "oci-subject", &subject),
                None => created,
            };
        }
        let found = self.repositories.get(name).and_then(|held| {
            let digest = if reference.contains(':') { reference } else { held.tags.get(reference)? };
            held.manifests.get(digest).map(|(kind, bytes)| (digest.to_owned(), kind.clone(), bytes.clone()))
        });
        match found {
            Some((digest, kind, bytes)) => with(content(method, &kind, bytes), "docker-content-digest", &digest),
            None => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn uploads(&mut self, method: &Method, name: &str, id: &str, query: &str, body: &Bytes) -> Response {
        let of = |field: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(field)?.strip_prefix('='))
                .map(|text| text.replace("%3A", ":"))
        };
        if method == Method::POST {
            self.next_upload += 1;
            let id = self.next_upload.to_string();
            self.uploads.insert(id.clone(), Vec::new());
            return with(respond(202, "", Bytes::new()), LOCATION.as_str(), &format!("/v2/{name}/blobs/uploads/{id}"));
        }
        let Some(mut bytes) = self.uploads.remove(id) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        };
        bytes.extend_from_slice(body);
        if method == Method::PATCH {
            let range = format!("0-{}", bytes.len().saturating_sub(1));
            self.uploads.insert(id.to_owned(), bytes);
            let accepted =
                with(respond(202, "", Bytes::new()), LOCATION.as_str(), &format!("/v2/{name}/blobs/uploads/{id}"));
            return with(accepted, "range", &range);
        }
        let digest = Digest::of(&bytes).to_string();
        if of("digest").as_ref() != Some(&digest) {
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        self.repositories.entry(name.to_owned()).or_default().blobs.insert(digest.clone(), bytes.into());
        with(respond(201, "", Bytes::new()), LOCATION.as_str(), &format!("/v2/{name}/blobs/{digest}"))
    }

    fn tags(&self, name: &str, query: &str) -> Response {
        let Some(held) = self.repositories.get(name) else { return error(404, "NAME_UNKNOWN", "no such repository") };
        let of = |field: &str| query.split('&').find_map(|pair| pair.strip_prefix(field)?.strip_prefix('='));
        let most = if self.page == 0 { 2 } else { self.page };
        let (last, count) =
            (of("last").unwrap_or_default(), of("n").and_then(|n| n.parse().ok()).unwrap_or(most).min(most));
        let after: Vec<_> = held.tags.keys().filter(|tag| tag.as_str() > last).collect();
        let page: Vec<_> = after.iter().take(count).collect();
        let body = json!({"name": name, "tags": page}).to_string();
        let response = respond(200, "application/json", body.into());
        match page.last() {
            Some(tag) if after.len() > page.len() => {
                with(response, "link", &format!("</v2/{name}/tags/list?n={count}&last={tag}>; rel=\"next\""))
            }
            _ => response,
        }
    }

    fn referrers(&self, name: &str, digest: &str) -> Response {
        let mut found = Vec::new();
        for (own, (kind, bytes)) in self.repositories.get(name).into_iter().flat_map(|held| &held.manifests) {
            let Ok(manifest) = serde_json::from_slice::<Value>(bytes) else { continue };
            if manifest["subject"]["digest"] == digest {
                found.push(json!({"mediaType": kind, "digest": own, "size": bytes.len(), "artifactType":
                    manifest.get("artifactType").unwrap_or_else(|| &manifest["config"]["mediaType"])}));
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": larder_core::manifest::OCI_INDEX, "manifests": found});
        respond(200, larder_core::manifest::OCI_INDEX, index.to_string().into())
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

pub(super) fn respond(status: u16, kind: &str, body: Bytes) -> Response {
    let response = Response::builder().status(status).header(CONTENT_LENGTH, body.len());
    let response = if kind.is_empty() { response } else { response.header(CONTENT_TYPE, kind) };
    response.body(Body::from(body)).expect("a response")
}

/// Answers with content, or (for HEAD) with its length only.
fn content(method: &Method, kind: &str, bytes: Bytes) -> Response {
    if method != Method::HEAD {
        return respond(200, kind, bytes);
    }
    let response = Response::builder().status(200).header(CONTENT_LENGTH, bytes.len()).header(CONTENT_TYPE, kind);
    response.body(Body::empty()).expect("a response")
}

pub(super) fn error(status: u16, code: &str, message: &str) -> Response {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    respond(status, "application/json", body.into())
}

pub(super) fn with(mut response: Response, name: &str, value: &str) -> Response {
    let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
    response.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header's value"));
    response
}
