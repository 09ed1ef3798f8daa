//! Other people's programs, each run with a home of its own, so that nothing of whoever runs the tests leaks in or is
//! changed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::workspace;

/// Programs built from the pinned modules in `e2e/cluster/tools`.
const BUILT: [&str; 7] = ["conformance", "containerd", "crane", "helm", "oras", "regctl", "runc"];
/// Programs that are Debian packages.
const PACKAGES: [&str; 2] = ["buildah", "skopeo"];
/// In seconds. Nothing here takes a tenth of it.
const PATIENCE: &str = "300";

/// A place to run programs from: a home folder, and the variables that they see.
#[derive(Debug)]
pub struct Bench {
    home: TempDir,
    variables: BTreeMap<&'static str, OsString>,
}

impl Bench {
    /// An empty home.
    ///
    /// # Errors
    /// When the programs cannot be had.
    pub fn new() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("berth-bench-").tempdir()?;
        let at = |name: &str| home.path().join(name).into_os_string();
        std::fs::create_dir(home.path().join("docker"))?;
        std::fs::create_dir(home.path().join("run"))?;
        let variables = BTreeMap::from([
            ("PATH", path()?.into()),
            ("HOME", home.path().into()),
            ("DOCKER_CONFIG", at("docker")),
            ("REGISTRY_AUTH_FILE", at("docker/config.json")),
            ("XDG_RUNTIME_DIR", at("run")),
        ]);
        Ok(Self { home, variables })
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A file or folder in the home folder, as an argument.
    pub fn at(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Sets a variable for all programs run from now on.
    pub fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.insert(name, value.into());
    }

    /// A command that has this home and no other variables.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", PATIENCE, program]).current_dir(self.home.path());
        command.env_clear().envs(&self.variables).stdin(Stdio::null());
        command
    }

    /// Runs a program and returns what it printed.
    ///
    /// # Errors
    /// When it fails; the error holds all it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output()?;
        ensure!(output.status.success(), "{}", transcript(program, arguments, &output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program that must fail and returns what it complained about.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn fails(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output()?;
        ensure!(!output.status.success(), "should have failed: {}", transcript(program, arguments, &output));
        Ok(transcript(program, arguments, &output))
    }
}

/// What a program was asked and what it said.
fn transcript(program: &str, arguments: &[&str], output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{program} {}: {}\n{out}{err}", arguments.join(" "), output.status)
}

/// Where the programs are, built and installed once.
fn path() -> Result<&'static str> {
    static PATH: OnceLock<Result<String, String>> = OnceLock::new();
    let found = PATH.get_or_init(|| provide().map_err(|error| format!("{error:#}")));
    found.as_deref().map_err(|error| anyhow!("{error}"))
}

fn provide() -> Result<String> {
    script("prerequisites", &PACKAGES)?;
    let built = script("cluster/tools/build", &BUILT)?;
    Ok(format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", built.trim()))
}

/// The folder with the programs of one pinned module, for whoever needs one of them without a [`Bench`].
///
/// # Errors
/// When they cannot be built.
pub fn folder(module: &str) -> Result<PathBuf> {
    Ok(script("cluster/tools/build", &[module])?.trim().into())
}

/// Installs Debian packages that are not there yet.
///
/// # Errors
/// When they cannot be installed.
pub fn packages(names: &[&str]) -> Result<()> {
    script("prerequisites", names).map(drop)
}

fn script(name: &str, arguments: &[&str]) -> Result<String> {
    let path: PathBuf = workspace().join("e2e").join(name);
    let output = Command::new(&path).args(arguments).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| path.display().to_string())?;
    ensure!(output.status.success(), "e2e/{name} {}: {}", arguments.join(" "), output.status);
    Ok(String::from_utf8(output.stdout)?)
}
