//! Bytes over a stream, bounded; each request and each answer is one whole stream direction.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::limits::{READ_BYTES_MAX, READ_CHUNK_BYTES};

/// Reads and writes opaque requests and answers of a bounded length; clones share one bound on all that is being read.
#[derive(Debug, Clone)]
pub(crate) struct Bounded {
    request_max: usize,
    answer_max: usize,
    reading: Arc<AtomicUsize>,
}

impl Bounded {
    pub(crate) fn new(request_max: usize, answer_max: usize) -> Self {
        Self { request_max, answer_max, reading: Arc::new(AtomicUsize::new(0)) }
    }
}

/// Bytes that one stream holds of the bound, given back when it is read or dropped.
struct Share<'a> {
    of: &'a AtomicUsize,
    bytes: usize,
}

impl Share<'_> {
    fn grow(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes;
        if self.of.fetch_add(bytes, Ordering::Relaxed) + bytes > READ_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "peers send too much at once"));
        }
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Codec for Bounded {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.request_max, &self.reading).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.answer_max, &self.reading).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&answer).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(
    io: &mut T,
    max: usize,
    reading: &AtomicUsize,
) -> io::Result<Vec<u8>> {
    let (mut bytes, mut share) = (Vec::new(), Share { of: reading, bytes: 0 });
    loop {
        let before = bytes.len();
        let chunk = READ_CHUNK_BYTES.min(max + 1 - before);
        share.grow(chunk)?;
        (&mut *io).take(chunk as u64).read_to_end(&mut bytes).await?;
        if bytes.len() > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame exceeds {max} bytes")));
        }
        if bytes.len() < before + chunk {
            return Ok(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn frame_of_the_limit_is_read_and_one_byte_more_is_refused() {
        let reading = AtomicUsize::new(0);
        for len in [0, 1, READ_CHUNK_BYTES - 1, READ_CHUNK_BYTES, READ_CHUNK_BYTES + 1, 3 * READ_CHUNK_BYTES]
        {
            let bytes = vec![7_u8; len];
            assert!(matches!(read(&mut Cursor::new(&bytes), len, &reading).await, Ok(read) if read == bytes));
            let short = len.checked_sub(1);
            if let Some(max) = short {
                assert!(read(&mut Cursor::new(&bytes), max, &reading).await.is_err(), "{len} bytes");
            }
        }
        assert_eq!(reading.load(Ordering::Relaxed), 0, "every share is given back");
    }

    #[tokio::test]
    async fn frame_is_refused_while_too_much_is_being_read() {
        let reading = AtomicUsize::new(READ_BYTES_MAX - READ_CHUNK_BYTES);
        let (fits, too_much) = (vec![7_u8; 10], vec![7_u8; 2 * READ_CHUNK_BYTES]);
        assert!(read(&mut Cursor::new(&fits), 10, &reading).await.is_ok());
        assert!(read(&mut Cursor::new(&too_much), too_much.len(), &reading).await.is_err());
    }
}
