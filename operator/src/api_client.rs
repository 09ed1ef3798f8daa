//! The way to the API server.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config};

/// For how long nothing may come of a request. A watch ends after 290 s of itself, so this is longer; without it a request whose
/// answer was lost with its server would be waited for until the kernel gives up, or for ever.
const SILENCE: Duration = Duration::from_secs(305);

/// Finds the API server as kubectl does, or as a Pod does.
///
/// # Errors
/// When neither says where it is.
pub async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("no way to an API server")?;
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Client::try_from(config).context("no way to an API server")
}
