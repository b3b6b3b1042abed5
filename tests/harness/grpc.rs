//! A blocking client of `larder.v1`, for what is asked often; the generated clients for the rest.

use std::path::Path;

use larder_proto::v1::artifacts_client::ArtifactsClient;
use larder_proto::v1::attachments_client::AttachmentsClient;
use larder_proto::v1::content_client::ContentClient;
use larder_proto::v1::daemon_client::DaemonClient;
use larder_proto::v1::layouts_client::LayoutsClient;
use larder_proto::v1::query_result::Result as QueryOutcome;
use larder_proto::v1::signatures_client::SignaturesClient;
use larder_proto::v1::sync_client::SyncClient;
use larder_proto::v1::trust_client::TrustClient;
use larder_proto::v1::verification_client::VerificationClient;
use larder_proto::v1::{
    ArtifactSummary, GetStatusRequest, GetStatusResponse, HistoryEntry, HistoryRequest, ListArtifactsRequest,
    ListTrustRequest, ListTrustResponse, QueryError, QueryRequest, State, SummarizeRequest, SummarizeResponse, Verdict,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::{block, eventually};

/// A connection to a daemon's socket.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects; `None` where nobody listens.
    pub fn connect(socket: &Path) -> Option<Self> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).expect("a socket's URI");
        block(endpoint.connect()).ok().map(|channel| Self { channel })
    }

    /// The service `Artifacts`.
    pub fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone())
    }

    /// The service `Attachments`.
    pub fn attachments(&self) -> AttachmentsClient<Channel> {
        AttachmentsClient::new(self.channel.clone())
    }

    /// The service `Content`.
    pub fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.channel.clone())
    }

    /// The service `Daemon`.
    pub fn daemon(&self) -> DaemonClient<Channel> {
        DaemonClient::new(self.channel.clone())
    }

    /// The service `Layouts`.
    pub fn layouts(&self) -> LayoutsClient<Channel> {
        LayoutsClient::new(self.channel.clone())
    }

    /// The service `Signatures`.
    pub fn signatures(&self) -> SignaturesClient<Channel> {
        SignaturesClient::new(self.channel.clone())
    }

    /// The service `Sync`.
    pub fn sync(&self) -> SyncClient<Channel> {
        SyncClient::new(self.channel.clone())
    }

    /// The service `Trust`.
    pub fn trust(&self) -> TrustClient<Channel> {
        TrustClient::new(self.channel.clone())
    }

    /// The service `Verification`.
    pub fn verification(&self) -> VerificationClient<Channel> {
        VerificationClient::new(self.channel.clone())
    }

    /// Asks how the daemon is.
    pub fn try_status(&self) -> Result<GetStatusResponse, Box<Status>> {
        Ok(block(self.daemon().get_status(GetStatusRequest {}))?.into_inner())
    }

    /// Asks how the daemon is.
    #[track_caller]
    pub fn status(&self) -> GetStatusResponse {
        self.try_status().expect("Daemon.GetStatus")
    }

    /// Asks for one verdict.
    #[track_caller]
    pub fn query(&self, reference: &str) -> Result<Verdict, QueryError> {
        let request = QueryRequest { references: vec![reference.to_owned()] };
        let response = block(self.verification().query(request)).expect("Verification.Query").into_inner();
        match response.results.into_iter().next().and_then(|result| result.result) {
            Some(QueryOutcome::Verdict(verdict)) => Ok(verdict),
            Some(QueryOutcome::Error(error)) => Err(error),
            None => panic!("Verification.Query gave no result for {reference}"),
        }
    }

    /// Asks for the state of what is held.
    #[track_caller]
    pub fn state(&self, reference: &str) -> State {
        match self.query(reference) {
            Ok(verdict) => verdict.state(),
            Err(error) => panic!("no verdict on {reference}: {} ({})", error.message, error.reason),
        }
    }

    /// Waits until what is held has a state.
    #[track_caller]
    pub fn becomes(&self, reference: &str, state: State) {
        let mut last = None;
        eventually(&format!("{reference} to become {}", state.as_str_name()), || {
            let now = self.state(reference);
            if last != Some(now) {
                eprintln!("{reference}: {}", now.as_str_name());
                last = Some(now);
            }
            (now == state).then_some(())
        });
    }

    /// Lists what is held, all pages.
    #[track_caller]
    pub fn list(&self) -> Vec<ArtifactSummary> {
        let mut artifacts = Vec::new();
        let mut request = ListArtifactsRequest { page_size: 1000, ..Default::default() };
        loop {
            let page = block(self.artifacts().list_artifacts(request.clone())).expect("ListArtifacts").into_inner();
            artifacts.extend(page.artifacts);
            if page.next_page_token.is_empty() {
                return artifacts;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Lists what the trust folder holds.
    #[track_caller]
    pub fn trust_list(&self) -> ListTrustResponse {
        block(self.trust().list_trust(ListTrustRequest {})).expect("Trust.ListTrust").into_inner()
    }

    /// Returns how the trust folder is: settled, unsettled, faulty, missing, starting.
    #[track_caller]
    pub fn trust_condition(&self) -> String {
        self.trust_list().health.map(|health| health.condition).unwrap_or_default()
    }

    /// Waits until the trust folder is as said, with so many keys and policies.
    #[track_caller]
    pub fn trust_becomes(&self, condition: &str, keys: usize, policies: usize) {
        eventually(&format!("a {condition} trust folder with {keys} keys and {policies} policies"), || {
            let list = self.trust_list();
            let is = list.health.is_some_and(|health| health.condition == condition);
            (is && list.keys.len() == keys && list.policies.len() == policies).then_some(())
        });
    }

    /// Counts what is held.
    #[track_caller]
    pub fn summary(&self) -> SummarizeResponse {
        block(self.verification().summarize(SummarizeRequest { limit: 1000 })).expect("Summarize").into_inner()
    }

    /// Returns what happened, newest first: the first thousand entries.
    #[track_caller]
    pub fn history(&self, reference: &str) -> Vec<HistoryEntry> {
        let request = HistoryRequest { reference: reference.to_owned(), page_size: 1000, before: 0 };
        block(self.verification().history(request)).expect("Verification.History").into_inner().entries
    }
}
