//! Multipart uploads of processes that died. Nobody sees them, and whoever owns the bucket pays for them until they are aborted
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>). Some servers list only the uploads of one
//! object, or none: MinIO does, and aborts them itself after a day.

use std::time::{Duration, SystemTime};

use object_store::path::Path;
use object_store::signer::Method;
use serde::Deserialize;

use super::Object;
use super::signed::Signed;
use crate::store::error::{Result, StoreError};
use crate::store::layout::Key;

/// `ListMultipartUploadsResult`
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    upload: Vec<Upload>,
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Upload {
    key: String,
    upload_id: String,
}

impl Object {
    /// Aborts the uploads in parts of this registry that began longer ago than `age`. Their keys tell when.
    pub(super) async fn abort_multiparts(&self, signed: &Signed, age: Duration) -> Result<()> {
        let mut markers = (String::new(), String::new());
        loop {
            let listed = signed.list(&self.root, &markers).await?;
            for Upload { key, upload_id } in &listed.upload {
                let name = key.strip_prefix(&self.root).and_then(|name| name.parse::<Key>().ok());
                let began = name.and_then(|key| key.ulid()).map(|ulid| ulid.datetime());
                // What has another name is not ours.
                if began.is_some_and(|began| SystemTime::now().duration_since(began).is_ok_and(|past| past > age)) {
                    signed.abort(key, upload_id).await?;
                    tracing::info!(key, "an upload in parts that nobody finished was aborted");
                }
            }
            let next = (listed.next_key_marker, listed.next_upload_id_marker);
            if !listed.is_truncated || next == markers {
                return Ok(());
            }
            markers = next;
        }
    }
}

impl Signed {
    async fn list(&self, prefix: &str, (key, upload): &(String, String)) -> Result<Listed> {
        let mut query = vec![("uploads", ""), ("prefix", prefix)];
        if !key.is_empty() {
            query.extend([("key-marker", key.as_str()), ("upload-id-marker", upload.as_str())]);
        }
        let doing = "list uploads in parts";
        let document = self.send(doing, Method::GET, &Path::default(), &query).await?;
        quick_xml::de::from_reader(document.as_ref()).map_err(|error| StoreError::other(doing, error))
    }

    async fn abort(&self, key: &str, upload: &str) -> Result<()> {
        let doing = "abort an upload in parts";
        let path = Path::parse(key).map_err(|error| StoreError::other(doing, error))?;
        self.send(doing, Method::DELETE, &path, &[("uploadId", upload)]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;

    use super::*;
    use crate::store::driver::Driver;

    #[test]
    fn a_list_of_uploads_is_read_as_s3_writes_it() {
        let document = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Bucket>b</Bucket>
            <NextKeyMarker>d/01/X</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker><IsTruncated>true</IsTruncated>
            <Upload><Key>d/01/W</Key><UploadId>u1</UploadId><Initiated>2026-11-26T00:00:00.000Z</Initiated></Upload>
            <Upload><Key>d/01/X</Key><UploadId>u2</UploadId></Upload></ListMultipartUploadsResult>"#;
        let listed: Listed = quick_xml::de::from_str(document).unwrap();
        let upload = |key: &str, id: &str| Upload { key: key.into(), upload_id: id.into() };
        assert_eq!(listed.upload, [upload("d/01/W", "u1"), upload("d/01/X", "u2")]);
        assert_eq!((listed.is_truncated, listed.next_upload_id_marker.as_str()), (true, "u2"));
        let none: Listed = quick_xml::de::from_str("<ListMultipartUploadsResult/>").unwrap();
        assert_eq!(none, Listed::default());
    }

    mod bucket {
        use super::*;

        #[tokio::test]
        #[ignore = "on a server, which `e2e/test` starts"]
        async fn an_upload_in_parts_of_a_process_that_died_is_aborted_and_a_younger_one_is_not() {
            let object = Object::in_a_test_bucket();
            let Some(signed) = object.signed.clone() else {
                println!("this provider removes them by itself");
                return;
            };
            let mut stage = object.stage(Key::Data(Ulid::generate())).await.unwrap();
            stage.write(vec![vec![7; 20 << 20].into()]).await.unwrap();
            // Its process goes away and cleans nothing up.
            std::mem::forget(stage);
            let listed = || async { signed.list(&object.root, &Default::default()).await.unwrap().upload.len() };
            object.sweep(Duration::from_hours(1)).await.unwrap();
            if std::env::var("BERTH_TEST_SERVER").as_deref() == Ok("minio") {
                assert_eq!(listed().await, 0, "this server lists them by now: ask it too");
                return;
            }
            assert_eq!(listed().await, 1);
            object.sweep(Duration::ZERO).await.unwrap();
            assert_eq!(listed().await, 0);
        }
    }
}
