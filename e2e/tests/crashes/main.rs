//! A registry that is killed again and again, or whose disk loses its power, while clients push, delete and read keeps every
//! promise it has made.
//!
//! `history` writes down what was asked and answered, and says afterwards what may be seen; `worker` is one client;
//! `upload` is its way to push in chunks and to go on after a kill; `shelf` is what clients leave for each other; `view`
//! is how they read; `collector` takes what nobody names meanwhile; `oracle` looks at everything in the end.

mod collector;
mod history;
mod oracle;
mod shelf;
mod upload;
mod view;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::fragile_disk::{FragileDisk, Loss};
use berth_e2e::http::Client;
use berth_e2e::image::Manifest;
use berth_e2e::registry_process::{RegistryProcess, Security, Storage};
use berth_e2e::s3_proxy::{FAULTS, S3Proxy};
use berth_e2e::s3_server::{S3Program, S3Server};
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use collector::Collector;
use history::{History, Key};
use shelf::Shelf;
use worker::Worker;

const KILLS: u64 = 250;
/// Of each form.
const KILLS_ON_A_BUCKET: u64 = 50;
/// Of a thousand requests to the bucket.
const SPOILT: u32 = 20;
/// By default; the thousand take five minutes (`BERTH_E2E_POWER_CUTS`).
const POWER_CUTS: u64 = 200;
const CLIENTS: u64 = 10;
/// How long the registry may run between two kills, in milliseconds.
const LIFE: std::ops::RangeInclusive<u64> = 5..=150;
/// The same for every fifth life, in which more comes to an end.
const LONG_LIFE: std::ops::RangeInclusive<u64> = 150..=500;

/// What the clients share.
struct World {
    client: Client,
    history: History,
    shelf: Shelf,
    /// How often the registry has become ready.
    boots: watch::Receiver<u64>,
    /// Whether the disk loses its power, and not only the registry its life.
    power_cuts: bool,
    /// Whether the registry is to be told now and then that storage failed.
    storage_fails: bool,
    stop: AtomicBool,
    /// Answers that a healthy registry does not give.
    complaints: Mutex<Vec<String>>,
    /// The blobs of every manifest that was ever pushed.
    named: Mutex<BTreeMap<Key, Vec<Key>>>,
    /// Manifests that were refused because what they name had been collected.
    collected: AtomicU64,
}

impl World {
    fn complain(&self, of: String) {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(of);
    }

    fn names(&self, repository: &'static str, manifest: &Manifest) {
        let blobs = manifest.blobs.iter().map(|blob| worker::blob_key(repository, blob)).collect();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.insert(worker::manifest_key(repository, manifest), blobs);
    }

    fn named(&self) -> BTreeMap<Key, Vec<Key>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_registry_is_killed_250_times() -> Result<()> {
    end_again_and_again(KILLS, Place::Directory, false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_manifest_names_is_lost_when_registry_and_collector_are_killed_250_times() -> Result<()> {
    end_again_and_again(KILLS, Place::Directory, true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_a_registry_on_a_bucket_behind_a_bad_network_is_killed_100_times()
-> Result<()> {
    let server = S3Server::start(S3Program::Minio)?;
    for collects in [false, true] {
        let proxy = S3Proxy::start(&server).await?;
        end_again_and_again(KILLS_ON_A_BUCKET, Place::Bucket(&proxy), collects).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_power_is_cut_again_and_again() -> Result<()> {
    if let Err(error) = FragileDisk::mount() {
        ensure!(std::fs::File::open("/dev/fuse").is_err(), "{error:#}");
        println!("SKIPPED: power cuts. They need root and FUSE: {error:#}");
        return Ok(());
    }
    let cuts = std::env::var("BERTH_E2E_POWER_CUTS").map_or(Ok(POWER_CUTS), |cuts| cuts.parse())?;
    for collects in [false, true] {
        let disk = FragileDisk::mount()?;
        end_again_and_again(cuts / 2, Place::Disk(&disk), collects).await?;
    }
    Ok(())
}

/// Where the registry keeps its bytes.
#[derive(Clone, Copy)]
enum Place<'a> {
    Directory,
    /// On a disk that loses its power.
    Disk(&'a FragileDisk),
    /// In a bucket that is reached over a bad network.
    Bucket(&'a S3Proxy),
}

impl Place<'_> {
    /// From now on nothing goes wrong on the way.
    fn is_calm(self) {
        if let Self::Bucket(proxy) = self {
            proxy.spoil(0);
        }
    }

    fn is_rough(self) {
        if let Self::Bucket(proxy) = self {
            proxy.spoil(SPOILT);
        }
    }
}

/// Ends the registry, and with it whatever collects garbage, by a kill or by a power cut of the disk.
async fn end_again_and_again(ends: u64, place: Place<'_>, collects: bool) -> Result<()> {
    let seed = match std::env::var("BERTH_E2E_SEED") {
        Ok(seed) => seed.parse().context("BERTH_E2E_SEED")?,
        Err(_) => fastrand::u64(..),
    };
    println!("BERTH_E2E_SEED={seed}");
    let began = Instant::now();
    let settings = if collects { collector::settings() } else { serde_json::json!({}) };
    let section = if let Place::Bucket(proxy) = place { S3Server::section(&proxy.endpoint()) } else { Json::Null };
    let storage = match place {
        Place::Directory => Storage::Directory,
        Place::Disk(disk) => Storage::At(disk.path()),
        Place::Bucket(_) => Storage::Bucket(&section),
    };
    let disk = if let Place::Disk(disk) = place { Some(disk) } else { None };
    let mut registry = RegistryProcess::start_with(storage, Security::None, settings).await?;
    let (boot, boots) = watch::channel(1);
    let world = Arc::new(World {
        client: registry.client()?,
        history: History::new(collects),
        shelf: Shelf::default(),
        boots,
        power_cuts: disk.is_some(),
        storage_fails: matches!(place, Place::Bucket(_)),
        stop: AtomicBool::new(false),
        complaints: Mutex::default(),
        named: Mutex::default(),
        collected: AtomicU64::new(0),
    });
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(Worker::new(Arc::clone(&world), number, seed).run())).collect();

    let mut random = fastrand::Rng::with_seed(seed);
    let mut collector = Collector::beside(world.storage_fails);
    let mut loss = Loss::default();
    // A collector comes to its deletions late, and on that disk all takes longer, as in a bucket.
    let lengthening = match place {
        Place::Disk(_) if collects => 3,
        Place::Bucket(_) => 3,
        Place::Directory | Place::Disk(_) => 1,
    };
    for end in 1..=ends {
        if collects {
            collector.goes_on(&registry, &mut random)?;
        }
        // Not to wait for anything: the moment of the kill is what is tried out.
        let life = Duration::from_millis(random.u64(if end % 5 == 0 { LONG_LIFE } else { LIFE }));
        tokio::time::sleep(life * lengthening).await;
        if collects && end % 5 == 0 {
            // Otherwise garbage grows, and collectors are ended before they come to any.
            collector.has_time().await?;
        }
        registry.kill9()?;
        match place {
            Place::Directory => {}
            Place::Disk(disk) => {
                collector.is_killed()?;
                loss += disk.cut_power(&mut random);
            }
            Place::Bucket(proxy) => proxy.is_quiet().await,
        }
        place.is_calm();
        world.history.died();
        if end % 25 == 0 {
            is_clean(&registry)?;
        }
        registry.restart().await?;
        place.is_rough();
        boot.send(end + 1)?;
        if clients.iter().any(JoinHandle::is_finished) {
            break; // it gave up, and says below why
        }
    }
    place.is_calm();
    world.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?.with_context(|| format!("BERTH_E2E_SEED={seed}\n{}", registry.log_end()))?;
    }
    let killed = began.elapsed();
    let collections = if collects { collector.ends(&registry).await? } else { String::new() };

    let seen = oracle::everything(&world).await.with_context(|| format!("BERTH_E2E_SEED={seed}"))?;
    ensure!(registry.terminate().await?.success(), "SIGTERM did not end it well\n{}", registry.log_end());
    is_clean(&registry)?;
    println!(
        "{ends} {} in {killed:.1?}, all in {:.1?}; {}; {seen}; check is clean{collections}",
        if disk.is_some() { "power cuts" } else { "kills" },
        began.elapsed(),
        world.history
    );
    if disk.is_some() {
        println!("what was not synced when the power was cut: {loss:?}");
        ensure!(loss.lost > 0 && loss.torn > 0, "the power cuts took nothing: the test has lost its teeth");
    }
    if let Place::Bucket(proxy) = place {
        let (complaints, seen) = (world.complaints().len(), proxy.take_seen());
        println!("on the way to the bucket: {seen:?}; {complaints} requests were answered that storage failed");
        let unmade: Vec<_> = FAULTS.iter().filter(|fault| !seen.faults.contains_key(fault)).collect();
        ensure!(unmade.is_empty(), "nothing was {unmade:?}: the test has lost its teeth");
        ensure!(complaints < world.history.acknowledged_changes() / 10, "{complaints}: retries do not help");
    }
    if collects {
        let refused = world.collected.load(Ordering::Relaxed);
        ensure!(refused as usize * 20 < world.history.acknowledged_changes(), "{refused} manifests were refused");
        println!("{refused} manifests came after what they name had been collected, and were refused");
    }
    ensure!(world.history.interrupted() as u64 > ends / 2, "most kills hit nothing: the test has lost its teeth");
    Ok(())
}

fn is_clean(registry: &RegistryProcess) -> Result<()> {
    let check = registry.check()?;
    let (out, err) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    ensure!(check.status.success(), "berth-registry check: {}\n{out}{err}", check.status);
    Ok(())
}
