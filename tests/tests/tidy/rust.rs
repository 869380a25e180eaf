//! Rust sources, split into code, comments and literals, so that a rule about code does not stumble
//! over a word in a comment.

use std::sync::LazyLock;

use crate::tree::files;

/// A Rust file. Its views have the lines of the file, with what they leave out blanked.
#[derive(Debug)]
pub struct Source {
    /// As in [`File::path`](crate::tree::File::path).
    pub path: String,
    /// The code: no comments, and literals are empty.
    pub code: String,
    /// Code and comments.
    pub without_literals: String,
    /// What stands inside string and character literals, with the line that each starts on.
    literals: Vec<(usize, String)>,
}

/// Every Rust file of the repository.
pub fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let rust = files().iter().filter(|file| file.path.ends_with(".rs"));
        rust.map(|file| Source::new(&file.path, &file.text)).collect()
    });
    &SOURCES
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let kinds = kinds(text);
        let view = |shown: &[Kind]| {
            let keep = |(at, c): (usize, char)| {
                if c == '\n' || shown.contains(&kinds[at]) { c } else { ' ' }
            };
            text.char_indices().map(keep).collect()
        };
        Self {
            path: path.to_owned(),
            code: view(&[Kind::Code]),
            without_literals: view(&[Kind::Code, Kind::Comment]),
            literals: literals(text, &kinds),
        }
    }

    /// Identifiers, keywords and numbers, each with its line.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().flat_map(|(index, line)| {
            line.split(|c| !of_a_word(c))
                .filter(|word| !word.is_empty())
                .map(move |word| (index + 1, word))
        })
    }

    /// The lines with the keyword `unsafe`.
    pub fn unsafe_lines(&self) -> impl Iterator<Item = usize> {
        self.words().filter(|(_, word)| *word == "unsafe").map(|(line, _)| line)
    }

    /// The contents of the literals that are not empty, each with its line.
    pub fn literals(&self) -> impl Iterator<Item = (usize, &str)> {
        self.literals.iter().map(|(line, text)| (*line, &**text))
    }

    /// The lines above the file's test module; none where the whole file holds tests.
    pub fn production_lines(&self) -> usize {
        let mut folders = self.path.split('/');
        let name = folders.next_back().unwrap_or_default();
        if name == "tests.rs" || folders.any(|folder| matches!(folder, "tests" | "benches")) {
            return 0;
        }
        let lines: Vec<&str> = self.code.lines().collect();
        let starts_tests = |at: &usize| {
            lines[*at].trim_end() == "#[cfg(test)]"
                && lines[at + 1..]
                    .iter()
                    .find(|line| !line.starts_with("#["))
                    .map(|line| line.trim_start_matches("pub(crate) "))
                    .is_some_and(|line| line.starts_with("mod ") && line.trim_end().ends_with('{'))
        };
        (0..lines.len()).find(starts_tests).unwrap_or(lines.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Code,
    Comment,
    /// What stands between a literal's quotes.
    Literal,
}

/// A stretch that is not plain code, in bytes from where it starts: `opening` and `closing` are the
/// quotes of a literal, which count as code.
struct Stretch {
    kind: Kind,
    opening: usize,
    inner: usize,
    closing: usize,
}

/// What each byte of `text` is.
fn kinds(text: &str) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let in_word = text[..at].chars().next_back().is_some_and(of_a_word);
        let Some(stretch) = stretch(&text[at..], in_word) else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let inner = at + stretch.opening;
        kinds[inner..inner + stretch.inner].fill(stretch.kind);
        at = inner + stretch.inner + stretch.closing;
    }
    kinds
}

fn stretch(rest: &str, in_word: bool) -> Option<Stretch> {
    let comment = |inner| Stretch { kind: Kind::Comment, opening: 0, inner, closing: 0 };
    if rest.starts_with("//") {
        return Some(comment(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        return Some(comment(block_comment(rest)));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if let Some(character) = rest.strip_prefix('\'') {
        let mut after = character.chars();
        // Anything else after the quote makes it a lifetime.
        let is_literal = after.next()? == '\\' || after.next()? == '\'';
        return is_literal.then(|| quoted(rest, '\''));
    }
    if in_word { None } else { raw_string(rest) }
}

/// The length of the block comment that `rest` starts with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let step = &rest.as_bytes()[at..];
        if step.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if step.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(rest: &str, quote: char) -> Stretch {
    let mut escaped = false;
    let end = rest[1..].find(|c| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    delimited(rest, 1, end, 1)
}

/// `r"…"`, `r#"…"#` and so on, with the prefixes for bytes and C strings.
fn raw_string(rest: &str) -> Option<Stretch> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(hashes));
    Some(delimited(rest, rest.len() - body.len(), body.find(&closing), closing.len()))
}

/// A literal whose inner part ends at `end`, or with the file.
fn delimited(rest: &str, opening: usize, end: Option<usize>, closing: usize) -> Stretch {
    let (inner, closing) = end.map_or((rest.len() - opening, 0), |end| (end, closing));
    Stretch { kind: Kind::Literal, opening, inner, closing }
}

fn literals(text: &str, kinds: &[Kind]) -> Vec<(usize, String)> {
    let mut literals = Vec::new();
    let mut at = 0;
    let mut line = 1;
    for run in kinds.chunk_by(|a, b| a == b) {
        let piece = &text[at..at + run.len()];
        if run[0] == Kind::Literal {
            literals.push((line, piece.to_owned()));
        }
        line += piece.matches('\n').count();
        at += run.len();
    }
    literals
}

fn of_a_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn code_comments_and_literals_are_told_apart() {
    let source = Source::new(
        "a.rs",
        r####"fn a<'a>(x: &'a str) { /* unsafe /* nested */ "not a string" */ b('"', '\'', 'é') }
// "comment" unsafe
let s = "unsafe \" // still a string"; let t = r#"raw "unsafe" "#; let r#type = br"bytes";
unsafe_code; unsafe { "two\nlines" }
"####,
    );
    let unsafe_at: Vec<_> = source.words().filter(|(_, word)| *word == "unsafe").collect();
    assert_eq!(unsafe_at, [(4, "unsafe")]);
    let literals: Vec<_> = source.literals().collect();
    assert_eq!(
        literals,
        [
            (1, "\""),
            (1, "\\'"),
            (1, "é"),
            (3, "unsafe \\\" // still a string"),
            (3, "raw \"unsafe\" "),
            (3, "bytes"),
            (4, "two\\nlines"),
        ]
    );
    assert!(source.without_literals.contains("\"comment\" unsafe"));
}

#[test]
fn tests_do_not_count_as_production_lines() {
    let text = "fn a() {}\n\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n}\n";
    assert_eq!(Source::new("core/src/a.rs", text).production_lines(), 2);
    let shown = text.replace("mod tests", "pub(crate) mod tests");
    assert_eq!(Source::new("core/src/a.rs", &shown).production_lines(), 2);
    assert_eq!(Source::new("core/src/tests/a.rs", text).production_lines(), 0);
    assert_eq!(Source::new("core/src/a/tests.rs", text).production_lines(), 0);
    let elsewhere = "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse b;\nfn a() {}\n";
    assert_eq!(Source::new("core/src/a.rs", elsewhere).production_lines(), 5);
}
