//! `berth-registry check`.

use super::*;

async fn findings(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    store.check(false, &mut |finding| findings.push(finding)).await.unwrap();
    findings
}

#[tokio::test]
async fn a_check_of_sound_storage_finds_nothing_and_looks_at_everything() {
    let store = Store::in_memory();
    let (child, _) = push_image(&store, "a", &[b"config", b"layer"], &["v1", "v2"]).await;
    put(&store, "a", ManifestKind::OciIndex, &index(&[&child]), &["all"]).await.unwrap();
    push_image(&store, "b", &[b"config"], &["v1"]).await;
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    store.append(&state, None, body(b"bytes")).await.unwrap();
    let checked = store.check(false, &mut |finding| panic!("{finding}")).await.unwrap();
    // Both repositories link one copy of the config.
    assert_eq!(checked, Checked { repositories: 2, manifests: 3, tags: 4, blobs: 2, bytes: 11 });
}

#[tokio::test]
async fn a_check_names_what_is_damaged_lost_and_overdue() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::posix(root.path()).unwrap();
    let (_, digest) = push_image(&store, "a", &[b"config", b"layer"], &["v1"]).await;
    let config = only_link(&store, "a", &digest_of(b"config")).await;
    std::fs::write(root.path().join(Key::Data(config.data).to_string()), b"c0nfig").unwrap();
    store.delete_blob(&repository("a"), &digest_of(b"layer")).await.unwrap();
    let old = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(24 * 9));
    let segment = layout::SegmentName { start: 0, attempt: old, before: Ulid::nil() };
    let values = vec![(Key::Segment { upload: old, name: segment }, Bytes::from_static(b"x"))];
    store.driver.create(values, &[]).await.unwrap();
    std::fs::write(root.path().join("r/a/_t/.hidden"), b"x").unwrap();

    let mut found: Vec<_> = findings(&store).await.into_iter().map(|finding| (finding.severity, finding.key)).collect();
    found.sort();
    let record = store.driver.list(&Prefix::Records(repository("a"), digest.clone()), 1).await.unwrap();
    let expected = [
        (Severity::Leftover, "r/a/_t/.hidden".to_owned()),
        (Severity::Overdue, format!("u/{old}")),
        (Severity::Incomplete, format!("r/a/_m/{digest}/{}", record[0])),
        (Severity::Corrupt, Key::Data(config.data).to_string()),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_check_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let config = config::Storage {
        filesystem: Some(config::Filesystem { rootdirectory: root.path().to_path_buf(), shared: false }),
        ..config::Storage::default()
    };
    let store = Store::open_to_read(&config).unwrap();
    assert!(findings(&store).await.is_empty());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_repair_writes_what_can_be_derived_and_says_what_cannot() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::posix(root.path()).unwrap();
    let (_, digest) = push_image(&store, "a", &[b"config", b"layer"], &["v1"]).await;
    let (_, lonely) = push_image(&store, "c", &[b"lonely"], &["v1"]).await;
    let path = |key: &Key| root.path().join(key.to_string());

    // Another copy of one blob's bytes, in another repository.
    let copy = Ulid::generate();
    let config = only_link(&store, "a", &digest_of(b"config")).await;
    store.driver.duplicate(&Key::Data(config.data), &Key::Data(copy), config.size).await.unwrap();
    std::fs::remove_file(path(&Key::Data(config.data))).unwrap();
    store.link_to_own(&repository("b"), &digest_of(b"config"), copy, config.size).await.unwrap();
    std::fs::write(path(&Key::Data(config.data)), b"c0nfig").unwrap();
    let only = only_link(&store, "c", &digest_of(b"lonely")).await;
    std::fs::write(path(&Key::Data(only.data)), b"1onely").unwrap();
    for name in store.back_references(&repository("a"), &digest).await.unwrap() {
        let key = Key::BackReference { repository: repository("a"), digest: digest.clone(), name };
        std::fs::remove_file(path(&key)).unwrap();
    }

    // A record that is not listed by its subject, of long ago.
    let subject = digest_of(b"a subject");
    let referrer: Bytes = format!(
        r#"{{"schemaVersion":2,"manifests":[],"subject":{{"mediaType":"{}","digest":"{subject}","size":9}}}}"#,
        ManifestKind::OciManifest
    )
    .into();
    let record = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(2));
    let name = RecordName { record, kind: ManifestKind::OciIndex };
    let key = manifest::record_key(&repository("a"), &digest_of(&referrer), name);
    store.driver.create(vec![(key, referrer.clone())], &[]).await.unwrap();

    let check = async |store: &Store, mends: bool| {
        let mut found = Vec::new();
        store.check(mends, &mut |finding| found.push((finding.severity, finding.mended))).await.unwrap();
        found.retain(|found| found.0 > Severity::Leftover);
        found.sort();
        found
    };
    let (incomplete, corrupt) = (Severity::Incomplete, Severity::Corrupt);
    let broken = [(incomplete, false), (incomplete, false), (corrupt, false), (corrupt, false)];
    assert_eq!(check(&store, false).await, broken);
    assert_eq!(check(&store, false).await, broken, "a check changes nothing");
    let mended = [(incomplete, true), (incomplete, true), (corrupt, false), (corrupt, true)];
    assert_eq!(check(&store, true).await, mended);
    assert_eq!(check(&store, true).await, [(corrupt, false)], "there is no other copy of that one");
    let repository_a = repository("a");
    let mut listed = store.referrers(&repository_a, &subject, None, None).await.unwrap();
    assert_eq!(listed.next().await.unwrap().map(|entry| entry.digest), Some(digest_of(&referrer)));

    let store = Store::posix(root.path()).unwrap();
    assert_eq!(read_blob(&store, "a", &digest_of(b"config")).await.as_deref(), Some(&b"config"[..]));
    assert!(store.delete_manifest(&repository("a"), &digest).await.unwrap());
    assert_eq!(by_tag(&store, "a", "v1").await, None, "its tag was found");
    assert_eq!(by_tag(&store, "c", "v1").await, Some(lonely));
}
