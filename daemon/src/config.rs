//! `$LARDER_HOME/config.toml` and the environment, read once into a [`Config`]; nothing is opened by it.

mod grpc;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use larder_core::Repository;
use larder_core::glob::Glob;
use larder_core::policy::Rules;
use larder_core::reference::{DOCKER_HUB, LOCAL};
use larder_proto::place::{self, PlaceError};
use serde::Deserialize;
use toml::Spanned;

pub mod places;

use self::places::Places;
use crate::telemetry::log::{LogFormat, LogLevel};
pub use grpc::{CertificateName, GrpcClient, GrpcConfig, Role};

/// The file's name in the home.
pub const CONFIG_FILE: &str = "config.toml";
/// The variable that says where the endpoint listens, in place of `[endpoint] address`.
pub const ENDPOINT_VARIABLE: &str = "LARDER_ENDPOINT";
/// Where the endpoint listens unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "127.0.0.1:4470";
/// How many requests may be under way at one registry unless told otherwise.
pub const DEFAULT_CONCURRENCY: usize = 8;
/// How long a registry may keep silent unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that a registry may be told to keep silent.
const MAX_TIMEOUT: u64 = 3600;
/// The most requests that may be allowed to be under way at one registry.
pub const MAX_CONCURRENCY: usize = 64;
/// How long history is kept unless told otherwise, in days.
pub const DEFAULT_KEEP_DAYS: u32 = 90;
/// How long the journal may be before anything goes, unless told otherwise, in bytes.
pub const DEFAULT_KEEP_BYTES: u64 = 1 << 30;
/// How long a segment of the journal grows unless told otherwise, in bytes.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
/// How long a segment of the journal may be told to be, in bytes.
const SEGMENT_BYTES_RANGE: std::ops::RangeInclusive<u64> = 4 << 10..=1 << 30;
/// The most days that trusted roots may be allowed to be old: a hundred years.
const MAX_ROOT_AGE_DAYS: u32 = 36_525;
/// The most bytes that the file may have.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Everything that the daemon is told before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that everything lives in.
    pub home: PathBuf,
    /// The gRPC socket.
    pub socket: PathBuf,
    /// The OCI endpoint.
    pub endpoint: EndpointConfig,
    /// What the endpoint does with subjects that are not accepted.
    pub gate: GateMode,
    /// How many requests may be under way at one registry.
    pub concurrency: usize,
    /// The trust folder.
    pub trust_folder: PathBuf,
    /// What `[trust]` says beside the folder's files.
    pub trust_rules: Rules,
    /// The registries.
    pub registries: RegistriesConfig,
    /// The API over TCP; `None` where it is on the socket only.
    pub grpc: Option<GrpcConfig>,
    /// The journal.
    pub journal: JournalConfig,
    /// The log.
    pub log: LogConfig,
}

/// `[log]`.
#[derive(Clone, Debug, Default)]
pub struct LogConfig {
    /// How much is logged.
    pub level: LogLevel,
    /// How lines are written.
    pub format: LogFormat,
}

/// How much history is kept: a part goes where the journal is longer than `bytes` and the part is older than `days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Nothing younger goes.
    pub days: u32,
    /// Nothing goes while the journal is no longer than this.
    pub bytes: u64,
}

/// `[journal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// How much history is kept.
    pub keep: Keep,
    /// A segment of so many bytes is the last one no more.
    pub segment_bytes: u64,
}

/// `[endpoint]`.
#[derive(Clone, Debug, Default)]
pub struct EndpointConfig {
    /// Where it listens, a loopback address; `None` where it is off.
    pub address: Option<SocketAddr>,
    /// The repositories of other registries that subjects may be pushed to.
    pub push_to: Vec<Glob>,
    /// `Host` headers (`name` or `name:port`, lower case) that are answered besides loopback ones.
    pub hosts: Vec<String>,
}

/// What the endpoint does with subjects that are not accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateMode {
    /// Refuse them.
    #[default]
    Enforce,
    /// Serve them with a warning.
    Warn,
    /// Serve everything.
    Off,
}

/// One `[registry."HOST"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// The user's name.
    pub username: Option<String>,
    /// The file that holds the password (a trailing newline is not part of it).
    pub password_file: Option<PathBuf>,
    /// Speak plain HTTP, or do not; unless said, loopback hosts do so that have no certificates of their own.
    pub plain_http: Option<bool>,
    /// The certificates that may have issued the registry's, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate that we show to the registry, with those between it and its root.
    pub client_cert_file: Option<PathBuf>,
    /// That certificate's private key.
    pub client_key_file: Option<PathBuf>,
}

/// What the registry client needs.
#[derive(Clone, Debug)]
pub struct RegistriesConfig {
    /// By host (with port), in lower case; Docker Hub is `docker.io`.
    pub registries: BTreeMap<String, RegistryConfig>,
    /// How many requests may be under way at one registry; 0 means [`DEFAULT_CONCURRENCY`].
    pub concurrency: usize,
    /// How long a registry may keep silent: before an answer, and in the middle of one.
    pub timeout: Duration,
    /// Where docker and podman keep credentials and certificates.
    pub places: Places,
}

impl Default for RegistriesConfig {
    fn default() -> Self {
        Self { registries: BTreeMap::new(), concurrency: 0, timeout: DEFAULT_TIMEOUT, places: Places::default() }
    }
}

/// Says why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no home or no socket.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The file is there and cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("{}: longer than {MAX_CONFIG_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    /// A line of the file is wrong.
    #[error("{}, line {line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The variable for the endpoint is wrong.
    #[error("{ENDPOINT_VARIABLE}: {0}")]
    Endpoint(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    gate: GateMode,
    concurrency: Option<Spanned<usize>>,
    timeout: Option<Spanned<u64>>,
    endpoint: EndpointTable,
    trust: TrustTable,
    log: LogTable,
    journal: JournalTable,
    registry: BTreeMap<Spanned<String>, Spanned<RegistryConfig>>,
    grpc: Option<grpc::Table>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LogTable {
    level: Option<Spanned<String>>,
    format: LogFormat,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct EndpointTable {
    address: Option<Spanned<String>>,
    push_to: Vec<Spanned<String>>,
    hosts: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct JournalTable {
    keep_days: Option<u32>,
    keep_bytes: Option<u64>,
    segment_bytes: Option<Spanned<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct TrustTable {
    folder: Option<PathBuf>,
    root_max_age_days: Option<Spanned<u32>>,
}

impl Config {
    /// Reads the place from the environment, and then the file in it.
    ///
    /// # Errors
    /// Fails as [`place::home`], [`place::socket`] and [`Self::load`] do.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let home = place::home(&variable)?;
        let socket = place::socket(&home, &variable)?;
        let endpoint = variable(ENDPOINT_VARIABLE).filter(|value| !value.is_empty());
        let endpoint = match &endpoint {
            Some(value) => {
                Some(value.to_str().ok_or_else(|| ConfigError::Endpoint(format!("{} is no text", value.display())))?)
            }
            None => None,
        };
        let mut config = Self::load(home, socket, endpoint)?;
        config.registries.places = Places::from_environment(&variable, rustix::process::getuid().as_raw());
        Ok(config)
    }

    /// Reads `config.toml` in `home`; without one every default holds.
    ///
    /// `endpoint` stands in place of what the file says of the endpoint's address.
    ///
    /// # Errors
    /// Fails, naming the line, where the file cannot be read, has an unknown key or a value that its key does not take.
    pub fn load(home: PathBuf, socket: PathBuf, endpoint: Option<&str>) -> Result<Self, ConfigError> {
        let path = home.join(CONFIG_FILE);
        let text = read(&path)?;
        let wrong = |at: usize, message: String| ConfigError::Line {
            path: path.clone(),
            line: text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1,
            message,
        };
        let file: File = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            wrong(at, error.message().to_owned())
        })?;

        let address = match (endpoint, &file.endpoint.address) {
            (Some(text), _) => endpoint_address(text).map_err(ConfigError::Endpoint)?,
            (None, Some(text)) => {
                endpoint_address(text.get_ref()).map_err(|message| wrong(text.span().start, message))?
            }
            (None, None) => endpoint_address(DEFAULT_ENDPOINT).map_err(ConfigError::Endpoint)?,
        };
        let mut push_to = Vec::new();
        for glob in &file.endpoint.push_to {
            push_to.push(glob.get_ref().parse().map_err(|error| wrong(glob.span().start, format!("{error}")))?);
        }
        let mut hosts = Vec::new();
        for host in &file.endpoint.hosts {
            hosts.push(host_header(host.get_ref()).map_err(|message| wrong(host.span().start, message))?);
        }
        let concurrency = match &file.concurrency {
            None => DEFAULT_CONCURRENCY,
            Some(number) if (1..=MAX_CONCURRENCY).contains(number.get_ref()) => *number.get_ref(),
            Some(number) => {
                let message = format!("concurrency is a number from 1 to {MAX_CONCURRENCY}");
                return Err(wrong(number.span().start, message));
            }
        };
        let timeout = match &file.timeout {
            None => DEFAULT_TIMEOUT,
            Some(seconds) if (1..=MAX_TIMEOUT).contains(seconds.get_ref()) => Duration::from_secs(*seconds.get_ref()),
            Some(seconds) => {
                let message = format!("timeout is a number of seconds from 1 to {MAX_TIMEOUT}");
                return Err(wrong(seconds.span().start, message));
            }
        };
        let level = match &file.log.level {
            None => LogLevel::default(),
            Some(text) => text.get_ref().parse().map_err(|error| wrong(text.span().start, format!("{error}")))?,
        };
        let segment_bytes = match &file.journal.segment_bytes {
            None => DEFAULT_SEGMENT_BYTES,
            Some(number) if SEGMENT_BYTES_RANGE.contains(number.get_ref()) => *number.get_ref(),
            Some(number) => {
                let (least, most) = (SEGMENT_BYTES_RANGE.start(), SEGMENT_BYTES_RANGE.end());
                return Err(wrong(number.span().start, format!("segment_bytes is a number from {least} to {most}")));
            }
        };
        let root_max_age = match &file.trust.root_max_age_days {
            None => None,
            Some(days) if (1..=MAX_ROOT_AGE_DAYS).contains(days.get_ref()) => {
                Some(SignedDuration::from_hours(24 * i64::from(*days.get_ref())))
            }
            Some(days) => {
                let message = format!("root_max_age_days is a number from 1 to {MAX_ROOT_AGE_DAYS}");
                return Err(wrong(days.span().start, message));
            }
        };
        let keep = Keep {
            days: file.journal.keep_days.unwrap_or(DEFAULT_KEEP_DAYS),
            bytes: file.journal.keep_bytes.unwrap_or(DEFAULT_KEEP_BYTES),
        };
        let mut registries = BTreeMap::new();
        let mut tables: Vec<_> = file.registry.into_iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        for (name, table) in tables {
            let at = name.span().start;
            let host = registry_host(name.get_ref()).map_err(|message| wrong(at, message))?;
            let table = credentials(table.into_inner(), &home).map_err(|message| wrong(at, message))?;
            if registries.insert(host, table).is_some() {
                return Err(wrong(at, format!("the registry {:?} is there twice", name.get_ref())));
            }
        }
        let grpc = file.grpc.map(|table| table.read(&home)).transpose().map_err(|(at, message)| wrong(at, message))?;
        Ok(Self {
            grpc,
            endpoint: EndpointConfig { address, push_to, hosts },
            gate: file.gate,
            concurrency,
            trust_folder: home.join(file.trust.folder.unwrap_or_else(|| "trust".into())),
            trust_rules: Rules { root_max_age },
            registries: RegistriesConfig { registries, concurrency, timeout, places: Places::default() },
            log: LogConfig { level, format: file.log.format },
            journal: JournalConfig { keep, segment_bytes },
            home,
            socket,
        })
    }
}

/// Reads the file, with its length bounded; nothing where there is none.
fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(unreadable(source)),
    };
    let mut text = String::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_CONFIG_BYTES { Err(ConfigError::TooLong(path.to_owned())) } else { Ok(text) }
}

/// Reads where the endpoint listens. It has no protection against the network, so only loopback will do.
fn endpoint_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    match numeric.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
        Ok(_) => Err(format!("{text:?} is no loopback address; the endpoint listens on this machine only")),
        Err(_) => Err(format!("{text:?} is no address; write HOST:PORT, as in {DEFAULT_ENDPOINT}, or off")),
    }
}

/// Reads what a `Host` header may say.
fn host_header(text: &str) -> Result<String, String> {
    match Repository::new(text, "x") {
        Ok(_) => Ok(text.to_ascii_lowercase()),
        Err(_) => Err(format!("{text:?} is no host; write NAME or NAME:PORT")),
    }
}

/// Reads the name of a registry as references spell it.
fn registry_host(text: &str) -> Result<String, String> {
    match Repository::new(text, "x/y") {
        Ok(repository) if repository.registry() == LOCAL => {
            Err("localhost without a port names local repositories; no registry stands behind them".into())
        }
        Ok(repository) => Ok(repository.registry().to_owned()),
        Err(_) => {
            Err(format!("{text:?} is no registry; write its host, with its port if it has one, as in {DOCKER_HUB:?}"))
        }
    }
}

fn credentials(mut table: RegistryConfig, home: &Path) -> Result<RegistryConfig, String> {
    match (&table.username, &table.password_file) {
        (Some(_), None) => return Err("username is here, but password_file is not".into()),
        (None, Some(_)) => return Err("password_file is here, but username is not".into()),
        // Basic authentication joins the two by a colon (RFC 7617, section 2).
        (Some(name), _) if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) => {
            return Err("username is empty, or has a colon or a control character".into());
        }
        _ => {}
    }
    if table.client_cert_file.is_some() != table.client_key_file.is_some() {
        return Err("client_cert_file and client_key_file belong together, and one is not here".into());
    }
    let has_tls = table.ca_file.is_some() || table.client_cert_file.is_some();
    if table.plain_http == Some(true) && has_tls {
        return Err("plain_http = true has no use for certificates; leave one of them out".into());
    }
    for file in [&mut table.password_file, &mut table.ca_file, &mut table.client_cert_file, &mut table.client_key_file]
    {
        *file = file.take().map(|file| home.join(file));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        load_with(text, None)
    }

    fn load_with(text: &str, endpoint: Option<&str>) -> Result<Config, ConfigError> {
        let home = tempfile::tempdir().expect("folder");
        std::fs::write(home.path().join(CONFIG_FILE), text).expect("write");
        Config::load(home.path().to_owned(), "/s".into(), endpoint)
    }

    #[test]
    fn without_a_file_every_default_holds() {
        let home = tempfile::tempdir().expect("folder");
        let config = Config::load(home.path().to_owned(), "/s".into(), None).expect("defaults");
        assert_eq!(config.gate, GateMode::Enforce);
        assert_eq!(config.endpoint.address, DEFAULT_ENDPOINT.parse().ok());
        assert_eq!((config.concurrency, config.registries.concurrency), (8, 8));
        assert_eq!(config.trust_folder, home.path().join("trust"));
        assert!(config.registries.registries.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let config = load(
            r#"
gate = "warn"
concurrency = 3
[endpoint]
address = "[::1]:0"
hosts = ["Builder.lan:4470"]
[trust]
folder = "/etc/larder/trust"
[journal]
keep_days = 7
keep_bytes = 1000000
segment_bytes = 65536
[registry."Registry.Example.org:5000"]
username = "robot"
password_file = "secret"
[registry."index.docker.io"]
plain_http = false
[registry."old.lan"]
plain_http = true
[registry."new.lan"]
ca_file = "ca.pem"
client_cert_file = "/c"
client_key_file = "k"
[grpc]
address = "0.0.0.0:4471"
cert_file = "grpc.crt"
key_file = "/etc/larder/grpc.key"
client_ca_file = "clients.crt"
[[grpc.client]]
uri = "spiffe://site/builder"
role = "operator"
[[grpc.client]]
dns = "Scanner.site"
role = "reader"
"#,
        )
        .expect("good");
        assert_eq!(config.gate, GateMode::Warn);
        assert_eq!(config.concurrency, 3);
        assert_eq!(config.endpoint.address, "[::1]:0".parse().ok());
        assert_eq!(config.endpoint.hosts, ["builder.lan:4470"]);
        assert_eq!(config.trust_folder, Path::new("/etc/larder/trust"));
        assert_eq!((config.journal.keep.days, config.journal.keep.bytes), (7, 1_000_000));
        assert_eq!(config.journal.segment_bytes, 65_536);
        let registries = &config.registries.registries;
        assert_eq!(
            registries.keys().collect::<Vec<_>>(),
            ["docker.io", "new.lan", "old.lan", "registry.example.org:5000"]
        );
        let robot = &registries["registry.example.org:5000"];
        assert_eq!(robot.password_file, Some(config.home.join("secret")));
        let grpc = config.grpc.expect("the API over TCP");
        assert_eq!((grpc.cert_file, grpc.key_file), (config.home.join("grpc.crt"), "/etc/larder/grpc.key".into()));
        let builder = CertificateName::Uri("spiffe://site/builder".to_owned());
        let scanner = CertificateName::Dns("scanner.site".to_owned());
        let clients = [(builder, Role::Operator), (scanner, Role::Reader)];
        assert_eq!(grpc.clients, clients.map(|(name, role)| GrpcClient { name, role }));
        assert_eq!(registries["old.lan"].plain_http, Some(true));
        let new = &registries["new.lan"];
        assert_eq!((new.plain_http, &new.ca_file), (None, &Some(config.home.join("ca.pem"))));
        assert_eq!(new.client_cert_file, Some("/c".into()));
    }

    #[test]
    fn globs_are_parsed() {
        let config = load("[endpoint]\npush_to = [\"quay.io/acme/**\"]").expect("good");
        assert_eq!(config.endpoint.push_to.len(), 1);
        assert!(matches!(load("[endpoint]\npush_to = [\"a[\"]"), Err(ConfigError::Line { line: 2, .. })));
    }

    #[test]
    fn the_environment_says_where_the_endpoint_is() {
        let text = "[endpoint]\naddress = \"127.0.0.1:1\"";
        assert_eq!(load_with(text, Some("off")).expect("off").endpoint.address, None);
        let address = load_with(text, Some("localhost:0")).expect("localhost").endpoint.address;
        assert_eq!(address, "127.0.0.1:0".parse().ok());
        for text in ["", "0.0.0.0:80", "10.0.0.1:80", "example.org:80", "127.0.0.1", "127.0.0.1:99999", "[::]:1"] {
            assert!(matches!(load_with("", Some(text)), Err(ConfigError::Endpoint(_))), "{text:?}");
        }
    }

    fn grpc(address: &str, client: &str) -> String {
        let files = "cert_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"a\"";
        format!("[grpc]\n{address}\n{files}\n[[grpc.client]]\n{client}")
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        for (text, expected, word) in [
            ("\ngates = \"off\"", 2, "gates"),
            ("gate = \"of\"", 1, "of"),
            ("concurrency = 0", 1, "64"),
            ("\n\nconcurrency = 65", 3, "64"),
            ("concurrency = -1", 1, ""),
            ("timeout = 0", 1, "3600"),
            ("[journal]\nsegment_bytes = 1", 2, "segment_bytes"),
            ("[journal]\nkeep_days = -1", 2, ""),
            ("[endpoint]\nadress = \"off\"", 2, "adress"),
            ("[endpoint]\naddress = \"0.0.0.0:1\"", 2, "loopback"),
            ("[endpoint]\nhosts = [\"http://x\"]", 2, "http://x"),
            ("[registry.\"x.io\"]\npassword = \"p\"", 2, "password"),
            ("\n[registry.\"x.io\"]\nusername = \"u\"", 2, "password_file"),
            ("[registry.\"x.io\"]\npassword_file = \"u\"", 1, "username"),
            ("[registry.\"x.io\"]\nusername=\"a:b\"\npassword_file = \"u\"", 1, "colon"),
            ("[registry.\"x.io\"]\nclient_cert_file = \"c\"", 1, "client_key_file"),
            ("[registry.\"x.io\"]\nca_file = \"c\"\nplain_http = true", 1, "certificates"),
            ("[registry.\"https://x.io\"]", 1, "https://x.io"),
            ("[registry.\"x.io\"]\n[registry.\"X.io\"]", 2, "twice"),
            ("[registry.localhost]", 1, "local"),
            ("[log]\nlevel = \"loud\"", 2, "loud"),
            ("[log]\nformat = \"xml\"", 2, "xml"),
            ("gate = ", 1, ""),
            ("[grpc]\naddress = \"127.0.0.1:0\"", 1, "cert_file"),
            (&grpc("address = \"example.org:1\"", "role = \"reader\"\ndns = \"a\""), 2, "HOST:PORT"),
            (&grpc("address = \"127.0.0.1:0\"", "uri = \"spiffe://x\""), 6, "role"),
            (&grpc("address = \"127.0.0.1:0\"", "role = \"reader\""), 6, "one of uri"),
            (&grpc("address = \"127.0.0.1:0\"", "uri = \"a:b\"\ndns = \"c\"\nrole = \"reader\""), 6, "one of uri"),
            (&grpc("address = \"127.0.0.1:0\"", "dns = \"*.site\"\nrole = \"reader\""), 6, "wildcards"),
            (&grpc("address = \"127.0.0.1:0\"", "key = \"12\"\nrole = \"reader\""), 6, "64"),
            (&grpc("address = \"127.0.0.1:0\"", "dns = \"a\"\nrole = \"root\""), 8, "root"),
        ] {
            match load(text) {
                Err(ConfigError::Line { line, message, .. }) => {
                    assert_eq!(line, expected, "{text}: {message}");
                    assert!(message.contains(word), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(matches!(load(&"#".repeat(1 << 20 | 1)), Err(ConfigError::TooLong(_))));
    }

    #[test]
    fn a_folder_in_place_of_the_file_is_an_error() {
        let home = tempfile::tempdir().expect("folder");
        std::fs::create_dir(home.path().join(CONFIG_FILE)).expect("folder");
        let result = Config::load(home.path().to_owned(), "/s".into(), None);
        assert!(matches!(result, Err(ConfigError::Unreadable { .. })));
    }
}
