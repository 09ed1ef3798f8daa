//! Before the agent's first start on a node, and after its last.
//!
//! Both need what the agent itself is not given: the directory around `certs.d`, writable. [`prepare`] makes the directories
//! that will be mounted where a node does not have them, marked; [`cleanup`] takes everything marked away.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::containerd_config::DEFAULT_LIST;
use super::directory::Directory;
use super::host_dir;
use super::host_path::HostPath;
use super::root_dir;

/// Makes `directories`, as the node names them, below `parent`.
pub(super) fn prepare(parent: &HostPath, directories: &[HostPath]) -> anyhow::Result<()> {
    for directory in directories {
        let names = names(parent, &directory.host)?;
        let base = Directory::open(&parent.seen_at).with_context(|| format!("open {}", parent.seen_at.display()))?;
        root_dir::ensure(base, &names).with_context(|| format!("make {}", directory.host))?;
        tracing::info!(directory = directory.host, "there");
    }
    Ok(())
}

/// Removes every directory of ours, and the directories that were made for them.
pub(super) fn cleanup(parent: &HostPath, directories: &[HostPath]) -> anyhow::Result<()> {
    let mut roots = BTreeSet::new();
    for directory in directories {
        let names = names(parent, &directory.host)?;
        roots.insert(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    }
    roots.extend(parent.names_to(DEFAULT_LIST).map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>()));
    roots.extend(root_dir::made(&parent.seen_at)?.into_iter().filter(|names| !names.is_empty()));
    // The innermost first, so that one that becomes empty can go before the one around it.
    for names in roots.into_iter().rev() {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        clear(parent, &names).with_context(|| format!("clear {}/{}", parent.host, names.join("/")))?;
    }
    Ok(())
}

fn clear(parent: &HostPath, names: &[&str]) -> std::io::Result<()> {
    let Some(root) = root_dir::open(Directory::open(&parent.seen_at)?, names)? else { return Ok(()) };
    for (name, _) in host_dir::ours(&root)? {
        host_dir::remove(&root, &name)?;
        tracing::info!(root = names.join("/"), name, "removed");
    }
    host_dir::clear_staged(&root)?;
    let base = Directory::open(&parent.seen_at)?;
    host_dir::clear_staged(&base)?;
    root_dir::prune(&base, names)
}

fn names<'a>(parent: &HostPath, directory: &'a str) -> anyhow::Result<Vec<&'a str>> {
    parent.names_to(directory).with_context(|| format!("{directory} does not lie in {}", parent.host))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::node_agent::host_name::HostName;
    use crate::node_agent::hosts_toml::Endpoint;

    fn directories() -> Vec<HostPath> {
        ["/etc/containerd/certs.d", "/etc/containerd/certs.d:"].map(|path| path.parse().unwrap()).into()
    }

    fn write(parent: &HostPath, names: &[&str]) {
        let endpoint = Endpoint {
            registry: "a/b".into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            port: 443,
            ca_bundle: "CA".into(),
            authorization: None,
        };
        let root = root_dir::ensure(Directory::open(&parent.seen_at).unwrap(), names).unwrap();
        for spelling in "b.a.svc".parse::<HostName>().unwrap().directories(443) {
            host_dir::write(&root, "/r", &spelling, "u", &endpoint).unwrap();
        }
    }

    #[test]
    fn a_node_without_certs_d_gets_it_and_loses_it() {
        let place = tempfile::tempdir().unwrap();
        let parent = HostPath { host: "/etc/containerd".into(), seen_at: place.path().into() };
        prepare(&parent, &directories()).unwrap();
        prepare(&parent, &directories()).unwrap();
        assert!(place.path().join("certs.d").is_dir() && place.path().join("certs.d:").is_dir());
        write(&parent, &["certs.d"]);
        write(&parent, &["certs.d:", "etc", "docker", "certs.d"]);
        cleanup(&parent, &directories()).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        cleanup(&parent, &directories()).unwrap();
    }

    #[test]
    fn what_the_node_had_stays() {
        let place = tempfile::tempdir().unwrap();
        let parent = HostPath { host: "/etc/containerd".into(), seen_at: place.path().into() };
        fs::create_dir_all(place.path().join("certs.d:/etc/docker/certs.d/docker.io")).unwrap();
        fs::create_dir(place.path().join("certs.d")).unwrap();
        fs::write(place.path().join("config.toml"), "version = 3").unwrap();
        prepare(&parent, &directories()).unwrap();
        write(&parent, &["certs.d"]);
        write(&parent, &["certs.d:", "etc", "docker", "certs.d"]);
        cleanup(&parent, &directories()).unwrap();
        assert_eq!(fs::read_dir(place.path().join("certs.d")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(place.path().join("certs.d:/etc/docker/certs.d")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3);
    }
}
