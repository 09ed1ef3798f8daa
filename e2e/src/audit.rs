//! The API server's audit log: who wrote what.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cluster::{NODE_NAMESPACE, OPERATOR_NAMESPACE, own_cluster};

/// A place in the audit log.
pub struct AuditLog {
    path: PathBuf,
    from: u64,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// The ServiceAccount, as `NAMESPACE:NAME`.
    pub who: String,
    /// `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// The resource, with its subresource.
    pub resource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

impl AuditLog {
    /// From now on.
    ///
    /// # Errors
    /// When the cluster is not our own, or keeps no audit log.
    pub fn from_now() -> Result<Self> {
        let path = own_cluster().context("this cluster's audit log cannot be read")?.join("audit/audit.log");
        let from = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        Ok(Self { path, from })
    }

    /// Every write of Berth's ServiceAccounts since, but those of Leases. A dry run writes nothing.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn writes(&self) -> Result<Vec<Write>> {
        let mut file = std::fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.filter_map(|event| write(&event)).filter(|write| write.resource != "leases").collect())
    }
}

fn write(event: &Value) -> Option<Write> {
    let who = event["user"]["username"].as_str()?.strip_prefix("system:serviceaccount:")?;
    let (namespace, _) = who.split_once(':')?;
    if ![OPERATOR_NAMESPACE, NODE_NAMESPACE].contains(&namespace) {
        return None;
    }
    if event["requestURI"].as_str()?.contains("dryRun=All") {
        return None;
    }
    let object = &event["objectRef"];
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let resource = match object["subresource"].as_str() {
        Some(part) => format!("{}/{part}", text("resource")),
        None => text("resource"),
    };
    let verb = event["verb"].as_str()?.to_owned();
    Some(Write { who: who.to_owned(), verb, resource, namespace: text("namespace"), name: text("name") })
}

/// How many writes of each kind there are.
pub fn counted<'a>(writes: impl IntoIterator<Item = &'a Write>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for write in writes {
        *counts.entry(format!("{} {} {}", write.who, write.verb, write.resource)).or_default() += 1;
    }
    counts
}
