//! Azurite, Microsoft's own emulator of Azure Blob Storage, with one container of a test's own.

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
pub const ACCOUNT: &str = "berthtests";
/// The version of the API that the container is made with.
const API_VERSION: &str = "2021-08-06";

/// A running server. It is killed, and what it holds removed, when this is dropped.
#[derive(Debug)]
pub struct Azurite {
    folder: TempDir,
    address: SocketAddr,
    child: Child,
}

impl Azurite {
    /// Starts one and makes its container.
    ///
    /// # Errors
    /// When it does not start, or refuses.
    pub async fn start() -> Result<Self> {
        Self::start_for_others(IpAddr::V4(IP)).await
    }

    /// The same at an address of the machine that others reach. It speaks no TLS.
    ///
    /// # Errors
    /// When it does not start, or refuses.
    pub async fn start_for_others(ip: IpAddr) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-azurite-").tempdir()?;
        let address = SocketAddr::new(ip, free_port(ip)?);
        let data = folder.path().join("data");
        let mut command = Command::new(tool::folder("azurite")?.join("azurite-blob"));
        command.args(["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location"]).arg(&data);
        command.args(["--blobHost", &ip.to_string(), "--blobPort", &address.port().to_string()]);
        command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", key()));
        let log = File::create(folder.path().join("log"))?;
        command.env("HOME", folder.path()).current_dir(folder.path());
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut azurite = Self { folder, address, child };
        wait_until_it_listens(&mut azurite.child, address).with_context(|| azurite.log())?;
        azurite.make_container(BUCKET).await?;
        Ok(azurite)
    }

    /// `storage` for a registry, in a part of the container that nobody else has.
    pub fn storage(&self) -> Value {
        json!({"azure": {
            "accountname": ACCOUNT,
            "accountkey": key(),
            "container": BUCKET,
            "serviceurl": self.endpoint(),
            "rootdirectory": format!("registries/{:x}", fastrand::u64(..)),
        }})
    }

    /// Where it is: its account is in the path.
    pub fn endpoint(&self) -> String {
        format!("http://{}/{ACCOUNT}", self.address)
    }

    /// Makes a container by `PUT ?restype=container`, signed with the account's key
    /// (<https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>).
    ///
    /// # Errors
    /// When it is refused.
    pub async fn make_container(&self, name: &str) -> Result<()> {
        // Azurite does not look whether that is now.
        let date = "Thu, 26 Nov 2026 00:00:00 GMT";
        let path = format!("/{ACCOUNT}/{name}");
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

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The key of Azurite's account.
pub fn key() -> String {
    BASE64.encode("only for the tests")
}

impl Drop for Azurite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- Azurite's log\n{}", self.log());
        }
    }
}
