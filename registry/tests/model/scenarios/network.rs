//! Configurations on a network file system.

use super::{A, COLLECT, M, duplicate_links, index_over_untagged, mount_then_put, old_blob, old_manifest, scenario};
use crate::network::Place;
use crate::rules::{Request, Scenario};

/// A manifest is put over an old blob on a network file system, with a collector.
pub(crate) fn network_put() -> Scenario {
    let put = Request::Put { repo: A, digest: M, tags: &[] };
    Scenario { place: Place::Network, ..scenario("network: put, collector", &old_blob(), &[put, COLLECT]) }
}

/// The same where lookups are cached, too.
pub(crate) fn network_put_with_cached_lookups() -> Scenario {
    Scenario { name: "network, cached lookups: put, collector", place: Place::CachedLookups, ..network_put() }
}

/// A blob is mounted there, and a manifest is put over it.
pub(crate) fn network_mount() -> Scenario {
    Scenario { name: "network: mount, put in the target, collector", place: Place::Network, ..mount_then_put() }
}

/// An index is put there over a manifest that nobody tagged.
pub(crate) fn network_index() -> Scenario {
    let mut scenario = index_over_untagged();
    scenario.requests.pop();
    Scenario { name: "network: index over an untagged child, collector", place: Place::Network, ..scenario }
}

/// A manifest is deleted there that has just been put.
pub(crate) fn network_delete() -> Scenario {
    let requests = [
        Request::Put { repo: A, digest: M, tags: &[] },
        Request::DeleteManifest { repo: A, digest: M },
        Request::Collect { runs: 2 },
    ];
    let scenario = scenario("network: put again, delete, collector twice", &old_manifest(), &requests);
    Scenario { place: Place::Network, answered: &[M], ..scenario }
}

/// Two links of one blob, which a manifest names, and two collectors on a network file system.
pub(crate) fn network_duplicate_links() -> Scenario {
    Scenario { name: "network: duplicate links, two collectors", place: Place::Network, ..duplicate_links() }
}
