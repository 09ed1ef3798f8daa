//! Several replicas of one registry, on one bucket or one directory, behind a proxy that gives each request to the next of them,
//! while they are killed, paused and started again: nothing acknowledged is lost, and tags are linearizable.
//!
//! `trouble` does that to the replicas; `uploads` is a client whose chunks land on different replicas; `tags` are clients that
//! put, read and delete a few tags and write down what was answered; `linearizability` judges that, and knows nothing of
//! registries.

mod linearizability;
mod tags;
mod trouble;
mod uploads;

use anyhow::{Context as _, Result, bail, ensure};
use berth_e2e::registry_process::{RegistryProcess, Storage};
use berth_e2e::replicas::Replicas;
use berth_e2e::s3_proxy::S3Proxy;
use berth_e2e::s3_server::{S3Program, S3Server};
use tokio::task::JoinHandle;

const REPLICAS: usize = 3;
/// By default; ten thousand take half an hour (`BERTH_E2E_UPLOADS`).
const UPLOADS: u64 = 100;
/// By default; a hundred take some minutes (`BERTH_E2E_HISTORIES`).
const HISTORIES: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_three_replicas_on_a_bucket_lose_nothing_while_replicas_are_killed() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    upload_under_trouble(Storage::Bucket(&S3Server::section(&server.endpoint()))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_to_three_replicas_on_a_directory_lose_nothing_while_replicas_are_killed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    upload_under_trouble(Storage::At(folder.path())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_three_replicas_on_a_bucket_behind_a_bad_network_are_linearizable() -> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    let network = S3Proxy::start(&server).await?;
    let section = S3Server::section(&network.endpoint());
    let replicas = Replicas::start(REPLICAS, Storage::Bucket(&section)).await?;
    tag_under_trouble(replicas, Some(&network)).await?;
    println!("on the way to the bucket: {:?}", network.take_seen());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_three_replicas_on_a_directory_are_linearizable() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let replicas = Replicas::start(REPLICAS, Storage::At(folder.path())).await?;
    tag_under_trouble(replicas, None).await
}

/// The judge can say no, to what real programs answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_three_registries_that_do_not_share_what_they_store_are_not_linearizable() -> Result<()> {
    let replicas = Replicas::start(REPLICAS, Storage::Memory).await?;
    let Err(error) = tags::histories(replicas.client(), 1, seed()?, false).await else {
        bail!("nobody has found out");
    };
    let said = format!("{error:#}");
    println!("{said}");
    ensure!(said.contains("is not linearizable"), "{said}");
    Ok(())
}

async fn upload_under_trouble(storage: Storage<'_>) -> Result<()> {
    let (seed, uploads) = (seed()?, number("BERTH_E2E_UPLOADS", UPLOADS)?);
    let mut replicas = Replicas::start(REPLICAS, storage).await?;
    let clients = uploads::begin(&replicas, uploads, seed);
    let are_done = || clients.iter().all(JoinHandle::is_finished);
    let trouble = trouble::until(&mut replicas, seed, trouble::Kind::Kills, are_done).await?;
    let pushed = uploads::end(clients).await.with_context(|| log_ends(&replicas))?;
    let said = pushed.are_all_there(&replicas.client()).await.with_context(|| log_ends(&replicas))?;
    replicas.end_well().await?;
    println!("{}: {said}; {trouble}; check is clean", storage.kind());
    pushed.were_troubled(&trouble)
}

async fn tag_under_trouble(mut replicas: Replicas, network: Option<&S3Proxy>) -> Result<()> {
    let (seed, histories) = (seed()?, number("BERTH_E2E_HISTORIES", HISTORIES)?);
    let clients = tokio::spawn(tags::histories(replicas.client(), histories, seed, network.is_some()));
    let trouble =
        trouble::until(&mut replicas, seed, trouble::Kind::KillsAndPauses(network), || clients.is_finished()).await?;
    let said = clients.await?.with_context(|| log_ends(&replicas))?;
    replicas.end_well().await?;
    println!("{}: {said}; {trouble}; check is clean", network.map_or("directory", |_| "bucket"));
    Ok(())
}

/// What makes this run like another one, as far as the machine lets it.
fn seed() -> Result<u64> {
    let seed = number("BERTH_E2E_SEED", fastrand::u64(..))?;
    println!("BERTH_E2E_SEED={seed}");
    Ok(seed)
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(number) => number.parse().with_context(|| variable.to_owned()),
        Err(_) => Ok(default),
    }
}

fn log_ends(replicas: &Replicas) -> String {
    replicas.each.iter().map(RegistryProcess::log_end).collect::<Vec<_>>().join("\n")
}
