//! What a disk may be unable to do.

use fuser::Errno;

/// Why a disk does not do what it is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes no more bytes and no more names (ENOSPC).
    Full,
    /// Whoever writes has had all that is theirs (EDQUOT).
    OverQuota,
    /// It was mounted anew, as kernels do after an error (EROFS).
    ReadOnly,
    /// Bytes that are to be written are lost (EIO).
    FailingWrites,
    /// What was written does not get to the medium (EIO from fsync).
    FailingSyncs,
    /// What is there cannot be read (EIO).
    FailingReads,
}

/// What is asked of a disk, as far as it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A new name: a file, a directory, a link.
    Name,
    /// Bytes for a file.
    Write,
    /// A name that goes or moves, which takes no room.
    Rename,
    Sync,
    Read,
}

impl Fault {
    pub(super) fn of(self, operation: Operation) -> Result<(), Errno> {
        use Operation::{Name, Read, Rename, Sync, Write};
        match (self, operation) {
            (Self::Full, Name | Write) => Err(Errno::ENOSPC),
            (Self::OverQuota, Name | Write) => Err(Errno::EDQUOT),
            (Self::ReadOnly, Name | Write | Rename) => Err(Errno::EROFS),
            (Self::FailingWrites, Write) | (Self::FailingSyncs, Sync) | (Self::FailingReads, Read) => Err(Errno::EIO),
            _ => Ok(()),
        }
    }
}
