//! A key of a bucket that is empty: a Secret that was filled with nothing.

use std::process::Command;

use berth_contract::exit_code::UNFIT_STORAGE;

#[test]
fn an_empty_key_of_a_bucket_is_not_taken_for_one_that_nobody_gave() {
    for (bucket, key) in [
        (&[("REGISTRY_STORAGE_S3_BUCKET", "images")][..], "AWS_ACCESS_KEY_ID"),
        (&[("REGISTRY_STORAGE_S3_BUCKET", "images")], "AWS_SECRET_ACCESS_KEY"),
        (
            &[("REGISTRY_STORAGE_AZURE_ACCOUNTNAME", "berth"), ("REGISTRY_STORAGE_AZURE_CONTAINER", "images")],
            "AZURE_STORAGE_KEY",
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth-registry"));
        command.arg("serve").env_clear().envs(bucket.iter().copied()).env(key, "\n");
        command.env("REGISTRY_HTTP_ADDR", "127.0.0.1:0").env("REGISTRY_HTTP_DEBUG_ADDR", "127.0.0.1:0");
        let ended = command.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("berth-registry: {key} is set and empty: give the key, or ")), "{said}");
        assert_eq!(ended.status.code(), Some(UNFIT_STORAGE.into()), "{said}");
    }
}
