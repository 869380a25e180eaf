//! What stands in a record: one or more operations that take effect together or not at all.

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    /// The head of a segment: the numbers to be given out next, and where the segment before it ended.
    Head { seq: u64, slot: u32, before: u32 },
    /// A slot is known from here on.
    Slot { slot: u32, name: &'a str, about: &'a [u8] },
    /// A slot is gone, and nothing waits for it any more.
    Forget { slot: u32 },
    /// A message waits for these slots. One that is known already is replaced: it was moved.
    Message { seq: u64, id: &'a [u8; 16], time: u32, slots: SlotIds<'a>, body: &'a [u8] },
    /// A slot is done with a message.
    Ack { slot: u32, seq: u64 },
    /// A slot wants a message again, no earlier than `due` (milliseconds of Unix time).
    Nak { slot: u32, seq: u64, attempts: u16, due: u64 },
    /// A value of the keyed state, or that there is none any more.
    Put { key: &'a [u8], value: Option<&'a [u8]> },
    /// A message of this id came at that time; it is not needed itself any more.
    Seen { id: &'a [u8; 16], seq: u64, time: u32 },
}

/// The numbers of slots, as they stand in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotIds<'a>(&'a [u8]);

impl SlotIds<'_> {
    pub(crate) fn iter(self) -> impl Iterator<Item = u32> {
        self.0.chunks_exact(4).filter_map(|raw| raw.try_into().map(u32::from_le_bytes).ok())
    }
}

mod tag {
    pub(super) const HEAD: u8 = 1;
    pub(super) const SLOT: u8 = 2;
    pub(super) const FORGET: u8 = 3;
    pub(super) const MESSAGE: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const NAK: u8 = 6;
    pub(super) const PUT: u8 = 7;
    pub(super) const REMOVE: u8 = 8;
    pub(super) const SEEN: u8 = 9;
}

/// The bytes of a [`Op::Message`] besides its slots and its body.
pub(crate) const MESSAGE_OVERHEAD: usize = 1 + 8 + 16 + 4 + 2 + 4;

/// Writes operations to the end of a record's body.
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.0.extend_from_slice(&bytes);
        self
    }

    /// Bytes with their length before them. All callers check lengths before they begin.
    fn counted(&mut self, bytes: &[u8]) -> &mut Self {
        self.put((bytes.len() as u32).to_le_bytes()).0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn head(&mut self, seq: u64, slot: u32, before: u32) {
        self.put([tag::HEAD]).put(seq.to_le_bytes());
        self.put(slot.to_le_bytes()).put(before.to_le_bytes());
    }

    pub(crate) fn slot(&mut self, slot: u32, name: &str, about: &[u8]) {
        self.put([tag::SLOT]).put(slot.to_le_bytes()).counted(name.as_bytes()).counted(about);
    }

    pub(crate) fn forget(&mut self, slot: u32) {
        self.put([tag::FORGET]).put(slot.to_le_bytes());
    }

    pub(crate) fn message(
        &mut self,
        seq: u64,
        id: [u8; 16],
        time: u32,
        slots: impl ExactSizeIterator<Item = u32>,
        body: &[&[u8]],
    ) {
        self.put([tag::MESSAGE]).put(seq.to_le_bytes()).put(id).put(time.to_le_bytes());
        self.put((slots.len() as u16).to_le_bytes());
        for slot in slots {
            self.put(slot.to_le_bytes());
        }
        let len: usize = body.iter().map(|part| part.len()).sum();
        self.put((len as u32).to_le_bytes());
        body.iter().for_each(|part| self.0.extend_from_slice(part));
    }

    pub(crate) fn ack(&mut self, slot: u32, seq: u64) {
        self.put([tag::ACK]).put(slot.to_le_bytes()).put(seq.to_le_bytes());
    }

    pub(crate) fn nak(&mut self, slot: u32, seq: u64, attempts: u16, due: u64) {
        self.put([tag::NAK]).put(slot.to_le_bytes()).put(seq.to_le_bytes());
        self.put(attempts.to_le_bytes()).put(due.to_le_bytes());
    }

    pub(crate) fn value(&mut self, key: &[u8], value: Option<&[u8]>) {
        match value {
            Some(value) => self.put([tag::PUT]).counted(key).counted(value),
            None => self.put([tag::REMOVE]).counted(key),
        };
    }

    pub(crate) fn seen(&mut self, id: [u8; 16], seq: u64, time: u32) {
        self.put([tag::SEEN]).put(id).put(seq.to_le_bytes()).put(time.to_le_bytes());
    }
}

/// A record whose checksum is right holds what this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads operations from a record's body: each with its place in the body and its length.
#[derive(Debug)]
pub(crate) struct Ops<'a> {
    body: &'a [u8],
    at: usize,
}

/// Reads the operations of a record.
pub(crate) fn ops(body: &[u8]) -> Ops<'_> {
    Ops { body, at: 0 }
}

/// The operation that stands at a place of a record's body.
pub(crate) fn op_at(body: &[u8], at: usize) -> Option<Op<'_>> {
    Cursor(body.get(at..)?).op()
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<(usize, usize, Op<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.body.get(self.at..).filter(|rest| !rest.is_empty())?;
        let mut cursor = Cursor(rest);
        let Some(op) = cursor.op() else {
            self.at = self.body.len();
            return Some(Err(Malformed));
        };
        let (at, len) = (self.at, rest.len() - cursor.0.len());
        self.at += len;
        Some(Ok((at, len, op)))
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(|raw| u16::from_le_bytes(*raw))
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(|raw| u32::from_le_bytes(*raw))
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(|raw| u64::from_le_bytes(*raw))
    }

    fn counted(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn op(&mut self) -> Option<Op<'a>> {
        let [tag] = *self.array()?;
        Some(match tag {
            tag::HEAD => Op::Head { seq: self.u64()?, slot: self.u32()?, before: self.u32()? },
            tag::SLOT => {
                let (slot, name) = (self.u32()?, self.counted()?);
                Op::Slot { slot, name: str::from_utf8(name).ok()?, about: self.counted()? }
            }
            tag::FORGET => Op::Forget { slot: self.u32()? },
            tag::MESSAGE => {
                let (seq, id, time) = (self.u64()?, self.array()?, self.u32()?);
                let slots = self.u16()?;
                let slots = SlotIds(self.take(usize::from(slots) * 4)?);
                Op::Message { seq, id, time, slots, body: self.counted()? }
            }
            tag::ACK => Op::Ack { slot: self.u32()?, seq: self.u64()? },
            tag::NAK => {
                let (slot, seq) = (self.u32()?, self.u64()?);
                Op::Nak { slot, seq, attempts: self.u16()?, due: self.u64()? }
            }
            tag::PUT => Op::Put { key: self.counted()?, value: Some(self.counted()?) },
            tag::REMOVE => Op::Put { key: self.counted()?, value: None },
            tag::SEEN => Op::Seen { id: self.array()?, seq: self.u64()?, time: self.u32()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_back() {
        let mut body = Vec::new();
        let mut writer = Writer(&mut body);
        writer.head(1, 2, 3);
        writer.slot(4, "name", b"about");
        writer.forget(5);
        writer.message(6, [7; 16], 8, [9, 10].into_iter(), &[b"a", b"", b"bc"]);
        writer.ack(11, 12);
        writer.nak(13, 14, 15, 16);
        writer.value(b"key", Some(b""));
        writer.value(b"key", None);
        writer.seen([17; 16], 18, 19);
        let read: Vec<_> = ops(&body).map(Result::unwrap).collect();
        let expected = [
            Op::Head { seq: 1, slot: 2, before: 3 },
            Op::Slot { slot: 4, name: "name", about: b"about" },
            Op::Forget { slot: 5 },
            Op::Message {
                seq: 6,
                id: &[7; 16],
                time: 8,
                slots: SlotIds(&[9, 0, 0, 0, 10, 0, 0, 0]),
                body: b"abc",
            },
            Op::Ack { slot: 11, seq: 12 },
            Op::Nak { slot: 13, seq: 14, attempts: 15, due: 16 },
            Op::Put { key: b"key", value: Some(b"") },
            Op::Put { key: b"key", value: None },
            Op::Seen { id: &[17; 16], seq: 18, time: 19 },
        ];
        assert_eq!(read.iter().map(|(_, _, op)| *op).collect::<Vec<_>>(), expected);
        let (at, len, op) = read[3];
        assert_eq!(op_at(&body, at), Some(op));
        assert_eq!(len, MESSAGE_OVERHEAD + 2 * 4 + 3);
        assert_eq!(read.iter().map(|(_, len, _)| len).sum::<usize>(), body.len());
    }

    proptest::proptest! {
        #[test]
        fn no_body_is_too_strange(mut body: Vec<u8>, tag in 0u8..10) {
            body.insert(0, tag);
            let read = ops(&body).count();
            proptest::prop_assert!(read >= 1 && read <= body.len());
        }
    }
}
