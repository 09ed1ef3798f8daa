//! What is counted. Labels are bounded: a kind, a result, never a name.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The kind of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// As Kubernetes writes it.
    pub kind: String,
}

/// How a reconciliation ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ok` or `error`.
    pub result: &'static str,
}

/// What is counted.
#[derive(Clone)]
pub struct Metrics {
    /// Reconciliations, by how they ended.
    pub reconciliations: Family<Outcome, Counter>,
    /// How long they took, in seconds.
    pub reconcile_seconds: Histogram,
    /// Objects written, by kind.
    pub writes: Family<Kind, Counter>,
    /// Objects that somebody else had changed and that were put right, by kind.
    pub drift_corrections: Family<Kind, Counter>,
    /// Whether this process leads.
    pub leader: Gauge,
    /// How many Registries there are.
    pub registries: Gauge,
    /// How many of them cannot be read.
    pub invalid_registries: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciliations: Family::default(),
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            writes: Family::default(),
            drift_corrections: Family::default(),
            leader: Gauge::default(),
            registries: Gauge::default(),
            invalid_registries: Gauge::default(),
        };
        let berth = registry.sub_registry_with_prefix("berth_operator");
        berth.register("reconciliations", "Reconciliations, by how they ended", metrics.reconciliations.clone());
        berth.register("reconcile_seconds", "How long reconciliations took", metrics.reconcile_seconds.clone());
        berth.register("writes", "Objects written, by kind", metrics.writes.clone());
        berth.register(
            "drift_corrections",
            "Objects that somebody else had changed and that were put right, by kind",
            metrics.drift_corrections.clone(),
        );
        berth.register("leader", "Whether this process leads", metrics.leader.clone());
        berth.register("registries", "How many Registries there are", metrics.registries.clone());
        berth.register("invalid_registries", "How many of them cannot be read", metrics.invalid_registries.clone());
        metrics
    }

    /// An object of this kind was written.
    pub fn wrote(&self, kind: &str) {
        self.writes.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// An object of this kind was put right.
    pub fn corrected(&self, kind: &str) {
        self.drift_corrections.get_or_create(&Kind { kind: kind.into() }).inc();
    }
}
