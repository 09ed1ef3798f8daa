//! When everybody has gone: what was promised is there, and nothing else.

use super::pusher::Pusher;
use super::*;

/// Looks at all that was promised, collects until nothing goes any more, looks again, and compares what is stored with what the
/// manifests name.
pub(super) async fn all_is_there_and_no_more(world: &World, mut pushers: Vec<Pusher>) {
    look_at_everything(&mut pushers).await;
    tokio::time::sleep(GRACE + tick()).await;
    collect_all(&world.store).await;
    look_at_everything(&mut pushers).await;
    let mut data = HashSet::new();
    for name in REPOSITORIES.map(repository) {
        let mut named = HashSet::new();
        for digest in digests(&world.store, &Prefix::RecordedDigests(name.clone())).await {
            let stored = world.store.recorded(&name, &digest).await.unwrap().unwrap();
            let manifest = Manifest::parse(stored.kind, &stored.bytes).unwrap();
            named.extend(manifest.children().iter().map(|child| child.descriptor().digest.clone()));
        }
        for digest in digests(&world.store, &Prefix::LinkedDigests(name.clone())).await {
            assert!(named.contains(&digest), "{name}: no manifest names {digest}");
            let links = world.store.links(&name, &digest).await.unwrap();
            assert_eq!(links.len(), 1, "{name} links {digest} more than once");
            data.insert(links[0].data);
        }
    }
    let stored = world.store.stored_keys().await.unwrap();
    let is_data = |key: &&String| key.starts_with("d/");
    assert_eq!(stored.iter().filter(is_data).count(), data.len(), "data that no link leads to");
    assert!(!stored.iter().any(|key| key.contains("/_p/")), "an intent of nobody");
}

async fn digests(store: &Store, prefix: &Prefix) -> Vec<Digest> {
    let names = store.driver.list(prefix, usize::MAX).await.unwrap();
    names.iter().map(|name| name.parse().unwrap()).collect()
}

async fn look_at_everything(pushers: &mut [Pusher]) {
    for pusher in pushers {
        for repo in 0..REPOSITORIES.len() {
            pusher.look(repo).await;
        }
        pusher.look_for_the_deleted().await;
    }
}

/// Without a tag there is nothing to keep: everything goes, to the last key.
pub(super) async fn nothing_is_left_of_nothing(store: &Store) {
    for name in REPOSITORIES.map(repository) {
        let tags = store.tags(&name, None, 1000).await.unwrap();
        for tag in tags.into_iter().flat_map(|page| page.items) {
            store.delete_tag(&name, &tag).await.unwrap();
        }
    }
    tokio::time::sleep(GRACE + tick()).await;
    collect_all(store).await;
    store.sweep_remains().await.unwrap();
    assert_eq!(kept(store).await, [""; 0]);
}

/// Until nothing goes any more.
async fn collect_all(store: &Store) {
    while !store.collect(TERMS, &mut |_| {}).await.unwrap().is_nothing() {}
}
