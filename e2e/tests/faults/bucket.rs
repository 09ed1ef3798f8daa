//! Buckets that do not answer, or take no more.

use anyhow::{Context as _, Result};
use berth_e2e::registry_process::{RegistryProcess, Security, Storage};
use berth_e2e::s3_proxy::{Outage, S3Proxy};
use berth_e2e::s3_server::{S3Program, S3Server};
use http::StatusCode;

use crate::{Expected, endures};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_or_full_is_waited_for_and_nothing_is_lost() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    let (later, full) = (StatusCode::SERVICE_UNAVAILABLE, StatusCode::INSUFFICIENT_STORAGE);
    for (outage, expected) in [
        (Outage::Away, Expected { push: later, delete: later, pulls: false }),
        (Outage::Busy, Expected { push: later, delete: later, pulls: false }),
        (Outage::Broken, Expected { push: later, delete: later, pulls: false }),
        (Outage::Full, Expected { push: full, delete: full, pulls: true }),
    ] {
        let proxy = S3Proxy::start(&server).await?;
        let section = S3Server::section(&proxy.endpoint());
        let registry = RegistryProcess::start(Storage::Bucket(&section), Security::None).await?;
        let fail = async |begins: bool| {
            proxy.fail(begins.then_some(outage));
            Ok(())
        };
        endures(&registry, expected, fail).await.with_context(|| format!("{outage:?}\n{}", registry.log_end()))?;
        println!("{outage:?}: {expected:?}");
    }
    Ok(())
}
