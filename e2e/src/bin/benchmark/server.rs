//! The servers that are compared.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::port::wait_until_it_listens;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Berth,
    Distribution,
    Nginx,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Berth, Self::Distribution, Self::Nginx];
}

/// Where a server keeps its data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disk {
    /// `/dev/shm`: the processor is what is measured.
    Memory,
    /// The working directory's file system: fsync counts.
    Durable,
}

/// A server that runs on core 0 until it is dropped.
pub(crate) struct Server {
    kind: Kind,
    address: SocketAddr,
    process: Child,
    data: TempDir,
}

impl Server {
    pub(crate) fn start(kind: Kind, disk: Disk) -> Result<Self> {
        let parent = match disk {
            Disk::Memory => PathBuf::from("/dev/shm"),
            Disk::Durable => std::env::current_dir()?.join("target"),
        };
        fs::create_dir_all(&parent)?;
        let data = tempfile::Builder::new().prefix("berth-benchmark-").tempdir_in(parent)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = match kind {
            Kind::Berth => berth(data.path(), address)?,
            Kind::Distribution => distribution(data.path(), address)?,
            Kind::Nginx => nginx(data.path(), address)?,
        };
        let log = fs::File::create(data.path().join("log"))?;
        let process = command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).spawn();
        let mut server = Self { kind, address, process: process.context("start a server")?, data };
        let log = || fs::read_to_string(server.data.path().join("log")).unwrap_or_default();
        wait_until_it_listens(&mut server.process, address).with_context(log)?;
        Ok(server)
    }

    pub(crate) const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Berth => "berth",
            Kind::Distribution => "distribution",
            Kind::Nginx => "nginx",
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where nginx finds what it serves.
    pub(crate) fn files(&self) -> PathBuf {
        self.data.path().join("files")
    }

    /// Processor time that the server and its children have used.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let mut ticks = 0;
        for pid in with_children(self.process.id())? {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name in parentheses may hold spaces; utime and stime are the 14th and 15th fields.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        }
        Ok(f64::from(u32::try_from(ticks)?) / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for pid in with_children(self.process.id()).unwrap_or_default() {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        let _ = self.process.wait();
    }
}

fn with_children(pid: u32) -> Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    Ok(std::iter::once(pid).chain(children).collect())
}

fn on_core_0(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

fn berth(data: &Path, address: SocketAddr) -> Result<Command> {
    let program = std::env::current_exe()?.with_file_name("berth-registry");
    ensure!(program.exists(), "build it first: cargo build --release -p berth-registry");
    let root = data.join("registry");
    let config = data.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{address}', debug: {{addr: '127.0.0.1:0'}}}}\n",
        root.display()
    );
    fs::write(&config, text)?;
    let mut command = on_core_0(program);
    command.args(["serve", "--config"]).arg(config);
    Ok(command)
}

/// As its official image configures it, but quiet.
fn distribution(data: &Path, address: SocketAddr) -> Result<Command> {
    let config = data.join("config.yml");
    let text = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  cache: {{blobdescriptor: inmemory}}\n  \
         filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{address}', secret: benchmark}}\n",
        data.join("registry").display()
    );
    fs::write(&config, text)?;
    let folder = berth_e2e::tool::folder("distribution")?;
    let mut command = on_core_0(folder.join("distribution"));
    command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
    Ok(command)
}

fn nginx(data: &Path, address: SocketAddr) -> Result<Command> {
    let files = data.join("files");
    fs::create_dir_all(&files)?;
    let text = format!(
        "worker_processes 1; daemon off; pid {0}/pid; error_log {0}/error.log;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;\n\
         server {{ listen {address}; location / {{ root {1}; }} }} }}\n",
        data.display(),
        files.display()
    );
    let config = data.join("nginx.conf");
    fs::write(&config, text)?;
    let mut permissions = fs::metadata(data)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(data, permissions)?;
    let mut command = on_core_0("nginx");
    command.arg("-c").arg(config).arg("-e").arg(data.join("error.log"));
    Ok(command)
}
