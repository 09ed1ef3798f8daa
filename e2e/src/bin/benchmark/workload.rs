//! What is measured, in what state of a store: the words in which the rooms say it.

use std::time::Duration;

use anyhow::Result;

use crate::filled::Shelf;
use crate::place::Place;
use crate::server::{Kind, Server};

/// The shortest age at which garbage goes that leaves requests under load their time, which is half of it.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Writes into a store that no server has begun to serve.
type Fill = dyn Fn(&Shelf) -> Result<()>;
/// Asks a server that runs.
type Prepare = dyn Fn(&Server) -> Result<()>;
/// Measures something on a server.
type Measure = dyn Fn(&mut Server) -> Result<Measured>;

/// Servers that hold the same, and what is measured on them in turn.
pub(crate) struct Setting {
    pub(crate) place: Place,
    pub(crate) tls: bool,
    /// How old must be what Berth's collector takes.
    pub(crate) grace: Duration,
    pub(crate) kinds: Vec<Kind>,
    /// Writes what is there before the server starts.
    pub(crate) fill: Box<Fill>,
    /// Brings what is there before anything is measured.
    pub(crate) prepare: Box<Prepare>,
    pub(crate) workloads: Vec<Workload>,
}

impl Setting {
    pub(crate) fn on(place: Place, kinds: &[Kind], workloads: Vec<Workload>) -> Self {
        Self {
            place,
            tls: false,
            grace: Duration::from_hours(24),
            kinds: kinds.to_vec(),
            fill: Box::new(|_| Ok(())),
            prepare: Box::new(|_| Ok(())),
            workloads,
        }
    }

    pub(crate) fn with_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Garbage is to be collected.
    pub(crate) fn with_garbage(self) -> Self {
        Self { grace: GRACE, ..self }
    }

    pub(crate) fn filled(self, fill: impl Fn(&Shelf) -> Result<()> + 'static) -> Self {
        Self { fill: Box::new(fill), ..self }
    }

    pub(crate) fn prepared(self, prepare: impl Fn(&Server) -> Result<()> + 'static) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }
}

/// One measurement, which may tell several numbers.
pub(crate) struct Workload {
    pub(crate) rows: Vec<Row>,
    /// Of a setting's servers.
    pub(crate) only: Option<Kind>,
    /// Fewer than others get where it takes long, and one where it changes what is there.
    pub(crate) most_rounds: usize,
    pub(crate) measure: Box<Measure>,
}

impl Workload {
    pub(crate) fn new(rows: Vec<Row>, measure: impl Fn(&mut Server) -> Result<Measured> + 'static) -> Self {
        Self { rows, only: None, most_rounds: usize::MAX, measure: Box::new(measure) }
    }

    pub(crate) fn only(self, kind: Kind) -> Self {
        Self { only: Some(kind), ..self }
    }

    pub(crate) fn rounds(self, most_rounds: usize) -> Self {
        Self { most_rounds, ..self }
    }
}

/// A line of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) more_is_better: bool,
    /// What the processor's time is divided by, where it is told.
    pub(crate) cpu_unit: &'static str,
    /// Where the number is one of a curve: how many there were, and of what.
    pub(crate) of: Option<(usize, &'static str)>,
}

impl Row {
    pub(crate) fn more(name: &str, unit: &'static str) -> Self {
        Self { name: name.into(), unit, more_is_better: true, cpu_unit: "", of: None }
    }

    pub(crate) fn less(name: &str, unit: &'static str) -> Self {
        Self { more_is_better: false, ..Self::more(name, unit) }
    }

    pub(crate) fn per(self, cpu_unit: &'static str) -> Self {
        Self { cpu_unit, ..self }
    }

    pub(crate) fn with(self, count: usize, what: &'static str) -> Self {
        Self { of: Some((count, what)), ..self }
    }
}

/// What came of one measurement.
pub(crate) struct Measured {
    /// A number for each row, or for the first ones where a server has no others.
    pub(crate) values: Vec<f64>,
    /// How much work was done, in the first row's unit of the processor's time.
    pub(crate) work: f64,
}

impl Measured {
    pub(crate) fn of(value: f64, work: f64) -> Self {
        Self { values: vec![value], work }
    }

    /// Numbers for which the processor's time is not told.
    pub(crate) fn values(values: &[f64]) -> Self {
        Self { values: values.to_vec(), work: f64::NAN }
    }
}

/// How much is done for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// How long a load lasts that could last for ever.
    pub(crate) length: Duration,
    /// Whether it is only to be seen that everything works: small sets, few clients.
    pub(crate) quick: bool,
}

impl Effort {
    pub(crate) const FULL: Self = Self { rounds: 5, length: Duration::from_secs(5), quick: false };
    pub(crate) const QUICK: Self = Self { rounds: 1, length: Duration::from_secs(3), quick: true };

    /// `full`, or `quick` where that will do.
    pub(crate) const fn pick(self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// The powers of ten from a thousand to `most`.
    pub(crate) fn sizes(self, most: usize) -> impl Iterator<Item = usize> {
        let most = self.pick(most, 1000);
        [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(move |size| *size <= most)
    }
}
