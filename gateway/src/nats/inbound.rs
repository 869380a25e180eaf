//! What came from a client and is not read yet.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::buffers;

/// The unread bytes of a connection. Holds no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    /// How much of the buffer is read.
    start: usize,
    /// How many unread bytes there have to be before it is worth a look.
    needed: usize,
}

impl Inbound {
    pub(super) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.buffer.len());
    }

    /// What is unread begins a command that takes at least so many bytes.
    pub(super) fn need(&mut self, needed: usize) {
        self.needed = needed;
    }

    /// Reads once, waiting for bytes; says whether there are as many as are needed. `waits` is told whether
    /// nothing has come.
    ///
    /// # Errors
    /// What reading fails with, and an unexpected end when the client has left.
    pub(super) async fn fill<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        waits: impl Fn(bool),
    ) -> io::Result<bool> {
        self.compact();
        let read = poll_fn(|cx| {
            let read = self.poll_read(reader, cx);
            waits(read.is_pending());
            read
        });
        match read.await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(self.buffer.len() >= self.needed),
        }
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let read = poll_read_buf(Pin::new(reader), cx, &mut self.buffer);
        if read.is_pending() && self.buffer.is_empty() {
            buffers::give(std::mem::take(&mut self.buffer));
        }
        read
    }

    /// Moves what is unread to the front.
    fn compact(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        // What a large message left behind.
        if self.buffer.is_empty() && self.buffer.capacity() > 2 * buffers::SIZE {
            self.buffer = Vec::new();
        }
    }

    /// Grows with what has come, never with what a length promises.
    fn make_room(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        }
        let len = self.buffer.len();
        if len == self.buffer.capacity() {
            let wanted = self.needed.saturating_sub(len);
            self.buffer.reserve_exact(wanted.clamp(1024, len.max(1024)));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn it_grows_with_what_comes_and_holds_nothing_when_idle() {
        let (mut client, mut server) = tokio::io::duplex(1 << 20);
        let mut inbound = Inbound::default();
        client.write_all(&[7; 1000]).await.unwrap();
        inbound.need(8 << 20);
        assert!(!inbound.fill(&mut server, |_| {}).await.unwrap());
        assert_eq!(inbound.unread().len(), 1000);
        assert!(inbound.buffer.capacity() <= buffers::SIZE, "it believed a length");
        inbound.need(301_000);
        client.write_all(&[7; 300_000]).await.unwrap();
        while !inbound.fill(&mut server, |_| {}).await.unwrap() {}
        assert_eq!(inbound.unread(), [7; 301_000]);
        assert!(inbound.buffer.capacity() <= 301_000 + buffers::SIZE);
        inbound.consume(301_000);
        let mut idle = Box::pin(inbound.fill(&mut server, |waits| assert!(waits)));
        assert!(futures_util::poll!(&mut idle).is_pending());
        drop(idle);
        assert_eq!(inbound.buffer.capacity(), 0);
        drop(client);
        assert!(inbound.fill(&mut server, |_| {}).await.is_err());
    }
}
