//! Collections: B16. distribution must not take pushes meanwhile; Berth is pushed to all the time.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use berth_e2e::image::Manifest;

use crate::client::{Client, REPOSITORY};
use crate::configuration::Untagged;
use crate::crowd::{Crowd, Outcome};
use crate::place::Place;
use crate::pushes::{Fresh, layers};
use crate::server::{Kind, REGISTRIES, Server};
use crate::workload::{Effort, GRACE, Measured, Row, Setting, Workload};

/// For each manifest that distribution removes it reads every tag: with more it would take an hour.
const MOST_FOR_DISTRIBUTION: usize = 1_000;

pub(crate) fn settings(effort: Effort) -> Vec<Setting> {
    let setting = |images: usize| {
        let kinds = if images > MOST_FOR_DISTRIBUTION { &[Kind::Berth] } else { REGISTRIES };
        Setting::on(Place::Memory, kinds, vec![collection(images, effort)])
            .with_garbage()
            .filled(move |shelf| shelf.images(images))
    };
    effort.sizes(100_000).map(setting).collect()
}

fn collection(images: usize, effort: Effort) -> Workload {
    let with = |row: Row| row.with(images, "images");
    let rows = vec![
        with(Row::less("B16 collection of 10% garbage", "s")),
        with(Row::less("B16 push and pull of an image c=8, meanwhile", "ms (p99)")),
        with(Row::less("B16 push and pull of an image c=8, before", "ms (p99)")),
    ];
    Workload::new(rows, move |server| {
        litter(server, images / 10)?;
        std::thread::sleep(GRACE + Duration::from_secs(1));
        if server.kind() == Kind::Distribution {
            let begun = Instant::now();
            let ended = server.collect(Untagged::Delete)?.wait()?;
            ensure!(ended.success(), "the collection ended with {ended}");
            let took = begun.elapsed();
            server.restart("/v2/")?;
            return Ok(Measured::values(&[took.as_secs_f64()]));
        }
        let before = push(server, effort.length)?;
        let (took, meanwhile) = push_meanwhile(server)?;
        Ok(Measured::values(&[took.as_secs_f64(), meanwhile.percentile(99), before.percentile(99)]))
    })
    // A minute each with distribution, and half of one to wait in with Berth.
    .rounds(2)
}

/// Pushes images without a tag, each with a layer of its own.
fn litter(server: &Server, images: usize) -> Result<()> {
    let mut fresh = Fresh::new();
    let images: Vec<Manifest> = (0..images).map(|_| layers(&mut fresh, 1, 1 << 10)).collect();
    let push =
        async |client: &mut Client, turn: usize| client.push_image(images[turn].digest.as_ref(), &images[turn]).await;
    Crowd::of(8).times(server.address(), images.len(), &push).map(drop)
}

fn push(server: &Server, length: Duration) -> Result<Outcome> {
    let begun = Instant::now();
    push_while(server, |_| begun.elapsed() < length)
}

/// How long the collection took, and what came of pushes during it: each can be pulled afterwards.
fn push_meanwhile(server: &mut Server) -> Result<(Duration, Outcome)> {
    let begun = Instant::now();
    let collector = RefCell::new(server.collect(Untagged::Delete)?);
    let ended = RefCell::new(None);
    let outcome = push_while(server, |turn| {
        let runs = collector.borrow_mut().try_wait().is_ok_and(|status| status.is_none());
        if !runs {
            ended.borrow_mut().get_or_insert_with(|| begun.elapsed());
        }
        // A small one may end before the first.
        runs || turn < 8
    })?;
    let status = collector.borrow_mut().wait()?;
    ensure!(status.success(), "the collection ended with {status}");
    Ok((ended.take().context("the collection has not ended")?, outcome))
}

fn push_while(server: &Server, go_on: impl Fn(usize) -> bool) -> Result<Outcome> {
    // Made beforehand: the clients share a core.
    let mut fresh = Fresh::new();
    let images: Vec<(String, Manifest)> = (0..1000).map(|_| (fresh.name(), layers(&mut fresh, 1, 1 << 10))).collect();
    let push = async |client: &mut Client, turn: usize| {
        // After a thousand they are old ones under new names.
        let (name, image) = &images[turn % images.len()];
        client.push_image(&format!("{name}-{turn}"), image).await?;
        let pulled = client.drain(&format!("/v2/{REPOSITORY}/manifests/{name}-{turn}")).await?;
        ensure!(pulled == image.bytes.len(), "{pulled} bytes came of {}", image.bytes.len());
        Ok(())
    };
    let outcome = Crowd::of(8).run(server.address(), go_on, &push)?;
    // Nothing that was pushed while a collection ran is lost.
    let pull = async |client: &mut Client, turn: usize| {
        let (name, image) = &images[turn % images.len()];
        client.pull_image(&format!("{name}-{turn}"), image).await
    };
    Crowd::of(8).times(server.address(), outcome.done() as usize, &pull)?;
    Ok(outcome)
}
