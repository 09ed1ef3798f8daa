//! Directories of the node and where the agent sees them. Pure.

use std::path::PathBuf;
use std::str::FromStr;

/// A directory of the node that is mounted into the agent's pod, written `ON_THE_NODE=IN_THE_POD`, or one path when both are
/// the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPath {
    pub(super) host: String,
    pub(super) seen_at: PathBuf,
}

/// The text is not a pair of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write ON_THE_NODE=IN_THE_POD, two absolute paths")]
pub(super) struct InvalidHostPath;

impl FromStr for HostPath {
    type Err = InvalidHostPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, seen_at) = text.split_once('=').unwrap_or((text, text));
        if !host.starts_with('/') || !seen_at.starts_with('/') {
            return Err(InvalidHostPath);
        }
        Ok(Self { host: clean(host), seen_at: seen_at.into() })
    }
}

impl HostPath {
    /// The names that lead from this directory to `path`, a clean path of the node; `None` when it does not lie below.
    pub(super) fn names_to<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let rest = path.strip_prefix(self.host.as_str())?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(rest.split('/').collect()),
            None if rest.is_empty() => Some(Vec::new()),
            None if self.host == "/" => Some(rest.split('/').collect()),
            None => None,
        }
    }
}

/// Go's `filepath.Clean` for the paths that occur here: no empty, `.` or `..` names, and no slash at the end.
pub(super) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_node_are_found_in_the_pod() {
        let list: HostPath = "/etc/containerd/certs.d:=/host/list".parse().unwrap();
        let path = "/etc/containerd/certs.d:/etc/docker/certs.d";
        assert_eq!(list.names_to(path), Some(vec!["etc", "docker", "certs.d"]));
        assert_eq!(list.names_to("/etc/containerd/certs.d:"), Some(vec![]));
        let single: HostPath = "/etc/containerd/certs.d/".parse().unwrap();
        assert_eq!(single.names_to("/etc/containerd/certs.d"), Some(vec![]));
        assert_eq!(single.names_to(path), None);
        assert_eq!(single.names_to("/etc/containerd/certs.d2"), None);
        for text in ["", "a", "a=/b", "/a=b"] {
            assert_eq!(text.parse::<HostPath>(), Err(InvalidHostPath), "{text:?}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, expected) in [
            ("/a/b/", "/a/b"),
            ("/a//b/./c/../d", "/a/b/d"),
            ("/etc/containerd/certs.d:/etc/docker/certs.d", "/etc/containerd/certs.d:/etc/docker/certs.d"),
            ("/..", "/"),
            ("certs.d", "certs.d"),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
