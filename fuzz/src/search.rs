//! A search without a fuzzer, for stable Rust: the inputs of the corpus, and pseudo-random changes of them. It sees no
//! coverage, so it finds what is near; cargo-fuzz finds what is far.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Longer inputs are cut off.
const LONGEST: usize = 4096;

/// What parsers are apt to stumble over.
const PIECES: [&[u8]; 12] = [
    b"\r\n",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\"",
    b"{",
    b"}",
    b" ",
    b".",
    b">",
    b"*",
    b"-1",
    b"99999999999999999999",
];

/// Runs a target on its corpus, and on so many changes of it; gives how many inputs it ran.
///
/// # Panics
/// With the input, when the target panics.
pub fn search(target: fn(&[u8]), corpus: &Path, changes: u64) -> u64 {
    let seeds = seeds(corpus);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let changed = (0..changes).map(|_| {
        let mut input = random.pick(&seeds).clone();
        for _ in 0..=random.below(6) {
            random.change(&mut input, &seeds);
        }
        input.truncate(LONGEST);
        input
    });
    let mut count = 0;
    for input in seeds.iter().cloned().chain(changed) {
        count += 1;
        if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
            let text = input.escape_ascii();
            panic!("the {count}th input for {} breaks it: b\"{text}\"", corpus.display());
        }
    }
    count
}

/// The inputs of a folder, by their names, and an empty one.
fn seeds(corpus: &Path) -> Vec<Vec<u8>> {
    let files =
        std::fs::read_dir(corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no inputs", corpus.display());
    let read = |path: &std::path::PathBuf| std::fs::read(path).unwrap();
    paths.iter().map(read).chain([Vec::new()]).collect()
}

/// xorshift64: the same search each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        start..(start + self.below(16)).min(len)
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.next() as u8,
            2 => drop(input.drain(self.range(input.len()))),
            3 => {
                let piece = input[self.range(input.len())].to_vec();
                input.splice(at..at, piece);
            }
            4 => drop(input.splice(at..at, self.pick(&PIECES).iter().copied())),
            5 => {
                let other = self.pick(seeds);
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => input.insert(at, self.next() as u8),
        }
    }
}
