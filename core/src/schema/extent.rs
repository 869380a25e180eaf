//! How much there is of a schema: what its bounds are held against.
//!
//! A check goes as deep into the stack as the data is nested, times the longest way through schemas that judge the
//! same part of it (`$ref`, `allOf` and the like). Data is at most 128 deep, so the second is bounded here.

use std::collections::HashMap;

use serde_json::Value;

/// How deep a schema may be nested.
const MAX_DEPTH: usize = 48;

/// How many regular expressions a schema may have.
const MAX_PATTERNS: usize = 256;

/// How many schemas, one within or behind the other, may judge the same part of data.
pub(super) const MAX_CHAIN: usize = 32;

/// What is there of a schema, as far as its bounds go.
#[derive(Default)]
pub(super) struct Extent {
    depth: usize,
    patterns: usize,
    references: usize,
    branches: usize,
    /// The longest way through schemas that judge the same part of data.
    pub(super) chain: usize,
}

impl Extent {
    /// Measures a schema.
    ///
    /// # Errors
    /// What it has too much of: the rest of a sentence.
    pub(super) fn within_bounds(schema: &Value, max_size: usize) -> Result<Self, String> {
        let size = schema.to_string().len();
        let mut extent = Self::default();
        extent.measure(schema, 0);
        extent.chain = Chains::new(schema).longest()?;
        for (is, most, what) in [
            (size, max_size, "bytes (`schemas.max_size`)"),
            (extent.depth, MAX_DEPTH, "levels"),
            (extent.patterns, MAX_PATTERNS, "regular expressions"),
        ] {
            if is > most {
                return Err(format!("it has {is} {what}, and {most} are the most"));
            }
        }
        Ok(extent)
    }

    /// Adds what a schema brings that this one takes in.
    pub(super) fn add(&mut self, other: &Self) {
        self.chain += other.chain;
        self.references += other.references;
        self.branches += other.branches;
    }

    /// How often, at most, a part of data is looked at for each time that what holds it is: without references,
    /// or without branches, each part is looked at once.
    pub(super) fn spread(&self) -> u64 {
        u64::try_from(self.references.min(self.branches)).map_or(u64::MAX, |ways| ways + 1)
    }

    fn measure(&mut self, value: &Value, depth: usize) {
        self.depth = self.depth.max(depth);
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.measure(item, depth + 1)),
            Value::Object(fields) => {
                for (key, field) in fields {
                    self.count(key, field);
                    self.measure(field, depth + 1);
                }
            }
            _ => {}
        }
    }

    /// Counts what one keyword brings; a property of that name is counted as well, which errs on the safe side.
    fn count(&mut self, key: &str, field: &Value) {
        let entries = || match field {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 1,
        };
        match key {
            "pattern" => self.patterns += 1,
            "patternProperties" => {
                self.patterns += entries();
                self.branches += entries();
            }
            "$ref" | "$dynamicRef" | "$recursiveRef" => self.references += 1,
            "allOf" | "anyOf" | "oneOf" | "dependentSchemas" | "dependencies" => {
                self.branches += entries();
            }
            "not"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "unevaluatedItems"
            | "unevaluatedProperties" => self.branches += 1,
            _ => {}
        }
    }
}

/// The ways through schemas that judge the same part of data.
struct Chains<'s> {
    root: &'s Value,
    /// The longest way from a schema, by its address; `None` while it is being gone.
    known: HashMap<*const Value, Option<usize>>,
}

impl<'s> Chains<'s> {
    fn new(root: &'s Value) -> Self {
        Self { root, known: HashMap::new() }
    }

    /// The longest way there is, from whatever schema.
    fn longest(&mut self) -> Result<usize, String> {
        let (mut longest, mut left) = (0, vec![self.root]);
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    longest = longest.max(self.from(value, 0)?);
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        Ok(longest)
    }

    fn from(&mut self, schema: &'s Value, gone: usize) -> Result<usize, String> {
        let Value::Object(fields) = schema else { return Ok(0) };
        match self.known.get(&std::ptr::from_ref(schema)) {
            Some(Some(known)) => return Ok(*known),
            Some(None) => {
                return Err("it refers to itself without going further into the data".to_owned());
            }
            None => {}
        }
        self.known.insert(schema, None);
        let mut longest = 0;
        for (key, field) in fields {
            for next in self.judges(key, field) {
                let on = 1 + self.from(next, gone + 1)?;
                longest = longest.max(on);
                if gone + on > MAX_CHAIN {
                    return Err(format!(
                        "more than {MAX_CHAIN} schemas judge the same part of data"
                    ));
                }
            }
        }
        self.known.insert(schema, Some(longest));
        Ok(longest)
    }

    /// The schemas behind a keyword that judge the same part of data.
    fn judges(&self, key: &str, field: &'s Value) -> Vec<&'s Value> {
        match (key, field) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter().collect(),
            ("dependentSchemas" | "dependencies", Value::Object(schemas)) => {
                schemas.values().collect()
            }
            ("not" | "if" | "then" | "else", schema) => vec![schema],
            ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                self.resolve(reference).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The schema behind a reference into the same document: by its place, or else by its anchor.
    fn resolve(&self, reference: &str) -> Option<&'s Value> {
        let fragment = reference.strip_prefix('#')?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return self.root.pointer(fragment);
        }
        let mut left = vec![self.root];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    let is_it = |key| fields.get(key).and_then(Value::as_str) == Some(fragment);
                    if is_it("$anchor") || is_it("$dynamicAnchor") {
                        return Some(value);
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        None
    }
}
