//! How a log is kept.

use std::time::Duration;

/// When what was written is made to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// Before it is confirmed, once for all that came together: a confirmed record outlives a power cut.
    #[default]
    EachBatch,
    /// Confirmed when written, synced no later than this: a confirmed record outlives the process, and a
    /// power cut costs at most the records of this time.
    Interval(Duration),
    /// Confirmed when written, synced when a segment is full: the operating system decides the rest.
    Never,
}

/// Settings of a log.
#[derive(Debug, Clone)]
pub struct Options {
    /// When records are made to last.
    pub sync: SyncPolicy,
    /// The size of a segment file in bytes, kept between 64 KiB and 1 GiB. A record takes at most a quarter.
    pub segment_size: u32,
    /// The most bytes that all files take; at least six segments.
    pub max_bytes: u64,
    /// The most messages that may wait at once, each of which takes about 100 bytes of memory. What follows from
    /// messages that are settled with it comes in past that, one for one.
    pub max_messages: usize,
    /// How many ids of messages are remembered, so that a second message of the same id is dropped; at most one
    /// for each 64 bytes of a segment, so that moving them never takes more than half of one.
    pub remembered_ids: usize,
    /// How long an id is remembered.
    pub remembered_for: Duration,
}

impl Default for Options {
    /// Each batch is synced; segments of 64 MiB, 8 GiB at most; 4 million messages; 131,072 ids for two minutes.
    fn default() -> Self {
        Self {
            sync: SyncPolicy::EachBatch,
            segment_size: 64 << 20,
            max_bytes: 8 << 30,
            max_messages: 4 << 20,
            remembered_ids: 1 << 17,
            remembered_for: Duration::from_secs(120),
        }
    }
}

impl Options {
    /// The same with sizes brought within what is possible.
    pub(crate) fn checked(mut self) -> Self {
        self.segment_size = self.segment_size.clamp(64 << 10, 1 << 30).next_multiple_of(4096);
        self.max_bytes = self.max_bytes.max(6 * u64::from(self.segment_size));
        self.remembered_ids = self.remembered_ids.min(self.segment_size as usize / 64);
        self
    }

    /// The largest body of a record.
    pub(crate) fn max_record(&self) -> usize {
        self.segment_size as usize / 4 - 1024
    }

    /// How many bytes are gathered for the next batch before publishers wait.
    pub(crate) fn max_gathered(&self) -> usize {
        (self.segment_size as usize / 4).min(8 << 20)
    }
}
