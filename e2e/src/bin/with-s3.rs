//! Runs a command beside an S3 server, for tests that see more of the registry than HTTP:
//! `cargo run -p berth-e2e --bin with-s3 -- minio cargo test -p berth-registry --lib s3 -- --ignored`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use berth_e2e::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: with-s3 minio|versitygw COMMAND…")?;
    let command = arguments.next().context("usage: with-s3 minio|versitygw COMMAND…")?;
    let server = S3Server::start(name.parse()?)?;
    let status = Command::new(command)
        .args(arguments)
        .env("BERTH_TEST_S3_SERVER", name)
        .env("BERTH_TEST_S3_ENDPOINT", server.endpoint())
        .env("BERTH_TEST_S3_BUCKET", BUCKET)
        .env("BERTH_TEST_S3_ACCESS_KEY", ACCESS_KEY)
        .env("BERTH_TEST_S3_SECRET_KEY", SECRET_KEY)
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
