//! The directories of hosts below one root of containerd's, `certs.d/<host>/`.
//!
//! Only a directory with the agent's marker is ever changed. A new one appears complete and at once, by a rename; one that
//! goes disappears the same way. In one that stays, the certificate authorities are written first, then `hosts.toml`, and
//! only then the file is removed that nothing names any more: containerd reads them at every pull, at any moment.

use std::io;

use rustix::fs::FileType;

use super::directory::{Content, Directory, STAGED};
use super::host_name::Spelling;
use super::hosts_toml::{Endpoint, HOSTS_TOML};

/// The file that makes a directory the agent's.
pub(super) const MARKER: &str = ".berth";

const MARKER_TEXT: &str = "Made by Berth's node agent, which removes it when the Registry is gone.\nregistry-uid: ";

/// What became of the wish for a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was as it should be.
    Unchanged,
    /// It is now.
    Written,
    /// Somebody else has a directory, or something else, of that name; it was not touched.
    NotOurs,
}

/// Makes the directory of one spelling be what `endpoint` asks for. `root_path` is `root` as containerd sees it.
pub(super) fn write(
    root: &Directory,
    root_path: &str,
    spelling: &Spelling,
    registry_uid: &str,
    endpoint: &Endpoint,
) -> io::Result<Outcome> {
    let name = spelling.directory.as_str();
    if let Some(also_read) = &spelling.also_read
        && root.kind(also_read)?.is_some()
    {
        return Ok(Outcome::NotOurs);
    }
    let files = files(&format!("{root_path}/{name}"), registry_uid, endpoint);
    match root.kind(name)? {
        None => create(root, name, &files).map(|()| Outcome::Written),
        Some(FileType::Directory) => match root.child(name)? {
            Some(directory) if owner(&directory)?.is_some() => update(&directory, &files),
            Some(_) | None => Ok(Outcome::NotOurs),
        },
        Some(_) => Ok(Outcome::NotOurs),
    }
}

/// The agent's directories below `root`, each with the uid of its Registry.
pub(super) fn ours(root: &Directory) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for name in root.names()? {
        let Ok(name) = name.into_string() else { continue };
        if name != STAGED
            && root.kind(&name)? == Some(FileType::Directory)
            && let Some(directory) = root.child(&name)?
            && let Some(uid) = owner(&directory)?
        {
            found.push((name, uid));
        }
    }
    Ok(found)
}

/// Removes one of the agent's directories. What others put into it stays, and then the directory stays with it, no longer
/// marked.
pub(super) fn remove(root: &Directory, name: &str) -> io::Result<()> {
    let Some(directory) = root.child(name)? else { return Ok(()) };
    if owner(&directory)?.is_none() {
        return Ok(());
    }
    if directory.names()?.iter().all(|file| file.to_str().is_some_and(is_ours)) {
        clear_staged(root)?;
        root.rename(name, STAGED)?;
        return clear_staged(root);
    }
    // Marker last: a crash before leaves a directory that the next attempt recognises.
    for file in directory.names()?.iter().filter_map(|file| file.to_str()) {
        if is_ours(file) && file != MARKER {
            directory.remove_file(file)?;
        }
    }
    directory.remove_file(MARKER)?;
    directory.sync()
}

/// Removes what an interrupted write or removal left below `directory`.
pub(super) fn clear_staged(directory: &Directory) -> io::Result<()> {
    match directory.kind(STAGED)? {
        None => return Ok(()),
        Some(FileType::Directory) => {
            if let Some(staged) = directory.child(STAGED)? {
                for file in staged.names()?.iter().filter_map(|file| file.to_str()).filter(|file| is_ours(file)) {
                    staged.remove_file(file)?;
                }
            }
            directory.remove_directory(STAGED)?;
        }
        Some(_) => directory.remove_file(STAGED)?,
    }
    directory.sync()
}

fn files(directory: &str, registry_uid: &str, endpoint: &Endpoint) -> [(String, Content); 3] {
    let hosts_toml = endpoint.hosts_toml(directory).into_bytes();
    // Only root, which containerd runs as, may read a credential.
    let mode = if endpoint.authorization.is_some() { 0o600 } else { 0o644 };
    [
        (MARKER.into(), Content { bytes: format!("{MARKER_TEXT}{registry_uid}\n").into_bytes(), mode: 0o644 }),
        (endpoint.ca_file(), Content { bytes: endpoint.ca_bundle.clone().into_bytes(), mode: 0o644 }),
        (HOSTS_TOML.into(), Content { bytes: hosts_toml, mode }),
    ]
}

fn create(root: &Directory, name: &str, files: &[(String, Content)]) -> io::Result<()> {
    clear_staged(root)?;
    let staged = root.create_child(STAGED)?;
    for (file, content) in files {
        staged.write(file, content)?;
    }
    root.rename(STAGED, name)
}

fn update(directory: &Directory, files: &[(String, Content)]) -> io::Result<Outcome> {
    let mut outcome = Outcome::Unchanged;
    for (file, content) in files {
        // What cannot be read, a link for instance, is not what it should be either.
        if directory.read(file).ok().flatten().as_ref() != Some(content) {
            directory.write(file, content)?;
            outcome = Outcome::Written;
        }
    }
    for name in directory.names()?.iter().filter_map(|name| name.to_str()) {
        if is_ours(name) && files.iter().all(|(file, _)| file != name) {
            directory.remove_file(name)?;
            outcome = Outcome::Written;
        }
    }
    Ok(outcome)
}

/// The uid of the Registry that a directory was made for; `None` when the agent did not make it.
fn owner(directory: &Directory) -> io::Result<Option<String>> {
    let Ok(Some(marker)) = directory.read(MARKER) else { return Ok(None) };
    let Ok(text) = String::from_utf8(marker.bytes) else { return Ok(None) };
    Ok(text.strip_prefix(MARKER_TEXT).map(|uid| uid.trim_end().to_owned()))
}

/// Whether the agent writes files of this name.
fn is_ours(file: &str) -> bool {
    let fingerprint = file.strip_prefix("ca-").and_then(|rest| rest.strip_suffix(".crt"));
    matches!(file, MARKER | HOSTS_TOML | STAGED)
        || fingerprint.is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests;
