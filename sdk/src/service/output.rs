//! What a command writes, in bounded memory.

use std::collections::VecDeque;

/// How many bytes of a command's output are kept: the last ones.
pub const MAX_OUTPUT: usize = 1024 * 1024;

/// The last [`MAX_OUTPUT`] bytes of a stream; as text it says when there was more.
#[derive(Debug, Default)]
pub struct OutputTail {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl OutputTail {
    /// Takes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        let bytes_kept = bytes.get(bytes.len().saturating_sub(MAX_OUTPUT)..).unwrap_or(bytes);
        let excess = (self.bytes.len() + bytes_kept.len()).saturating_sub(MAX_OUTPUT);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes_kept);
        self.dropped += (excess + bytes.len() - bytes_kept.len()) as u64;
    }

    /// The text; bytes that are no UTF-8 are replaced.
    pub fn into_text(self) -> String {
        let bytes: Vec<u8> = self.bytes.into();
        let text = String::from_utf8_lossy(&bytes);
        match self.dropped {
            0 => text.into_owned(),
            dropped => format!("[the first {dropped} bytes were cut]\n{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_output_is_kept_as_it_is() {
        let mut tail = OutputTail::default();
        tail.write(b"a\n");
        tail.write("\u{e4}".as_bytes());
        assert_eq!(tail.into_text(), "a\n\u{e4}");
    }

    #[test]
    fn of_long_output_the_end_is_kept() {
        for piece in [1000, MAX_OUTPUT - 1, MAX_OUTPUT + 7, 3 * MAX_OUTPUT] {
            let mut tail = OutputTail::default();
            let all: Vec<u8> = (0..3 * MAX_OUTPUT).map(|n| b'a' + (n % 23) as u8).collect();
            all.chunks(piece).for_each(|chunk| tail.write(chunk));
            let text = tail.into_text();
            let (head, kept) = text.split_once('\n').unwrap();
            assert_eq!(head, format!("[the first {} bytes were cut]", 2 * MAX_OUTPUT));
            assert_eq!(kept.as_bytes(), &all[2 * MAX_OUTPUT..], "pieces of {piece}");
        }
    }
}
