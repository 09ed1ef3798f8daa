//! The invariants I1 to I5, looked at from outside once everything is quiet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use berth_oci::Digest;
use futures::{StreamExt as _, TryStreamExt as _};
use http::StatusCode;
use serde_json::Value as Json;

use crate::World;
use crate::history::{Key, Value};
use crate::view::{path_of, value_of};
use crate::worker::REPOSITORIES;

/// Compares every key that was ever touched, every list and every answer given on the way with the history. Says how many.
///
/// # Errors
/// When anything differs from what the history allows; at most ten are named.
pub(crate) async fn everything(world: &World) -> Result<String> {
    let impossible = world.history.impossible_reads();
    ensure!(
        impossible.is_empty(),
        "{} reads saw what they could not have: {:#?}",
        impossible.len(),
        first(&impossible)
    );
    let complaints = world.complaints();
    ensure!(
        complaints.is_empty() || world.storage_fails,
        "{} server errors: {:#?}",
        complaints.len(),
        first(&complaints)
    );

    let keys = world.history.keys();
    let values: BTreeMap<Key, Value> = futures::stream::iter(keys)
        .map(async |key| anyhow::Ok((key.clone(), look(world, &key).await.with_context(|| format!("{key:?}"))?)))
        .buffer_unordered(8)
        .try_collect()
        .await?;
    let wrong = |(key, value): (&Key, &Value)| {
        let allowed = world.history.allowed_now(key);
        (!allowed.contains(value))
            .then(|| format!("{key:?} is {value:?}, allowed {allowed:?}: {}", world.history.of(key)))
    };
    let wrong: Vec<String> = values.iter().filter_map(wrong).collect();
    ensure!(wrong.is_empty(), "{} of {} keys are wrong: {:#?}", wrong.len(), values.len(), first(&wrong));
    let missing = children_missing(world, &values);
    ensure!(missing.is_empty(), "{} blobs of manifests are gone: {:#?}", missing.len(), first(&missing));
    if world.history.collects {
        let garbage = garbage(world, &values);
        ensure!(garbage.is_empty(), "{} blobs were not collected: {:#?}", garbage.len(), first(&garbage));
    }
    for repository in REPOSITORIES {
        tags_are_listed(world, repository, &values).await?;
    }
    let present = values.values().filter(|value| value.is_some()).count();
    Ok(format!("{} keys looked at, {present} there", values.len()))
}

/// No client deletes a blob that a manifest names, and no collector does while the manifest is there.
fn children_missing(world: &World, values: &BTreeMap<Key, Value>) -> Vec<String> {
    let is_there = |key: &Key| values.get(key).is_some_and(Option::is_some);
    let named = world.named();
    let there = named.iter().filter(|(manifest, _)| is_there(manifest));
    let missing = there.flat_map(|(manifest, blobs)| {
        blobs.iter().filter(|blob| !is_there(blob)).map(move |blob| format!("{blob:?} of {manifest:?}"))
    });
    missing.collect()
}

/// Blobs that no manifest names which is there. The last collection came long after the last push.
fn garbage(world: &World, values: &BTreeMap<Key, Value>) -> Vec<String> {
    let is_there = |key: &Key| values.get(key).is_some_and(Option::is_some);
    let named = world.named();
    let held: BTreeSet<&Key> =
        named.iter().filter(|(manifest, _)| is_there(manifest)).flat_map(|(_, blobs)| blobs).collect();
    let blobs = values.keys().filter(|key| matches!(key, Key::Blob { .. }) && is_there(key));
    blobs.filter(|blob| !held.contains(blob)).map(|blob| format!("{blob:?}")).collect()
}

fn first(of: &[String]) -> &[String] {
    &of[..of.len().min(10)]
}

async fn look(world: &World, key: &Key) -> Result<Value> {
    value_of(key, &world.client.get(&path_of(key)).await?)
}

/// The list of tags, read in pages, is that of the tags that are there.
async fn tags_are_listed(world: &World, repository: &'static str, values: &BTreeMap<Key, Value>) -> Result<()> {
    let there = values.iter().filter_map(|(key, value): (&Key, &Option<Digest>)| match key {
        Key::Tag { repository: of, tag } if *of == repository && value.is_some() => Some(tag.clone()),
        _ => None,
    });
    let there: BTreeSet<String> = there.collect();
    let mut listed: Vec<String> = Vec::new();
    loop {
        let last = listed.last().map(|last| format!("&last={last}")).unwrap_or_default();
        let page = world.client.get(&format!("/v2/{repository}/tags/list?n=7{last}")).await?.expect(StatusCode::OK)?;
        let list: Json = serde_json::from_slice(&page.body)?;
        let tags = list["tags"].as_array().context("a list without tags")?;
        listed.extend(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)));
        if page.header("link").is_none() {
            break;
        }
    }
    ensure!(listed.is_sorted(), "{repository}: the list is not sorted: {listed:?}");
    let listed = BTreeSet::from_iter(listed);
    let (missing, extra): (Vec<_>, Vec<_>) = (there.difference(&listed).collect(), listed.difference(&there).collect());
    ensure!(missing.is_empty() && extra.is_empty(), "{repository}: not listed {missing:?}, not there {extra:?}");
    Ok(())
}
