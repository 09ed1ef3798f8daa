//! Makes the disk be what was asked for: every wanted host in every directory that the runtime looks in, and nothing of ours
//! elsewhere.
//!
//! It knows what is mounted where and in which order things happen; single directories are [`host_dir`]'s and
//! [`root_dir`]'s. It never fails as a whole: what cannot be done for one Registry is noted for that one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::directory::Directory;
use super::effective_config::Why;
use super::host_dir::{self, Outcome};
use super::host_name::HostName;
use super::host_path::HostPath;
use super::root_dir;
use super::wanted::{Known, Wanted, Wish};

/// What went wrong, by the uid of the Registry. Those that are not in it have everything they may have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// With the names of its own Service: pods cannot count on pulling.
    pub(super) own: BTreeMap<String, Why>,
    /// With hosts that were granted to it.
    pub(super) granted: BTreeMap<String, Why>,
}

/// A directory that holds directories of hosts, `certs.d`.
struct Root<'a> {
    mount: &'a HostPath,
    names: Vec<String>,
}

impl Root<'_> {
    fn path(&self) -> String {
        std::iter::once(self.mount.host.as_str())
            .chain(self.names.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join("/")
    }

    fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    fn base(&self) -> io::Result<Directory> {
        Directory::open(&self.mount.seen_at)
    }
}

/// Whether every one of these directories of the node may be written to.
pub(super) fn check(mounts: &[HostPath], directories: &[String]) -> Result<(), Why> {
    match directories.iter().find(|directory| find(mounts, directory).is_none()) {
        None => Ok(()),
        Some(directory) => Err(Why::new(
            "ConfigPathNotWritable",
            format!(
                "containerd reads {directory}, which the agent may not write to: set nodeAgent.hostCertsDir of the chart"
            ),
        )),
    }
}

/// Writes every wanted host below each of `directories`, and removes what is not wanted.
///
/// With `keep`, nothing of a Registry that still exists is removed: for when it is not known where the runtime looks.
pub(super) fn place(mounts: &[HostPath], directories: &BTreeSet<String>, wanted: &Wanted, keep: bool) -> Trouble {
    let mut trouble = Trouble::default();
    let mut placed = BTreeSet::new();
    for root in directories.iter().filter_map(|directory| find(mounts, directory)) {
        for (uid, wish) in wanted {
            if let Wish::Known(known) = wish {
                place_one(&root, uid, known, &mut placed, &mut trouble);
            }
        }
    }
    let may_go = |path: &str, uid: &str| match wanted.get(uid) {
        None => true,
        Some(Wish::Malformed(_)) => false,
        Some(Wish::Known(_)) => !keep && !placed.contains(path),
    };
    for mount in mounts {
        if let Err(error) = remove_unwanted(mount, directories, &may_go) {
            tracing::warn!(directory = mount.host, %error, "what is no longer wanted could not be removed");
        }
    }
    trouble
}

fn find<'a>(mounts: &'a [HostPath], directory: &str) -> Option<Root<'a>> {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    mounts.iter().find_map(|mount| Some(Root { mount, names: owned(mount.names_to(directory)?) }))
}

fn place_one(root: &Root<'_>, uid: &str, known: &Known, placed: &mut BTreeSet<String>, trouble: &mut Trouble) {
    for (hosts, troubles) in [(&known.own, &mut trouble.own), (&known.granted, &mut trouble.granted)] {
        for host in hosts {
            if let Err(why) = place_host(root, uid, known, host, placed) {
                tracing::warn!(registry = known.endpoint.registry, %host, reason = why.reason, "{}", why.message);
                troubles.entry(uid.to_owned()).or_insert(why);
            }
        }
    }
}

fn place_host(
    root: &Root<'_>,
    uid: &str,
    known: &Known,
    host: &HostName,
    placed: &mut BTreeSet<String>,
) -> Result<(), Why> {
    let root_path = root.path();
    let failed = |error: io::Error| Why::new("WriteFailed", format!("{root_path}: {error}"));
    let directory = root.base().and_then(|base| root_dir::ensure(base, &root.names())).map_err(failed)?;
    for spelling in host.directories(known.endpoint.port) {
        let path = format!("{root_path}/{}", spelling.directory);
        // Also when writing fails: what was there before is better than nothing.
        placed.insert(path.clone());
        match host_dir::write(&directory, &root_path, &spelling, uid, &known.endpoint).map_err(failed)? {
            Outcome::Unchanged => {}
            Outcome::Written => tracing::info!(registry = known.endpoint.registry, path, "written"),
            Outcome::NotOurs => {
                return Err(Why::new("HostDirectoryNotOurs", format!("{path} is not the agent's, and was left alone")));
            }
        }
    }
    Ok(())
}

/// Removes the agent's directories that may go, below every root of a mount: those in use, and those that an earlier run made.
fn remove_unwanted(
    mount: &HostPath,
    directories: &BTreeSet<String>,
    may_go: &dyn Fn(&str, &str) -> bool,
) -> io::Result<()> {
    let in_use = directories.iter().filter_map(|directory| find(std::slice::from_ref(mount), directory));
    let roots: BTreeSet<Vec<String>> = in_use.map(|root| root.names).chain(root_dir::made(&mount.seen_at)?).collect();
    // The innermost first, so that a root that becomes empty can go before the one around it is looked at.
    for names in roots.into_iter().rev() {
        let root = Root { mount, names };
        let Some(directory) = root_dir::open(root.base()?, &root.names())? else { continue };
        for (name, uid) in host_dir::ours(&directory)? {
            let path = format!("{}/{name}", root.path());
            if may_go(&path, &uid) {
                host_dir::remove(&directory, &name)?;
                tracing::info!(path, "removed");
            }
        }
        root_dir::prune(&root.base()?, &root.names())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
