//! Where a server keeps its data.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use berth_e2e::s3_proxy::S3Proxy;
use berth_e2e::s3_server::{S3Program, S3Server};
use berth_e2e::workspace;
use serde_json::Value;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// `/dev/shm`: the processor is what is measured.
    Memory,
    /// The file system of the workspace: fsync counts.
    Durable,
    /// A bucket of this program, so far away. It has core 1, with the load.
    Bucket(S3Program, Duration),
}

impl Place {
    /// A folder for whatever a server needs, with its data unless those are in a bucket.
    pub(crate) fn parent(self) -> PathBuf {
        match self {
            Self::Memory | Self::Bucket(..) => "/dev/shm".into(),
            Self::Durable => workspace().join("target"),
        }
    }

    pub(crate) fn bucket(self) -> Result<Option<Bucket>> {
        match self {
            Self::Memory | Self::Durable => Ok(None),
            Self::Bucket(program, distance) => Bucket::start(program, distance).map(Some),
        }
    }
}

/// An S3 server, and what stands before it and counts. The parts end in this order.
pub(crate) struct Bucket {
    proxy: S3Proxy,
    server: S3Server,
    /// `storage.s3`
    pub(crate) section: Value,
    runtime: tokio::runtime::Runtime,
}

impl Bucket {
    fn start(program: S3Program, distance: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server = match program {
            // Its objects are files, and may be a million.
            S3Program::Versitygw => S3Server::start_in(program, Path::new("/dev/shm"))?,
            S3Program::Minio | S3Program::Gofakes3 => S3Server::start(program)?,
        };
        let proxy = runtime.block_on(S3Proxy::start(&server))?;
        proxy.move_away(distance);
        let section = S3Server::section(&proxy.endpoint());
        Ok(Self { proxy, server, section, runtime })
    }

    /// How many requests came since this was asked last, and nothing is under way.
    pub(crate) fn take_requests(&self) -> u64 {
        self.runtime.block_on(self.proxy.is_quiet());
        self.proxy.take_seen().total()
    }

    /// The folder that holds the objects under the registry's prefix, each a file.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        let prefix = self.section["rootdirectory"].as_str().unwrap_or_default();
        let folder = self.server.objects()?.join(prefix.trim_start_matches('/'));
        ensure!(!prefix.is_empty(), "the registry has no prefix of its own");
        Ok(folder)
    }
}
