//! What a node is told about one registry: the exact bytes of the files in its host directory. Pure.
//!
//! The grammar is containerd's `docs/hosts.md`. Two choices need their reason:
//! - `server` repeats the first address. Without it containerd falls back to the host of the image's name, which nodes
//!   cannot resolve, or worse: which somebody else answers for.
//! - The header stands at the root too, for `server`. containerd reports the worst of all answers: an image that does not
//!   exist would be "401 Unauthorized" from a `server` asked without it.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::fingerprint;

/// How long containerd waits for a connection before it tries the next address. A ClusterIP without endpoints refuses at
/// once; this bounds one that a node cannot route to.
const DIAL_TIMEOUT: &str = "5s";

/// The name of the file that containerd reads.
pub(super) const HOSTS_TOML: &str = "hosts.toml";

/// One registry, as far as a node's files speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `namespace/name` of the Registry, for those who read the file.
    pub(super) registry: String,
    /// The addresses of its Service, the preferred first. Never empty.
    pub(super) addresses: Vec<IpAddr>,
    /// The port of its Service.
    pub(super) port: u16,
    /// The certificate authorities to trust, as PEM.
    pub(super) ca_bundle: String,
    /// The value of the `Authorization` header, in printable ASCII.
    pub(super) authorization: Option<String>,
}

impl Endpoint {
    /// The name of the file with the certificate authorities.
    ///
    /// It carries their fingerprint, so that a `hosts.toml` never names a file whose content does not fit: while they
    /// rotate, the old and the new file lie side by side.
    pub(super) fn ca_file(&self) -> String {
        format!("ca-{}.crt", &fingerprint::of(&self.ca_bundle)[..16])
    }

    /// The content of `hosts.toml` in `directory`, an absolute path as containerd sees it.
    pub(super) fn hosts_toml(&self, directory: &str) -> String {
        let ca = quoted(&format!("{directory}/{}", self.ca_file()));
        let header = self.authorization.as_ref().map(|value| format!("Authorization = {}\n", quoted(value)));
        let urls: Vec<String> = self.addresses.iter().map(|address| quoted(&url(*address, self.port))).collect();
        let mut text = format!(
            "# Written by Berth's node agent for the Registry {}. Changes made here are undone.\n",
            self.registry
        );
        if let Some(server) = urls.first() {
            let _ = writeln!(text, "server = {server}");
        }
        let settings =
            format!("capabilities = [\"pull\", \"resolve\"]\nca = {ca}\ndial_timeout = \"{DIAL_TIMEOUT}\"\n");
        text += &settings;
        if let Some(header) = &header {
            let _ = write!(text, "\n[header]\n{header}");
        }
        for url in &urls {
            let _ = write!(text, "\n[host.{url}]\n{settings}");
            if let Some(header) = &header {
                let _ = write!(text, "\n[host.{url}.header]\n{header}");
            }
        }
        text
    }
}

fn url(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("https://{address}:{port}"),
        IpAddr::V6(address) => format!("https://[{address}]:{port}"),
    }
}

/// A TOML basic string. Control characters, which it may not hold, cannot occur: every text here was parsed before.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            registry: "team-a/images".into(),
            addresses: vec!["10.96.0.7".parse().unwrap()],
            port: 443,
            ca_bundle: "PEM".into(),
            authorization: Some("Basic bm9kZTpzZWNyZXQ=".into()),
        }
    }

    #[test]
    fn one_address_with_the_node_credential() {
        let expected = "\
# Written by Berth's node agent for the Registry team-a/images. Changes made here are undone.
server = \"https://10.96.0.7:443\"
capabilities = [\"pull\", \"resolve\"]
ca = \"/etc/containerd/certs.d/images.team-a.svc/ca-384fb9a44fabe158.crt\"
dial_timeout = \"5s\"

[header]
Authorization = \"Basic bm9kZTpzZWNyZXQ=\"

[host.\"https://10.96.0.7:443\"]
capabilities = [\"pull\", \"resolve\"]
ca = \"/etc/containerd/certs.d/images.team-a.svc/ca-384fb9a44fabe158.crt\"
dial_timeout = \"5s\"

[host.\"https://10.96.0.7:443\".header]
Authorization = \"Basic bm9kZTpzZWNyZXQ=\"
";
        assert_eq!(endpoint().hosts_toml("/etc/containerd/certs.d/images.team-a.svc"), expected);
    }

    #[test]
    fn two_families_without_a_credential() {
        let endpoint = Endpoint {
            addresses: vec!["fd00::7".parse().unwrap(), "10.96.0.7".parse().unwrap()],
            authorization: None,
            ..endpoint()
        };
        let expected = "\
# Written by Berth's node agent for the Registry team-a/images. Changes made here are undone.
server = \"https://[fd00::7]:443\"
capabilities = [\"pull\", \"resolve\"]
ca = \"/d/ca-384fb9a44fabe158.crt\"
dial_timeout = \"5s\"

[host.\"https://[fd00::7]:443\"]
capabilities = [\"pull\", \"resolve\"]
ca = \"/d/ca-384fb9a44fabe158.crt\"
dial_timeout = \"5s\"

[host.\"https://10.96.0.7:443\"]
capabilities = [\"pull\", \"resolve\"]
ca = \"/d/ca-384fb9a44fabe158.crt\"
dial_timeout = \"5s\"
";
        assert_eq!(endpoint.hosts_toml("/d"), expected);
    }

    #[test]
    fn what_is_written_is_what_a_toml_reader_gets() {
        let endpoint = Endpoint { authorization: Some(r#"Odd "quoted" \ value"#.into()), ..endpoint() };
        let directory = "/etc/containerd/certs.d:/etc/docker/certs.d/images.team-a.svc";
        let table: toml::Table = endpoint.hosts_toml(directory).parse().unwrap();
        assert_eq!(table["header"]["Authorization"].as_str(), endpoint.authorization.as_deref());
        let host = &table["host"]["https://10.96.0.7:443"];
        assert_eq!(host["header"]["Authorization"].as_str(), endpoint.authorization.as_deref());
        assert_eq!(host["ca"].as_str(), Some(format!("{directory}/{}", endpoint.ca_file()).as_str()));
    }
}
