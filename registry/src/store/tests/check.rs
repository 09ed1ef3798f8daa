//! `berth-registry check`.

use super::*;

async fn findings(store: &Store) -> Vec<Finding> {
    let mut findings = Vec::new();
    store.check(&mut |finding| findings.push(finding)).await.unwrap();
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
    let checked = store.check(&mut |finding| panic!("{finding}")).await.unwrap();
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
