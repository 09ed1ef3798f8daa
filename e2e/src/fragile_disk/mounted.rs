//! A [`Disk`] as the kernel asks for it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::disk::{Disk, Ino};
use super::fault::Operation;

/// The kernel is to remember nothing: after a power cut it would be wrong.
const REMEMBERED: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);

type Listed = Vec<(Ino, bool, OsString)>;

/// What FUSE calls.
#[derive(Debug)]
pub(super) struct Mounted {
    disk: Arc<Mutex<Disk>>,
    /// Directories that are being read, as they were when that began.
    listed: Mutex<(u64, HashMap<u64, Listed>)>,
}

impl Mounted {
    pub(super) fn new(disk: Arc<Mutex<Disk>>) -> Self {
        Self { disk, listed: Mutex::default() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self) -> MutexGuard<'_, (u64, HashMap<u64, Listed>)> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attributes(disk: &Disk, ino: Ino) -> Result<FileAttr, Errno> {
    let inode = disk.get(ino)?;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size: inode.size(),
        blocks: inode.size().div_ceil(512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: inode.changed,
        ctime: inode.changed,
        crtime: SystemTime::UNIX_EPOCH,
        kind: if inode.is_directory() { FileType::Directory } else { FileType::RegularFile },
        perm: if inode.is_directory() { 0o755 } else { 0o644 },
        nlink: 1,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn answer_entry(found: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match found {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn answer_empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk();
        answer_entry(disk.lookup(parent.0, name).and_then(|ino| attributes(&disk, ino)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&self.disk(), ino.0) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        let truncated =
            disk.can(Operation::Rename).and_then(|()| size.map_or(Ok(()), |size| disk.truncate(ino.0, size)));
        match truncated.and_then(|()| attributes(&disk, ino.0)) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let mut disk = self.disk();
        let created = disk.can(Operation::Name).and_then(|()| disk.create(parent.0, name, true));
        answer_entry(created.and_then(|ino| attributes(&disk, ino)), reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        let created = disk.can(Operation::Name).and_then(|()| disk.create(parent.0, name, false));
        match created.and_then(|ino| attributes(&disk, ino)) {
            Ok(attributes) => {
                reply.created(&REMEMBERED, &attributes, GENERATION, FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut disk = self.disk();
        let linked = disk.can(Operation::Name).and_then(|()| disk.link(ino.0, parent.0, name));
        answer_entry(linked.and_then(|()| attributes(&disk, ino.0)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        answer_empty(disk.can(Operation::Rename).and_then(|()| disk.remove(parent.0, name, false)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut disk = self.disk();
        answer_empty(disk.can(Operation::Rename).and_then(|()| disk.remove(parent.0, name, true)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let mut disk = self.disk();
        let renamed =
            disk.can(Operation::Rename).and_then(|()| disk.rename((parent.0, name), (new_parent.0, new_name)));
        answer_empty(renamed, reply);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.disk().get(ino.0) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let disk = self.disk();
        match disk.can(Operation::Read).and_then(|()| disk.read(ino.0, offset, size)) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disk = self.disk();
        match disk.can(Operation::Write).and_then(|()| disk.write(ino.0, offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut disk = self.disk();
        answer_empty(disk.can(Operation::Sync).and_then(|()| disk.sync_file(ino.0)), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let mut disk = self.disk();
        answer_empty(disk.can(Operation::Sync).and_then(|()| disk.sync_directory(ino.0)), reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let disk = self.disk();
        match disk.can(Operation::Read).and_then(|()| disk.list(ino.0)) {
            Ok(names) => {
                let mut listed = self.listed();
                listed.0 += 1;
                let handle = listed.0;
                listed.1.insert(handle, names);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.listed();
        let Some(names) = listed.1.get(&handle.0) else { return reply.error(Errno::EBADF) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (ino, is_directory, name)) in names.iter().enumerate().skip(from) {
            let kind = if *is_directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(*ino), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.listed().1.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 30, 1 << 29, 1 << 29, 1 << 30, 1 << 29, 4096, 255, 4096);
    }
}
