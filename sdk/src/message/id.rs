//! Ids of fresh messages.

use std::cell::Cell;

use uuid::{NoContext, Timestamp, Uuid};

/// What is random in a UUIDv7 below its first twelve bits.
const LOW: u64 = (1 << 62) - 1;

/// The id that a thread gave last.
#[derive(Debug, Clone, Copy)]
struct Last {
    millis: u64,
    high: u16,
    low: u64,
}

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last { millis: u64::MAX, high: 0, low: 0 }) };
}

/// A UUIDv7 of the message's own time, in nanoseconds since 1970, so that the clock is read once.
///
/// Each thread begins each millisecond at a random number of 74 bits and counts on from there, which is the monotonic
/// random method of RFC 9562, 6.2: ids of one thread and millisecond stand in their order, and random numbers are drawn
/// a thousand times a second, not for each message.
pub(super) fn fresh(timestamp_nanos: i64) -> Uuid {
    let millis = u64::try_from(timestamp_nanos).unwrap_or_default() / 1_000_000;
    let last = LAST.get();
    let next = if last.millis == millis {
        Last { low: last.low.wrapping_add(1) & LOW, ..last }
    } else {
        let (seconds, subsecond) = (millis / 1000, (millis % 1000) as u32 * 1_000_000);
        let random = Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, subsecond));
        let (high, low) = random.as_u64_pair();
        Last { millis, high: (high & 0xfff) as u16, low: low & LOW }
    };
    LAST.set(next);
    let high = (millis << 16) | 0x7000 | u64::from(next.high);
    Uuid::from_u64_pair(high, 0x8000_0000_0000_0000 | next.low)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_say_their_time_and_stand_in_order() {
        let nanos = 1_700_000_000_123_456_789;
        let ids: Vec<Uuid> = (0..1000).map(|_| fresh(nanos)).collect();
        for id in &ids {
            assert_eq!(id.get_version(), Some(uuid::Version::SortRand));
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            let (seconds, subsecond) = id.get_timestamp().unwrap().to_unix();
            assert_eq!((seconds, subsecond), (1_700_000_000, 123_000_000));
        }
        assert!(ids.is_sorted());
        assert!(fresh(nanos + 1_000_000) > ids[999]);
    }

    #[test]
    fn threads_and_milliseconds_begin_anew() {
        let of_a_thread = || (0..1000).map(|step| fresh(step * 500_000)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(of_a_thread)).collect();
        let ids: HashSet<Uuid> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.len(), 4000);
    }

    #[test]
    fn a_time_before_1970_is_none() {
        assert_eq!(fresh(-5).get_timestamp().unwrap().to_unix(), (0, 0));
    }
}
