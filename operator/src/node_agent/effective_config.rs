//! Where this node's runtime looks for `hosts.toml`, found by reading what the runtime reads.
//!
//! It never asks the runtime: who may talk to its socket owns the node. What follows is stated in `docs/node-agent.md`: a
//! change of the configuration counts from the moment it is on disk, although containerd takes it up at its next start.

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use toml::{Table, Value};

use super::containerd_config::{Era, config_path};
use super::host_path::{HostPath, clean};

/// The runtime's directory of configuration on the node, and where the agent sees it.
#[derive(Clone, Debug)]
pub(super) struct ConfigDirectory {
    /// As the runtime names it.
    pub(super) host: String,
    /// As the agent does.
    pub(super) seen_at: PathBuf,
}

impl From<HostPath> for ConfigDirectory {
    fn from(path: HostPath) -> Self {
        Self { host: path.host, seen_at: path.seen_at }
    }
}

/// What is known of where the runtime looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// In these directories, all of which must hold what it is to find.
    Directories(Vec<String>),
    /// Nowhere that would help.
    Unsupported(Why),
    /// It cannot be told.
    Unknown(Why),
}

/// A reason as reports carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    /// One CamelCase word.
    pub(super) reason: &'static str,
    /// One sentence.
    pub(super) message: String,
}

impl Why {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Where `runtime`, such as `containerd://2.2.1`, looks, configured as it is in `config`.
pub(super) fn lookup(runtime: &str, config: &ConfigDirectory) -> Lookup {
    let era = match era(runtime, &config.host) {
        Ok(era) => era,
        Err(lookup) => return lookup,
    };
    let files = match read_files(config) {
        Ok(files) => files,
        Err(why) => return Lookup::Unknown(why),
    };
    match config_path(era, files) {
        Err(error) => Lookup::Unknown(Why::new("ConfigNotUnderstood", error.to_string())),
        Ok(path) if path.is_empty() => Lookup::Unsupported(Why::new(
            "NoConfigPath",
            "containerd is configured to read no hosts.toml: set config_path of its registry section, and restart it",
        )),
        Ok(path) => Lookup::Directories(directories(era, &path)),
    }
}

/// The directories to fill for a `config_path`.
///
/// A list is taken apart when containerd pulls by itself, and its first directory wins. The transfer service, which pulls by
/// default since 2.1, takes the list for the name of one directory (containerd/containerd#12808). Which of them pulls
/// depends on a dozen settings, so both find what they look for.
fn directories(era: Era, config_path: &str) -> Vec<String> {
    let first = config_path.split(':').find(|path| !path.is_empty()).unwrap_or_default();
    let mut directories = vec![clean(first)];
    if config_path.contains(':') && era.has_transfer_service() {
        directories.push(clean(config_path));
    }
    directories
}

fn era(runtime: &str, config_directory: &str) -> Result<Era, Lookup> {
    let unsupported = |reason, message: String| Err(Lookup::Unsupported(Why::new(reason, message)));
    let Some((name, version)) = runtime.split_once("://") else {
        return Err(Lookup::Unknown(Why::new(
            "RuntimeNotUnderstood",
            format!("the node calls its runtime {runtime:?}"),
        )));
    };
    if name != "containerd" {
        return unsupported("RuntimeNotContainerd", format!("{runtime} does not read hosts.toml"));
    }
    if version.contains("k3s") && !config_directory.contains("/rancher/") {
        return unsupported(
            "RuntimeConfigElsewhere",
            format!(
                "{runtime} is not configured in {config_directory}: set nodeAgent.hostConfigDir and hostCertsDir of the chart"
            ),
        );
    }
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().ok()
    });
    let mut next = || numbers.next().flatten();
    next()
        .zip(next())
        .and_then(|(major, minor)| Era::of(major, minor, next().unwrap_or(0)))
        .ok_or_else(|| Lookup::Unknown(Why::new("RuntimeVersionUnknown", format!("nothing is known of {runtime}"))))
}

/// The main file and what it imports, in the order in which containerd reads them; none when there is no main file.
fn read_files(config: &ConfigDirectory) -> Result<Vec<Table>, Why> {
    let main = format!("{}/config.toml", config.host);
    let mut pending = std::collections::VecDeque::from([main.clone()]);
    let mut loaded = HashSet::new();
    let mut files = Vec::new();
    while let Some(path) = pending.pop_front() {
        if loaded.contains(&path) {
            continue;
        }
        let text = match read_file(config, &path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == main => return Ok(files),
            Err(error) => return Err(Why::new("ConfigNotReadable", format!("{path}: {error}"))),
        };
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            Why::new("ConfigNotUnderstood", format!("{path}: {}", error.message()))
        })?;
        let imports = table.get("imports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for import in imports.iter().filter_map(Value::as_str) {
            pending.extend(resolve_import(config, &path, import)?);
        }
        loaded.insert(path);
        files.push(table);
    }
    Ok(files)
}

/// containerd's `resolveImports`: relative to the importing file, and a pattern only if it holds a `*`.
fn resolve_import(config: &ConfigDirectory, parent: &str, import: &str) -> Result<Vec<String>, Why> {
    let folder = parent.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if import.starts_with('/') { clean(import) } else { clean(&format!("{folder}/{import}")) };
    if !path.contains('*') {
        return Ok(vec![path]);
    }
    let (folder, pattern) = path.rsplit_once('/').unwrap_or(("", &path));
    if folder.contains('*') || pattern.contains(['?', '[', '\\']) {
        return Err(Why::new(
            "ImportNotUnderstood",
            format!("{parent} imports {import}, a pattern that the agent cannot follow"),
        ));
    }
    let names = match list(config, folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Why::new("ConfigNotReadable", format!("{folder}: {error}"))),
    };
    Ok(names.into_iter().filter(|name| matches(pattern, name)).map(|name| format!("{folder}/{name}")).collect())
}

/// Whether `name` fits a pattern whose only special character is `*`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn read_file(config: &ConfigDirectory, path: &str) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::from(open(config, path, OFlags::RDONLY | OFlags::NONBLOCK)?).read_to_string(&mut text)?;
    Ok(text)
}

fn list(config: &ConfigDirectory, path: &str) -> io::Result<Vec<String>> {
    let fd = open(config, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&fd)? {
        names.push(String::from_utf8_lossy(entry?.file_name().to_bytes()).into_owned());
    }
    names.retain(|name| name != "." && name != "..");
    names.sort_unstable();
    Ok(names)
}

/// Opens what the runtime calls `path`. Links may lead anywhere below the directory of configuration and nowhere else: what
/// lies outside is not mounted, and the agent would read something of its own image instead.
fn open(config: &ConfigDirectory, path: &str, flags: OFlags) -> io::Result<std::os::fd::OwnedFd> {
    let outside = || io::Error::new(io::ErrorKind::PermissionDenied, format!("lies outside {}", config.host));
    let below = Path::new(path).strip_prefix(&config.host).map_err(|_| outside())?;
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let root = rustix::fs::open(&config.seen_at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::fs::openat2(root, below, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH) {
        Ok(fd) => Ok(fd),
        Err(Errno::XDEV) => Err(outside()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
