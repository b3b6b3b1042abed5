//! Lists that come in pages (distribution-spec, "Content Discovery").

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::LINK;
use http::{Method, StatusCode};
use larder_core::Digest;
use reqwest::{Response, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::connection::Call;
use super::error::{At, RemoteError, clean};
use super::redirect::{next_link, same_origin, target};
use super::transport::{in_words, read_all};
use super::{RemoteRepository, set_accept};

/// The most bytes that one page may have, as a manifest.
const MAX_PAGE_BODY: u64 = 4 << 20;
/// The most pages that a list may have.
const MAX_PAGES: usize = 1_000;
/// The most bytes that a list may have, over all its pages: a hundred thousand referrers, or a million tags.
const MAX_LIST_BYTES: u64 = 32 << 20;
/// How many times as long as a registry may keep silent all pages of a list may take.
const LIST_PATIENCE: u32 = 10;

/// A list, page after page.
pub(super) struct Pages<'a> {
    repository: &'a RemoteRepository,
    call: Call,
    kind: &'static str,
    next: Option<Url>,
    /// Of the pages' URLs, which a registry chooses and may make long.
    seen: HashSet<Digest>,
    /// What came so far.
    received: u64,
    /// The time spent waiting for the registry.
    waited: Duration,
}

impl<'a> Pages<'a> {
    /// Starts at `tail`, which follows `/v2/<path>/`; `kind` is what a 404 says is not there.
    pub(super) fn new(
        repository: &'a RemoteRepository,
        at: At,
        tail: &str,
        accept: &str,
        kind: &'static str,
    ) -> Result<Self, RemoteError> {
        let mut call = repository.call(Method::GET, at, tail)?;
        set_accept(&mut call.headers, &[accept]);
        Ok(Self {
            repository,
            next: Some(call.url.clone()),
            call,
            kind,
            seen: HashSet::new(),
            received: 0,
            waited: Duration::ZERO,
        })
    }

    /// Fetches the next page; `None` after the last.
    ///
    /// # Errors
    /// Fails on every answer but 200, and where the pages go in a circle, to another host, have no end, are too long or
    /// take too long in all.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        match self.send().await? {
            Some((_permit, response)) => self.read(response).await.map(Some),
            None => Ok(None),
        }
    }

    /// Says whether there is a further page.
    pub(super) fn has_next(&self) -> bool {
        self.next.is_some()
    }

    /// Asks for the next page, and returns the answer whatever it is, with the permit to be kept until it is read.
    pub(super) async fn send(&mut self) -> Result<Option<(OwnedSemaphorePermit, Response)>, RemoteError> {
        let Some(url) = self.next.take() else { return Ok(None) };
        let at = &self.call.at;
        if !self.seen.insert(Digest::of(url.as_str().as_bytes())) {
            return Err(RemoteError::Malformed { at: at.clone(), why: "its pages go in a circle".into() });
        }
        if self.seen.len() > MAX_PAGES {
            return Err(RemoteError::TooLarge { at: at.clone(), limit: format!("{MAX_PAGES} pages") });
        }
        self.call.url = url;
        let connection = &self.repository.connection;
        let permit = connection.admit(at, &self.call.method).await?;
        let left = self.time_left();
        let begun = Instant::now();
        let response = timeout(left, connection.call(&self.call)).await;
        self.waited += begun.elapsed();
        Ok(Some((permit, response.map_err(|_| self.too_slow())??)))
    }

    /// Reads a page, and where the one behind it is.
    pub(super) async fn read(&mut self, response: Response) -> Result<Bytes, RemoteError> {
        let at = &self.call.at;
        let malformed = |why: &str| RemoteError::Malformed { at: at.clone(), why: why.into() };
        let connection = &self.repository.connection;
        if response.status() != StatusCode::OK {
            return Err(self.repository.failure(at, response, self.kind).await);
        }
        let links = response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
        if let Some(link) = links.filter_map(next_link).next() {
            let next = target(&self.call.url, link, &*connection.plain)
                .map_err(|_| malformed(&format!("its next page is at {:?}", clean(link))))?;
            if !same_origin(&next, &connection.origin) {
                return Err(malformed("its next page is at another host"));
            }
            self.next = Some(next);
        }
        let left = self.time_left();
        let begun = Instant::now();
        let page = timeout(left, read_all(at, response, MAX_PAGE_BODY)).await;
        self.waited += begun.elapsed();
        let page = page.map_err(|_| self.too_slow())??;
        self.received = self.received.saturating_add(page.len() as u64);
        if self.received > MAX_LIST_BYTES {
            let limit = format!("{} over all its pages", in_words(MAX_LIST_BYTES));
            return Err(RemoteError::TooLarge { at: self.call.at.clone(), limit });
        }
        Ok(page)
    }

    /// Says how much longer the registry may take.
    fn time_left(&self) -> Duration {
        (self.repository.connection.clients.patience() * LIST_PATIENCE).saturating_sub(self.waited)
    }

    fn too_slow(&self) -> RemoteError {
        RemoteError::TooSlow { at: self.call.at.clone(), received: self.received, waited: self.waited }
    }
}
