//! Many clients at the same time, each of which does one thing after the other.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;

use crate::client::Client;

pub(crate) struct Crowd {
    clients: usize,
    patient: bool,
}

/// What they did.
pub(crate) struct Outcome {
    /// How long each took, the shortest first.
    times: Vec<Duration>,
    elapsed: Duration,
    /// How often patient clients were told to come back later.
    pub(crate) refused: usize,
}

impl Crowd {
    pub(crate) const fn of(clients: usize) -> Self {
        Self { clients, patient: false }
    }

    /// Who is told that the server is too busy asks again. Otherwise that is an error.
    pub(crate) const fn patient(self) -> Self {
        Self { patient: true, ..self }
    }

    /// Each does `work` again and again, as long as the number of the next turn is one to `go_on` with.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        go_on: impl Fn(usize) -> bool,
        work: &impl AsyncFn(&mut Client, usize) -> Result<()>,
    ) -> Result<Outcome> {
        let next = Cell::new(0);
        let one = async |mut client: Client| {
            let mut times = Vec::new();
            while go_on(next.get()) {
                let turn = next.replace(next.get() + 1);
                let begun = Instant::now();
                work(&mut client, turn).await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok((times, client.refused))
        };
        block_on(async {
            let mut clients = Vec::new();
            for number in 0..self.clients {
                let mut client = Client::open(number, address).await?;
                client.patient = self.patient;
                clients.push(client);
            }
            let begun = Instant::now();
            let done = try_join_all(clients.into_iter().map(one)).await?;
            let elapsed = begun.elapsed();
            let refused = done.iter().map(|(_, refused)| refused).sum();
            let mut times: Vec<Duration> = done.into_iter().flat_map(|(times, _)| times).collect();
            ensure!(!times.is_empty(), "nothing was done");
            times.sort_unstable();
            Ok(Outcome { times, elapsed, refused })
        })
    }

    /// The same, `count` times in all.
    pub(crate) fn times(
        &self,
        address: SocketAddr,
        count: usize,
        work: &impl AsyncFn(&mut Client, usize) -> Result<()>,
    ) -> Result<Outcome> {
        self.run(address, |turn| turn < count, work)
    }

    /// The same, for so long.
    pub(crate) fn lasting(
        &self,
        address: SocketAddr,
        length: Duration,
        work: &impl AsyncFn(&mut Client, usize) -> Result<()>,
    ) -> Result<Outcome> {
        let begun = Instant::now();
        self.run(address, |_| begun.elapsed() < length, work)
    }
}

impl Outcome {
    pub(crate) fn done(&self) -> f64 {
        self.times.len() as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.done() / self.elapsed.as_secs_f64()
    }

    /// The time that so many of a hundred took at most, in milliseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.times.len() * percent / 100).min(self.times.len() - 1);
        self.times[at].as_secs_f64() * 1000.0
    }
}

/// One thread, as the load has one core.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
