//! The lists in `docs/architecture.md` that tests read.

use crate::tree::files;

/// The document.
pub const ARCHITECTURE: &str = "docs/architecture.md";

/// One entry of a marked list: `` - `name` note ``.
#[derive(Debug)]
pub struct Item {
    /// Where it stands in the document.
    pub line: usize,
    /// What is named.
    pub name: String,
    /// What is said about it.
    pub note: String,
}

impl Item {
    /// Whether the entry, a path, is that of a file or of the folder that holds it.
    pub fn covers(&self, path: &str) -> bool {
        path == self.name || self.name.ends_with('/') && path.starts_with(&self.name)
    }
}

/// The list between `<!-- marker -->` and `<!-- /marker -->`.
pub fn marked_list(marker: &str) -> Vec<Item> {
    let document = files().iter().find(|file| file.path == ARCHITECTURE);
    let document = document.unwrap_or_else(|| panic!("{ARCHITECTURE} is missing"));
    let line_of = |wanted: &str| {
        let found = document.text.lines().position(|line| line.trim() == wanted);
        found.unwrap_or_else(|| panic!("{ARCHITECTURE}:1: the line `{wanted}` is missing"))
    };
    let start = line_of(&format!("<!-- {marker} -->"));
    let end = line_of(&format!("<!-- /{marker} -->"));
    let lines = document.text.lines().enumerate().skip(start + 1);
    lines
        .take_while(|(index, _)| *index < end)
        // An entry's further lines are indented.
        .filter(|(_, line)| !line.is_empty() && !line.starts_with(' '))
        .map(|(index, line)| {
            item(index + 1, line).unwrap_or_else(|| {
                panic!(
                    "{ARCHITECTURE}:{}: an entry of `{marker}` is written \"- `name` note\"",
                    index + 1
                )
            })
        })
        .collect()
}

fn item(line: usize, text: &str) -> Option<Item> {
    let (name, note) = text.strip_prefix("- `")?.split_once('`')?;
    Some(Item { line, name: name.to_owned(), note: note.to_owned() })
}
