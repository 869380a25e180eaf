//! The log under durable topics: appended records, group commit, replay after a crash, compaction.
//!
//! A log is a directory that one process has open. It takes in messages that slots wait for, and what becomes
//! of them: a [`Transaction`] is one record, so what is in it takes effect together or not at all. It knows no
//! topics and no patterns; a message is bytes, an id and the slots that it is for.
//!
//! * **Promise.** Once [`Durable`] has resolved, the record outlives a kill and, with
//!   [`SyncPolicy::EachBatch`], a power cut. A message is kept until each of its slots is done with it.
//!   [`Log::open`] gives everything back: who waits for what, in order, with attempts and due times.
//! * **Group commit.** Records gather under one lock while one thread writes and syncs what gathered before. All
//!   who wait for a batch share one allocation and get one wake each. Those who were told of the last one have a
//!   moment to come back, as long as they do: one who is alone waits for nobody.
//! * **Files.** Segments of a fixed size, whose space is allocated before they are used. A segment whose records
//!   nobody needs becomes the next one's file: written blocks sync faster than fresh ones. Only the oldest
//!   segment is ever freed, so what an acknowledgement is about is gone before the acknowledgement is. What
//!   is still needed of old segments is moved forward when more than half of the space is of no use.
//! * **Recovery.** A batch that a crash cut off is cut away; it was not confirmed. Damage to what was confirmed
//!   is reported with file and offset ([`Recovery::damage`]), and everything that can still be found is
//!   kept: refusing to open would hold all other messages back for the sake of one. The end of the last
//!   segment is written once more and synced, since what can be read back is not always on disk.
//! * **Trouble.** When there is no room for another segment the publisher is told ([`LogError::NoSpace`],
//!   [`LogError::Quota`]), while the one in use is left to acknowledgements, which make room; then it goes
//!   on by itself. Any other failure to write or sync shuts the log ([`LogError::Broken`]): after a failed
//!   sync the kernel may call pages clean that never got to the disk, so a second one would prove nothing.
//! * **Threads.** One lock for the batch that gathers, one for the index; never both at once, and none across
//!   a write or a sync. The writer is joined when the last [`Log`] is dropped. Dropping a future takes back
//!   nothing: what was handed over is written.
//!
//! The form on disk is described in `frame` (how a record is framed and checked) and `record` (what is in it).

mod batch;
mod compact;
mod company;
mod disk;
mod files;
mod frame;
mod front;
mod house;
mod index;
mod lock;
mod log;
mod open;
mod options;
mod read;
mod record;
mod recover;
mod room;
#[cfg(test)]
mod sim;
mod transaction;
mod window;
mod writer;

pub use batch::Durable;
pub use log::{Log, LogError, Pending, Slot, Stats};
pub use open::OpenError;
pub use options::{Options, SyncPolicy};
pub use read::{ReadError, Stored};
pub use recover::{Damage, Recovery};
pub use transaction::{Message, Placed, Receipt, Settlement, SlotId, Transaction};
