//! How a record stands in a segment: framed, checked, found again behind damage.
//!
//! A frame is a head of [`HEAD`] bytes and a body, padded to eight bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | [`MAGIC`] |
//! | 4..8 | CRC32C of all that follows, padding aside |
//! | 8..12 | length of the body |
//! | 12..16 | number of the segment: what a recycled file held before is not taken for a record |
//! | 16..20 | up to where the segment was synced when this was written |
//! | 20..24 | when, in seconds of Unix time |
//! | 24..32 | number of the record, counted over all segments |
//!
//! `synced` tells a torn tail from damage. Nothing is written behind a batch before that batch is synced, so
//! a broken place below the `synced` of a later frame was whole once: it is damage to something promised. A
//! broken place that no later frame vouches for is the tail of a batch that a crash cut off.

/// The length of a frame's head.
pub(crate) const HEAD: usize = 32;

/// Frames start at multiples of this.
pub(crate) const ALIGN: usize = 8;

/// The first bytes of a frame; the digit is the version of the form.
const MAGIC: [u8; 4] = *b"ECL1";

/// What is known of a frame only when it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) segment: u32,
    pub(crate) synced: u32,
    pub(crate) time: u32,
    pub(crate) number: u64,
}

/// A whole frame within a segment's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Where it starts.
    pub(crate) offset: usize,
    pub(crate) synced: u32,
    pub(crate) number: u64,
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    /// Where the next frame starts.
    pub(crate) fn end(&self) -> usize {
        self.offset + frame_len(self.body.len())
    }
}

/// The bytes that a frame with such a body takes.
pub(crate) fn frame_len(body: usize) -> usize {
    (HEAD + body).next_multiple_of(ALIGN)
}

/// Leaves room for a head; the body is to be appended to `buffer`. Gives what [`finish`] wants.
pub(crate) fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEAD]);
    start
}

/// Ends the frame that [`begin`] began: all but the stamp is there.
pub(crate) fn finish(buffer: &mut Vec<u8>, start: usize) {
    // Callers keep bodies below the size of a segment, which fits.
    let len = (buffer.len() - start - HEAD) as u32;
    if let Some(place) = buffer.get_mut(start + 8..start + 12) {
        place.copy_from_slice(&len.to_le_bytes());
    }
    buffer.resize(buffer.len().next_multiple_of(ALIGN), 0);
}

/// Stamps each of the finished frames in `frames`, numbering them from `stamp.number`; gives the next number.
pub(crate) fn stamp_all(mut frames: &mut [u8], mut stamp: Stamp) -> u64 {
    while let Some(len) = u32_at(frames, 8) {
        let Some((frame, rest)) = frames.split_at_mut_checked(frame_len(len as usize)) else {
            break;
        };
        put(frame, &stamp, HEAD + len as usize);
        stamp.number += 1;
        frames = rest;
    }
    stamp.number
}

/// The bodies of finished frames that stand one after another, each with its frame's offset.
pub(crate) fn bodies(frames: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = u32_at(frames.get(at..)?, 8)? as usize;
        let body = frames.get(at + HEAD..at + HEAD + len)?;
        let offset = at;
        at += frame_len(len);
        Some((offset, body))
    })
}

fn put(frame: &mut [u8], stamp: &Stamp, len: usize) {
    let mut set = |at: usize, bytes: &[u8]| {
        if let Some(place) = frame.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    set(0, &MAGIC);
    set(12, &stamp.segment.to_le_bytes());
    set(16, &stamp.synced.to_le_bytes());
    set(20, &stamp.time.to_le_bytes());
    set(24, &stamp.number.to_le_bytes());
    let crc = crc32c::crc32c(frame.get(8..len).unwrap_or_default());
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// The length that the head at the start of `bytes` claims for its frame, if it is a head at all. It is to be
/// believed only once [`frame_at`] has checked the frame.
pub(crate) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.starts_with(&MAGIC).then(|| u32_at(bytes, 8))??;
    Some(frame_len(len as usize))
}

/// Whether bytes begin with a frame of this segment that is not whole.
pub(crate) fn is_torn(bytes: &[u8], segment: u32) -> bool {
    bytes.starts_with(&MAGIC) && u32_at(bytes, 12) == Some(segment)
}

/// The frame at `offset`, if a whole one of this segment stands there.
pub(crate) fn frame_at(bytes: &[u8], offset: usize, segment: u32) -> Option<Frame<'_>> {
    let head = bytes.get(offset..)?.get(..HEAD)?;
    if !head.starts_with(&MAGIC) || u32_at(head, 12)? != segment {
        return None;
    }
    let len = u32_at(head, 8)? as usize;
    let end = offset.checked_add(HEAD)?.checked_add(len)?;
    let checked = bytes.get(offset + 8..end)?;
    if crc32c::crc32c(checked) != u32_at(head, 4)? {
        return None;
    }
    let number = head.get(24..32)?.try_into().map(u64::from_le_bytes).ok()?;
    let body = checked.get(HEAD - 8..)?;
    Some(Frame { offset, synced: u32_at(head, 16)?, number, body })
}

/// The first whole frame at or behind `from`, wherever it starts.
pub(crate) fn find_frame(bytes: &[u8], from: usize, segment: u32) -> Option<Frame<'_>> {
    let from = from.next_multiple_of(ALIGN);
    let places = bytes.get(from..)?.chunks(ALIGN).enumerate();
    let starts = places.filter(|(_, place)| place.starts_with(&MAGIC));
    starts.map(|(at, _)| from + at * ALIGN).find_map(|at| frame_at(bytes, at, segment))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().map(u32::from_le_bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bodies: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in bodies {
            let start = begin(&mut bytes);
            bytes.extend_from_slice(body);
            finish(&mut bytes, start);
        }
        let stamp = Stamp { segment: 3, synced: 0, time: 9, number: 70 };
        assert_eq!(stamp_all(&mut bytes, stamp), 70 + bodies.len() as u64);
        bytes
    }

    fn all(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(frame) = frame_at(bytes, at, 3) {
            found.push((frame.number, frame.body.to_vec()));
            at = frame.end();
        }
        found
    }

    #[test]
    fn frames_read_back_and_those_of_another_segment_do_not() {
        let bytes = segment(&[b"", b"a", b"12345678", b"a longer one"]);
        let found = all(&bytes);
        assert_eq!(found.len(), 4);
        assert_eq!(found[3], (73, b"a longer one".to_vec()));
        assert!(frame_at(&bytes, 0, 4).is_none());
        assert_eq!(claimed_len(&bytes), Some(HEAD));
    }

    #[test]
    fn what_lies_behind_damage_is_found_again() {
        let mut bytes = segment(&[b"first", b"second", b"third"]);
        bytes[HEAD + 1] ^= 1;
        assert!(frame_at(&bytes, 0, 3).is_none());
        let next = find_frame(&bytes, 0, 3).unwrap();
        assert_eq!((next.number, next.body), (71, &b"second"[..]));
    }

    proptest::proptest! {
        #[test]
        fn a_flipped_bit_breaks_its_own_frame_alone(
            bodies in proptest::collection::vec(proptest::collection::vec(0u8.., 0..40), 1..6),
            at in 0usize..4096,
            bit in 0u8..8,
        ) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let whole = segment(&bodies);
            let mut broken = whole.clone();
            let at = at % broken.len();
            broken[at] ^= 1 << bit;
            let found = all(&broken);
            let expected = all(&whole);
            // Padding is not covered: a flip there may go unseen, and does no harm.
            proptest::prop_assert_eq!(&expected[..found.len()], &found[..]);
            if let Some(next) = found.len().checked_add(1).filter(|next| *next < expected.len()) {
                let end = expected[..found.len()].iter().map(|(_, b)| frame_len(b.len())).sum();
                let frame = find_frame(&broken, end, 3).unwrap();
                proptest::prop_assert_eq!(frame.number, 70 + next as u64);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(bytes: Vec<u8>, at in 0usize..64) {
            let mut bytes = bytes;
            let _ = frame_at(&bytes, at, 3);
            bytes.splice(0..0, MAGIC);
            let _ = (claimed_len(&bytes), frame_at(&bytes, 0, 3), find_frame(&bytes, at, 3));
        }
    }
}
