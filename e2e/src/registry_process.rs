//! A registry that a test owns: one process, one configuration, one folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificate::ServingCertificate;
use crate::http::Client;
use crate::port::free_port;
use crate::workspace;

/// Not 127.0.0.1 and not localhost, for which clients make exceptions: plain HTTP, or no verification.
pub const IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The user that a protected registry knows.
pub const USER: &str = "alice";
/// Her password.
pub const PASSWORD: &str = "correct horse battery staple";

const PATIENCE: Duration = Duration::from_secs(60);

/// Where the bytes go.
#[derive(Clone, Copy, Debug)]
pub enum Storage<'a> {
    /// A directory in the test's own folder.
    Directory,
    /// A directory that is there.
    At(&'a Path),
    /// The bucket of this `storage.s3`.
    Bucket(&'a Value),
    /// The bucket that these keys of `storage` name.
    In(&'a Value),
    /// The memory of the process.
    Memory,
}

impl Storage<'_> {
    /// What kind of place it is.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Directory | Self::At(_) => "directory",
            Self::Bucket(_) | Self::In(_) => "bucket",
            Self::Memory => "memory",
        }
    }
}

/// How the registry is reached, and by whom.
#[derive(Clone, Copy, Debug)]
pub enum Security {
    /// Plain HTTP, open to everyone.
    None,
    /// TLS from an authority of the test's own, and one user in an htpasswd file.
    TlsAndPassword,
}

/// A running registry. It is killed, and its folder removed, when this is dropped; its log is printed if a test fails.
#[derive(Debug)]
pub struct RegistryProcess {
    folder: TempDir,
    address: SocketAddr,
    debug_address: SocketAddr,
    security: Security,
    child: Option<Child>,
}

impl RegistryProcess {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(storage: Storage<'_>, security: Security) -> Result<Self> {
        Self::start_with(storage, security, json!({})).await
    }

    /// The same, with `storage.maintenance.garbagecollection` as given.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_with(storage: Storage<'_>, security: Security, garbage_collection: Value) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-registry-").tempdir()?;
        let ip = IpAddr::V4(IP);
        let address = SocketAddr::new(ip, free_port(ip)?);
        let debug_address = SocketAddr::new(ip, free_port(ip)?);
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "delete": {"enabled": true},
                "maintenance": {"garbagecollection": garbage_collection},
            },
            "http": {
                "addr": address.to_string(),
                "debug": {"addr": debug_address.to_string()},
                // Uploads go on after a restart.
                "secret": "the end-to-end tests' own",
            },
        });
        let root = match storage {
            Storage::At(root) => root.to_path_buf(),
            Storage::Directory | Storage::Bucket(_) | Storage::In(_) | Storage::Memory => folder.path().join("root"),
        };
        match storage {
            Storage::Directory | Storage::At(_) => config["storage"]["filesystem"] = json!({"rootdirectory": root}),
            Storage::Bucket(section) => config["storage"]["s3"] = section.clone(),
            Storage::In(storage) => {
                for (key, section) in storage.as_object().into_iter().flatten() {
                    config["storage"][key] = section.clone();
                }
            }
            Storage::Memory => config["storage"]["inmemory"] = json!({}),
        }
        if let Security::TlsAndPassword = security {
            ServingCertificate::new(&ip.to_string())?.write(folder.path())?;
            // The lowest cost that is taken: the tests are not about how long bcrypt takes.
            let user = format!("{USER}:{}\n", bcrypt::hash(PASSWORD, 5)?);
            std::fs::write(folder.path().join("htpasswd"), user)?;
            config["auth"] = json!({"htpasswd": {"realm": "tests", "path": folder.path().join("htpasswd")}});
            config["http"]["tls"] =
                json!({"certificate": folder.path().join("tls.crt"), "key": folder.path().join("tls.key")});
        }
        std::fs::create_dir_all(&root)?;
        std::fs::write(folder.path().join("config.yml"), serde_yaml::to_string(&config)?)?;
        let mut process = Self { folder, address, debug_address, security, child: None };
        process.restart().await?;
        Ok(process)
    }

    /// Starts it again with the same configuration on the same storage, and waits until it is ready.
    ///
    /// # Errors
    /// When it still runs, or does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the registry still runs");
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(binary()?);
        command.args([OsStr::new("serve"), OsStr::new("--config"), self.config_path().as_os_str()]);
        // A REGISTRY_* variable of whoever runs the tests would change the configuration.
        command.env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("the registry cannot be started")?);
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let debug = Client::plain(self.debug_address);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().transpose()).transpose()? {
                bail!("the registry ended ({status}) before it was ready:\n{}", self.log());
            }
            if debug.get("/readyz").await.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the registry was not ready after {PATIENCE:?}:\n{}", self.log())
    }

    /// Ends it as a power cut would, save for what the kernel holds (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the registry does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops it in whatever it does (SIGSTOP), as a machine that has no time for it would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    fn pid(&self) -> Result<Pid> {
        let child = self.child.as_ref().context("the registry does not run")?;
        i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")
    }

    /// Lets it open so many more files and connections than it has now (RLIMIT_NOFILE), or, with `None`, as many as it likes.
    ///
    /// # Errors
    /// When it does not run, or this process has not the right.
    pub fn limit_files(&self, more: Option<usize>) -> Result<()> {
        let pid = self.pid()?;
        let most = getrlimit(Resource::Nofile).current;
        let current = more.map(|more| first_limit(pid, more)).transpose()?.or(most);
        prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum: most })?;
        Ok(())
    }

    /// How long processors have worked for it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.pid()?.as_raw_nonzero().get().unsigned_abs())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let child = self.child.as_mut().context("the registry does not run")?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the registry did not end {PATIENCE:?} after SIGTERM")
    }

    /// `berth-registry check` of its storage.
    ///
    /// # Errors
    /// When that cannot be run.
    pub fn check(&self) -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args([OsStr::new("check"), OsStr::new("--config"), self.config_path().as_os_str()]);
        Ok(command.env_clear().output()?)
    }

    /// Begins `berth-registry gc` of its storage, with `--delete` or without. Its output is in the file.
    ///
    /// # Errors
    /// When that cannot be run.
    pub fn collect(&self, delete: bool) -> Result<(Child, File)> {
        let output = tempfile::tempfile()?;
        let mut command = Command::new(binary()?);
        command.args([OsStr::new("gc"), OsStr::new("--config"), self.config_path().as_os_str()]);
        command.args(delete.then_some("--delete"));
        let child =
            command.env_clear().stdin(Stdio::null()).stdout(output.try_clone()?).stderr(Stdio::inherit()).spawn()?;
        Ok((child, output))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `HOST:PORT`, as it stands in front of a repository's name.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// A client that may do everything.
    ///
    /// # Errors
    /// When the certificate authority cannot be read.
    pub fn client(&self) -> Result<Client> {
        match self.security {
            Security::None => Ok(Client::plain(self.address)),
            Security::TlsAndPassword => {
                let authority = std::fs::read_to_string(self.authority_path())?;
                Client::plain(self.address).trusting(&authority)?.as_user(USER, PASSWORD)
            }
        }
    }

    /// The numbers on its debug port.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn metrics(&self) -> Result<String> {
        let answer = Client::plain(self.debug_address).get("/metrics").await?;
        Ok(String::from_utf8(answer.body.into())?)
    }

    /// The certificate authority's certificate, if it is reached over TLS.
    pub fn authority_path(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// The last lines of that.
    pub fn log_end(&self) -> String {
        const LINES: usize = 30;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
        format!("--- the end of the registry's log ({} lines in all)\n{end}", lines.len())
    }

    fn config_path(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("registry.log")
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        let _ = self.kill9();
        if std::thread::panicking() {
            eprintln!("{}", self.log_end());
        }
    }
}

/// How long processors have worked for a process.
///
/// # Errors
/// When there is no such process.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold anything: proc_pid_stat(5), fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("no name in its stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// The limit below which so many numbers of files are free: it is of numbers, and what is open beyond it stays open.
fn first_limit(pid: Pid, free: usize) -> Result<u64> {
    let mut open = BTreeSet::new();
    for file in std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()))? {
        open.extend(file?.file_name().to_str().and_then(|number| number.parse::<u64>().ok()));
    }
    let mut free_ones = (0..).filter(|number| !open.contains(number));
    free_ones.nth(free).context("there are more numbers than files")
}

/// The program: `$BERTH_REGISTRY_BIN`, or what cargo builds from this workspace, once, and as it is shipped.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| match std::env::var_os("BERTH_REGISTRY_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    found.as_deref().map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--package=berth-registry", "--bin=berth-registry"]);
    cargo.arg("--message-format=json-render-diagnostics").current_dir(workspace()).stderr(Stdio::inherit());
    let output = cargo.output()?;
    ensure!(output.status.success(), "cargo build of berth-registry: {}", output.status);
    let messages =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let executable = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    executable.context("cargo names no executable of berth-registry")
}
