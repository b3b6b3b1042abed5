//! `larderd check-config`: reads what a start would read, says what would hold, and changes nothing.

use std::io::Write as _;

use anyhow::Context as _;

use crate::config::{CONFIG_FILE, Config, GateMode};
use crate::remote::Remotes;
use crate::trust::Contents;

/// Prints what would hold, on stdout.
///
/// # Errors
/// Fails where a start would fail, and where a file of the trust folder cannot be read as what it should be.
pub fn check(config: &Config) -> anyhow::Result<()> {
    Remotes::new(config.registries.clone()).context("the registry client")?;
    let trust = Contents::of(&config.trust_folder);
    let mut out = std::io::stdout().lock();
    let path = config.home.join(CONFIG_FILE);
    let defaults = if path.exists() { "" } else { " (not there: every default holds)" };
    writeln!(out, "config      {}{defaults}", path.display())?;
    writeln!(out, "home        {}", config.home.display())?;
    writeln!(out, "socket      {}", config.socket.display())?;
    match config.endpoint.address {
        Some(address) => writeln!(out, "endpoint    {address}, gate {}", gate(config.gate))?,
        None => writeln!(out, "endpoint    off")?,
    }
    for (host, registry) in &config.registries.registries {
        let user = registry.username.as_ref().map_or(String::new(), |user| format!(" as {user}"));
        let plain = if registry.plain_http == Some(true) { ", plain HTTP" } else { "" };
        writeln!(out, "registry    {host}{user}{plain}")?;
    }
    let count = |folder: &str, extension: &str| {
        let names = trust.files.0.keys();
        names.filter(|name| name.starts_with(folder) && name.ends_with(extension)).count()
    };
    let (keys, policies) = (count("keys/", ".pub"), count("policies/", ".yaml"));
    writeln!(out, "trust       {}: {keys} keys, {policies} policies", config.trust_folder.display())?;
    for (path, message) in trust.reading.warnings.iter().chain(&trust.overlooked) {
        writeln!(out, "  warning: {path}: {message}")?;
    }
    let mut faults: Vec<String> =
        trust.faults().iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect();
    // A folder that is not there may belong to a home that is yet to be made.
    let unreadable = trust.missing.iter().filter(|missing| !missing.absent);
    faults.extend(unreadable.map(|missing| format!("{}: {}", missing.folder, missing.message)));
    anyhow::ensure!(
        faults.is_empty(),
        "the trust folder is faulty, so nothing new would be accepted:\n  {}",
        faults.join("\n  ")
    );
    writeln!(out, "ok")?;
    Ok(())
}

fn gate(mode: GateMode) -> &'static str {
    match mode {
        GateMode::Enforce => "enforce",
        GateMode::Warn => "warn",
        GateMode::Off => "off",
    }
}
