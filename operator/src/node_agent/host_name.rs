//! The host that an image name begins with, and the directories in which containerd looks it up. Pure.

use std::fmt;
use std::str::FromStr;

/// A host as image names write it: a DNS name in lower case, without a port.
///
/// It becomes the name of a directory on every node, so the grammar is the narrowest that serves: nothing in it can leave
/// the directory it is written in, be hidden, or be containerd's catch-all `_default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostName(Box<str>);

/// The text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host is a DNS name in lower case without a port, at most 240 bytes long")]
pub(super) struct InvalidHostName;

impl HostName {
    /// In bytes. DNS allows 253, but the name of a directory ends at 255 and must hold `_65535_` too.
    const MAX_LEN: usize = 240;

    /// The directories, below a root of containerd's, in which it finds this host for images that leave the port out and
    /// for those that name `port`.
    ///
    /// containerd 1.6 to 2.4, `hostPaths` in `remotes/docker/config/config_unix.go`: `h` is looked up as `h`, and `h:443`
    /// as `h_443_` before `h:443`.
    pub(super) fn directories(&self, port: u16) -> [Spelling; 2] {
        [
            Spelling { directory: self.to_string(), also_read: None },
            Spelling { directory: format!("{self}_{port}_"), also_read: Some(format!("{self}:{port}")) },
        ]
    }
}

/// One directory for one way to write a host in an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelling {
    /// What containerd looks up first.
    pub(super) directory: String,
    /// What it looks up next. Whoever has one here would lose it to ours.
    pub(super) also_read: Option<String>,
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= Self::MAX_LEN && text.split('.').all(label) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidHostName)
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_dns_name_is_refused() {
        for text in [
            "", ".", "..", "../x", "a/b", "/etc", "a/../b", "_default", "A.b", "a.B", "a:443", "a_443_", "a..b", ".a",
            "a.", "-a", "a-", "a.-b", "a b", "a\0", "a\n", "[::1]", "é", ".berth", "a\\b", "*",
        ] {
            assert_eq!(text.parse::<HostName>(), Err(InvalidHostName), "{text:?}");
        }
        let long = vec!["a".repeat(63); 4].join(".");
        assert_eq!(long.parse::<HostName>(), Err(InvalidHostName));
        assert_eq!("a".repeat(64).parse::<HostName>(), Err(InvalidHostName));
    }

    #[test]
    fn hosts_of_image_names_are_admitted() {
        for text in
            ["images.team-a.svc", "images.team-a.svc.cluster.local", "docker.io", "localhost", "xn--bcher-kva.example"]
        {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn containerd_finds_it_with_and_without_the_port() {
        let host: HostName = "images.team-a.svc".parse().unwrap();
        let [plain, ported] = host.directories(443);
        assert_eq!(plain, Spelling { directory: "images.team-a.svc".into(), also_read: None });
        assert_eq!(ported.directory, "images.team-a.svc_443_");
        assert_eq!(ported.also_read.as_deref(), Some("images.team-a.svc:443"));
    }
}
