//! What is counted. Every label has a handful of values, whatever clients send.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The registry's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<EndpointLabels, Histogram>,
    received: Family<EndpointLabels, Counter>,
    sent: Family<EndpointLabels, Counter>,
    in_progress: Gauge,
    uploads: Gauge,
    certificate: Family<CertificateLabels, Gauge>,
    collections: Family<CollectionLabels, Counter>,
    collected: Family<CollectedLabels, Counter>,
    freed: Counter,
    left_alone: Gauge,
    collecting: Family<CollectingLabels, Gauge>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The endpoint's name.
    pub endpoint: &'static str,
    /// The method.
    pub method: &'static str,
    /// The status; 0 when the client went away before there was one.
    pub code: u16,
    /// From the header's end to the last byte of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
}

/// What a garbage collection deleted.
#[derive(Clone, Copy, Debug)]
pub struct Collection {
    /// Manifests.
    pub manifests: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes of both.
    pub bytes: u64,
    /// Repositories of which it took nothing.
    pub left_alone: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    endpoint: &'static str,
    method: &'static str,
    code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: &'static str,
}

/// The certificate by the configuration key that names its file. Without TLS there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    key: &'static str,
}

/// How a garbage collection ended: `success` or `failure`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectionLabels {
    result: &'static str,
}

/// What was deleted: `manifest` or `blob`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectedLabels {
    kind: &'static str,
}

/// Repositories that the collection under way has looked at (`marked`), or has to (`all`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectingLabels {
    repositories: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("registry");
        let durations = Family::new_with_constructor(histogram as fn() -> Histogram);
        let metrics = Self {
            requests: register(&mut registry, "http_requests", "Requests answered"),
            received: register(&mut registry, "http_received_bytes", "Bytes of request bodies"),
            sent: register(&mut registry, "http_sent_bytes", "Bytes of response bodies"),
            in_progress: register(&mut registry, "http_requests_in_progress", "Requests being answered"),
            uploads: register(&mut registry, "blobs_arriving", "Requests that bring a blob or a chunk of one"),
            certificate: register(
                &mut registry,
                "certificate_not_after_seconds",
                "When the serving certificate ends, in seconds since 1970",
            ),
            collections: register(&mut registry, "collections", "Garbage collections by this replica"),
            collected: register(&mut registry, "collected", "What garbage collections of this replica deleted"),
            freed: register(&mut registry, "collected_bytes", "Bytes that garbage collections of this replica freed"),
            left_alone: register(
                &mut registry,
                "collection_left_alone",
                "Repositories of which the last collection took nothing, because they hold a damaged manifest",
            ),
            collecting: register(
                &mut registry,
                "collection_repositories",
                "Repositories of the garbage collection under way: so many marked, of all; 0 while there is none",
            ),
            durations: durations.clone(),
            registry: Registry::default(),
        };
        registry.register(
            "http_request_duration_seconds",
            "From a request's header to its answer's last byte",
            durations,
        );
        registry.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        metrics.collection_goes_on(0, 0);
        Self { registry, ..metrics }
    }
}

fn histogram() -> Histogram {
    // From 1 ms to about 4 minutes.
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

fn register<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// A request has come.
    pub fn request_begins(&self) {
        self.in_progress.inc();
    }

    /// A request has been answered.
    pub fn request_ends(&self, outcome: &Outcome) {
        let Outcome { endpoint, method, code, duration, received, sent } = *outcome;
        self.in_progress.dec();
        self.requests.get_or_create(&RequestLabels { endpoint, method, code: code.into() }).inc();
        let labels = EndpointLabels { endpoint };
        self.durations.get_or_create(&labels).observe(duration.as_secs_f64());
        self.received.get_or_create(&labels).inc_by(received);
        self.sent.get_or_create(&labels).inc_by(sent);
    }

    /// A blob or a chunk of one begins to arrive; it has when what this returns is dropped.
    pub fn upload_begins(&self) -> Arriving {
        self.uploads.inc();
        Arriving(self.uploads.clone())
    }

    /// A garbage collection under way has looked at so many repositories of so many; of 0 when it is over.
    pub fn collection_goes_on(&self, marked: usize, all: usize) {
        for (repositories, number) in [("marked", marked), ("all", all)] {
            self.collecting
                .get_or_create(&CollectingLabels { repositories })
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// A garbage collection has ended. `None`: it failed.
    pub fn collection_ends(&self, collected: Option<Collection>) {
        let result = if collected.is_some() { "success" } else { "failure" };
        self.collections.get_or_create(&CollectionLabels { result }).inc();
        let Some(collected) = collected else { return };
        self.collected.get_or_create(&CollectedLabels { kind: "manifest" }).inc_by(collected.manifests);
        self.collected.get_or_create(&CollectedLabels { kind: "blob" }).inc_by(collected.blobs);
        self.freed.inc_by(collected.bytes);
        self.left_alone.set(collected.left_alone);
    }

    /// All of it in the OpenMetrics text format.
    pub fn encode(&self, certificate_not_after: Option<i64>) -> String {
        if let Some(not_after) = certificate_not_after {
            self.certificate.get_or_create(&CertificateLabels { key: "http.tls.certificate" }).set(not_after);
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// A blob that is arriving.
#[derive(Debug)]
pub struct Arriving(Gauge);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.dec();
    }
}
