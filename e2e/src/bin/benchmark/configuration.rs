//! What each server is told, and how it is started.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use berth_e2e::certificate::ServingCertificate;
use berth_e2e::registry_process;
use berth_e2e::tool;
use serde_json::{Value, json};

use crate::server::Kind;

pub(crate) struct Configuration {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) folder: PathBuf,
    /// `storage.s3`
    pub(crate) section: Option<Value>,
    pub(crate) tls: bool,
    /// Of what Berth's collector takes.
    pub(crate) grace: Duration,
}

impl Configuration {
    /// Where the data are, unless in a bucket.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("configuration")
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(self.root())?;
        if self.tls {
            ServingCertificate::new(&self.address.ip().to_string())?.write(&self.folder)?;
        }
        let text = match self.kind {
            Kind::Berth => self.berth().to_string(),
            Kind::Distribution => self.distribution().to_string(),
            Kind::Nginx => self.nginx(),
            Kind::Dd => return Ok(()),
        };
        Ok(fs::write(self.file(), text)?)
    }

    fn berth(&self) -> Value {
        json!({
            "version": "0.1",
            "log": {"level": "error"},
            "storage": self.storage(&json!({
                "garbagecollection": {"enabled": false, "grace": format!("{}s", self.grace.as_secs()), "untagged": "delete"},
            })),
            "http": self.http(json!({"addr": "127.0.0.1:0"})),
        })
    }

    /// As its official image configures it, but quiet.
    fn distribution(&self) -> Value {
        json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": self.storage(&json!({})),
            "http": self.http(Value::Null),
        })
    }

    fn storage(&self, maintenance: &Value) -> Value {
        let mut storage = json!({
            "delete": {"enabled": true},
            "maintenance": maintenance,
            "cache": {"blobdescriptor": "inmemory"},
            // Every byte passes through the registry.
            "redirect": {"disable": true},
        });
        match &self.section {
            Some(section) => storage["s3"] = section.clone(),
            None => storage["filesystem"] = json!({"rootdirectory": self.root()}),
        }
        storage
    }

    fn http(&self, debug: Value) -> Value {
        let mut http = json!({"addr": self.address.to_string(), "secret": "the benchmark's"});
        if !debug.is_null() {
            http["debug"] = debug;
        }
        if self.tls {
            http["tls"] = json!({"certificate": self.folder.join("tls.crt"), "key": self.folder.join("tls.key")});
        }
        http
    }

    fn nginx(&self) -> String {
        let folder = self.folder.display();
        let tls = format!("ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;");
        let (ssl, tls) = if self.tls { (" ssl", tls) } else { ("", String::new()) };
        format!(
            "worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
             default_type application/octet-stream; {tls}\n\
             server {{ listen {}{ssl}; location / {{ root {}; }} }} }}\n",
            self.address,
            self.root().display()
        )
    }
}

/// Runs the server. dd has none.
pub(crate) fn serving(configuration: &Configuration) -> Result<Option<Command>> {
    let file = configuration.file();
    let mut command = match configuration.kind {
        Kind::Berth => on_core_0(registry_process::binary()?),
        Kind::Distribution => on_core_0(tool::folder("distribution")?.join("distribution")),
        Kind::Nginx => on_core_0("nginx"),
        Kind::Dd => return Ok(None),
    };
    match configuration.kind {
        Kind::Nginx => command.arg("-e").arg(configuration.folder.join("error.log")).arg("-c").arg(file),
        _ => command.arg("serve").arg(file),
    };
    command.env("OTEL_TRACES_EXPORTER", "none");
    Ok(Some(command))
}

/// What becomes of manifests without a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untagged {
    Delete,
    /// With distribution, which reads every tag for each manifest to find those without. With Berth they go all the same.
    Keep,
}

/// Removes what nothing refers to.
pub(crate) fn collection(configuration: &Configuration, untagged: Untagged) -> Result<Command> {
    let mut command;
    match configuration.kind {
        Kind::Berth => {
            command = on_core_0(registry_process::binary()?);
            command.args(["gc", "--delete"]);
        }
        Kind::Distribution => {
            command = on_core_0(tool::folder("distribution")?.join("distribution"));
            command
                .args(["garbage-collect", "--quiet"])
                .args((untagged == Untagged::Delete).then_some("--delete-untagged"));
        }
        Kind::Nginx | Kind::Dd => bail!("{} collects nothing", configuration.kind.name()),
    }
    command.arg(configuration.file()).env("OTEL_TRACES_EXPORTER", "none");
    Ok(command)
}

pub(crate) fn on_core_0(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}
