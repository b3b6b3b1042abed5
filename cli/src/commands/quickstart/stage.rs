//! Where the story is played: a throw-away folder, two daemons in it, and what the audience sees.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use larder_proto::v1;
use serde_json::{Value, json};

use crate::connect::{Client, Place};
use crate::error::Error;
use crate::launch::{Launch, Tie, environment};
use crate::output::{Output, text};

/// How long a daemon may take to end before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an end is looked for.
const GLANCE: Duration = Duration::from_millis(10);
/// The password of the story's key, which lives as long as the story.
const PASSWORD: &str = "quickstart";

/// A daemon, and the home that it has to itself.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    name: &'static str,
    pub(super) place: Place,
    pub(super) client: Client,
    /// `HOST:PORT` of its endpoint.
    pub(super) endpoint: String,
}

/// The folder, the daemons, and what was told so far. Dropped, it ends and removes what is left.
pub(super) struct Stage {
    output: Output,
    folder: PathBuf,
    own: PathBuf,
    running: Vec<(Machine, Launch)>,
    begun: Instant,
    steps: Vec<Step>,
}

struct Step {
    title: String,
    begun: Duration,
    commands: Vec<String>,
}

impl Stage {
    /// Makes the folder.
    ///
    /// # Errors
    /// Fails where there is no place for it.
    pub(super) fn new(output: Output) -> Result<Self, Error> {
        let own = env::current_exe().map_err(|error| Error::file("the path of larder itself", &error))?;
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|_| broken("the system gives no random numbers"))?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = env::temp_dir().join(format!("larder-quickstart-{name}"));
        // Fails where it is there: nobody else's folder is used, and none is shared.
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| Error::file(&folder.display().to_string(), &error).hint("TMPDIR names another place"))?;
        Ok(Self { output, folder, own, running: Vec::new(), begun: Instant::now(), steps: Vec::new() })
    }

    /// Returns the folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the two programs.
    pub(super) fn programs(&self) -> Vec<PathBuf> {
        vec![self.own.clone(), self.own.with_file_name("larderd")]
    }

    /// Returns how long the story took so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns the steps as JSON.
    pub(super) fn steps(&self) -> Vec<Value> {
        let step = |step: &Step| json!({"title": step.title, "begun_after_seconds": step.begun.as_secs_f64(), "commands": step.commands});
        self.steps.iter().map(step).collect()
    }

    /// Begins a step.
    pub(super) fn step(&mut self, title: &str) -> Result<(), Error> {
        self.steps.push(Step { title: title.to_owned(), begun: self.elapsed(), commands: Vec::new() });
        self.tell(&format!("\n{}. {title}", self.steps.len()))
    }

    /// Shows a command that a person would type at a machine.
    pub(super) fn command(&mut self, machine: &Machine, command: &str) -> Result<(), Error> {
        self.command_at(machine.name, command)
    }

    fn command_at(&mut self, name: &str, command: &str) -> Result<(), Error> {
        let command = format!("{name}$ {command}");
        self.tell(&format!("   {command}"))?;
        if let Some(step) = self.steps.last_mut() {
            step.commands.push(command);
        }
        Ok(())
    }

    /// Shows what came of it.
    pub(super) fn told(&self, lines: &str) -> Result<(), Error> {
        let indented: Vec<String> = lines.lines().map(|line| format!("     {line}")).collect();
        self.tell(&indented.join("\n"))
    }

    fn tell(&self, lines: &str) -> Result<(), Error> {
        if self.output.is_json() {
            return Ok(());
        }
        self.output.data(lines)
    }

    /// Starts a daemon with a home of its own.
    ///
    /// # Errors
    /// Fails where it does not come up.
    pub(super) async fn start(&mut self, name: &'static str, config: Option<&str>) -> Result<Machine, Error> {
        let home = self.folder.join(name);
        let failed = |error| Error::file(&home.display().to_string(), &error);
        fs::DirBuilder::new().mode(0o700).create(&home).map_err(failed)?;
        if let Some(config) = config {
            fs::write(home.join("config.toml"), config).map_err(failed)?;
        }
        let place = Place::from_variables(|variable| match variable {
            "LARDER_HOME" => Some(home.clone().into_os_string()),
            "XDG_RUNTIME_DIR" => env::var_os(variable),
            _ => None,
        })?;
        self.command_at(name, "larder daemon start")?;
        let mut launch = Launch::spawn(&place, Tie::Child, &[("LARDER_ENDPOINT", "127.0.0.1:0".as_ref())])?;
        let answered = launch.answered(&place, &self.output).await;
        let client = match answered {
            Ok(client) => client,
            Err(error) => {
                end(&mut launch);
                return Err(error);
            }
        };
        let machine = Machine { name, place, client, endpoint: String::new() };
        self.running.push((machine.clone(), launch));
        let status = machine.client.daemon().get_status(v1::GetStatusRequest {}).await?.into_inner();
        self.told(&format!("LARDER_HOME={}  endpoint {}  gate {}", status.home, status.endpoint, status.gate))?;
        Ok(Machine { endpoint: status.endpoint, ..machine })
    }

    /// Runs this program at a machine, as a person would, and shows what it says.
    ///
    /// # Errors
    /// Fails where it does not end with `expected`.
    pub(super) async fn larder(&mut self, machine: &Machine, words: &[&str], expected: i32) -> Result<(), Error> {
        let typed: Vec<String> = words.iter().map(|word| text::quoted(word)).collect();
        let typed = format!("larder {}", typed.join(" "));
        self.command(machine, &typed)?;
        let failed = |error| Error::file(&self.own.display().to_string(), &error);
        // One pipe for results and talk, so that they come in the order in which a person would see them.
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = tokio::process::Command::new(&self.own);
        command.args(words).current_dir(&self.folder).env_clear().envs(environment());
        command.env("LARDER_HOME", &machine.place.home).env("LARDER_SOCKET", &machine.place.socket);
        command.env("COSIGN_PASSWORD", PASSWORD).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let mut child = command.spawn().map_err(failed)?;
        // The command holds the writing ends, and the reader would wait for them.
        drop(command);
        let read = tokio::task::spawn_blocking(move || io::read_to_string(reader));
        let status = child.wait().await.map_err(failed)?;
        let said = read.await.map_err(|_| broken("reading was stopped"))?.map_err(failed)?;
        if status.code() != Some(expected) {
            return Err(failure(&typed, &said, status.code()));
        }
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        self.told(&lines.join("\n"))
    }

    /// Returns what the daemons wrote.
    pub(super) fn logs(&mut self) -> String {
        let logs = self.running.iter_mut().map(|(machine, launch)| format!("{}:\n{}", machine.name, launch.said()));
        logs.collect::<Vec<_>>().join("\n")
    }

    /// Stops the daemons and removes the folder.
    ///
    /// # Errors
    /// Fails where the folder cannot be removed.
    pub(super) async fn clean_up(&mut self) -> Result<(), Error> {
        for (machine, launch) in &mut self.running {
            // One that cannot be asked is killed below.
            let _ = tokio::time::timeout(END_TIMEOUT, machine.client.daemon().stop(v1::StopRequest {})).await;
            let asked = Instant::now();
            while asked.elapsed() < END_TIMEOUT && matches!(launch.child.try_wait(), Ok(None)) {
                tokio::time::sleep(GLANCE).await;
            }
            end(launch);
        }
        self.running.clear();
        let removed = fs::remove_dir_all(&self.folder);
        removed.map_err(|error| Error::file(&self.folder.display().to_string(), &error).hint("remove it by hand"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for (_, launch) in &mut self.running {
            end(launch);
        }
        // After `clean_up` it is gone already.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a story that breaks off leaves.
pub(super) const AFTERWARDS: &str =
    "the daemons were stopped and the throw-away folder removed; --verbose shows what they wrote";

/// Builds the error of a story that does not go on as it should.
pub(super) fn broken(message: impl Into<String>) -> Error {
    Error::new("quickstart", message).hint(AFTERWARDS)
}

/// Builds the error of a command that failed: with its own words and hint, where it has some.
fn failure(typed: &str, said: &str, code: Option<i32>) -> Error {
    let find = |mark: &str| said.lines().find_map(|line| line.trim_start().strip_prefix(mark)).map(str::trim);
    match find("error:") {
        Some(words) => {
            let message = format!("`{typed}` failed: {words}");
            Error::new("quickstart", message).hint(find("hint:").unwrap_or(AFTERWARDS))
        }
        None => {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            broken(format!("`{typed}` ended with {code}, which the story does not expect:\n{}", said.trim_end()))
        }
    }
}

/// Ends a daemon, if it has not ended.
fn end(launch: &mut Launch) {
    let _ = launch.child.kill();
    let _ = launch.child.wait();
}
