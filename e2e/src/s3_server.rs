//! An S3 server that a test owns, with one bucket.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// A running server. It is killed, and what it holds removed, when this is dropped.
#[derive(Debug)]
pub struct S3Server {
    folder: TempDir,
    address: SocketAddr,
    child: Child,
}

impl S3Server {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(program: S3Program) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-s3-").tempdir()?;
        let ip = IpAddr::V4(IP);
        let address = SocketAddr::new(ip, free_port(ip)?);
        let (listen, data) = (address.to_string(), folder.path().join("data"));
        // For most a bucket is a directory.
        std::fs::create_dir_all(data.join(BUCKET))?;
        let mut command = match program {
            S3Program::Minio => {
                let mut minio = Command::new(tool::folder("minio")?.join("minio"));
                minio.args(["server", "--quiet", "--address", &listen]).arg(&data).env_clear();
                minio.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
                minio.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
                minio
            }
            S3Program::Versitygw => {
                let mut versitygw = Command::new(tool::folder("versitygw")?.join("versitygw"));
                versitygw.args(["--quiet", "--port", &listen, "posix"]).arg(&data).env_clear();
                versitygw.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
                versitygw
            }
            S3Program::Gofakes3 => {
                let mut gofakes3 = Command::new(tool::folder("gofakes3")?.join("gofakes3"));
                gofakes3.args(["-backend", "memory", "-initialbucket", BUCKET, "-host", &listen]).env_clear();
                gofakes3
            }
        };
        let log = File::create(folder.path().join("log"))?;
        command.env("HOME", folder.path()).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut server = Self { folder, address, child };
        wait_until_it_listens(&mut server.child, address).with_context(|| server.log())?;
        Ok(server)
    }

    /// Where it is, as `storage.s3.regionendpoint` wants it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
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
