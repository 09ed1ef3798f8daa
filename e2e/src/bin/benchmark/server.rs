//! The servers that are compared, each on core 0.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::port::wait_until_it_listens;
use berth_e2e::registry_process::processor_time;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::configuration::{Configuration, Untagged, collection, serving};
use crate::filled::Shelf;
use crate::place::Bucket;
use crate::workload::Setting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Berth,
    Distribution,
    Nginx,
    /// No server: dd(1), which is asked how fast the disk is.
    Dd,
}

/// Those that are pushed to.
pub(crate) const REGISTRIES: &[Kind] = &[Kind::Berth, Kind::Distribution];

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Berth => "berth",
            Self::Distribution => "distribution",
            Self::Nginx => "nginx",
            Self::Dd => "dd",
        }
    }
}

/// A server that runs on core 0 until it is dropped.
pub(crate) struct Server {
    configuration: Configuration,
    process: Option<Child>,
    data: TempDir,
    pub(crate) bucket: Option<Bucket>,
}

impl Server {
    pub(crate) fn start(kind: Kind, setting: &Setting) -> Result<Self> {
        let parent = setting.place.parent();
        fs::create_dir_all(&parent)?;
        let data = tempfile::Builder::new().prefix("berth-benchmark-").tempdir_in(parent)?;
        // nginx gives up its rights before it reads.
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755))?;
        let bucket = setting.place.bucket()?;
        let configuration = Configuration {
            kind,
            address: TcpListener::bind("127.0.0.1:0")?.local_addr()?,
            folder: data.path().to_path_buf(),
            section: bucket.as_ref().map(|bucket| bucket.section.clone()),
            tls: setting.tls,
            grace: setting.grace,
        };
        let mut server = Self { configuration, process: None, data, bucket };
        (setting.fill)(&Shelf { kind, root: server.shelf()? })?;
        server.configuration.write()?;
        server.launch()?;
        (setting.prepare)(&server)?;
        Ok(server)
    }

    /// Where the store lies, if its parts are files.
    fn shelf(&self) -> Result<PathBuf> {
        match &self.bucket {
            Some(bucket) if bucket.folder().is_ok() => bucket.folder(),
            _ => Ok(self.configuration.root()),
        }
    }

    fn launch(&mut self) -> Result<()> {
        let Some(command) = serving(&self.configuration)? else { return Ok(()) };
        let process = self.process.insert(self.spawn(command)?);
        wait_until_it_listens(process, self.configuration.address).with_context(|| log(self.data.path()))
    }

    fn spawn(&self, mut command: Command) -> Result<Child> {
        let log = fs::File::options().create(true).append(true).open(log_path(self.data.path()))?;
        let child = command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).spawn();
        child.with_context(|| format!("start {}", self.name()))
    }

    /// Ends it as a power cut would, starts it again, and says how long it took until `path` was answered 200.
    pub(crate) fn restart(&mut self, path: &str) -> Result<Duration> {
        self.kill();
        let command = serving(&self.configuration)?.context("nothing to start")?;
        let begun = Instant::now();
        let process = self.spawn(command)?;
        self.process = Some(process);
        while !answers(self.address(), path) {
            ensure!(begun.elapsed() < Duration::from_secs(300), "not up yet: {}", log(self.data.path()));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(begun.elapsed())
    }

    /// Begins to remove what nothing refers to. distribution must not serve meanwhile: it is stopped until it is restarted.
    pub(crate) fn collect(&mut self, untagged: Untagged) -> Result<Child> {
        if self.kind() == Kind::Distribution {
            self.kill();
        }
        self.spawn(collection(&self.configuration, untagged)?)
    }

    /// Why something went wrong.
    pub(crate) fn log(&self) -> String {
        log(self.data.path())
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.configuration.kind.name()
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.configuration.kind
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.configuration.address
    }

    pub(crate) const fn scheme(&self) -> &'static str {
        if self.configuration.tls { "https" } else { "http" }
    }

    /// Where nginx finds what it serves, and dd writes.
    pub(crate) fn files(&self) -> PathBuf {
        self.configuration.root()
    }

    /// Processor time that the server and its children have used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let times = self.pids().into_iter().map(processor_time);
        Ok(times.sum::<Result<Duration>>()?.as_secs_f64())
    }

    /// Memory that it has of its own, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        self.pids().into_iter().map(resident).sum()
    }

    fn pids(&self) -> Vec<u32> {
        let Some(process) = &self.process else { return Vec::new() };
        let pid = process.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
    }

    fn kill(&mut self) {
        for pid in self.pids() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Memory that a process has of its own, in MiB; none if it is gone.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// The end of it.
fn log(folder: &Path) -> String {
    let log = fs::read_to_string(log_path(folder)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

fn answers(address: SocketAddr, path: &str) -> bool {
    crate::crowd::block_on(async {
        let mut client = crate::client::Client::open(0, address).await?;
        client.drain(path).await
    })
    .is_ok()
}
