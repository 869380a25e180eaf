//! Runs the chapters of the book as they stand: what a reader types, what a file holds, and what is printed.
//!
//! In a `console` block a line after `$ ` is a command of a shell; each line below it has to be among what the command
//! prints, with `…` for anything. A command that ends in `&` goes on until `kill %1`. In `console fails` the command does
//! not succeed. A `toml` block is the file that its first line names, and so is a `rust` block whose first line names one. Any
//! other `rust` or `json` block stands somewhere in what was written before, as it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test whose surroundings fail has failed")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Running;
use common::project::Project;

/// A block of a chapter: the words behind its three ticks, and its lines.
struct Block {
    kind: String,
    text: String,
}

fn blocks(chapter: &str) -> Vec<Block> {
    let mut parts = chapter.split("```");
    // What stands before the first block.
    parts.next();
    let mut blocks = Vec::new();
    while let (Some(block), Some(_between)) = (parts.next(), parts.next()) {
        let (kind, text) = block.split_once('\n').unwrap();
        blocks.push(Block { kind: kind.to_owned(), text: text.to_owned() });
    }
    blocks
}

/// A command, and the lines that it is to print.
fn commands(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut commands: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => commands.push((command, Vec::new())),
            None => commands.last_mut().unwrap().1.push(line),
        }
    }
    commands
}

/// Whether a line is what is expected, where `…` stands for anything.
fn is_like(line: &str, expected: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|start| line.strip_prefix(start)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    rest.is_empty() || last == Some("")
}

#[test]
fn lines_are_alike_but_for_what_differs() {
    for (line, expected) in [("ab", "ab"), ("a1b2", "a…b…"), ("xab", "…ab"), ("a b", "a …")]
    {
        assert!(is_like(line, expected), "{line} {expected}");
    }
    for (line, expected) in [("abc", "ab"), ("b", "a…"), ("a1c", "a…b…"), ("abx", "…ab")] {
        assert!(!is_like(line, expected), "{line} {expected}");
    }
}

/// A reader at work.
struct Reader {
    project: Project,
    running: Option<Running>,
}

impl Reader {
    fn shell(&self, script: &str) -> Command {
        let mut command = self.project.command("bash", &["-c", script]);
        let program = Path::new(env!("CARGO_BIN_EXE_echo-core")).parent().unwrap();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", program.display())).env_remove("NO_COLOR");
        command.env("ECHO_GATEWAY__NATS", "127.0.0.1:0").env("ECHO_GATEWAY__HTTP", "127.0.0.1:0");
        command
    }

    fn types(&mut self, command: &str, prints: &[&str], succeeds: bool) {
        if command == "kill %1" {
            let running = self.running.take().unwrap();
            running.signal("TERM");
            assert_eq!(running.end().code, 0);
            return;
        }
        if let Some(command) = command.strip_suffix(" &") {
            let mut running = Running::spawn(self.shell(&format!("exec {command}")));
            for line in prints {
                let printed = running.until_out(line.split('…').next().unwrap());
                assert!(
                    is_like(printed.trim_end(), line),
                    "{command} printed {printed:?}, not {line:?}"
                );
            }
            self.running = Some(running);
            return;
        }
        let output = self.shell(&format!("{{ {command}\n}} 2>&1")).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.success(), succeeds, "$ {command}\n{printed}");
        for line in prints {
            let found = printed.lines().any(|it| is_like(it, line));
            assert!(found, "$ {command}\ndoes not print: {line}\nbut:\n{printed}");
        }
    }

    /// Writes the file whose name is the rest of a block's first line.
    fn writes(&self, rest: &str, text: &str) {
        fs::write(self.project.0.join(rest.lines().next().unwrap()), text).unwrap();
    }

    fn finds(&self, excerpt: &str) {
        let written = files(&self.project.0.join("plugins/workshop"));
        let found = written.iter().any(|file| fs::read_to_string(file).unwrap().contains(excerpt));
        assert!(found, "no file that was written holds:\n{excerpt}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_reader_comes_from_nothing_to_plugins_that_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let chapter = fs::read_to_string(root.join("docs/book/plugins.md")).unwrap();
    let mut reader = Reader { project: Project::new("book"), running: None };
    let mut typed = 0;
    for Block { kind, text } in blocks(&chapter) {
        match kind.as_str() {
            "console" | "console fails" => {
                for (command, prints) in commands(&text) {
                    reader.types(command, &prints, kind == "console");
                    typed += 1;
                }
            }
            "toml" => reader.writes(text.strip_prefix("# ").unwrap(), &text),
            "rust" if text.starts_with("// plugins/") => {
                reader.writes(text.strip_prefix("// ").unwrap(), &text);
            }
            "rust" | "json" => reader.finds(&text),
            other => panic!("what is a block of `{other}`?"),
        }
    }
    assert!(reader.running.is_none() && typed > 20, "{typed} commands");
}
