//! What the operator's objects ask of this node, with everything refused that they may not ask. Pure.
//!
//! The operator checked the same before it wrote them. The agent checks again because it is the one with root's hands: a
//! directory for `docker.io` decides what every pod of the node runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::effective_config::Why;
use super::host_name::HostName;
use super::hosts_toml::Endpoint;
use crate::node_entry::{
    AUTHORIZATION_KEY, ENTRY_KEY, HOST_GRANTS_KEY, HOST_GRANTS_NAME, HostGrants, NodeEntry, entry_name, own_hosts,
};

/// What every Registry asks, by its uid.
pub(super) type Wanted = BTreeMap<String, Wish>;

/// What one Registry asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To be known on the node.
    Known(Box<Known>),
    /// Something that cannot be understood: what the node has of it stays as it is.
    Malformed(String),
}

/// A Registry that the node is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What its files say.
    pub(super) endpoint: Endpoint,
    /// The names of its Service. Without them the node cannot be trusted to pull.
    pub(super) own: Vec<HostName>,
    /// Further hosts that an administrator granted to it.
    pub(super) granted: Vec<HostName>,
    /// Why it does not get other hosts that it asked for.
    pub(super) refused: Vec<Why>,
}

/// The objects of the agent's namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    pub(super) entries: Vec<Arc<ConfigMap>>,
    pub(super) secrets: Vec<Arc<Secret>>,
    pub(super) grants: Vec<Arc<ConfigMap>>,
}

/// What `objects` ask of a node of the cluster with this domain.
pub(super) fn wanted(objects: &Objects, cluster_domain: &str) -> Wanted {
    let grants = grants(objects);
    let mut wanted = Wanted::new();
    let mut entries = Vec::new();
    for config_map in &objects.entries {
        match parse(config_map, &objects.secrets) {
            Ok((entry, endpoint)) => entries.push((config_map.creation_timestamp(), entry, endpoint)),
            Err((uid, message)) => {
                wanted.insert(uid, Wish::Malformed(message));
            }
        }
    }
    // The oldest first: it keeps a granted host that a later one asks for too. The uid decides among equals.
    entries.sort_by(|(a_time, a, _), (b_time, b, _)| (a_time, &a.registry.uid).cmp(&(b_time, &b.registry.uid)));
    drop_superseded(&mut entries);
    // Nobody gets another one's own names, whatever was granted: both would write the same files.
    let own = |(_, entry, endpoint): &(_, NodeEntry, Endpoint)| {
        let hosts = own_hosts(&entry.registry.namespace, &entry.registry.name, cluster_domain);
        let owner = endpoint.registry.clone();
        hosts.into_iter().filter_map(move |host| Some((host.parse().ok()?, owner.clone()))).collect::<Vec<_>>()
    };
    let mut taken: BTreeMap<HostName, String> = entries.iter().flat_map(own).collect();
    for (_, entry, endpoint) in entries {
        let known = share_out(&entry, endpoint, &grants, cluster_domain, &mut taken);
        wanted.insert(entry.registry.uid, Wish::Known(Box::new(known)));
    }
    wanted
}

/// A Registry made again under its old name: only the newest entry of a name speaks for it.
fn drop_superseded<T>(entries: &mut Vec<(T, NodeEntry, Endpoint)>) {
    let newest: BTreeMap<_, _> = entries
        .iter()
        .map(|(_, entry, _)| {
            ((entry.registry.namespace.clone(), entry.registry.name.clone()), entry.registry.uid.clone())
        })
        .collect();
    entries.retain(|(_, entry, _)| {
        let name = (entry.registry.namespace.clone(), entry.registry.name.clone());
        newest.get(&name) == Some(&entry.registry.uid)
    });
}

fn share_out(
    entry: &NodeEntry,
    endpoint: Endpoint,
    grants: &HostGrants,
    cluster_domain: &str,
    taken: &mut BTreeMap<HostName, String>,
) -> Known {
    let registry = &entry.registry;
    let mut known = Known { endpoint, own: Vec::new(), granted: Vec::new(), refused: Vec::new() };
    let own = own_hosts(&registry.namespace, &registry.name, cluster_domain);
    for host in &own {
        match host.parse() {
            Ok(host) => known.own.push(host),
            Err(error) => known.refused.push(Why::new("HostNameInvalid", format!("{host}: {error}"))),
        }
    }
    for host in entry.hosts.iter().filter(|host| !own.contains(host)) {
        let Ok(name) = host.parse::<HostName>() else {
            known.refused.push(Why::new("HostNameInvalid", format!("{host:?} is not the name of a host")));
            continue;
        };
        if !grants.permit(host, registry, cluster_domain) {
            known
                .refused
                .push(Why::new("HostNotGranted", format!("{host} is not among the administrator's hostGrants")));
            continue;
        }
        let owner = taken.entry(name.clone()).or_insert_with(|| known.endpoint.registry.clone());
        if *owner == known.endpoint.registry {
            known.granted.push(name);
        } else {
            known.refused.push(Why::new("HostConflict", format!("{host} is answered by the Registry {owner}")));
        }
    }
    known
}

fn grants(objects: &Objects) -> HostGrants {
    let named = objects.grants.iter().find(|config_map| config_map.name_any() == HOST_GRANTS_NAME);
    let Some(yaml) = named.and_then(|config_map| config_map.data.as_ref()?.get(HOST_GRANTS_KEY)) else {
        return HostGrants::default();
    };
    serde_yaml::from_str(yaml).unwrap_or_else(|error| {
        tracing::warn!(%error, "the host grants cannot be read; no host beyond the Registries' own is written");
        HostGrants::default()
    })
}

/// The entry and what it says, or the uid of the Registry and what is wrong.
fn parse(config_map: &ConfigMap, secrets: &[Arc<Secret>]) -> Result<(NodeEntry, Endpoint), (String, String)> {
    let name = config_map.name_any();
    let uid = name.strip_prefix(&entry_name("")).unwrap_or(&name).to_owned();
    let malformed = |message: String| (uid.clone(), message);
    let json = config_map.data.as_ref().and_then(|data| data.get(ENTRY_KEY));
    let json = json.ok_or_else(|| malformed(format!("the ConfigMap {name} has no {ENTRY_KEY}")))?;
    let entry: NodeEntry = serde_json::from_str(json).map_err(|error| malformed(error.to_string()))?;
    if entry_name(&entry.registry.uid) != name {
        return Err(malformed(format!("the ConfigMap {name} speaks of another Registry")));
    }
    let secret = secrets.iter().find(|secret| secret.name_any() == name);
    let authorization = secret.and_then(|secret| secret.data.as_ref()?.get(AUTHORIZATION_KEY));
    let endpoint = endpoint(&entry, authorization.map(|bytes| bytes.0.as_slice())).map_err(malformed)?;
    Ok((entry, endpoint))
}

fn endpoint(entry: &NodeEntry, authorization: Option<&[u8]>) -> Result<Endpoint, String> {
    let registry = &entry.registry;
    // Both are DNS names; a line break in one would write into the files.
    if [&registry.namespace, &registry.name].into_iter().any(|name| name.parse::<HostName>().is_err()) {
        return Err("the Registry's name or namespace is not a name".into());
    }
    let addresses: Result<Vec<_>, _> = entry.addresses.iter().map(|address| address.parse()).collect();
    let addresses = addresses.map_err(|_| format!("not all of {:?} are IP addresses", entry.addresses))?;
    if addresses.is_empty() || entry.port == 0 {
        return Err("it has no address or no port".into());
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(entry.ca_bundle.as_bytes()).collect();
    if !certificates.is_ok_and(|certificates| !certificates.is_empty()) {
        return Err("its CA bundle is not a list of PEM certificates".into());
    }
    let authorization = authorization.map(printable).transpose()?;
    Ok(Endpoint {
        registry: format!("{}/{}", registry.namespace, registry.name),
        addresses,
        port: entry.port,
        ca_bundle: entry.ca_bundle.clone(),
        authorization,
    })
}

/// What may stand in a header and in a TOML string.
fn printable(value: &[u8]) -> Result<String, String> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) => Ok(text.to_owned()),
        _ => Err("its credential is not the value of a header".into()),
    }
}

#[cfg(test)]
mod tests;
