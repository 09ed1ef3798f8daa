//! `berth-registry`: see the library's documentation.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match berth_registry::cli::run(berth_registry::cli::Cli::parse()).await {
        Ok(code) => code,
        Err(error) => {
            // The log may not be there yet, and whoever started this looks here first.
            eprintln!("berth-registry: {}", berth_registry::cli::explain(&error));
            berth_registry::cli::exit_code(&error)
        }
    }
}
