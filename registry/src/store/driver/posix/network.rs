//! Directories that several machines mount from one server, and what the kernel says of how: nfs(5), mountinfo in proc(5).

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs_core::FromBufRead;
use procfs_core::process::{MountInfo, MountInfos};
use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::found;

/// A network file system, as it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// How long a list may miss what another machine has written, or show what it has removed.
    pub(super) staleness: Duration,
    /// Why only one process may use it.
    pub(super) unshareable: Option<String>,
}

/// What nfs(5) takes when it is not told: `acdirmax` and `actimeo` are absent then.
const ACDIRMAX: Duration = Duration::from_mins(1);

impl Network {
    /// The one that a directory is on. `None`: it is on none. Where that cannot be found out, the worst is assumed.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let mounts = || {
            let mounts = File::open("/proc/self/mountinfo").map_err(|error| error.to_string())?;
            MountInfos::from_buf_read(BufReader::new(mounts)).map_err(|error| error.to_string())
        };
        match (mounts(), directory.canonicalize()) {
            (Ok(mounts), Ok(directory)) => Self::among(mounts, &directory),
            (mounts, _) => {
                let why = mounts.err().unwrap_or_else(|| "its path cannot be followed".into());
                tracing::warn!(
                    why,
                    "what the directory is mounted from cannot be found out: it is taken for a network file system"
                );
                Some(Self { staleness: ACDIRMAX, unshareable: Some(format!("its mount cannot be found out: {why}")) })
            }
        }
    }

    fn among(mounts: MountInfos, directory: &Path) -> Option<Self> {
        let place = |mount: &MountInfo| PathBuf::from(unescaped(&mount.mount_point.to_string_lossy()));
        let around = mounts.into_iter().filter(|mount| directory.starts_with(place(mount)));
        // Of several on one place the last hides the others.
        let mount = around.max_by_key(|mount| place(mount).components().count())?;
        mount.fs_type.starts_with("nfs").then(|| Self::mounted(&mount))
    }

    fn mounted(mount: &MountInfo) -> Self {
        let option = |name: &str| mount.super_options.get(name).map(|value| value.as_deref().unwrap_or_default());
        let seconds = option("acdirmax").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let staleness = if option("noac").is_some() { Duration::ZERO } else { seconds.unwrap_or(ACDIRMAX) };
        let version = option("vers").unwrap_or_default();
        let locks_are_seen =
            option("nolock").is_none() && matches!(option("local_lock"), None | Some("none" | "posix"));
        let why = if !matches!(version.split_once('.'), Some(("4", minor)) if minor != "0") {
            Some(format!("is NFS {version}; mount it with nfsvers=4.1 or later"))
        } else if !matches!(option("lookupcache"), Some("none" | "pos" | "positive")) && option("noac").is_none() {
            Some("remembers which names were absent (lookupcache=all); mount it with lookupcache=positive".to_owned())
        } else if !locks_are_seen {
            Some("keeps flock(2) to itself; mount it with local_lock=none".to_owned())
        } else {
            None
        };
        let source = mount.mount_source.as_deref().unwrap_or("its server");
        let unshareable = why.map(|why| format!("the mount of {source} {why}"));
        Self { staleness, unshareable }
    }

    /// Has the server asked what is in a directory now. What this machine remembers of it is good only if nothing has changed.
    pub(super) fn ask_server(directory: &Path) -> io::Result<()> {
        let asked = rustix::fs::statx(CWD, directory, AtFlags::STATX_FORCE_SYNC, StatxFlags::MTIME);
        found(asked.map_err(io::Error::from)).map(drop)
    }
}

/// A path, in which the kernel writes what would end it or its line in octal.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Why a directory must not be used by several processes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "several registries are to write to {}, and what one writes another may not find: {why}. In Kubernetes these are the \
     mountOptions of the StorageClass or of the PersistentVolume; or let one Pod serve, with accessModes [ReadWriteOnce]",
    root.display()
)]
pub struct UnshareableError {
    pub(super) root: PathBuf,
    pub(super) why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(mounts: &str, directory: &str) -> Option<Network> {
        Network::among(MountInfos::from_buf_read(mounts.as_bytes()).unwrap(), Path::new(directory))
    }

    /// The lines of a container with volumes, with what a kernel writes behind ` - `.
    fn on(file_system: &str) -> Option<Network> {
        let mounts = format!(
            "611 522 0:63 / / rw,relatime master:196 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w\n\
             612 611 0:66 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
             640 611 0:71 /pvc-1 /var/lib/registry rw,relatime - {file_system}\n\
             641 611 0:72 / /var/lib/registry-2 rw,relatime - tmpfs tmpfs rw,size=64k\n"
        );
        among(&mounts, "/var/lib/registry/images")
    }

    fn nfs(options: &str) -> Network {
        on(&format!("nfs4 10.0.0.1:/pvc-1 rw,{options}")).unwrap()
    }

    #[test]
    fn a_local_directory_is_on_no_network() {
        assert_eq!(on("ext4 /dev/sdb rw"), None);
        assert_eq!(among("", "/var/lib/registry"), None);
        let here = tempfile::tempdir().unwrap();
        assert_eq!(Network::of(here.path()), None);
    }

    #[test]
    fn a_mount_that_asks_for_absent_names_each_time_can_be_shared() {
        let mounted =
            nfs("vers=4.2,rsize=1048576,namlen=255,hard,proto=tcp,lookupcache=pos,local_lock=none,addr=10.0.0.1");
        assert_eq!(mounted, Network { staleness: ACDIRMAX, unshareable: None });
        let mounted = nfs("vers=4.1,acdirmin=1,acdirmax=5,lookupcache=none,addr=10.0.0.1");
        assert_eq!(mounted, Network { staleness: Duration::from_secs(5), unshareable: None });
        assert_eq!(nfs("vers=4.1,noac").staleness, Duration::ZERO);
    }

    #[test]
    fn a_mount_that_cannot_be_shared_says_with_what_it_could() {
        for (options, remedy) in [
            ("vers=3,lookupcache=pos,local_lock=none", "nfsvers=4.1"),
            ("vers=4.0,lookupcache=pos", "nfsvers=4.1"),
            ("lookupcache=pos", "nfsvers=4.1"),
            ("vers=4.1,hard,addr=10.0.0.1", "lookupcache=positive"),
            ("vers=4.1,lookupcache=pos,local_lock=flock", "local_lock=none"),
            ("vers=4.1,lookupcache=pos,local_lock=all", "local_lock=none"),
        ] {
            let why = nfs(options).unshareable.unwrap();
            assert!(why.contains(remedy) && why.contains("10.0.0.1:/pvc-1"), "{options}: {why}");
        }
    }

    #[test]
    fn the_mount_that_is_nearest_counts() {
        let mounts = "1 0 0:1 / / rw - nfs4 s:/ rw,vers=3\n2 1 0:2 / /data rw - ext4 /dev/sdb rw\n";
        assert_eq!(among(mounts, "/data/images"), None);
        let mounts = "1 0 0:1 / /data rw - ext4 /dev/sdb rw\n2 1 0:2 / /data rw - nfs4 s:/ rw,vers=3\n";
        assert!(among(mounts, "/data/images").is_some());
        let mounts = "1 0 0:1 / / rw - ext4 /dev/sdb rw\n2 1 0:2 / /my\\040data rw - nfs4 s:/ rw,vers=3\n";
        assert!(among(mounts, "/my data/images").is_some());
    }

    #[test]
    fn a_server_is_asked_also_for_what_is_not_there() {
        let here = tempfile::tempdir().unwrap();
        Network::ask_server(here.path()).unwrap();
        Network::ask_server(&here.path().join("not/there")).unwrap();
    }
}
