//! Uploads: in chunks, from stale places, to their end.

use super::*;

on_every_driver! {
    chunks_make_a_blob_and_leave_no_segments
    a_stale_location_learns_the_newest_offset_and_goes_on_from_there
    a_chunk_that_breaks_off_is_kept_as_far_as_it_came
    finishing_twice_is_answered_twice
    finishing_while_another_request_does_so_is_answered_as_well
    a_finish_with_another_digest_ends_the_upload
    a_digest_of_another_algorithm_than_announced_is_verified_all_the_same
    a_cancelled_upload_is_unknown
    an_expired_upload_is_unknown_and_swept
    two_chunks_at_one_offset_make_two_branches_and_either_can_be_finished
    a_chunk_that_arrives_late_takes_nothing_back_that_was_acknowledged
}

async fn chunks_make_a_blob_and_leave_no_segments(store: Store) {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, b"one two three");
        let mut state = store.start_upload(repository("a"), "me".into(), algorithm);
        for chunk in [&b"one "[..], b"two "] {
            let start = state.offset();
            state = store.append(&state, Some(start), body(chunk)).await.unwrap();
            assert_eq!(state.offset(), start + 4);
        }
        store.finish_upload(&state, Some(8), body(b"three"), &digest).await.unwrap();
        assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"one two three");
        assert!(matches!(store.append(&state, None, body(b"x")).await, Err(UploadError::Unknown)));
    }
    let keys = store.stored_keys().await.unwrap();
    let uploads: Vec<_> = keys.iter().filter(|key| key.starts_with("u/")).collect();
    assert!(uploads.iter().all(|key| key.starts_with("u/*/finished.sha")) && uploads.len() == 2, "{uploads:?}");
}

async fn a_stale_location_learns_the_newest_offset_and_goes_on_from_there(store: Store) {
    let digest = digest_of(b"one two three");
    let first = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let second = store.append(&first, Some(0), body(b"one ")).await.unwrap();
    store.append(&second, Some(4), body(b"two ")).await.unwrap();
    let Err(UploadError::OutOfOrder(newest)) = store.append(&first, Some(0), body(b"one ")).await else {
        panic!("a replayed chunk must be told where the upload stands");
    };
    assert_eq!(newest.offset(), 8);
    assert_eq!(store.upload_status(&first).await.unwrap(), *newest);
    store.finish_upload(&newest, Some(8), body(b"three"), &digest).await.unwrap();
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"one two three");
}

async fn a_chunk_that_breaks_off_is_kept_as_far_as_it_came(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    assert!(matches!(store.append(&state, None, broken_body(b"one ")).await, Err(UploadError::Body(_))));
    let state = store.upload_status(&state).await.unwrap();
    assert_eq!(state.offset(), 4);
    store.finish_upload(&state, None, body(b"two"), &digest_of(b"one two")).await.unwrap();

    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    assert!(matches!(store.append(&state, None, broken_body(b"x")).await, Err(UploadError::Body(_))));
    assert_eq!(store.upload_status(&state).await.unwrap().offset(), 0, "one byte and none are told in the same words");
}

async fn finishing_twice_is_answered_twice(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"bytes")).await.unwrap();
    for _ in 0..2 {
        store.finish_upload(&state, None, body(b""), &digest_of(b"bytes")).await.unwrap();
    }
    let other = store.finish_upload(&state, None, body(b""), &digest_of(b"other")).await;
    assert!(matches!(other, Err(UploadError::Unknown)));
}

async fn finishing_while_another_request_does_so_is_answered_as_well(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"one ")).await.unwrap();
    let state = store.append(&state, None, body(b"two")).await.unwrap();
    let digest = digest_of(b"one two");
    // This one has seen the segments; before its body ends another one has taken them away.
    let other = async {
        store.finish_upload(&state, None, body(b""), &digest).await.unwrap();
        Ok(Bytes::new())
    };
    let slow = std::pin::pin!(stream::once(other));
    store.finish_upload(&state, None, slow, &digest).await.unwrap();
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap(), b"one two");
}

async fn a_finish_with_another_digest_ends_the_upload(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"bytes")).await.unwrap();
    let finish = store.finish_upload(&state, None, body(b""), &digest_of(b"other")).await;
    assert!(matches!(finish, Err(UploadError::DigestMismatch)));
    assert!(matches!(store.upload_status(&state).await, Err(UploadError::Unknown)));
    assert_eq!(store.stored_keys().await.unwrap(), ["u/*/cancelled"]);
}

async fn a_digest_of_another_algorithm_than_announced_is_verified_all_the_same(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"one ")).await.unwrap();
    let wrong = Digest::of(Algorithm::Sha512, b"one three");
    let right = Digest::of(Algorithm::Sha512, b"one two");
    let other = store.append(&state, None, body(b"and")).await.unwrap();
    assert!(matches!(store.finish_upload(&state, None, body(b"two"), &wrong).await, Err(UploadError::OutOfOrder(_))));
    assert!(matches!(store.finish_upload(&other, None, body(b""), &wrong).await, Err(UploadError::DigestMismatch)));
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&state, None, body(b"one ")).await.unwrap();
    store.finish_upload(&state, None, body(b"two"), &right).await.unwrap();
    assert_eq!(read_blob(&store, "a", &right).await.unwrap(), b"one two");
}

async fn a_cancelled_upload_is_unknown(store: Store) {
    let fresh = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let state = store.append(&fresh, None, body(b"bytes")).await.unwrap();
    store.cancel_upload(&state).await.unwrap();
    for state in [&fresh, &state] {
        assert!(matches!(store.upload_status(state).await, Err(UploadError::Unknown)));
        assert!(matches!(store.append(state, None, body(b"x")).await, Err(UploadError::Unknown)));
        let finish = store.finish_upload(state, None, body(b""), &digest_of(b"bytes")).await;
        assert!(matches!(finish, Err(UploadError::Unknown)));
        assert!(matches!(store.cancel_upload(state).await, Err(UploadError::Unknown)));
    }
    assert_eq!(store.stored_keys().await.unwrap(), ["u/*/cancelled"]);
}

async fn an_expired_upload_is_unknown_and_swept(store: Store) {
    let store = store.with_upload_age(Duration::ZERO);
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(matches!(store.append(&state, None, body(b"x")).await, Err(UploadError::Unknown)));
    // One that began a day ago, as another replica left it.
    let name = layout::SegmentName { start: 0, attempt: Ulid::generate(), before: Ulid::nil() };
    let yesterday = Ulid::from_datetime(std::time::SystemTime::now() - Duration::from_hours(24));
    let old = Key::Segment { upload: yesterday, name };
    let young = Key::Segment { upload: Ulid::generate(), name };
    let values = [&old, &young].map(|key| (key.clone(), Bytes::from_static(b"x")));
    store.driver.create(values.into(), &[]).await.unwrap();
    for dry_run in [true, false] {
        assert_eq!(store.sweep_uploads(dry_run).await.unwrap(), 1);
    }
    assert_eq!(store.stored_keys().await.unwrap(), ["u/*/0000000000000000.*.*"]);
    assert_eq!(store.driver.list(&Prefix::Uploads, 10).await.unwrap().len(), 1);
}

async fn two_chunks_at_one_offset_make_two_branches_and_either_can_be_finished(store: Store) {
    let state = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    let (one, other) = tokio::join!(store.append(&state, None, body(b"aaaa")), store.append(&state, None, body(b"bb")));
    // Either may have been told that it came second; whoever was taken in can go on with its own bytes.
    for (taken, bytes) in [(one, &b"aaaa"[..]), (other, b"bb")] {
        if let Ok(state) = taken
            && store.finish_upload(&state, None, body(b""), &digest_of(bytes)).await.is_ok()
        {
            assert_eq!(read_blob(&store, "a", &digest_of(bytes)).await.unwrap(), bytes);
            return;
        }
    }
    panic!("nobody could finish");
}

async fn a_chunk_that_arrives_late_takes_nothing_back_that_was_acknowledged(store: Store) {
    let first = store.start_upload(repository("a"), "me".into(), Algorithm::Sha256);
    // Its client has given it up: it asked, was told that nothing had come, and goes on with smaller chunks.
    let meanwhile = async {
        let mut state = first.clone();
        for chunk in [&b"one "[..], b"two ", b"three"] {
            state = store.append(&state, None, body(chunk)).await.unwrap();
        }
        Ok(Bytes::from_static(b"one two th"))
    };
    let late = std::pin::pin!(stream::once(meanwhile));
    store.append(&first, None, late).await.unwrap();
    let newest = store.upload_status(&first).await.unwrap();
    assert_eq!(newest.offset(), 13);
    store.finish_upload(&newest, None, body(b""), &digest_of(b"one two three")).await.unwrap();
}
