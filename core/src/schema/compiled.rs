//! A schema made ready to judge data, within bounds.

use std::fmt;
use std::sync::Arc;

use echo_sdk::contract::schema::SchemaFault;
use jsonschema::canonical::Containment;
use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use parking_lot::Mutex;
use serde_json::Value;

use super::SchemaError;
use super::extent::{Extent, MAX_CHAIN};
use super::faults;

/// The most that a regular expression may compile to, in bytes.
const MAX_PATTERN: usize = 256 * 1024;

/// How often a part of data may be looked at to say what is wrong with it. That a schema is broken is found
/// within bounds whatever it says; to explain it, alternatives that refer to each other are gone through again
/// at each level of the data.
const MAX_LOOKS: u64 = 1_000_000;

/// How deep a check may go into the stack: the depth of the data times the longest way through schemas that
/// judge the same part of it.
const MAX_STEPS: usize = 1024;

/// What a reference to another schema of the registry begins with once it is complete; `{"$ref": "address"}`
/// within a schema comes down to it.
const BASE: &str = "echo:/schemas/";

/// Looks a schema up by its name.
pub(super) type Source = Arc<dyn Fn(&str) -> Option<Value> + Send + Sync>;

/// A schema that is ready to judge.
pub(crate) struct Compiled {
    schema: Value,
    validator: Validator,
    /// How often, at most, a part of data is looked at for each time that what holds it is.
    spread: u64,
    /// The longest way through schemas that judge the same part of data, the first included.
    chain: usize,
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
        let extent = Extent::within_bounds(&schema, max_size).map_err(malformed)?;
        let extent = Arc::new(Mutex::new(extent));
        let retrieve = FromRegistry { source, max_size, extent: Arc::clone(&extent) };
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
        let (spread, chain) = {
            let extent = extent.lock();
            (extent.spread(), extent.chain + 1)
        };
        Ok(Self { schema, validator, spread, chain })
    }

    pub(crate) fn schema(&self) -> &Value {
        &self.schema
    }

    /// The first of what is wrong with data; of large data only one, for there could be as many as values.
    pub(super) fn faults(&self, data: &Value, large: bool) -> Vec<SchemaFault> {
        let depth = depth(data);
        if (depth as usize).saturating_mul(self.chain) > MAX_STEPS {
            let fault = format!("is {depth} levels deep, more than can be held against the schema");
            return vec![SchemaFault { path: String::new(), fault }];
        }
        if self.validator.is_valid(data) {
            return Vec::new();
        }
        if self.spread.checked_pow(depth).is_none_or(|looks| looks > MAX_LOOKS) {
            let fault = "is not as it says; it is nested too deep to tell where".to_owned();
            return vec![SchemaFault { path: String::new(), fault }];
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
    /// Of the schema and all that it takes in.
    extent: Arc<Mutex<Extent>>,
}

impl Retrieve for FromRegistry {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let Some(name) = uri.as_str().strip_prefix(BASE) else {
            return Err("references reach schemas of the registry alone, by their names".into());
        };
        let Some(schema) = (self.source)(name) else {
            return Err(format!("no schema is named `{name}`; register it first").into());
        };
        let other = Extent::within_bounds(&schema, self.max_size)?;
        let mut extent = self.extent.lock();
        extent.add(&other);
        if extent.chain > MAX_CHAIN {
            return Err(
                format!("the schemas that it takes in go through {MAX_CHAIN} others").into()
            );
        }
        Ok(schema)
    }
}

/// How deep data is nested; at most as deep as the parser goes.
fn depth(data: &Value) -> u32 {
    let inner = match data {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
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
        let retrieve = FromRegistry { source, max_size, extent: Arc::default() };
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
