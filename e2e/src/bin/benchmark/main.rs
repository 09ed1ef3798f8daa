//! Times the registry against its peers: `cargo run --release -p berth-e2e --bin benchmark [WORKLOAD...]`.
//!
//! Every server runs on core 0 and the load on core 1, in turn: A B C, B C A, … so that a machine whose speed drifts drifts
//! for all of them. What counts is the ratio within a round; the table gives the median round and the spread of all.
//!
//! It installs what it runs: distribution (a pinned Go module), nginx and wrk (Debian packages). With `--write` the table
//! in `docs/performance.md` is replaced by what was measured.

use anyhow::{Context as _, Result};

mod head;
mod push;
mod server;
mod table;
mod workload;

use server::{Kind, Server};
use table::Table;
use workload::WORKLOADS;

const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let write = arguments.iter().any(|argument| argument == "--write");
    let wanted = |name: &str| {
        let mut names = arguments.iter().filter(|argument| !argument.starts_with("--")).peekable();
        names.peek().is_none() || names.any(|wanted| name.contains(wanted.as_str()))
    };
    berth_e2e::tool::packages(&["nginx", "wrk", "util-linux"])?;
    pin_to_core_1()?;
    let mut table = Table::default();
    for workload in WORKLOADS.iter().filter(|workload| wanted(workload.name)) {
        eprintln!("{}", workload.name);
        let mut servers = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| workload.runs_on(*kind)) {
            let server = Server::start(kind, workload.disk)?;
            (workload.prepare)(&server).with_context(|| format!("prepare {} for {}", server.name(), workload.name))?;
            servers.push(server);
        }
        for round in 0..ROUNDS {
            for server in &servers {
                // What the one before has yet to bring to the disk is not this one's to wait for.
                rustix::fs::sync();
                let cpu = server.cpu_seconds()?;
                let measured = (workload.measure)(server).with_context(|| format!("measure {}", server.name()))?;
                let cpu = (server.cpu_seconds()? - cpu) / measured.units;
                eprintln!("  {round} {:<14} {:>12.2} {}", server.name(), measured.value, workload.unit);
                table.add(workload, server.name(), measured.value, cpu);
            }
            // Nobody is always the first, nor always after the same one.
            servers.rotate_left(1);
        }
    }
    println!("{table}");
    if write {
        table.write("docs/performance.md")?;
    }
    Ok(())
}

/// The servers have core 0 to themselves.
fn pin_to_core_1() -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(1);
    rustix::thread::sched_setaffinity(None, &cores).context("two cores are needed: one for servers, one for the load")
}
