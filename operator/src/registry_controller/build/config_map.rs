//! The configuration file of the registry.

use std::collections::BTreeMap;

use berth_contract::config::{
    Addr, Auth, Config, Debug, Delete, Filesystem, Htpasswd, Http, KeyPair, Log, LogFormatter, Maintenance, MinimumTls,
    Nodes, ReadOnly, Storage, Tls, Version,
};
use k8s_openapi::api::core::v1::ConfigMap;

use super::{API_PORT, DATA, HEALTH_PORT, SECRETS, USER_TLS, USERS, bucket};
use crate::keyring::files::{CERTIFICATE, HTPASSWD, HTTP_SECRET, KEY, NODES};
use crate::registry_controller::validate::ValidatedRegistry;

/// The key of the file.
pub const FILE: &str = "config.yml";

/// The ConfigMap.
pub fn build(registry: &ValidatedRegistry) -> ConfigMap {
    ConfigMap {
        metadata: registry.owner.owned(registry.owner.config_name()),
        data: Some(BTreeMap::from([(FILE.into(), yaml(registry))])),
        ..Default::default()
    }
}

/// The file's text. Its types have no map with keys that are not text, so they always serialise.
fn yaml(registry: &ValidatedRegistry) -> String {
    serde_yaml::to_string(&config(registry)).unwrap_or_default()
}

fn config(registry: &ValidatedRegistry) -> Config {
    let htpasswd = if registry.htpasswd.is_some() { USERS } else { SECRETS };
    let mut config = Config {
        version: Version::default(),
        log: Log { level: registry.log_level, formatter: LogFormatter::Json },
        storage: Storage {
            filesystem: registry
                .bucket()
                .is_none()
                .then(|| Filesystem { rootdirectory: DATA.into(), shared: registry.replicas > 1 }),
            delete: Delete { enabled: true },
            maintenance: Maintenance {
                readonly: ReadOnly { enabled: registry.read_only },
                garbagecollection: registry.garbage_collection.clone(),
                ..Default::default()
            },
            ..Default::default()
        },
        auth: Some(Auth {
            htpasswd: Some(Htpasswd {
                realm: registry.owner.name.clone(),
                path: format!("{htpasswd}/{HTPASSWD}").into(),
            }),
            nodes: registry.nodes_pull.then(|| Nodes { path: format!("{SECRETS}/{NODES}").into() }),
        }),
        http: Http {
            addr: Addr(format!(":{API_PORT}")),
            secretfile: Some(format!("{SECRETS}/{HTTP_SECRET}").into()),
            draintimeout: Some(berth_contract::Duration::from_secs(registry.drain_timeout.as_secs())),
            tls: Some(Tls {
                certificate: format!("{SECRETS}/{CERTIFICATE}").into(),
                key: format!("{SECRETS}/{KEY}").into(),
                minimumtls: MinimumTls::default(),
                additional: registry.tls_secret.iter().map(|_| user_certificate()).collect(),
            }),
            debug: Debug { addr: Addr(format!(":{HEALTH_PORT}")) },
            ..Default::default()
        },
    };
    if let Some(bucket) = registry.bucket() {
        bucket::configure(&mut config.storage, bucket);
    }
    config
}

/// The user's certificate answers the names that it holds; ours answers all others.
fn user_certificate() -> KeyPair {
    KeyPair { certificate: format!("{USER_TLS}/{CERTIFICATE}").into(), key: format!("{USER_TLS}/{KEY}").into() }
}
