//! A schema made ready to judge data, within bounds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use echo_sdk::contract::schema::SchemaFault;
use jsonschema::canonical::Containment;
use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

use super::SchemaError;
use super::faults;

/// How deep a schema may be nested. Data is at most 128 deep, so the two bound the stack that a check takes.
const MAX_DEPTH: usize = 48;

/// How many regular expressions a schema may have.
const MAX_PATTERNS: usize = 256;

/// The most that a regular expression may compile to, in bytes.
const MAX_PATTERN: usize = 256 * 1024;

/// How many schemas one may take in by references, one after another.
const MAX_RETRIEVED: usize = 64;

/// What a reference to another schema of the registry begins with once it is complete; `{"$ref": "address"}`
/// within a schema comes down to it.
const BASE: &str = "echo:/schemas/";

/// Looks a schema up by its name.
pub(super) type Source = Arc<dyn Fn(&str) -> Option<Value> + Send + Sync>;

/// A schema that is ready to judge.
pub(crate) struct Compiled {
    schema: Value,
    validator: Validator,
}

impl Compiled {
    /// Compiles a schema; what it refers to is taken in as it is now.
    pub(super) fn new(
        name: &str,
        schema: Value,
        max_size: usize,
        source: Source,
    ) -> Result<Self, SchemaError> {
        let malformed = |fault| SchemaError::Malformed { name: name.to_owned(), fault };
        check_bounds(&schema, max_size).map_err(malformed)?;
        let retrieve = FromRegistry { source, max_size, retrieved: AtomicUsize::new(0) };
        let validator = jsonschema::options()
            .with_base_uri(format!("{BASE}{name}"))
            .with_retriever(retrieve)
            .with_pattern_options(patterns())
            .build(&schema)
            .map_err(|error| {
                let fault = faults::shortened(&error.to_string());
                malformed(match error.instance_path().as_str() {
                    "" => fault,
                    place => format!("{fault}, at `{place}`"),
                })
            })?;
        Ok(Self { schema, validator })
    }

    pub(crate) fn schema(&self) -> &Value {
        &self.schema
    }

    /// The first of what is wrong with data; of large data only one, for there could be as many as values.
    pub(super) fn faults(&self, data: &Value, large: bool) -> Vec<SchemaFault> {
        if self.validator.is_valid(data) {
            return Vec::new();
        }
        if large {
            let fault = self.validator.validate(data).err();
            return fault.iter().map(faults::explain).collect();
        }
        self.validator.iter_errors(data).take(faults::FIRST).map(|e| faults::explain(&e)).collect()
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compiled").field(&self.schema).finish()
    }
}

/// The engine that takes linear time, which has no look-around and no back-references.
fn patterns() -> PatternOptions<jsonschema::Regex> {
    PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN)
}

/// Finds schemas of the registry, and nothing else: no file, no network.
struct FromRegistry {
    source: Source,
    max_size: usize,
    retrieved: AtomicUsize,
}

impl Retrieve for FromRegistry {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let Some(name) = uri.as_str().strip_prefix(BASE) else {
            return Err("references reach schemas of the registry alone, by their names".into());
        };
        if self.retrieved.fetch_add(1, Ordering::Relaxed) >= MAX_RETRIEVED {
            return Err(format!("it takes in more than {MAX_RETRIEVED} others").into());
        }
        let Some(schema) = (self.source)(name) else {
            return Err(format!("no schema is named `{name}`; register it first").into());
        };
        check_bounds(&schema, self.max_size)?;
        Ok(schema)
    }
}

/// What is there of a schema, as far as its bounds go.
#[derive(Default)]
struct Extent {
    depth: usize,
    patterns: usize,
}

impl Extent {
    fn measure(&mut self, value: &Value, depth: usize) {
        self.depth = self.depth.max(depth);
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.measure(item, depth + 1)),
            Value::Object(fields) => {
                for (key, field) in fields {
                    self.patterns += match key.as_str() {
                        "pattern" => 1,
                        "patternProperties" => field.as_object().map_or(1, serde_json::Map::len),
                        _ => 0,
                    };
                    self.measure(field, depth + 1);
                }
            }
            _ => {}
        }
    }
}

fn check_bounds(schema: &Value, max_size: usize) -> Result<(), String> {
    let size = schema.to_string().len();
    let mut extent = Extent::default();
    extent.measure(schema, 0);
    let Extent { depth, patterns } = extent;
    for (is, most, what) in [
        (size, max_size, "bytes (`schemas.max_size`)"),
        (depth, MAX_DEPTH, "levels deep"),
        (patterns, MAX_PATTERNS, "regular expressions"),
    ] {
        if is > most {
            return Err(format!("it has {is} {what}, and {most} are the most"));
        }
    }
    Ok(())
}

/// Whether `new` takes all that `old` takes, as far as that can be shown.
pub(super) fn compatible(
    name: &str,
    old: &Value,
    new: &Value,
    source: Source,
) -> Result<(), SchemaError> {
    let incompatible = |fault: String| SchemaError::Incompatible { name: name.to_owned(), fault };
    let canonical = |schema: &Value| {
        let max_size = usize::MAX;
        let source = Arc::clone(&source);
        let retrieve = FromRegistry { source, max_size, retrieved: AtomicUsize::new(0) };
        jsonschema::canonical::options()
            .with_base_uri(format!("{BASE}{name}"))
            .with_retriever(retrieve)
            .with_pattern_options(patterns())
            .canonicalize(schema)
            .map_err(|error| incompatible(faults::shortened(&error.to_string())))
    };
    let (old, new) = (canonical(old)?, canonical(new)?);
    match new.covers(&old) {
        Ok(Containment::Yes) => Ok(()),
        Ok(Containment::No) => Err(incompatible(
            "some data that the version before it takes breaks it; widen it, or register it \
             without `compatible`"
                .to_owned(),
        )),
        Ok(Containment::Unknown) => Err(incompatible(
            "it cannot be shown that it takes all that the version before it takes; register it \
             without `compatible` if you know"
                .to_owned(),
        )),
        Err(error) => Err(incompatible(faults::shortened(&error.to_string()))),
    }
}
