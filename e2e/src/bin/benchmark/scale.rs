//! What must not depend on how much there is: B5, B6, B13 to B15, B17, B19 and B23, each as a curve.

use anyhow::{Context as _, Result, ensure};
use berth_e2e::image::{Manifest, artifact};
use http::StatusCode;
use http::header::LINK;

use crate::client::{Client, LIKE_DOCKER, REPOSITORY, blob_path};
use crate::crowd::{Crowd, block_on};
use crate::filled::{name, repository, tagged};
use crate::head;
use crate::memory::collection;
use crate::place::Place;
use crate::pushes::Fresh;
use crate::server::{Kind, REGISTRIES, Server};
use crate::workload::{Effort, Measured, Row, Setting, Workload};

/// distribution makes seven files and folders for each tag: more would not fit.
const MOST_FOR_DISTRIBUTION: usize = 100_000;
/// Each is measured at four sizes.
const ROUNDS: usize = 3;
/// Answers of one list.
const PAGE: usize = 1000;

pub(crate) fn settings(effort: Effort) -> Vec<Setting> {
    let tags = effort.sizes(1_000_000).map(|tags| {
        Setting::on(Place::Memory, kinds(tags), of_tags(tags, effort))
            .with_garbage()
            .filled(move |shelf| shelf.tags(tags))
            .prepared(refer)
    });
    // On the disk, whatever is in its cache: both together have more files and folders than fit into memory's file system.
    let catalogs = effort.sizes(100_000).map(|repositories| {
        Setting::on(Place::Durable, REGISTRIES, vec![catalog("B14 page of 1000 repositories", repositories, effort)])
            .filled(move |shelf| shelf.repositories(repositories))
    });
    tags.chain(catalogs).collect()
}

pub(crate) const fn kinds(count: usize) -> &'static [Kind] {
    if count > MOST_FOR_DISTRIBUTION { &[Kind::Berth] } else { REGISTRIES }
}

fn of_tags(tags: usize, effort: Effort) -> Vec<Workload> {
    let with = |row: Row| row.with(tags, "tags");
    let head = Workload::new(vec![with(Row::more("B5 HEAD by tag c=64", "req/s").per("s/request"))], move |server| {
        let path = |number| format!("/v2/{REPOSITORY}/manifests/{}", name(number));
        let heads = head::load(server.address(), 64, effort.length, tags, path)?;
        Ok(Measured::of(heads.answers / heads.seconds, heads.answers))
    });
    let head_blob =
        Workload::new(vec![with(Row::more("B6 HEAD blob c=64", "req/s").per("s/request"))], move |server| {
            let path = blob_path(&tagged(0).blobs[0]);
            let heads = head::load(server.address(), 64, effort.length, 1, |_| path.clone())?;
            Ok(Measured::of(heads.answers / heads.seconds, heads.answers))
        });
    let workloads = vec![
        head,
        head_blob,
        page("B13 page of 1000 tags", tags, effort),
        Workload::new(vec![with(Row::less("B13 all tags, page by page", "s"))], list).only(Kind::Berth),
        delete(with(Row::less("B15 DELETE of a manifest with one tag", "ms (p50)").per("s/request")), effort),
        referrers(with(Row::more("B17 page of 10 referrers c=16", "req/s").per("s/request")), effort),
        collection(vec![
            with(Row::less("B19 memory while garbage is collected", "MiB")),
            with(Row::less("B19 memory before, when all of the above was asked for", "MiB")),
        ]),
        start("B23 start until the first answer", tags),
        // The last, because it makes more.
        put(with(Row::more("push of a new tag c=8", "tags/s").per("s/tag")), tags, effort),
    ];
    workloads
        .into_iter()
        .map(|workload| Workload { most_rounds: workload.most_rounds.min(ROUNDS), ..workload })
        .collect()
}

pub(crate) fn page(name_of_row: &str, tags: usize, effort: Effort) -> Workload {
    let row = Row::less(name_of_row, "ms (p50)").per("s/page").with(tags, "tags");
    Workload::new(vec![row], move |server| {
        lists(server, effort, |random| {
            format!("/v2/{REPOSITORY}/tags/list?n={PAGE}&last={}", name(random.usize(..=tags - PAGE)))
        })
    })
}

pub(crate) fn catalog(name_of_row: &str, repositories: usize, effort: Effort) -> Workload {
    let row = Row::less(name_of_row, "ms (p50)").per("s/page").with(repositories, "repositories");
    Workload::new(vec![row], move |server| {
        lists(server, effort, |random| {
            format!("/v2/_catalog?n={PAGE}&last={}", repository(random.usize(..=repositories - PAGE)))
        })
    })
    .rounds(ROUNDS)
}

/// Pages that begin anywhere, and are full.
fn lists(server: &Server, effort: Effort, path: impl Fn(&mut fastrand::Rng) -> String) -> Result<Measured> {
    let list = async |client: &mut Client, turn: usize| {
        client.drain(&path(&mut fastrand::Rng::with_seed(turn as u64))).await.map(drop)
    };
    let outcome = Crowd::of(1).lasting(server.address(), effort.length, &list)?;
    Ok(Measured::of(outcome.percentile(50), outcome.done()))
}

/// Follows the links from the first page to the last.
fn list(server: &mut Server) -> Result<Measured> {
    let all = async |client: &mut Client, _| {
        let mut next = Some(format!("/v2/{REPOSITORY}/tags/list"));
        while let Some(path) = next {
            let answer = client.get(&path).await?;
            ensure!(answer.status() == StatusCode::OK, "{path}: {}", answer.status());
            let link = answer.headers().get(LINK).map(|link| link.to_str()).transpose()?;
            next = link.map(|link| link.split(['<', '>']).nth(1).map(str::to_owned).context("no link")).transpose()?;
        }
        Ok(())
    };
    let outcome = Crowd::of(1).times(server.address(), 1, &all)?;
    Ok(Measured::values(&[outcome.percentile(50) / 1000.0]))
}

/// Of images that are there.
fn put(row: Row, tags: usize, effort: Effort) -> Workload {
    Workload::new(vec![row], move |server| {
        let prefix = Fresh::new().name();
        let put = async |client: &mut Client, turn: usize| {
            client.put_manifest(&format!("{prefix}-{turn}"), &tagged(turn * 7919 % tags)).await
        };
        let outcome = Crowd::of(8).lasting(server.address(), effort.length, &put)?;
        Ok(Measured::of(outcome.per_second(), outcome.done()))
    })
}

/// Pushes some images and deletes them, as long as there is time.
fn delete(row: Row, effort: Effort) -> Workload {
    Workload::new(vec![row], move |server| {
        let mut fresh = Fresh::new();
        let images: Vec<(String, Manifest)> =
            (0..20).map(|_| (fresh.name(), Manifest::of_blobs(fresh.blob(100), Vec::new()))).collect();
        let push = async |client: &mut Client, turn: usize| client.push_image(&images[turn].0, &images[turn].1).await;
        Crowd::of(1).times(server.address(), images.len(), &push)?;
        let delete = async |client: &mut Client, turn: usize| {
            client.delete(&format!("/v2/{REPOSITORY}/manifests/{}", images[turn].1.digest)).await
        };
        let begun = std::time::Instant::now();
        let go_on = |turn| turn < images.len() && begun.elapsed() < effort.length;
        let outcome = Crowd::of(1).run(server.address(), go_on, &delete)?;
        Ok(Measured::of(outcome.percentile(50), outcome.done()))
    })
}

/// Gives the first image ten referrers, where they can be asked for.
fn refer(server: &Server) -> Result<()> {
    if server.kind() != Kind::Berth {
        return Ok(());
    }
    block_on(async {
        let mut client = Client::open(0, server.address()).await?;
        for number in 0..10 {
            let referrer = artifact("application/vnd.example", &tagged(0), format!("{number}"));
            for blob in &referrer.blobs {
                client.push_blob(blob, LIKE_DOCKER).await?;
            }
            client.put_manifest(referrer.digest.as_ref(), &referrer).await?;
        }
        Ok(())
    })
}

fn referrers(row: Row, effort: Effort) -> Workload {
    let path = format!("/v2/{REPOSITORY}/referrers/{}", tagged(0).digest);
    Workload::new(vec![row], move |server| {
        let list = async |client: &mut Client, _| client.drain(&path).await.map(drop);
        let outcome = Crowd::of(16).lasting(server.address(), effort.length, &list)?;
        Ok(Measured::of(outcome.per_second(), outcome.done()))
    })
    .only(Kind::Berth)
}

/// From its start until a manifest comes. What the kernel has read before it need not read again.
pub(crate) fn start(name_of_row: &str, tags: usize) -> Workload {
    let row = Row::less(name_of_row, "ms").with(tags, "tags");
    Workload::new(vec![row], move |server| {
        let took = server.restart(&format!("/v2/{REPOSITORY}/manifests/{}", name(tags / 2)))?;
        Ok(Measured::values(&[took.as_secs_f64() * 1000.0]))
    })
    .rounds(ROUNDS)
}
