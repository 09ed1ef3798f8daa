//! Large values on their way out.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

/// A range of a large value that has been opened.
pub(crate) struct Content {
    size: u64,
    stream: ContentStream,
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
    pub(crate) fn of_file(file: Arc<File>, size: u64, reads: FileReads, range: Range<u64>) -> Self {
        Self { size, stream: ContentStream(Inner::File(FileStream::new(file, reads, range))) }
    }

    pub(crate) fn of_object(size: u64, stream: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self { size, stream: ContentStream::of_pieces(stream) }
    }

    /// Of a value of `size` bytes those that were wanted, and have been read.
    pub(crate) fn of_bytes(size: u64, bytes: Bytes) -> Self {
        Self { size, stream: ContentStream::of_bytes(bytes) }
    }

    /// The size of the whole value, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of the range.
    pub(crate) fn stream(self) -> ContentStream {
        self.stream
    }
}

/// The bytes of a blob, or of a range of it.
pub struct ContentStream(Inner);

enum Inner {
    File(FileStream),
    Memory(Option<Bytes>),
    Object(BoxStream<'static, io::Result<Bytes>>),
}

impl ContentStream {
    /// Bytes that are there.
    pub(crate) fn of_bytes(bytes: Bytes) -> Self {
        Self(Inner::Memory((!bytes.is_empty()).then_some(bytes)))
    }

    /// Bytes that come.
    pub(crate) fn of_pieces(pieces: BoxStream<'static, io::Result<Bytes>>) -> Self {
        Self(Inner::Object(pieces))
    }
}

impl Stream for ContentStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::File(stream) => stream.poll_next(cx),
            Inner::Memory(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Inner::Object(stream) => stream.as_mut().poll_next(cx),
        }
    }
}

const SMALL_PIECE: usize = 64 * 1024;
const LARGE_PIECE: usize = 1024 * 1024;

/// Who takes longer for a piece is given a small one next, and leaves the large ones to those who have a use for them.
const SLOW: Duration = Duration::from_millis(100);

/// Reads a file in pieces that grow while somebody takes them. Each costs two system calls and wakes its receiver, so large ones
/// make a fast client cost little; but a client that stops keeps its piece, so only so many are large at a time.
struct FileStream {
    file: Arc<File>,
    reads: FileReads,
    offset: u64,
    end: u64,
    piece: usize,
    handed_out: Instant,
    waiting: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileStream {
    fn new(file: Arc<File>, reads: FileReads, range: Range<u64>) -> Self {
        let (offset, end, handed_out) = (range.start, range.end, Instant::now());
        Self { file, reads, offset, end, piece: SMALL_PIECE, handed_out, waiting: None }
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
        if self.handed_out.elapsed() > SLOW {
            self.piece = SMALL_PIECE;
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
        let mut slices = [io::IoSliceMut::new(piece.as_mut())];
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
        self.piece = (self.piece * 2).min(LARGE_PIECE);
        self.handed_out = Instant::now();
        bytes
    }
}

/// `len` bytes, or fewer where there is no large piece left. Never short because the file is.
fn read_whole(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut piece = Piece::take(len);
    file.read_exact_at(piece.as_mut(), offset)?;
    let len = piece.len;
    Ok(piece.into_bytes(len))
}

/// A buffer that begins with a page, as the cached pages do that are copied into it. malloc(3) gives large ones 16 bytes behind
/// the beginning of one, and for that distance the copying of some processors (AMD's, `rep movsb`) takes twice as long.
///
/// A large one goes back to be used again when the connection has sent it: clearing memory for each read would cost a
/// quarter of the time that reading takes.
struct Piece {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

const PAGE: usize = 4096;

/// The large buffers of this process.
struct Large {
    spare: Vec<Vec<u8>>,
    in_use: usize,
}

static LARGE: Mutex<Large> = Mutex::new(Large { spare: Vec::new(), in_use: 0 });

/// How many large buffers are in use at a time, at most: 16 MiB.
const MOST_LARGE: usize = 16;
/// How many of them are kept while nobody needs them.
const MOST_SPARE: usize = 8;

impl Piece {
    /// A buffer for `len` bytes, or a small one if it would be one large buffer too many.
    fn take(len: usize) -> Self {
        let large = (len > SMALL_PIECE).then(Self::large).flatten();
        let len = if large.is_some() { len } else { len.min(SMALL_PIECE) };
        let bytes = large.unwrap_or_else(|| vec![0; len + PAGE]);
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        Self { bytes, start, len }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn large() -> Option<Vec<u8>> {
        let mut large = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
        if large.in_use >= MOST_LARGE {
            return None;
        }
        large.in_use += 1;
        let spare = large.spare.pop();
        drop(large);
        Some(spare.unwrap_or_else(|| vec![0; LARGE_PIECE + PAGE]))
    }

    fn into_bytes(mut self, len: usize) -> Bytes {
        self.len = len;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.len() == LARGE_PIECE + PAGE {
            let mut large = LARGE.lock().unwrap_or_else(PoisonError::into_inner);
            large.in_use = large.in_use.saturating_sub(1);
            if large.spare.len() < MOST_SPARE {
                large.spare.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    #[tokio::test]
    async fn large_pieces_are_for_some_and_everyone_gets_all_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..4_u32 << 20).map(|n| (n >> 7) as u8).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let file = Arc::new(file);
        let mut kept = Vec::new();
        for _ in 0..30 {
            let size = bytes.len() as u64;
            let content = Content::of_file(Arc::clone(&file), size, FileReads::CachedInline, 0..size);
            let pieces: Vec<Bytes> = content.stream().map(Result::unwrap).collect().await;
            assert!(pieces.concat() == bytes);
            assert!(LARGE.lock().unwrap().in_use <= MOST_LARGE);
            kept.push(pieces);
        }
        let large = kept.iter().flatten().filter(|piece| piece.len() > SMALL_PIECE).count();
        assert!(large <= MOST_LARGE && kept[0].len() < kept[29].len(), "{large}");
        drop(kept);
        assert!(LARGE.lock().unwrap().spare.len() <= MOST_SPARE);
    }
}
