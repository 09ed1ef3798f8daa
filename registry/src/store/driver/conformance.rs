//! What every driver must do, told as tests that run on each.

use std::sync::Arc;

use berth_oci::{Algorithm, Digest, ManifestKind, RepositoryName};
use bytes::Bytes;
use futures::TryStreamExt;
use ulid::Ulid;

use super::{Coalesced, Driver, Object, Posix};
use crate::store::layout::{Key, LinkName, Prefix, RecordName, SegmentName};

/// A test for each driver, from one body that is given `Arc<dyn Driver>`.
macro_rules! on_every_driver {
    ($($name:ident)*) => {
        mod posix {
            $(#[tokio::test]
            async fn $name() {
                let root = tempfile::tempdir().unwrap();
                super::$name(std::sync::Arc::new(super::Posix::open(root.path()).unwrap())).await;
            })*
        }

        mod object {
            $(#[tokio::test]
            async fn $name() {
                super::$name(std::sync::Arc::new(super::Object::in_memory())).await;
            })*
        }

        mod coalesced {
            $(#[tokio::test]
            async fn $name() {
                let object = std::sync::Arc::new(super::Object::in_memory());
                super::$name(std::sync::Arc::new(super::Coalesced::new(object))).await;
            })*
        }

        mod bucket {
            $(#[tokio::test]
            #[ignore = "on a server, which `e2e/test` starts"]
            async fn $name() {
                let bucket = std::sync::Arc::new(super::Object::in_a_test_bucket());
                super::$name(std::sync::Arc::new(super::Coalesced::new(bucket))).await;
            })*
        }
    };
}

on_every_driver! {
    absence_is_no_error
    what_is_created_is_there_whole
    what_is_left_is_there_whole
    a_mark_may_be_made_twice
    a_staged_value_is_invisible_until_it_is_published
    a_dropped_stage_leaves_nothing
    a_value_of_many_parts_is_whole
    a_duplicate_outlives_its_original
    parts_are_joined_in_order
    a_missing_part_makes_no_whole
    an_opened_value_is_readable_to_its_end_after_its_removal
    any_range_can_be_streamed
    pages_are_in_the_order_of_keys_and_complete
    a_page_shows_the_last_write
    a_tag_is_replaced
    a_tag_is_removed_only_if_it_is_as_expected
    of_a_removal_and_a_concurrent_write_the_write_survives
    names_are_listed_with_the_sizes_of_their_values
    lists_do_not_mix_names_that_are_prefixes_of_others
}

fn data() -> Key {
    Key::Data(Ulid::generate())
}

fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

fn tag(name: &str) -> Key {
    Key::Tag { repository: repository("a"), tag: name.parse().unwrap() }
}

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"x")
}

async fn write(driver: &dyn Driver, key: &Key, value: &'static [u8]) {
    driver.create(vec![(key.clone(), Bytes::from_static(value))], &[]).await.unwrap();
}

async fn absence_is_no_error(driver: Arc<dyn Driver>) {
    let key = data();
    assert!(driver.read(&key).await.unwrap().is_none());
    assert!(driver.size(&key).await.unwrap().is_none());
    assert!(driver.open(&key, 0..1).await.unwrap().is_none());
    assert!(driver.list(&Prefix::Uploads, 10).await.unwrap().is_empty());
    assert!(driver.page(&Prefix::Repositories, None, 10).await.unwrap().items.is_empty());
    assert!(!driver.duplicate(&key, &data(), 1).await.unwrap());
    assert!(!driver.remove_tag_if(&tag("t"), &Bytes::new()).await.unwrap());
    driver.remove(std::slice::from_ref(&key)).await.unwrap();
    driver.create(Vec::new(), &[key]).await.unwrap();
}

async fn what_is_created_is_there_whole(driver: Arc<dyn Driver>) {
    let name = LinkName { link: Ulid::generate(), data: Ulid::generate(), size: 7 };
    let link = Key::Link { repository: repository("a/b"), digest: digest(), name };
    let record_name = RecordName { record: Ulid::generate(), kind: ManifestKind::OciIndex };
    let record = Key::Record { repository: repository("a/b"), digest: digest(), name: record_name };
    let values = vec![(link.clone(), Bytes::new()), (record.clone(), Bytes::from_static(b"bytes"))];
    driver.create(values, &[]).await.unwrap();
    assert_eq!(driver.size(&link).await.unwrap(), Some(0));
    assert_eq!(driver.read(&record).await.unwrap().as_deref(), Some(&b"bytes"[..]));
    let links = Prefix::Links(repository("a/b"), digest());
    assert_eq!(driver.list(&links, 10).await.unwrap(), [name.to_string()]);
    assert_eq!(driver.list(&Prefix::RecordedDigests(repository("a/b")), 10).await.unwrap(), [digest().to_string()]);
    driver.remove(&[link, record]).await.unwrap();
    assert!(driver.list(&Prefix::RecordedDigests(repository("a/b")), 10).await.unwrap().is_empty());
    assert!(driver.list(&links, 10).await.unwrap().is_empty());
}

async fn what_is_left_is_there_whole(driver: Arc<dyn Driver>) {
    let key = data();
    driver.leave(vec![(key.clone(), Bytes::from_static(b"for now"))]).await.unwrap();
    assert_eq!(driver.read(&key).await.unwrap().as_deref(), Some(&b"for now"[..]));
}

async fn a_mark_may_be_made_twice(driver: Arc<dyn Driver>) {
    let mark = || vec![(Key::Finished { upload: Ulid::nil(), digest: digest() }, Bytes::new())];
    for _ in 0..2 {
        driver.leave(mark()).await.unwrap();
        driver.create(mark(), &[]).await.unwrap();
    }
    assert_eq!(driver.sizes(&Prefix::Upload(Ulid::nil())).await.unwrap().len(), 1);
}

async fn names_are_listed_with_the_sizes_of_their_values(driver: Arc<dyn Driver>) {
    let upload = Ulid::generate();
    let mut expected = Vec::new();
    for size in [0, 1, 70_000] {
        let name = SegmentName { start: 7, attempt: Ulid::generate(), before: Ulid::nil() };
        let mut stage = driver.stage(Key::Segment { upload, name }).await.unwrap();
        stage.write(vec![vec![b'x'; size].into()]).await.unwrap();
        stage.publish().await.unwrap();
        expected.push((name.to_string(), size as u64));
    }
    let mut listed = driver.sizes(&Prefix::Upload(upload)).await.unwrap();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert!(driver.sizes(&Prefix::Upload(Ulid::generate())).await.unwrap().is_empty());
}

async fn a_staged_value_is_invisible_until_it_is_published(driver: Arc<dyn Driver>) {
    let key = data();
    let mut stage = driver.stage(key.clone()).await.unwrap();
    stage.write(vec![Bytes::from_static(b"one "), Bytes::from_static(b"two")]).await.unwrap();
    stage.write(vec![Bytes::from_static(b" three")]).await.unwrap();
    assert!(driver.size(&key).await.unwrap().is_none());
    assert!(driver.walk().await.unwrap().is_empty());
    stage.publish().await.unwrap();
    driver.create(Vec::new(), std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(driver.read(&key).await.unwrap().as_deref(), Some(&b"one two three"[..]));
}

async fn a_dropped_stage_leaves_nothing(driver: Arc<dyn Driver>) {
    let mut stage = driver.stage(data()).await.unwrap();
    stage.write(vec![Bytes::from_static(b"x")]).await.unwrap();
    drop(stage);
    assert!(driver.walk().await.unwrap().is_empty());
}

async fn a_value_of_many_parts_is_whole(driver: Arc<dyn Driver>) {
    let (key, joined) = (data(), data());
    let mut stage = driver.stage(key.clone()).await.unwrap();
    let piece: Bytes = (0..=250).cycle().take(3 << 20).collect::<Vec<u8>>().into();
    for _ in 0..7 {
        stage.write(vec![piece.clone()]).await.unwrap();
        assert!(driver.size(&key).await.unwrap().is_none());
    }
    stage.publish().await.unwrap();
    assert!(driver.join(&[key.clone(), key.clone()], &joined).await.unwrap());
    for (key, times) in [(key, 7), (joined, 14)] {
        let size = times * piece.len() as u64;
        let content = driver.open(&key, 0..size).await.unwrap().unwrap();
        assert_eq!(content.size(), size);
        let pieces: Vec<Bytes> = content.stream().try_collect().await.unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>() as u64, size);
        assert!(pieces.concat().chunks(piece.len()).all(|chunk| chunk == piece));
    }
}

async fn a_duplicate_outlives_its_original(driver: Arc<dyn Driver>) {
    let (from, to) = (data(), data());
    write(&*driver, &from, b"bytes").await;
    assert!(driver.duplicate(&from, &to, 5).await.unwrap());
    driver.create(Vec::new(), std::slice::from_ref(&to)).await.unwrap();
    driver.remove(&[from]).await.unwrap();
    assert_eq!(driver.read(&to).await.unwrap().as_deref(), Some(&b"bytes"[..]));
}

async fn parts_are_joined_in_order(driver: Arc<dyn Driver>) {
    let (one, two, three, whole) = (data(), data(), data(), data());
    write(&*driver, &two, b"2").await;
    write(&*driver, &one, b"1").await;
    write(&*driver, &three, b"3").await;
    let parts = [one, two, three];
    assert!(driver.join(&parts, &whole).await.unwrap());
    driver.remove(&parts).await.unwrap();
    assert_eq!(driver.read(&whole).await.unwrap().as_deref(), Some(&b"123"[..]));
}

async fn a_missing_part_makes_no_whole(driver: Arc<dyn Driver>) {
    let (one, whole) = (data(), data());
    write(&*driver, &one, b"1").await;
    assert!(!driver.join(&[one, data()], &whole).await.unwrap());
    assert!(driver.size(&whole).await.unwrap().is_none());
}

async fn an_opened_value_is_readable_to_its_end_after_its_removal(driver: Arc<dyn Driver>) {
    let key = data();
    let value: Bytes = vec![7; 3 << 20].into();
    driver.create(vec![(key.clone(), value.clone())], &[]).await.unwrap();
    let mut stream = driver.open(&key, 0..value.len() as u64).await.unwrap().unwrap().stream();
    let mut read = stream.try_next().await.unwrap().unwrap().to_vec();
    driver.remove(&[key]).await.unwrap();
    while let Some(piece) = stream.try_next().await.unwrap() {
        read.extend(piece);
    }
    assert_eq!(read, value);
}

async fn any_range_can_be_streamed(driver: Arc<dyn Driver>) {
    let key = data();
    let value: Bytes = (0..=255).cycle().take(200_000).collect::<Vec<u8>>().into();
    driver.create(vec![(key.clone(), value.clone())], &[]).await.unwrap();
    for range in [0..200_000, 0..0, 1..2, 199_999..200_000, 65_536..131_072, 100..190_000] {
        let content = driver.open(&key, range.clone()).await.unwrap().unwrap();
        assert_eq!(content.size(), 200_000);
        let pieces: Vec<Bytes> = content.stream().try_collect().await.unwrap();
        let wanted = &value[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert_eq!(pieces.concat(), wanted, "{range:?}");
    }
}

async fn pages_are_in_the_order_of_keys_and_complete(driver: Arc<dyn Driver>) {
    let mut names: Vec<String> = ["a", "a-b", "a.b", "a_b", "A", "ab", "0", "10", "9", "_"].map(str::to_owned).into();
    for name in &names {
        driver.replace(&tag(name), Bytes::from_static(b"x")).await.unwrap();
    }
    names.sort_unstable();
    for size in [1, 3, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = driver.page(&Prefix::Tags(repository("a")), after.as_deref(), size).await.unwrap();
            assert!(page.items.len() <= size);
            assert_eq!(page.more, seen.len() + page.items.len() < names.len());
            seen.extend(page.items);
            after = seen.last().cloned();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, names);
    }
    let page = driver.page(&Prefix::Tags(repository("a")), Some("a-"), 1).await.unwrap();
    assert_eq!(page.items, ["a-b"], "what the page begins after need not exist");
}

async fn a_page_shows_the_last_write(driver: Arc<dyn Driver>) {
    let tags = Prefix::Tags(repository("a"));
    for number in 0..20 {
        let name = format!("t{number:02}");
        driver.replace(&tag(&name), Bytes::from_static(b"x")).await.unwrap();
        let page = driver.page(&tags, None, 100).await.unwrap();
        assert_eq!(page.items.last(), Some(&name));
    }
    for number in (0..20).rev() {
        assert!(driver.remove_tag_if(&tag(&format!("t{number:02}")), &Bytes::from_static(b"x")).await.unwrap());
        assert_eq!(driver.page(&tags, None, 100).await.unwrap().items.len(), number);
    }
}

async fn a_tag_is_replaced(driver: Arc<dyn Driver>) {
    for value in [&b"one"[..], b"two"] {
        driver.replace(&tag("t"), Bytes::from_static(value)).await.unwrap();
        assert_eq!(driver.read(&tag("t")).await.unwrap().as_deref(), Some(value));
    }
}

async fn a_tag_is_removed_only_if_it_is_as_expected(driver: Arc<dyn Driver>) {
    driver.replace(&tag("t"), Bytes::from_static(b"new")).await.unwrap();
    assert!(!driver.remove_tag_if(&tag("t"), &Bytes::from_static(b"old")).await.unwrap());
    assert_eq!(driver.read(&tag("t")).await.unwrap().as_deref(), Some(&b"new"[..]));
    assert!(driver.remove_tag_if(&tag("t"), &Bytes::from_static(b"new")).await.unwrap());
    assert!(driver.read(&tag("t")).await.unwrap().is_none_or(|value| value.is_empty()));
    assert!(driver.page(&Prefix::Tags(repository("a")), None, 10).await.unwrap().items.is_empty());
}

async fn of_a_removal_and_a_concurrent_write_the_write_survives(driver: Arc<dyn Driver>) {
    for _ in 0..200 {
        driver.replace(&tag("t"), Bytes::from_static(b"old")).await.unwrap();
        let (remover, writer) = (Arc::clone(&driver), Arc::clone(&driver));
        let removal = tokio::spawn(async move { remover.remove_tag_if(&tag("t"), &Bytes::from_static(b"old")).await });
        let write = tokio::spawn(async move { writer.replace(&tag("t"), Bytes::from_static(b"new")).await });
        removal.await.unwrap().unwrap();
        write.await.unwrap().unwrap();
        assert_eq!(driver.read(&tag("t")).await.unwrap().as_deref(), Some(&b"new"[..]));
    }
}

async fn lists_do_not_mix_names_that_are_prefixes_of_others(driver: Arc<dyn Driver>) {
    for name in ["a", "a/b", "a-b", "ab"] {
        let record = RecordName { record: Ulid::generate(), kind: ManifestKind::OciManifest };
        write(&*driver, &Key::Record { repository: repository(name), digest: digest(), name: record }, b"x").await;
        let listed = driver.list(&Prefix::Records(repository(name), digest()), 10).await.unwrap();
        assert_eq!(listed, [record.to_string()]);
    }
    let page = driver.page(&Prefix::Repositories, None, 10).await.unwrap();
    assert_eq!(page.items, ["a-b", "a", "ab", "a~b"], "in the order of a-b/, a/, ab/, a~b/");
    let page = driver.page(&Prefix::Repositories, Some("a-b"), 2).await.unwrap();
    assert_eq!((page.items, page.more), (vec!["a".to_owned(), "ab".to_owned()], true));
    let page = driver.page(&Prefix::Repositories, Some("a"), 2).await.unwrap();
    assert_eq!((page.items, page.more), (vec!["ab".to_owned(), "a~b".to_owned()], false));
}
