//! What waits to be written to a client.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::buffers;

/// How many pieces go out with one call at most.
const PIECES: usize = 16;

/// A piece that has less room than this takes no further message, so that few outgrow their buffer.
const RESERVE: usize = 4 * 1024;

/// Bytes in the order in which they go out. Holds no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    pieces: VecDeque<Vec<u8>>,
    /// How much of the first piece has gone out.
    written: usize,
    pending: usize,
}

impl Outbound {
    /// How many bytes wait.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Adds what `write` writes at the end of the buffer that it is given.
    pub(super) fn append<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let has_room = |piece: &&mut Vec<u8>| piece.len() + RESERVE <= buffers::SIZE;
        let piece = match self.pieces.back_mut().filter(has_room) {
            Some(piece) => piece,
            None => self.pieces.push_back_mut(buffers::take()),
        };
        let before = piece.len();
        let result = write(piece);
        self.pending += piece.len() - before;
        result
    }

    /// Writes until nothing is left.
    pub(super) fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        writer: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pending > 0 {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let (mut skip, mut count) = (self.written, 0);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece.get(skip..).unwrap_or_default());
                (skip, count) = (0, count + 1);
            }
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut *writer).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Pin::new(writer).poll_flush(cx)
    }

    fn advance(&mut self, written: usize) {
        self.pending = self.pending.saturating_sub(written);
        self.written += written;
        while let Some(first) = self.pieces.front()
            && first.len() <= self.written
        {
            self.written -= first.len();
            self.pieces.pop_front().into_iter().for_each(buffers::give);
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn all_of_it_goes_out_in_order_and_nothing_is_kept() {
        let mut outbound = Outbound::default();
        let mut expected = Vec::new();
        for number in 0..20_000_u32 {
            let text = vec![u8::try_from(number % 251).unwrap(); (number % 97) as usize];
            expected.extend_from_slice(&text);
            outbound.append(|out| out.extend_from_slice(&text));
        }
        assert_eq!(outbound.pending(), expected.len());
        let (mut reader, mut writer) = tokio::io::duplex(1000);
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).await.unwrap();
            all
        });
        poll_fn(|cx| outbound.poll_flush(&mut writer, cx)).await.unwrap();
        drop(writer);
        assert_eq!(read.await.unwrap(), expected);
        assert_eq!((outbound.pending(), outbound.pieces.capacity()), (0, 0));
    }
}
