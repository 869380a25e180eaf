//! What was confirmed survives a kill, and what was acknowledged does not come back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::process::Stdio;

use echo_log::{Log, Settlement, SlotId};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::{DIR, command, helper, helper_dir, message, number, options};

/// How often it is killed; `KILLS` asks for more.
fn rounds() -> u64 {
    std::env::var("KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

/// The first number that no message in the log, and none that was confirmed before, has.
const FIRST: &str = "FIRST_OF_HELPER";

/// Publishes without end and says `+n` once message n is confirmed, `?n` before it acknowledges it, and `-n` once
/// that is synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publisher() {
    let Some(dir) = helper_dir() else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (log, _) = Log::open(&dir, options()).unwrap();
    let (slot, durable) = log.register("slot", b"").unwrap();
    durable.await.unwrap();
    let publishers: Vec<_> = (0..32)
        .map(|at| tokio::spawn(publish(log.clone(), slot, first + at * 1_000_000)))
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

fn say(sign: char, n: u64) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{sign}{n}\n").as_bytes()).unwrap();
}

async fn publish(log: Log, slot: SlotId, first: u64) {
    let mut waiting = Vec::new();
    for n in first.. {
        let body = vec![n as u8; (n % 700) as usize];
        let receipt = log.try_append(message(n, &[slot], &[&body])).unwrap();
        let echo_log::Placed::New(seq) = receipt.placed[0] else { panic!("{n} is known") };
        receipt.durable.await.unwrap();
        say('+', n);
        waiting.push((n, seq));
        // Some wait for long, so that old segments have to be moved.
        while waiting.len() > 20 {
            let (n, seq) = waiting.swap_remove((n % 20) as usize);
            say('?', n);
            log.settle(slot, seq, Settlement::Done);
            if n.is_multiple_of(3) {
                log.flush().await.unwrap();
                say('-', n);
            }
        }
    }
}

#[test]
fn a_kill_loses_nothing_and_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut expected = Expected::default();
    for round in 0..rounds() {
        let mut publisher = command(&helper("killed::publisher"));
        publisher.env(DIR, dir.path()).env(FIRST, (round * ROUND).to_string());
        let mut publisher = publisher.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = publisher.stdout.take().unwrap();
        // By the amount of what it has said: at any moment of its work, whatever the machine's speed.
        let mut said = vec![0; 200 + random.next_u32() as usize % 60_000];
        out.read_exact(&mut said).unwrap();
        publisher.kill().unwrap();
        publisher.wait().unwrap();
        out.read_to_end(&mut said).unwrap();
        expected.hear(&String::from_utf8(said).unwrap());

        let (log, report) = Log::open(dir.path(), options()).unwrap();
        assert_eq!(report.damage, []);
        let slot = log.slots()[0].id;
        let pending = log.pending(slot, 0, usize::MAX);
        let found = pending.iter().map(|it| (number(&log, it.seq), it.seq)).collect();
        expected.check(&found, round);
        // What has waited for some rounds is done with, so that the disk does not fill.
        for (n, seq) in found.range(..round.saturating_sub(3) * ROUND) {
            log.settle(slot, *seq, Settlement::Done);
            expected.kept.remove(n);
            expected.done.insert(*n);
        }
    }
    println!("{} rounds, {} messages confirmed", rounds(), expected.confirmed);
    assert!(expected.confirmed > 20 * rounds(), "only {} messages", expected.confirmed);
}

/// The numbers of a round's messages begin at a multiple of this.
const ROUND: u64 = 1_000_000_000;

#[derive(Default)]
struct Expected {
    confirmed: u64,
    /// Confirmed, and nobody asked to be done with them.
    kept: BTreeSet<u64>,
    done: BTreeSet<u64>,
}

impl Expected {
    fn hear(&mut self, said: &str) {
        // The last line may be cut off.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let number = |sign| line.strip_prefix(sign).and_then(|n: &str| n.parse().ok());
            if let Some(n) = number('+') {
                self.confirmed += 1;
                self.kept.insert(n);
            } else if let Some(n) = number('?') {
                self.kept.remove(&n);
            } else if let Some(n) = number('-') {
                self.done.insert(n);
            }
        }
    }

    fn check(&self, found: &BTreeMap<u64, u64>, round: u64) {
        let lost: Vec<_> = self.kept.iter().filter(|n| !found.contains_key(n)).collect();
        let back: Vec<_> = self.done.iter().filter(|n| found.contains_key(n)).collect();
        assert!(lost.is_empty(), "confirmed and lost in round {round}: {lost:?}");
        assert!(back.is_empty(), "acknowledged and back in round {round}: {back:?}");
    }
}
