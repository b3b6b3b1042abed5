//! Signing configs: which services a signer asks (SigningConfig of sigstore_trustroot.proto, v0.2; facts/sigstore.md 6.1).

use jiff::Timestamp;

use super::root::read_window;
use super::window::Window;
use crate::protojson::{FieldError, Json, Message, shown};

/// The most bytes that a signing config may have; the public one has 2 KiB.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;
/// The most services of one kind.
const MAX_SERVICES: usize = 64;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.signingconfig.v0.2+json";
const SELECTORS: [&str; 4] = ["SERVICE_SELECTOR_UNDEFINED", "ALL", "ANY", "EXACT"];

/// The services that a signer may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningConfig {
    authorities: Vec<Service>,
    logs: Vec<Service>,
    timestamps: Vec<Service>,
    logs_wanted: Wanted,
    timestamps_wanted: Wanted,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where it is.
    pub url: String,
    /// The version of its interface that it speaks.
    pub version: u64,
    /// Who runs it: of one operator one service is asked.
    operator: String,
    /// When it may be asked.
    window: Window,
}

/// How many services are to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    /// One of each operator.
    All,
    /// One.
    #[default]
    Any,
    /// So many, each of another operator.
    Exactly(usize),
}

/// Says why bytes are no signing config, or why it names nobody to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningConfigError {
    /// It is longer than [`MAX_CONFIG_BYTES`].
    #[error("it has {0} bytes; at most 1 MiB is read")]
    TooLong(usize),
    /// It is no JSON, or has a field twice.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// It is of another media type.
    #[error("{0:?} is not the media type of a signing config ({MEDIA_TYPE})")]
    MediaType(String),
    /// A field is missing, doubled, unknown, or not as it must be.
    #[error("its {0}")]
    Field(#[from] FieldError),
    /// Services are named, and too few of them are valid and of a version that is spoken here.
    #[error("it names {found} {what} to ask now, and {wanted} are wanted")]
    TooFew {
        /// What kind.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
}

impl SigningConfig {
    /// Parses a signing config.
    ///
    /// # Errors
    /// Fails with the first field that is not as it must be.
    pub fn parse(bytes: &[u8]) -> Result<Self, SigningConfigError> {
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(SigningConfigError::TooLong(bytes.len()));
        }
        let json = Json::parse(bytes).map_err(SigningConfigError::NotJson)?;
        let mut top = Message::open(json, String::new())?;
        let media_type = top.text("mediaType")?.unwrap_or_default();
        if media_type != MEDIA_TYPE {
            return Err(SigningConfigError::MediaType(shown(&media_type)));
        }
        let config = Self {
            authorities: services(&mut top, "caUrls")?,
            logs: services(&mut top, "rekorTlogUrls")?,
            timestamps: services(&mut top, "tsaUrls")?,
            logs_wanted: wanted(top.message("rekorTlogConfig")?)?,
            timestamps_wanted: wanted(top.message("tsaConfig")?)?,
        };
        services(&mut top, "oidcUrls")?;
        top.finish()?;
        Ok(config)
    }

    /// Returns the authority to ask for a certificate; `None` where none is named.
    ///
    /// # Errors
    /// Fails where some are named, and none can be asked.
    pub fn authority(&self, now: Timestamp) -> Result<Option<&Service>, SigningConfigError> {
        Ok(choose(&self.authorities, Wanted::Any, &[1], now, "authority")?.first().copied())
    }

    /// Returns the transparency logs to show a signature to, of Rekor's interface 1 or 2; none where none is named.
    ///
    /// # Errors
    /// Fails where some are named, and too few can be asked.
    pub fn logs(&self, now: Timestamp) -> Result<Vec<&Service>, SigningConfigError> {
        choose(&self.logs, self.logs_wanted, &[1, 2], now, "transparency logs")
    }

    /// Returns the timestamp authorities to show a signature to; none where none is named.
    ///
    /// # Errors
    /// Fails where some are named, and too few can be asked.
    pub fn timestamps(&self, now: Timestamp) -> Result<Vec<&Service>, SigningConfigError> {
        choose(&self.timestamps, self.timestamps_wanted, &[1], now, "timestamp authorities")
    }
}

/// Chooses as the .proto file says: of each operator the one with the highest version, and of these the newest.
fn choose<'a>(
    services: &'a [Service],
    wanted: Wanted,
    versions: &[u64],
    now: Timestamp,
    what: &'static str,
) -> Result<Vec<&'a Service>, SigningConfigError> {
    if services.is_empty() {
        return Ok(Vec::new());
    }
    let mut valid: Vec<&Service> = services.iter().filter(|service| service.window.contains(now)).collect();
    valid.retain(|service| versions.contains(&service.version));
    valid.sort_by_key(|service| std::cmp::Reverse((service.version, service.window.start)));
    let mut chosen: Vec<&Service> = Vec::new();
    for service in valid {
        if !chosen.iter().any(|other| other.operator == service.operator) {
            chosen.push(service);
        }
    }
    let (found, wanted) = match wanted {
        Wanted::All => (chosen.len(), chosen.len().max(1)),
        Wanted::Any => (chosen.len(), 1),
        Wanted::Exactly(count) => (chosen.len(), count),
    };
    if found < wanted {
        return Err(SigningConfigError::TooFew { what, found, wanted });
    }
    chosen.truncate(wanted);
    Ok(chosen)
}

fn services(top: &mut Message, name: &str) -> Result<Vec<Service>, FieldError> {
    let read = |mut wire: Message| {
        let url = wire.text("url")?.filter(|url| !url.is_empty()).ok_or_else(|| wire.fault("url", "is missing"))?;
        let version = wire.number("majorApiVersion")?;
        let operator = wire.text("operator")?.unwrap_or_default();
        let mut valid = wire.needed_message("validFor")?;
        let window = read_window(&mut valid)?;
        valid.finish()?;
        wire.finish()?;
        Ok(Service { url, version, operator, window })
    };
    top.messages(name, MAX_SERVICES)?.into_iter().map(read).collect()
}

fn wanted(wire: Option<Message>) -> Result<Wanted, FieldError> {
    let Some(mut wire) = wire else { return Ok(Wanted::Any) };
    let selector = wire.choice("selector", &SELECTORS)?;
    let count = wire.number("count")?;
    let wanted = match (selector, usize::try_from(count)) {
        ("ALL", _) => Wanted::All,
        ("EXACT", Ok(count @ 1..=MAX_SERVICES)) => Wanted::Exactly(count),
        ("EXACT", _) => return Err(wire.fault("count", format!("is not 1 to {MAX_SERVICES}"))),
        _ => Wanted::Any,
    };
    wire.finish()?;
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().expect("a time")
    }

    fn service(url: &str, version: u64, operator: &str, start: &str) -> Value {
        json!({"url": url, "majorApiVersion": version, "operator": operator, "validFor": {"start": start}})
    }

    fn parse(config: Value) -> Result<SigningConfig, SigningConfigError> {
        let mut config = config;
        config["mediaType"] = MEDIA_TYPE.into();
        SigningConfig::parse(config.to_string().as_bytes())
    }

    fn urls(services: Result<Vec<&Service>, SigningConfigError>) -> Vec<String> {
        services.expect("services").into_iter().map(|service| service.url.clone()).collect()
    }

    #[test]
    fn of_each_operator_the_newest_that_is_spoken_here() {
        let logs = json!([
            service("http://old", 1, "a", "2025-01-01T00:00:00Z"),
            service("http://new", 2, "a", "2025-01-01T00:00:00Z"),
            service("http://newer", 2, "a", "2026-01-01T00:00:00Z"),
            service("http://not-yet", 2, "a", "2027-01-01T00:00:00Z"),
            service("http://unknown", 3, "a", "2026-02-01T00:00:00Z"),
            service("http://other", 1, "b", "2026-03-01T00:00:00Z"),
        ]);
        let with =
            |selector: Value| parse(json!({"rekorTlogUrls": logs, "rekorTlogConfig": selector})).expect("parsed");
        assert_eq!(urls(with(json!({"selector": "ANY"})).logs(now())), ["http://newer"]);
        assert_eq!(urls(with(json!({"selector": "ALL"})).logs(now())), ["http://newer", "http://other"]);
        assert_eq!(urls(with(json!({"selector": "EXACT", "count": 2})).logs(now())), ["http://newer", "http://other"]);
        let error = with(json!({"selector": "EXACT", "count": 3})).logs(now()).expect_err("too few");
        assert_eq!(error.to_string(), "it names 2 transparency logs to ask now, and 3 are wanted");
    }

    #[test]
    fn nobody_named_is_nobody_asked_and_nobody_valid_is_an_error() {
        let none = parse(json!({})).expect("parsed");
        assert_eq!(
            (none.authority(now()), none.logs(now()), none.timestamps(now())),
            (Ok(None), Ok(vec![]), Ok(vec![]))
        );
        let ended = json!([{"url": "http://ca", "majorApiVersion": 1,
            "validFor": {"start": "2025-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}}]);
        let ended = parse(json!({"caUrls": ended})).expect("parsed");
        assert!(matches!(ended.authority(now()), Err(SigningConfigError::TooFew { found: 0, .. })));
    }

    #[test]
    fn what_is_no_signing_config_is_refused_by_its_field() {
        for (config, words) in [
            (json!({"caUrls": {}}), "caUrls is an object, not a list"),
            (json!({"caUrls": [{}]}), "caUrls[0].url is missing"),
            (json!({"caUrls": [{"url": "http://a"}]}), "caUrls[0].validFor is missing"),
            (json!({"tsaConfig": {"selector": "SOME"}}), "tsaConfig.selector is not a value that is known"),
            (json!({"tsaConfig": {"selector": "EXACT"}}), "tsaConfig.count is not 1 to 64"),
            (json!({"more": 1}), "more is an unknown field"),
        ] {
            assert_eq!(parse(config).expect_err(words).to_string(), format!("its {words}"));
        }
        let other = SigningConfig::parse(b"{\"mediaType\":\"x\"}").expect_err("another type");
        assert!(matches!(other, SigningConfigError::MediaType(_)), "{other}");
        assert!(matches!(SigningConfig::parse(b"["), Err(SigningConfigError::NotJson(_))));
        assert!(matches!(SigningConfig::parse(&vec![b' '; MAX_CONFIG_BYTES + 1]), Err(SigningConfigError::TooLong(_))));
    }
}
