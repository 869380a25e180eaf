//! A parsed file that knows where each of its keys and values stands.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use toml_edit::{InlineTable, Item, Key, Table};

use crate::fault::{Fault, Faults};
use crate::words;

/// Where a key and its value stand in the text.
#[derive(Debug, Clone, Default)]
struct Place {
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

/// A TOML file: its data as JSON, and the place of each piece of it.
///
/// Pieces are named by JSON pointers, such as `/steps/0/command`.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    text: String,
    value: Value,
    places: HashMap<String, Place>,
}

impl Document {
    /// Reads and parses the file at `path`, which names it in faults.
    ///
    /// # Errors
    /// [`Faults`] with why it cannot be read, or those of [`Document::parse`].
    pub fn open(path: &Path) -> Result<Self, Faults> {
        let name = path.display().to_string();
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => Self::parse(name, text),
            Ok(Err(_)) => Err(Faults::unreadable(&name, "it is no UTF-8 text")),
            Err(error) => Err(Faults::unreadable(&name, &error.to_string())),
        }
    }

    /// Parses `text`, the content of the file `name`.
    ///
    /// # Errors
    /// [`Faults`] with the fault of syntax, or else with every value that JSON has no counterpart of: a date
    /// without quotes, `nan` and `inf`.
    pub fn parse(name: impl Into<String>, text: impl Into<String>) -> Result<Self, Faults> {
        let mut document = Self {
            name: name.into(),
            text: text.into(),
            value: Value::Null,
            places: HashMap::new(),
        };
        let parsed = match toml_edit::Document::parse(document.text.as_str()) {
            Ok(parsed) => parsed,
            Err(error) => {
                let span = error.span().unwrap_or_default();
                let message = format!("this is no TOML: {}", error.message());
                let fault = document.fault(span, String::new(), message);
                return Err(document.faults(vec![fault]));
            }
        };
        let mut reader = Reader::default();
        let value = reader.table("", parsed.as_table());
        document.value = value;
        document.places = reader.places;
        let told = reader
            .strange
            .into_iter()
            .map(|(at, why)| document.fault_at(&at, format!("`{}` is {why}", document.key(&at))));
        document.refuse(told.collect())?;
        Ok(document)
    }

    /// The file's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's data.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether the file itself holds something at `pointer`.
    pub fn contains(&self, pointer: &str) -> bool {
        self.places.contains_key(pointer)
    }

    /// Gives a key of the file's top level a value where the file leaves it out.
    pub fn set_default(&mut self, key: &str, value: impl Into<Value>) {
        if let Value::Object(table) = &mut self.value {
            table.entry(key).or_insert_with(|| value.into());
        }
    }

    /// The same file with another value at `pointer`, such as what stands there under defaults from elsewhere. What the
    /// file itself holds of it keeps its place; faults of the rest point at what is around it.
    #[must_use]
    pub fn with_value(mut self, pointer: &str, value: Value) -> Self {
        if let Some(there) = self.value.pointer_mut(pointer) {
            *there = value;
        }
        self
    }

    /// Reads the data as a `T`.
    ///
    /// # Errors
    /// [`Faults`] with the first fault that `T` sees.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Faults> {
        serde_path_to_error::deserialize(&self.value).map_err(|error| {
            let pointer = pointer_of(error.path());
            let key = self.key(&pointer);
            let message = match (key.as_str(), error.inner()) {
                ("", inner) => inner.to_string(),
                (key, inner) => format!("`{key}`: {inner}"),
            };
            self.faults(vec![self.fault_at(&pointer, message)])
        })
    }

    /// A fault of the value at `pointer`, or of the nearest table around it if the file has no such value.
    pub fn fault_at(&self, pointer: &str, message: impl Into<String>) -> Fault {
        let place = self.place(pointer);
        let span = place.and_then(|place| place.value.clone().or_else(|| place.key.clone()));
        self.fault(span.unwrap_or_default(), self.key(pointer), message.into())
    }

    /// The same, pointing at the key instead of its value.
    pub fn fault_at_key(&self, pointer: &str, message: impl Into<String>) -> Fault {
        let place = self.place(pointer);
        let span = place.and_then(|place| place.key.clone().or_else(|| place.value.clone()));
        self.fault(span.unwrap_or_default(), self.key(pointer), message.into())
    }

    /// Refuses the file if there are faults.
    ///
    /// # Errors
    /// [`Faults`] with the faults, unless there are none.
    pub fn refuse(&self, faults: Vec<Fault>) -> Result<(), Faults> {
        if faults.is_empty() { Ok(()) } else { Err(self.faults(faults)) }
    }

    /// The key at `pointer` as people write it: `steps[0].command`.
    pub(crate) fn key(&self, pointer: &str) -> String {
        let mut path = String::new();
        let mut value = Some(&self.value);
        for token in tokens(pointer) {
            if let Some(Value::Array(items)) = value {
                path.push_str(&format!("[{token}]"));
                value = token.parse().ok().and_then(|index: usize| items.get(index));
            } else {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&words::key(&token));
                value = value.and_then(|value| value.get(&*token));
            }
        }
        path
    }

    fn place(&self, mut pointer: &str) -> Option<&Place> {
        loop {
            if let Some(place) = self.places.get(pointer) {
                return Some(place);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }

    /// A fault at a span, of which only the first line is underlined.
    fn fault(&self, span: Range<usize>, key: String, message: String) -> Fault {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let within = self.text.get(span.clone()).unwrap_or_default();
        let first_line = within.lines().next().unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Fault {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            key,
            message,
            help: None,
            label: None,
            span: Some(before.len()..before.len() + first_line.len()),
        }
    }

    fn faults(&self, faults: Vec<Fault>) -> Faults {
        Faults::new(&self.name, &self.text, faults)
    }
}

/// Appends a key or an index to a JSON pointer.
pub(crate) fn join(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

fn tokens(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"))
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => join(&pointer, &index.to_string()),
        Segment::Map { key } => join(&pointer, key),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

/// Turns TOML into JSON, and notes each place and each value that JSON has no counterpart of.
#[derive(Default)]
struct Reader {
    places: HashMap<String, Place>,
    /// Their pointers, each with the rest of a sentence that begins with the key.
    strange: Vec<(String, String)>,
}

impl Reader {
    fn table(&mut self, pointer: &str, table: &Table) -> Value {
        let mut object = Map::new();
        for (key, item) in table.iter() {
            let value = self.entry(pointer, table.key(key), key, item);
            object.insert(key.to_owned(), value);
        }
        Value::Object(object)
    }

    fn inline_table(&mut self, pointer: &str, table: &InlineTable) -> Value {
        let mut object = Map::new();
        for (key, value) in table.iter() {
            let pointer = join(pointer, key);
            let value_span = if value.is_inline_table() { None } else { value.span() };
            let key_span = table.key(key).and_then(Key::span);
            self.places.insert(pointer.clone(), Place { key: key_span, value: value_span });
            let value = self.value(&pointer, value);
            object.insert(key.to_owned(), value);
        }
        Value::Object(object)
    }

    fn entry(&mut self, parent: &str, key: Option<&Key>, name: &str, item: &Item) -> Value {
        let pointer = join(parent, name);
        let key = key.and_then(Key::span);
        let value = match item {
            // An inline table is told by its key: it may be long.
            Item::Value(value) if value.is_inline_table() => None,
            Item::ArrayOfTables(_) => None,
            other => other.span(),
        };
        self.places.insert(pointer.clone(), Place { key, value });
        match item {
            Item::None => Value::Null,
            Item::Value(value) => self.value(&pointer, value),
            Item::Table(table) => self.table(&pointer, table),
            Item::ArrayOfTables(tables) => {
                let tables = tables.iter().enumerate();
                let read = tables.map(|(index, table)| {
                    let pointer = join(&pointer, &index.to_string());
                    self.places.insert(pointer.clone(), Place { key: None, value: table.span() });
                    self.table(&pointer, table)
                });
                Value::Array(read.collect())
            }
        }
    }

    fn value(&mut self, pointer: &str, value: &toml_edit::Value) -> Value {
        match value {
            toml_edit::Value::String(text) => Value::from(text.value().as_str()),
            toml_edit::Value::Integer(number) => Value::from(*number.value()),
            toml_edit::Value::Boolean(value) => Value::from(*value.value()),
            toml_edit::Value::InlineTable(table) => self.inline_table(pointer, table),
            toml_edit::Value::Float(number) => match Number::from_f64(*number.value()) {
                Some(number) => Value::Number(number),
                None => self.refuse(pointer, format!("{}, which has no use here", number.value())),
            },
            toml_edit::Value::Datetime(date) => {
                self.refuse(pointer, format!("a date; write it in quotes: \"{}\"", date.value()))
            }
            toml_edit::Value::Array(items) => {
                let items = items.iter().enumerate();
                let read = items.map(|(index, item)| {
                    let pointer = join(pointer, &index.to_string());
                    self.places.insert(pointer.clone(), Place { key: None, value: item.span() });
                    self.value(&pointer, item)
                });
                Value::Array(read.collect())
            }
        }
    }

    fn refuse(&mut self, pointer: &str, why: String) -> Value {
        self.strange.push((pointer.to_owned(), why));
        Value::Null
    }
}
