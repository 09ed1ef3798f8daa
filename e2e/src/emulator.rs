//! Servers that speak the APIs of Microsoft's and Google's object stores, each with one bucket of a test's own.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use crate::http::{Client, nothing};
use crate::port::{free_port, wait_until_it_listens};
use crate::registry_process::IP;
use crate::s3_server::BUCKET;
use crate::tool;

/// Azurite's account.
const ACCOUNT: &str = "berthtests";
/// The version of the API that the container is made with.
const API_VERSION: &str = "2021-08-06";

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmulatorProgram {
    /// Microsoft's emulator of Azure Blob Storage.
    Azurite,
    /// A server that speaks the API of Google Cloud Storage. It knows neither conditions nor uploads in parts.
    FakeGcs,
}

/// A running server. It is killed, and what it holds removed, when this is dropped.
#[derive(Debug)]
pub struct Emulator {
    program: EmulatorProgram,
    folder: TempDir,
    address: SocketAddr,
    child: Child,
}

impl Emulator {
    /// Starts one and makes its bucket.
    ///
    /// # Errors
    /// When it does not start, or refuses.
    pub async fn start(program: EmulatorProgram) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-emulator-").tempdir()?;
        let ip = IpAddr::V4(IP);
        let address = SocketAddr::new(ip, free_port(ip)?);
        let data = folder.path().join("data");
        let mut command = match program {
            EmulatorProgram::Azurite => {
                let mut azurite = Command::new(tool::folder("azurite")?.join("azurite-blob"));
                azurite.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location"]).arg(&data);
                azurite.args(["--blobHost", &ip.to_string(), "--blobPort", &address.port().to_string()]);
                azurite.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", key()));
                azurite
            }
            EmulatorProgram::FakeGcs => {
                // For it a bucket is a directory.
                std::fs::create_dir_all(data.join(BUCKET))?;
                let mut gcs = Command::new(tool::folder("fake-gcs-server")?.join("fake-gcs-server"));
                gcs.args(["-scheme", "http", "-backend", "filesystem", "-filesystem-root"]).arg(&data);
                gcs.args(["-host", &ip.to_string(), "-port", &address.port().to_string(), "-log-level", "warn"]);
                gcs.args(["-public-host", &address.to_string(), "-external-url", &format!("http://{address}")]);
                gcs
            }
        };
        let log = File::create(folder.path().join("log"))?;
        command.env("HOME", folder.path()).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut emulator = Self { program, folder, address, child };
        wait_until_it_listens(&mut emulator.child, address).with_context(|| emulator.log())?;
        match program {
            EmulatorProgram::Azurite => emulator.make_container().await?,
            EmulatorProgram::FakeGcs => emulator.write_key_file()?,
        }
        Ok(emulator)
    }

    /// `storage` for a registry, in a part of the bucket that nobody else has.
    pub fn storage(&self) -> Value {
        let root = format!("registries/{:x}", fastrand::u64(..));
        match self.program {
            EmulatorProgram::Azurite => json!({"azure": {
                "accountname": ACCOUNT,
                "accountkey": key(),
                "container": BUCKET,
                "serviceurl": format!("http://{}/{ACCOUNT}", self.address),
                "rootdirectory": root,
            }}),
            EmulatorProgram::FakeGcs => json!({"gcs": {
                "bucket": BUCKET,
                "keyfile": self.folder.path().join("key.json"),
                "rootdirectory": root,
            }}),
        }
    }

    /// `PUT ?restype=container`, signed with the account's key
    /// (<https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>).
    async fn make_container(&self) -> Result<()> {
        let date = "Thu, 26 Nov 2026 00:00:00 GMT";
        let path = format!("/{ACCOUNT}/{BUCKET}");
        let signed = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{API_VERSION}\n/{ACCOUNT}{path}\nrestype:container"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&BASE64.decode(key())?)?;
        mac.update(signed.as_bytes());
        let authorization = format!("SharedKey {ACCOUNT}:{}", BASE64.encode(mac.finalize().into_bytes()));
        let headers = [
            ("authorization", authorization.as_str()),
            ("x-ms-date", date),
            ("x-ms-version", API_VERSION),
            ("content-length", "0"),
        ];
        let client = Client::plain(self.address);
        let made = client.send(Method::PUT, &format!("{path}?restype=container"), &headers, nothing()).await?;
        made.expect(StatusCode::CREATED).map(drop)
    }

    /// A key of a service account that says where the server is and that nobody need sign in.
    fn write_key_file(&self) -> Result<()> {
        let key = json!({
            "type": "service_account",
            "private_key": "",
            "private_key_id": "",
            "client_email": "",
            "gcs_base_url": format!("http://{}", self.address),
            "disable_oauth": true,
        });
        Ok(std::fs::write(self.folder.path().join("key.json"), key.to_string())?)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn key() -> String {
    BASE64.encode("only for the tests")
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the emulator's log\n{}", self.log());
        }
    }
}
