//! A registry that is killed again and again while clients push, delete and read keeps every promise it has made.
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
use berth_e2e::http::Client;
use berth_e2e::image::Manifest;
use berth_e2e::registry_process::{RegistryProcess, Security, Storage};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use collector::Collector;
use history::{History, Key};
use shelf::Shelf;
use worker::Worker;

const KILLS: u64 = 250;
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
    kill_again_and_again(false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_manifest_names_is_lost_when_registry_and_collector_are_killed_250_times() -> Result<()> {
    kill_again_and_again(true).await
}

async fn kill_again_and_again(collects: bool) -> Result<()> {
    let seed = match std::env::var("BERTH_E2E_SEED") {
        Ok(seed) => seed.parse().context("BERTH_E2E_SEED")?,
        Err(_) => fastrand::u64(..),
    };
    println!("BERTH_E2E_SEED={seed}");
    let began = Instant::now();
    let settings = if collects { collector::settings() } else { serde_json::json!({}) };
    let mut registry = RegistryProcess::start_with(Storage::Directory, Security::None, settings).await?;
    let (boot, boots) = watch::channel(1);
    let world = Arc::new(World {
        client: registry.client()?,
        history: History::new(collects),
        shelf: Shelf::default(),
        boots,
        stop: AtomicBool::new(false),
        complaints: Mutex::default(),
        named: Mutex::default(),
        collected: AtomicU64::new(0),
    });
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(Worker::new(Arc::clone(&world), number, seed).run())).collect();

    let mut random = fastrand::Rng::with_seed(seed);
    let mut collector = Collector::default();
    for kill in 1..=KILLS {
        // Not to wait for anything: the moment of the kill is what is tried out.
        tokio::time::sleep(Duration::from_millis(random.u64(if kill % 5 == 0 { LONG_LIFE } else { LIFE }))).await;
        if collects {
            collector.goes_on(&registry, &mut random)?;
        }
        registry.kill9()?;
        world.history.died();
        if kill % 25 == 0 {
            is_clean(&registry)?;
        }
        registry.restart().await?;
        boot.send(kill + 1)?;
        if clients.iter().any(JoinHandle::is_finished) {
            break; // it gave up, and says below why
        }
    }
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
        "{KILLS} kills in {killed:.1?}, all in {:.1?}; {}; {seen}; check is clean{collections}",
        began.elapsed(),
        world.history
    );
    if collects {
        let refused = world.collected.load(Ordering::Relaxed);
        println!("{refused} manifests came after what they name had been collected, and were refused");
    }
    ensure!(world.history.interrupted() > KILLS as usize, "most kills hit nothing: the test has lost its teeth");
    Ok(())
}

fn is_clean(registry: &RegistryProcess) -> Result<()> {
    let check = registry.check()?;
    let (out, err) = (String::from_utf8_lossy(&check.stdout), String::from_utf8_lossy(&check.stderr));
    ensure!(check.status.success(), "berth-registry check: {}\n{out}{err}", check.status);
    Ok(())
}
