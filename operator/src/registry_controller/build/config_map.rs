//! The configuration file of the registry.

use std::collections::BTreeMap;

use berth_contract::config::{
    Addr, Auth, Config, Debug, Delete, Filesystem, Htpasswd, Http, Log, LogFormatter, Maintenance, MinimumTls, Nodes,
    ReadOnly, Storage, Tls, Version,
};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_yaml::Value;

use super::{API_PORT, DATA, HEALTH_PORT, SECRETS, USER_TLS, USERS};
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
    let mut value = serde_yaml::to_value(config(registry)).unwrap_or_default();
    if registry.tls_secret.is_some() {
        add_user_certificate(&mut value);
    }
    serde_yaml::to_string(&value).unwrap_or_default()
}

fn config(registry: &ValidatedRegistry) -> Config {
    let htpasswd = if registry.htpasswd.is_some() { USERS } else { SECRETS };
    Config {
        version: Version::default(),
        log: Log { level: registry.log_level, formatter: LogFormatter::Json },
        storage: Storage {
            filesystem: Some(Filesystem { rootdirectory: DATA.into() }),
            delete: Delete { enabled: true },
            maintenance: Maintenance { readonly: ReadOnly { enabled: registry.read_only }, ..Default::default() },
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
            }),
            debug: Debug { addr: Addr(format!(":{HEALTH_PORT}")) },
            ..Default::default()
        },
    }
}

/// `http.tls.additional`: certificates that answer the names they hold, by SNI, beside the one that answers all others.
fn add_user_certificate(config: &mut Value) {
    let pair =
        BTreeMap::from([("certificate", format!("{USER_TLS}/{CERTIFICATE}")), ("key", format!("{USER_TLS}/{KEY}"))]);
    if let (Some(Value::Mapping(tls)), Ok(pair)) =
        (config.get_mut("http").and_then(|http| http.get_mut("tls")), serde_yaml::to_value(pair))
    {
        tls.insert("additional".into(), Value::Sequence(vec![pair]));
    }
}
