//! How containerd makes one configuration of several files, as far as the registry section goes. Pure.
//!
//! Read from the sources of 1.6.38, 1.7.29, 2.0.7, 2.1.5, 2.2.0 to 2.2.3, 2.2.9, 2.3.7 and 2.4.2 (`server/config/config.go`,
//! `plugins/cri/images/plugin.go`), and compared with what `containerd config dump` says: see the last test. The versions
//! differ in how they merge, in how they migrate older files, and in what they do without a setting.

use toml::{Table, Value};

/// The section of containerd 1.x, which version 2 of the configuration keeps.
const CRI: &str = "io.containerd.grpc.v1.cri";
/// The section of containerd 2.x.
const IMAGES: &str = "io.containerd.cri.v1.images";
/// What containerd 2.2 and later read when nothing is set.
pub(super) const DEFAULT_LIST: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";

/// The versions of containerd between which the rules change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Era {
    /// 1.x: a later file replaces a plugin's whole section; no default.
    One,
    /// 2.0: a later file is merged into an earlier one, then all is migrated; no default.
    TwoZero,
    /// 2.1: as 2.0, and pulls go through the transfer service, which takes a list of directories for one directory.
    TwoOne,
    /// 2.2.0 and 2.2.1: [`DEFAULT_LIST`] when unset, and also when an older file sets it empty.
    TwoTwo,
    /// From 2.2.2: [`DEFAULT_LIST`] when unset or empty, unless mirrors are set.
    TwoTwoTwo,
    /// 2.3 and 2.4: as before, and each file is migrated by itself before it is merged.
    TwoThree,
}

impl Era {
    /// The era of a version of containerd; `None` for one that this file knows nothing of.
    pub(super) fn of(major: u32, minor: u32, patch: u32) -> Option<Self> {
        Some(match (major, minor, patch) {
            (1, _, _) => Self::One,
            (2, 0, _) => Self::TwoZero,
            (2, 1, _) => Self::TwoOne,
            (2, 2, 0 | 1) => Self::TwoTwo,
            (2, 2, _) => Self::TwoTwoTwo,
            (2, 3 | 4, _) => Self::TwoThree,
            _ => return None,
        })
    }

    /// Whether the transfer service may do the pulls.
    pub(super) fn has_transfer_service(self) -> bool {
        self >= Self::TwoOne
    }

    /// The newest version of the configuration file that it reads.
    fn config_version(self) -> i64 {
        match self {
            Self::One => 2,
            Self::TwoZero | Self::TwoOne | Self::TwoTwo | Self::TwoTwoTwo => 3,
            Self::TwoThree => 4,
        }
    }
}

/// A file asks for a version of the configuration that this containerd would refuse to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a configuration of version {0} is newer than this containerd")]
pub(super) struct TooNew(pub(super) i64);

/// The `config_path` in effect after containerd of this era read `files` in this order; empty when none is.
pub(super) fn config_path(era: Era, files: Vec<Table>) -> Result<String, TooNew> {
    let mut merged = Merged { version: if era == Era::One { 1 } else { era.config_version() }, plugins: Table::new() };
    for file in files {
        merged.add(era, file)?;
    }
    let Merged { version, mut plugins } = merged;
    let section = match era {
        Era::One if version < 2 => "cri",
        Era::One => CRI,
        _ => {
            if version < 3 {
                migrate_registry(&mut plugins, era == Era::TwoTwo);
            }
            IMAGES
        }
    };
    let registry = plugins.get(section).and_then(|section| section.get("registry"));
    let set = registry.and_then(|registry| registry.get("config_path")).and_then(Value::as_str);
    let mirrors =
        registry.and_then(|registry| registry.get("mirrors")?.as_table()).is_some_and(|table| !table.is_empty());
    Ok(match (era, set) {
        (Era::One | Era::TwoZero | Era::TwoOne, set) => set.unwrap_or_default(),
        (Era::TwoTwo, set) => set.unwrap_or(DEFAULT_LIST),
        (Era::TwoTwoTwo | Era::TwoThree, Some("") | None) if mirrors => "",
        (Era::TwoTwoTwo | Era::TwoThree, Some("") | None) => DEFAULT_LIST,
        (Era::TwoTwoTwo | Era::TwoThree, Some(path)) => path,
    }
    .to_owned())
}

struct Merged {
    version: i64,
    plugins: Table,
}

impl Merged {
    fn add(&mut self, era: Era, mut file: Table) -> Result<(), TooNew> {
        let version = file.get("version").and_then(Value::as_integer).unwrap_or(0);
        if version > era.config_version() {
            return Err(TooNew(version));
        }
        let mut plugins = match file.remove("plugins") {
            Some(Value::Table(plugins)) => plugins,
            _ => Table::new(),
        };
        if era == Era::One {
            self.version = if version == 0 { self.version } else { version };
            // A plugin's whole section is replaced.
            self.plugins.extend(plugins);
            return Ok(());
        }
        // The only short name of version 1 that matters here.
        if version < 2
            && let Some(section) = plugins.remove("cri")
        {
            plugins.insert(CRI.into(), section);
        }
        if era == Era::TwoThree && version < era.config_version() {
            migrate_registry(&mut plugins, false);
        } else if version >= 2 {
            self.version = version;
        }
        merge(&mut self.plugins, plugins);
        Ok(())
    }
}

/// Moves the registry section to where version 3 has it; what stood there already is lost.
fn migrate_registry(plugins: &mut Table, fill_in_default: bool) {
    let Some(mut registry) = plugins.get(CRI).and_then(|section| section.get("registry")).cloned() else { return };
    if fill_in_default
        && let Some(table) = registry.as_table_mut()
        && table.get("config_path").and_then(Value::as_str) == Some("")
    {
        table.insert("config_path".into(), DEFAULT_LIST.into());
    }
    if let Value::Table(images) = plugins.entry(IMAGES).or_insert_with(|| Value::Table(Table::new())) {
        images.insert("registry".into(), registry);
    }
}

/// A later value wins, empty or not; tables are merged key by key.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
