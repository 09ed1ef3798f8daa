//! Large values on their way out.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

/// A large value that has been opened.
pub(crate) struct Content {
    size: u64,
    source: Source,
}

enum Source {
    File { file: Arc<File>, reads: FileReads },
    Object(Box<dyn FnOnce(Range<u64>) -> BoxStream<'static, io::Result<Bytes>> + Send>),
}

/// How a file's bytes are best had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileReads {
    /// On this thread if they are in the page cache, else on the pool.
    CachedInline,
    /// On this thread: the file system is memory.
    Inline,
}

impl Content {
    pub(crate) const fn of_file(file: Arc<File>, size: u64, reads: FileReads) -> Self {
        Self { size, source: Source::File { file, reads } }
    }

    pub(crate) fn of_object(
        size: u64,
        open: impl FnOnce(Range<u64>) -> BoxStream<'static, io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self { size, source: Source::Object(Box::new(open)) }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range, which must lie within the value.
    pub(crate) fn stream(self, range: Range<u64>) -> ContentStream {
        ContentStream(match self.source {
            Source::File { file, reads } => Inner::File(FileStream::new(file, reads, range)),
            // A range of nothing cannot be asked for in HTTP.
            Source::Object(_) if range.is_empty() => Inner::Object(futures::stream::empty().boxed()),
            Source::Object(open) => Inner::Object(open(range)),
        })
    }
}

/// The bytes of a blob, or of a range of it.
pub struct ContentStream(Inner);

enum Inner {
    File(FileStream),
    Object(BoxStream<'static, io::Result<Bytes>>),
}

impl Stream for ContentStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::File(stream) => stream.poll_next(cx),
            Inner::Object(stream) => stream.as_mut().poll_next(cx),
        }
    }
}

const FIRST_PIECE: usize = 64 * 1024;
const LARGEST_PIECE: usize = 512 * 1024;

/// Reads a file in pieces that grow while somebody takes them: a slow client holds 64 KiB, a fast one costs few calls.
struct FileStream {
    file: Arc<File>,
    reads: FileReads,
    offset: u64,
    end: u64,
    piece: usize,
    waiting: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileStream {
    const fn new(file: Arc<File>, reads: FileReads, range: Range<u64>) -> Self {
        Self { file, reads, offset: range.start, end: range.end, piece: FIRST_PIECE, waiting: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(waiting) = &mut self.waiting {
            let read = ready!(waiting.poll_unpin(cx)).unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
            self.waiting = None;
            return Poll::Ready(Some(read.map(|bytes| self.advance(bytes))));
        }
        if self.offset >= self.end {
            return Poll::Ready(None);
        }
        let len = usize::try_from(self.end - self.offset).map_or(self.piece, |left| left.min(self.piece));
        match self.read_now(len) {
            Some(read) => Poll::Ready(Some(read.map(|bytes| self.advance(bytes)))),
            None => {
                let (file, offset) = (Arc::clone(&self.file), self.offset);
                self.waiting = Some(tokio::task::spawn_blocking(move || read_whole(&file, offset, len)));
                self.poll_next(cx)
            }
        }
    }

    /// `None`: it would block.
    fn read_now(&self, len: usize) -> Option<io::Result<Bytes>> {
        if self.reads == FileReads::Inline {
            return Some(read_whole(&self.file, self.offset, len));
        }
        let mut piece = Piece::take(len);
        let mut slices = [io::IoSliceMut::new(&mut piece.bytes[..len])];
        match rustix::io::preadv2(&self.file, &mut slices, self.offset, ReadWriteFlags::NOWAIT) {
            // Short at the edge of what is cached: what came is good, and the rest is fetched by the next call.
            Ok(read) if read > 0 => Some(Ok(piece.into_bytes(read))),
            Ok(_) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => None,
            Err(errno) => Some(Err(errno.into())),
        }
    }

    fn advance(&mut self, bytes: Bytes) -> Bytes {
        self.offset += bytes.len() as u64;
        self.piece = (self.piece * 2).min(LARGEST_PIECE);
        bytes
    }
}

fn read_whole(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut piece = Piece::take(len);
    file.read_exact_at(&mut piece.bytes[..len], offset)?;
    Ok(piece.into_bytes(len))
}

/// A buffer that goes back to be used again when the connection has sent it: clearing memory for each read would cost a
/// quarter of the time that reading takes.
struct Piece {
    bytes: Vec<u8>,
    len: usize,
}

/// Spare buffers of [`LARGEST_PIECE`], 8 MiB at most.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
const SPARES: usize = 16;

impl Piece {
    fn take(len: usize) -> Self {
        if len <= FIRST_PIECE {
            return Self { bytes: vec![0; len], len };
        }
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { bytes: spare.unwrap_or_else(|| vec![0; LARGEST_PIECE]), len }
    }

    fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.len() == LARGEST_PIECE {
            let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < SPARES {
                spare.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}
