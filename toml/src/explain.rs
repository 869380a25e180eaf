//! Turns what a JSON Schema validator sees into sentences for people.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

use crate::document::{Document, join};
use crate::fault::Fault;
use crate::words::{self, list, nearest, quote, what};

/// Explains the faults of one document against one schema.
pub(crate) struct Explain<'a> {
    schema: &'a Value,
    document: &'a Document,
}

impl<'a> Explain<'a> {
    pub(crate) fn new(schema: &'a Value, document: &'a Document) -> Self {
        Self { schema, document }
    }

    /// The faults behind one error; an error may stand for several keys.
    pub(crate) fn faults(&self, error: &ValidationError<'_>) -> Vec<Fault> {
        let at = error.instance_path().as_str();
        match error.kind() {
            Kind::AdditionalProperties { unexpected }
            | Kind::UnevaluatedProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown(error, key)).collect()
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                self.alternatives(error, context)
            }
            Kind::PropertyNames { error: inner } => vec![self.key_name(error, inner)],
            Kind::Required { property } => {
                self.missing(error, property.as_str().unwrap_or_default()).into_iter().collect()
            }
            // The fault against the choices says it better.
            Kind::Type { .. } if self.has_choices(error) => Vec::new(),
            Kind::Enum { .. } | Kind::Constant { .. } => {
                vec![self.choice(at, error.instance(), &options(error).unwrap_or_default())]
            }
            Kind::FalseSchema => vec![self.fault(at, "is not allowed here")],
            _ => vec![self.value(error)],
        }
    }

    fn unknown(&self, error: &ValidationError<'_>, key: &str) -> Fault {
        let table = error.instance_path().as_str();
        let unknown = format!("unknown key `{}`{}", words::key(key), self.within(table, ""));
        let near = self.meant(error, key);
        let message = match near {
            Some(near) => format!("{unknown}; did you mean `{near}`?"),
            None => unknown,
        };
        let fault = self.document.fault_at_key(&join(table, key), message).label("unknown key");
        let known = self.known_keys(error);
        match near {
            Some(_) => fault,
            None if known.is_empty() => fault.help("no keys belong here"),
            None => fault.help(format!("the keys here are {}", list(known, "and"))),
        }
    }

    /// The known key that an unknown one may stand for; hardly one that is set already.
    fn meant(&self, error: &ValidationError<'_>, key: &str) -> Option<&'a str> {
        let set = error.instance().as_object();
        let free = |known: &&str| set.is_none_or(|set| !set.contains_key(*known));
        nearest(key, self.known_keys(error).into_iter().filter(free))
    }

    /// A missing key, unless the table has a misspelt one in its place, which is told as such.
    fn missing(&self, error: &ValidationError<'_>, key: &str) -> Option<Fault> {
        let schema = self.parent(error);
        let strict = schema
            .is_some_and(|schema| schema.get("additionalProperties") == Some(&Value::Bool(false)));
        let known = self.known_keys(error);
        let misspelt = |other: &String| {
            !known.contains(&other.as_str()) && self.meant(error, other) == Some(key)
        };
        if strict && error.instance().as_object()?.keys().any(misspelt) {
            return None;
        }
        let table = error.instance_path().as_str();
        let place = self.within(table, " at the top level");
        let message = format!("missing key `{}`{place}", words::key(key));
        let fault = self.document.fault_at(table, message).label(format!("needs `{key}`"));
        let property = schema.and_then(|schema| schema.pointer(&join("/properties", key)));
        Some(match property.and_then(|property| self.describe(property)) {
            Some(about) => fault.help(format!("`{key}`: {about}")),
            None => fault,
        })
    }

    /// A value that is none of a few.
    pub(crate) fn choice(&self, at: &str, instance: &Value, options: &[&Value]) -> Fault {
        let quoted: Vec<String> = options.iter().map(|option| quote(option)).collect();
        let texts = options.iter().filter_map(|option| option.as_str());
        let near = instance.as_str().and_then(|text| nearest(text, texts));
        let is = what(instance);
        let must = format!("must be {}", words::join(&quoted, "or"));
        match near {
            Some(near) if options.len() > 1 => self
                .fault(at, &format!("is {is}; did you mean \"{near}\"?"))
                .label("not one of the choices")
                .help(format!("it {must}")),
            _ => self.fault(at, &format!("is {is}; it {must}")).label(must),
        }
    }

    fn key_name(&self, error: &ValidationError<'_>, inner: &ValidationError<'_>) -> Fault {
        let table = error.instance_path().as_str();
        let name = inner.instance().as_str().unwrap_or_default();
        let why = match inner.kind() {
            Kind::Pattern { pattern } => format!("does not match `{pattern}`"),
            Kind::Not { .. } => "is not allowed".to_owned(),
            _ => self.judgement(inner),
        };
        let message = format!("the key `{}`{} {why}", words::key(name), self.within(table, ""));
        self.document.fault_at_key(&join(table, name), message)
    }

    /// A value of the wrong type, form or size.
    fn value(&self, error: &ValidationError<'_>) -> Fault {
        let at = error.instance_path().as_str();
        let fault = self.fault(at, &self.judgement(error));
        let fault = match error.kind() {
            Kind::Type { .. } => fault.label(format!("must be {}", self.expected(error))),
            _ => fault,
        };
        match self.examples(error) {
            Some(examples) => fault.help(format!("write it such as {examples}")),
            None if self.wants_quotes(error) => {
                fault.help(format!("write it in quotes: \"{}\"", error.instance()))
            }
            None => fault,
        }
    }

    fn wants_quotes(&self, error: &ValidationError<'_>) -> bool {
        let bare = error.instance().is_number() || error.instance().is_boolean();
        bare && matches!(error.kind(), Kind::Type { .. }) && self.expected(error) == "a string"
    }

    /// The rest of a sentence that begins with a key.
    fn judgement(&self, error: &ValidationError<'_>) -> String {
        let is = what(error.instance());
        match error.kind() {
            Kind::Type { .. } => format!("is {is}; it must be {}", self.expected(error)),
            Kind::Pattern { pattern } => match self.title(error) {
                Some(title) => format!("is {is}, which is no {title}"),
                None => format!("is {is}, which does not match `{pattern}`"),
            },
            Kind::Minimum { limit } => format!("is {is}; it must be at least {limit}"),
            Kind::Maximum { limit } => format!("is {is}; it must be at most {limit}"),
            Kind::ExclusiveMinimum { limit } => format!("is {is}; it must be above {limit}"),
            Kind::ExclusiveMaximum { limit } => format!("is {is}; it must be below {limit}"),
            Kind::MinItems { limit: 1 } | Kind::MinLength { limit: 1 } => "is empty".to_owned(),
            Kind::MinItems { limit } => format!("must have at least {limit} items"),
            Kind::MaxItems { limit } => format!("must have at most {limit} items"),
            Kind::MinLength { limit } => format!("must have at least {limit} characters"),
            Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
            Kind::MinProperties { limit } => format!("must have at least {limit} keys"),
            Kind::MaxProperties { limit } => format!("must have at most {limit} keys"),
            Kind::UniqueItems => "has an item twice".to_owned(),
            Kind::Not { .. } => format!("is {is}, which is not allowed"),
            _ => format!("is not right: {error}"),
        }
    }

    pub(crate) fn fault(&self, at: &str, judgement: &str) -> Fault {
        let message = match self.document.key(at) {
            key if key.is_empty() => format!("the file {judgement}"),
            key => format!("`{key}` {judgement}"),
        };
        self.document.fault_at(at, message)
    }

    fn within(&self, table: &str, top_level: &str) -> String {
        match self.document.key(table) {
            key if key.is_empty() => top_level.to_owned(),
            key => format!(" in `{key}`"),
        }
    }

    /// Whether the schema lists the values that it takes.
    fn has_choices(&self, error: &ValidationError<'_>) -> bool {
        self.parent(error)
            .is_some_and(|schema| schema.get("enum").is_some() || schema.get("const").is_some())
    }

    /// The schema that holds the keyword of an error.
    fn parent(&self, error: &ValidationError<'_>) -> Option<&'a Value> {
        let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.schema.pointer(parent)
    }

    fn known_keys(&self, error: &ValidationError<'_>) -> Vec<&'a str> {
        let properties = self.parent(error).and_then(|schema| schema.get("properties"));
        properties
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .collect()
    }

    fn title(&self, error: &ValidationError<'_>) -> Option<&'a str> {
        self.parent(error)?.get("title")?.as_str()
    }

    fn examples(&self, error: &ValidationError<'_>) -> Option<String> {
        let examples = self.parent(error)?.get("examples")?.as_array()?;
        let quoted: Vec<String> = examples.iter().map(quote).collect();
        (!quoted.is_empty()).then(|| words::join(&quoted, "or"))
    }

    fn describe(&self, schema: &'a Value) -> Option<&'a str> {
        let described = schema.get("description").or_else(|| {
            let reference = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
            self.schema.pointer(reference)?.get("description")
        });
        described?.as_str()
    }

    /// What a value should have been: "a string", "an array of strings"; empty for null, which TOML lacks.
    pub(crate) fn expected(&self, error: &ValidationError<'_>) -> String {
        let items = || self.parent(error)?.pointer("/items/type")?.as_str();
        match error.kind() {
            Kind::Type { kind } => {
                let types: Vec<String> = match kind {
                    TypeKind::Single(one) => vec![one.to_string()],
                    TypeKind::Multiple(several) => {
                        several.iter().map(|one| one.to_string()).collect()
                    }
                };
                let names = types.iter().filter(|name| *name != "null");
                let names: Vec<String> = names.map(|name| type_name(name, items())).collect();
                words::join(&names, "or")
            }
            _ => {
                let options = options(error).unwrap_or_default();
                let options: Vec<String> = options.into_iter().map(quote).collect();
                words::join(&options, "or")
            }
        }
    }
}

/// The values that an error would have taken instead, where it names them.
pub(crate) fn options<'e>(error: &'e ValidationError<'_>) -> Option<Vec<&'e Value>> {
    match error.kind() {
        Kind::Enum { options } => options.as_array().map(|options| options.iter().collect()),
        Kind::Constant { expected_value } => Some(vec![expected_value]),
        _ => None,
    }
}

fn type_name(name: &str, items: Option<&str>) -> String {
    match (name, items) {
        ("string", _) => "a string".to_owned(),
        ("integer", _) => "an integer".to_owned(),
        ("number", _) => "a number".to_owned(),
        ("boolean", _) => "true or false".to_owned(),
        ("object", _) => "a table".to_owned(),
        ("array", Some("object")) => "an array of tables".to_owned(),
        ("array", Some(item)) => format!("an array of {item}s"),
        ("array", None) => "an array".to_owned(),
        (other, _) => other.to_owned(),
    }
}
