//! An S3 server that a test owns, with one bucket.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificate::ServingCertificate;
use crate::port::{free_port, wait_until_it_listens};
use crate::registry_process::IP;
use crate::tool;

/// The bucket that is there.
pub const BUCKET: &str = "images";
/// Who may do everything in it.
pub const ACCESS_KEY: &str = "berth-tests";
/// With this.
pub const SECRET_KEY: &str = "only for the tests";

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Program {
    /// MinIO.
    Minio,
    /// Versity's gateway to a directory.
    Versitygw,
    /// A server for tests that takes a write on a condition and does not look whether the condition holds.
    Gofakes3,
}

impl FromStr for S3Program {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "minio" => Ok(Self::Minio),
            "versitygw" => Ok(Self::Versitygw),
            "gofakes3" => Ok(Self::Gofakes3),
            _ => bail!("no S3 server is called {name}: minio, versitygw, gofakes3"),
        }
    }
}

impl S3Program {
    fn command(self, address: SocketAddr, folder: &Path, certificate: Option<&ServingCertificate>) -> Result<Command> {
        let (listen, data, certificates) = (address.to_string(), folder.join("data"), folder.join("certificates"));
        // As MinIO calls them.
        let (chain, key) = (certificates.join("public.crt"), certificates.join("private.key"));
        if let Some(certificate) = certificate {
            std::fs::create_dir(&certificates)?;
            std::fs::write(&chain, &certificate.chain)?;
            std::fs::write(&key, &certificate.key)?;
        }
        let mut command;
        match self {
            Self::Minio => {
                command = Command::new(tool::folder("minio")?.join("minio"));
                command.env_clear().args(["server", "--quiet", "--address", &listen]);
                if certificate.is_some() {
                    command.arg("--certs-dir").arg(&certificates);
                }
                command.arg(&data).env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
                command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
            }
            Self::Versitygw => {
                command = Command::new(tool::folder("versitygw")?.join("versitygw"));
                command.env_clear().args(["--quiet", "--port", &listen]);
                if certificate.is_some() {
                    command.arg("--cert").arg(&chain).arg("--key").arg(&key);
                }
                command.arg("posix").arg(&data).env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
            }
            Self::Gofakes3 => {
                ensure!(certificate.is_none(), "this server speaks no TLS");
                command = Command::new(tool::folder("gofakes3")?.join("gofakes3"));
                command.env_clear().args(["-backend", "memory", "-initialbucket", BUCKET, "-host", &listen]);
            }
        }
        Ok(command)
    }
}

/// A running server. It is killed, and what it holds removed, when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    program: S3Program,
    folder: TempDir,
    address: SocketAddr,
    scheme: &'static str,
    child: Child,
}

impl S3Server {
    /// Starts one for this machine and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(program: S3Program) -> Result<Self> {
        Self::start_in(program, &std::env::temp_dir())
    }

    /// The same, with what it holds in a folder of `parent`.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_in(program: S3Program, parent: &Path) -> Result<Self> {
        Self::start_at(program, IpAddr::V4(IP), None, parent)
    }

    /// The same at an address of the machine that others reach, over TLS with this certificate.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_for_others(program: S3Program, ip: IpAddr, certificate: &ServingCertificate) -> Result<Self> {
        Self::start_at(program, ip, Some(certificate), &std::env::temp_dir())
    }

    fn start_at(
        program: S3Program,
        ip: IpAddr,
        certificate: Option<&ServingCertificate>,
        parent: &Path,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-s3-").tempdir_in(parent)?;
        let address = SocketAddr::new(ip, free_port(ip)?);
        // For most a bucket is a directory.
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET))?;
        let mut command = program.command(address, folder.path(), certificate)?;
        let log = File::create(folder.path().join("log"))?;
        command.env("HOME", folder.path()).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let mut server = Self { program, folder, address, scheme, child };
        wait_until_it_listens(&mut server.child, address).with_context(|| server.log())?;
        Ok(server)
    }

    /// Where it is, as `storage.s3.regionendpoint` wants it.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Makes another bucket while it runs.
    ///
    /// # Errors
    /// When it is there already.
    pub fn make_bucket(&self, name: &str) -> Result<()> {
        Ok(std::fs::create_dir(self.folder.path().join("data").join(name))?)
    }

    /// The folder in which each object of the bucket is a file under its name, with a server that keeps them so.
    ///
    /// # Errors
    /// When this one does not.
    pub fn objects(&self) -> Result<PathBuf> {
        ensure!(self.program == S3Program::Versitygw, "{:?} does not keep objects as files", self.program);
        Ok(self.folder.path().join("data").join(BUCKET))
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `storage.s3` for a registry that reaches the server at `endpoint`, in a part of the bucket that nobody else has.
    pub fn section(endpoint: &str) -> Value {
        json!({
            "bucket": BUCKET,
            "region": "us-east-1",
            "regionendpoint": endpoint,
            "forcepathstyle": true,
            "accesskey": ACCESS_KEY,
            "secretkey": SECRET_KEY,
            "rootdirectory": format!("registries/{:x}", fastrand::u64(..)),
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the S3 server's log\n{}", self.log());
        }
    }
}
