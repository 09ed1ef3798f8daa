//! What is done otherwise on a network file system: a directory that is taken for one.

use tokio::time::Instant;

use super::*;
use crate::store::Terms;
use berth_contract::config::Untagged;

const STALENESS: Duration = Duration::from_mins(1);

fn on_a_network(root: &Path) -> Store {
    Store::on(Arc::new(Posix::open_as_on_a_network(root, STALENESS)))
}

async fn collect(store: &Store) -> Collected {
    std::thread::sleep(collect::tick());
    let terms = Terms { untagged: Untagged::Keep, dry_run: false };
    store.clone().with_grace(Duration::ZERO).collect(terms, &mut |_| {}).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_collection_waits_until_all_see_what_it_named_and_what_it_deleted() {
    let root = tempfile::tempdir().unwrap();
    let store = on_a_network(root.path());
    let begun = Instant::now();
    assert!(collect(&store).await.is_nothing());
    assert_eq!(begun.elapsed(), Duration::ZERO, "there is nothing to wait for");

    push_blob(&store, "a", b"garbage").await;
    let begun = Instant::now();
    let collected = collect(&store).await;
    assert_eq!((collected.links, collected.blobs), (1, 1));
    // Twice before the second mark and once before the end, for the link and then for its data.
    assert_eq!(begun.elapsed(), STALENESS * 6);

    let key = Key::Data(Ulid::generate());
    plant_dead_batch(&store, &[key]).await;
    let begun = Instant::now();
    collect(&store).await;
    assert_eq!(begun.elapsed(), STALENESS * 3, "a batch that another one may have written a moment ago");
}

#[tokio::test]
async fn an_intent_is_left_to_the_sweep() {
    let root = tempfile::tempdir().unwrap();
    let store = on_a_network(root.path());
    let (_, digest) = push_image(&store, "a", &[b"config"], &["v1"]).await;
    let intents = async || {
        let keys = store.stored_keys().await.unwrap();
        keys.into_iter().filter(|key| key.starts_with("r/a/_p/")).collect::<Vec<_>>()
    };
    assert_eq!(intents().await.len(), 1);
    assert_eq!(store.clone().with_grace(Duration::ZERO).sweep_intents().await.unwrap(), 1);
    assert!(intents().await.is_empty());
    assert_eq!(by_tag(&store, "a", "v1").await, Some(digest));
}
