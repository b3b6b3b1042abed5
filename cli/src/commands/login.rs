//! `larder login` and `larder logout`.

use std::env;
use std::path::PathBuf;

use clap::Args;
use larder_proto::v1;
use serde_json::json;
use zeroize::Zeroizing;

use crate::connect::connect;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Output, json};
use crate::prompt;

/// podman's variable for its file.
const AUTH_FILE_VARIABLE: &str = "REGISTRY_AUTH_FILE";

/// Which of docker's or podman's files.
#[derive(Debug, Args)]
struct AuthFile {
    /// podman's auth.json to use, in place of the usual one
    #[arg(long, value_name = "PATH", conflicts_with = "compat_auth_file")]
    authfile: Option<PathBuf>,
    /// docker's config.json to use, in place of the usual one
    #[arg(long, value_name = "PATH")]
    compat_auth_file: Option<PathBuf>,
}

/// Log in to a registry, for docker and podman too
///
/// The registry is asked first. What it takes is kept where docker and podman keep theirs: in the file that knows
/// the registry already, else in docker's config.json if there is one, else in podman's auth.json; or in the
/// credential helper that the file names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder login quay.io
  larder login ghcr.io/acme -u robot --password-stdin < token
  larder login --get-login quay.io")]
pub(crate) struct Login {
    /// What to log in to: HOST, HOST:PORT or HOST/PREFIX [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
    /// The user's name
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// The password; others on this machine can see it here
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Only print as whom the registry is asked
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin", "authfile", "compat_auth_file"])]
    get_login: bool,
    #[command(flatten)]
    file: AuthFile,
}

/// Log out of a registry, for docker and podman too
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder logout quay.io
  larder logout --all")]
pub(crate) struct Logout {
    /// What to log out of: HOST, HOST:PORT or HOST/PREFIX [default: docker.io]
    #[arg(value_name = "REGISTRY", conflicts_with = "all")]
    registry: Option<String>,
    /// Every registry of the files; credential helpers keep theirs
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    file: AuthFile,
}

pub(super) async fn login(arguments: Login, output: &Output) -> Result<Exit, Error> {
    let registry = arguments.registry.clone().unwrap_or_default();
    if arguments.get_login {
        return get_login(registry, output).await;
    }
    let auth_file = arguments.file.chosen()?;
    let named = if registry.is_empty() { "docker.io" } else { &registry };
    let username = match arguments.username {
        Some(username) => username,
        None => prompt::line(&format!("User name at {named}: "))?
            .ok_or_else(|| Error::usage("who logs in is not said").hint("`--username USER`"))?,
    };
    let password = match arguments.password {
        Some(password) => {
            output.warn("others on this machine can see a password among the arguments; --password-stdin hides it");
            Zeroizing::new(password)
        }
        None if arguments.password_stdin => prompt::piped_line()?,
        None => prompt::hidden_line(&format!("Password of {username} at {named}: "))?
            .ok_or_else(|| Error::usage("there is no terminal to ask for the password").hint("`--password-stdin`"))?,
    };
    let request = v1::LoginRequest { registry, username: username.clone(), password: password.to_string(), auth_file };
    let answer = connect(output).await?.registries().login(request).await?.into_inner();
    let v1::LoginResponse { registry, kept_in, unproven, warnings } = answer;
    if unproven {
        output.warn(&format!("{registry} asked for no credentials; nobody knows whether these are right"));
    }
    warnings.iter().for_each(|warning| output.warn(warning));
    if output.is_json() {
        output.document(&json!({
            "registry": registry, "username": username, "keptIn": kept_in, "unproven": unproven, "warnings": warnings,
        }))?;
    } else {
        output.say(&format!("logged in to {registry} as {username}\n  kept in {kept_in}"));
    }
    Ok(Exit::Done)
}

async fn get_login(registry: String, output: &Output) -> Result<Exit, Error> {
    let request = v1::GetLoginRequest { registry };
    let answer = connect(output).await?.registries().get_login(request).await?.into_inner();
    let v1::GetLoginResponse { registry, username, kept_in } = answer;
    if kept_in.is_empty() {
        return Err(Error::new("not-logged-in", format!("not logged in to {registry}"))
            .hint(format!("`larder login {registry}`")));
    }
    if output.is_json() {
        output.document(&json!({
            "registry": registry, "username": json::text_of(&username), "keptIn": kept_in,
        }))?;
    } else {
        output.data(if username.is_empty() { "<token>" } else { &username })?;
        output.detail(&format!("kept in {kept_in}"));
    }
    Ok(Exit::Done)
}

pub(super) async fn logout(arguments: Logout, output: &Output) -> Result<Exit, Error> {
    let auth_file = arguments.file.chosen()?;
    let registry = arguments.registry.unwrap_or_default();
    let request = v1::LogoutRequest { registry, all: arguments.all, auth_file };
    let answer = connect(output).await?.registries().logout(request).await?.into_inner();
    let v1::LogoutResponse { registry, removed_from, warnings } = answer;
    warnings.iter().for_each(|warning| output.warn(warning));
    let what = if arguments.all { "all registries" } else { &registry };
    if output.is_json() {
        output.document(&json!({
            "registry": json::text_of(&registry), "removedFrom": removed_from, "warnings": warnings,
        }))?;
    } else if removed_from.is_empty() {
        output.say(&format!("not logged in to {what}; nothing was changed"));
    } else {
        output.say(&format!("logged out of {what}"));
        removed_from.iter().for_each(|place| output.say(&format!("  removed from {place}")));
    }
    Ok(Exit::Done)
}

impl AuthFile {
    /// Returns the file that the arguments or podman's variable name, by its whole path: the daemon has another
    /// working folder.
    fn chosen(self) -> Result<Option<v1::AuthFile>, Error> {
        let variable = || env::var_os(AUTH_FILE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let (path, format) = match (self.compat_auth_file, self.authfile.or_else(variable)) {
            (Some(path), _) => (path, v1::AuthFormat::Docker),
            (None, Some(path)) => (path, v1::AuthFormat::Podman),
            (None, None) => return Ok(None),
        };
        let whole = std::path::absolute(&path).map_err(|error| Error::file(&path.display().to_string(), &error))?;
        let text = whole.to_str().ok_or_else(|| {
            Error::usage(format!("{} is no text", whole.display())).hint("give the file a path in UTF-8")
        })?;
        Ok(Some(v1::AuthFile { path: text.to_owned(), format: format.into() }))
    }
}
