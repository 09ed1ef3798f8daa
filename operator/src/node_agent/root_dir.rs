//! The roots that hold the directories of hosts, such as `certs.d`, where a node does not have them yet.
//!
//! Each directory that is made here holds a marker, so that [`prune`] takes away exactly those, and only when nothing else
//! came to lie in them.

use std::io;
use std::path::Path;

use rustix::fs::FileType;

use super::directory::{Content, Directory, STAGED};
use super::host_dir::{MARKER, clear_staged};

const MARKER_TEXT: &str = "Made by Berth's node agent, which removes it when nothing else is in it.\n";

/// Opens the directory at the end of `path`, one name after the other below `base`; `None` when there is none.
pub(super) fn open(base: Directory, path: &[&str]) -> io::Result<Option<Directory>> {
    let mut directory = base;
    for name in path {
        match directory.child(name)? {
            Some(child) => directory = child,
            None => return Ok(None),
        }
    }
    Ok(Some(directory))
}

/// The same, and makes what is missing.
pub(super) fn ensure(base: Directory, path: &[&str]) -> io::Result<Directory> {
    let mut directory = base;
    for name in path {
        directory = match directory.child(name)? {
            Some(child) => child,
            None => create(&directory, name)?,
        };
    }
    Ok(directory)
}

/// Removes the directories of `path` that [`ensure`] made and that hold nothing, the innermost first.
pub(super) fn prune(base: &Directory, path: &[&str]) -> io::Result<()> {
    let [name, inner @ ..] = path else { return Ok(()) };
    let Some(child) = base.child(name)? else { return Ok(()) };
    prune(&child, inner)?;
    if is_made(&child)? && child.names()? == [MARKER] {
        clear_staged(base)?;
        base.rename(name, STAGED)?;
        clear_staged(base)?;
    }
    Ok(())
}

/// The directory itself, and every directory below it that [`ensure`] made, each as the names that lead to it.
pub(super) fn made(base: &Path) -> io::Result<Vec<Vec<String>>> {
    let mut found = vec![Vec::new()];
    collect(&Directory::open(base)?, &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn collect(directory: &Directory, names: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> io::Result<()> {
    for name in directory.names()?.into_iter().filter_map(|name| name.into_string().ok()) {
        if directory.kind(&name)? == Some(FileType::Directory)
            && let Some(child) = directory.child(&name)?
            && is_made(&child)?
        {
            names.push(name);
            found.push(names.clone());
            collect(&child, names, found)?;
            names.pop();
        }
    }
    Ok(())
}

fn create(parent: &Directory, name: &str) -> io::Result<Directory> {
    clear_staged(parent)?;
    let staged = parent.create_child(STAGED)?;
    staged.write(MARKER, &Content { bytes: MARKER_TEXT.into(), mode: 0o644 })?;
    parent.rename(STAGED, name)?;
    Ok(staged)
}

fn is_made(directory: &Directory) -> io::Result<bool> {
    Ok(directory.read(MARKER).ok().flatten().is_some_and(|marker| marker.bytes == MARKER_TEXT.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LIST: [&str; 4] = ["certs.d:", "etc", "docker", "certs.d"];

    #[test]
    fn what_was_made_goes_and_what_was_there_stays() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("certs.d:")).unwrap();
        let opened = || Directory::open(base.path()).unwrap();
        ensure(opened(), &LIST).unwrap();
        assert!(open(opened(), &LIST).unwrap().is_some());
        prune(&opened(), &LIST).unwrap();
        assert!(open(opened(), &LIST[..1]).unwrap().is_some());
        assert!(open(opened(), &LIST[..2]).unwrap().is_none());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_put_into_it_keeps_it() {
        let base = tempfile::tempdir().unwrap();
        let opened = || Directory::open(base.path()).unwrap();
        ensure(opened(), &LIST).unwrap();
        fs::create_dir(base.path().join("certs.d:/etc/docker/certs.d/docker.io")).unwrap();
        prune(&opened(), &LIST).unwrap();
        assert!(base.path().join("certs.d:/etc/docker/certs.d/docker.io").is_dir());
        // A second installation takes it up again.
        ensure(opened(), &LIST).unwrap();
        fs::remove_dir(base.path().join("certs.d:/etc/docker/certs.d/docker.io")).unwrap();
        prune(&opened(), &LIST).unwrap();
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
