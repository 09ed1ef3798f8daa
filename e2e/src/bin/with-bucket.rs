//! Runs a command beside a server with a bucket, for tests that see more of the registry than HTTP:
//! `cargo run -p berth-e2e --bin with-bucket -- minio cargo test -p berth-registry --lib bucket:: -- --ignored`.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use berth_e2e::azurite::Azurite;
use berth_e2e::s3_server::S3Server;
use serde_json::{Value, json};

const USAGE: &str = "usage: with-bucket minio|versitygw|azurite COMMAND…";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().context(USAGE)?;
    let mut command = Command::new(arguments.next().context(USAGE)?);
    command.args(arguments);
    match server.as_str() {
        "azurite" => {
            let azurite = Azurite::start().await?;
            run(command, &server, &azurite.storage())
        }
        _ => {
            let s3 = S3Server::start(server.parse()?)?;
            run(command, &server, &json!({"s3": S3Server::section(&s3.endpoint())}))
        }
    }
}

fn run(mut command: Command, server: &str, storage: &Value) -> Result<ExitCode> {
    let status = command.env("BERTH_TEST_SERVER", server).env("BERTH_TEST_STORAGE", storage.to_string()).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
