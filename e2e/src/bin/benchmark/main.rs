//! Times the registry against its peers: `cargo run --release -p berth-e2e --bin benchmark -- [--quick] [--write] [NAME...]`.
//!
//! It runs what has one of the names in its own, as whole words: `B5`, `"B13 page"`, `S3`. Without names it runs everything, in about three
//! quarters of an hour. `--quick` does as little of each as shows that it works. With `--write` the tables in
//! `docs/performance.md` are replaced by what was measured.
//!
//! Every server runs on core 0 and the load on core 1, in turn: A B C, B C A, … so that a machine whose speed drifts drifts
//! for all of them. What counts is the ratio within a round; the tables give the median round and the spread of all.
//!
//! It installs what it runs: distribution and the S3 servers (pinned Go modules), nginx and wrk (Debian packages).
//!
//! Rooms: `reads`, `pushes`, `scale`, `memory`, `buckets`, `garbage` (what is measured), `workload` (the words in which they say
//! it), `server`, `configuration`, `place`, `filled` (what is compared, how, where, and on what data), `client`, `crowd`,
//! `head`, `wrk` (load), `table`.

use anyhow::{Context as _, Result, ensure};

mod buckets;
mod client;
mod configuration;
mod crowd;
mod filled;
mod garbage;
mod head;
mod memory;
mod place;
mod pushes;
mod reads;
mod scale;
mod server;
mod table;
mod workload;
mod wrk;

use server::Server;
use table::Tables;
use workload::{Effort, Setting};

fn main() -> Result<()> {
    let (options, names): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    let is_set = |option: &str| options.iter().any(|set| set == option);
    ensure!(
        options.iter().all(|option| ["--quick", "--write"].contains(&option.as_str())),
        "there is only --quick and --write"
    );
    ensure!(!(is_set("--quick") && is_set("--write")), "what is measured in a hurry is not to be written down");
    ensure!(!is_set("--write") || names.is_empty(), "--write replaces both tables: measure everything");
    let effort = if is_set("--quick") { Effort::QUICK } else { Effort::FULL };
    // Whole words: B1 is not B10.
    let has = |name: &str, words: &str| format!(" {name} ").contains(&format!(" {words} "));
    let wanted = |name: &str| names.is_empty() || names.iter().any(|words| has(name, words));

    berth_e2e::tool::packages(&["nginx", "wrk", "util-linux"])?;
    pin_to_core_1()?;
    let mut tables = Tables::default();
    let mut failed = 0;
    for mut setting in settings(effort) {
        setting.workloads.retain(|workload| workload.rows.iter().any(|row| wanted(&row.name)));
        if setting.workloads.is_empty() {
            continue;
        }
        // What comes after it takes too long to be lost for it.
        if let Err(error) = run(&setting, effort.rounds, &mut tables) {
            eprintln!("{error:#}");
            failed += 1;
        }
    }
    println!("{}\n{}", tables.ratios(), tables.curves());
    ensure!(failed == 0, "{failed} settings failed, see above");
    if is_set("--write") {
        tables.write("docs/performance.md")?;
    }
    Ok(())
}

fn settings(effort: Effort) -> Vec<Setting> {
    let rooms =
        [reads::settings, pushes::settings, garbage::settings, memory::settings, scale::settings, buckets::settings];
    rooms.iter().flat_map(|settings| settings(effort)).collect()
}

fn run(setting: &Setting, rounds: usize, tables: &mut Tables) -> Result<()> {
    let mut servers = Vec::new();
    for kind in &setting.kinds {
        eprintln!("preparing {}", kind.name());
        servers.push(Server::start(*kind, setting).with_context(|| format!("prepare {}", kind.name()))?);
    }
    for workload in &setting.workloads {
        let Some(first) = workload.rows.first() else { continue };
        eprintln!("{}{}", first.name, first.of.map_or(String::new(), |(count, what)| format!(", {count} {what}")));
        for round in 0..rounds.min(workload.most_rounds) {
            for server in &mut servers {
                if workload.only.is_some_and(|only| only != server.kind()) {
                    continue;
                }
                // What the one before has yet to bring to the disk is not this one's to wait for.
                rustix::fs::sync();
                let cpu = server.cpu_seconds()?;
                let measured = (workload.measure)(server)
                    .with_context(|| format!("measure {}: {}", server.name(), server.log()))?;
                let cpu = (server.cpu_seconds()? - cpu) / measured.work;
                for (row, value) in workload.rows.iter().zip(&measured.values) {
                    eprintln!("  {round} {:<14} {value:>12.2} {}", server.name(), row.unit);
                    tables.add(row, server.kind(), *value, cpu);
                }
            }
            // Nobody is always the first, nor always after the same one.
            servers.rotate_left(1);
        }
    }
    Ok(())
}

/// The servers have core 0 to themselves.
fn pin_to_core_1() -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(1);
    rustix::thread::sched_setaffinity(None, &cores).context("two cores are needed: one for servers, one for the load")
}
