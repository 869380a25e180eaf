//! What is wrong with data, in words.

use echo_sdk::contract::schema::SchemaFault;
use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

/// How many faults are told.
pub(super) const FIRST: usize = 3;

/// Of data of more bytes only the first fault is told.
pub(super) const LARGE: usize = 64 * 1024;

/// The longest text of somebody else's that is repeated, in characters.
const LONGEST: usize = 160;

/// Faults as the end of a sentence.
pub(super) fn sentence(faults: &[SchemaFault]) -> String {
    let one = |fault: &SchemaFault| match fault.path.as_str() {
        "" => format!("it {}", fault.fault),
        path => format!("`{path}` {}", fault.fault),
    };
    faults.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// One fault: where, and what would be right.
pub(super) fn explain(error: &ValidationError<'_>) -> SchemaFault {
    let path = shortened(error.instance_path().as_str());
    SchemaFault { path, fault: shortened(&judgement(error)) }
}

/// The rest of a sentence that begins with the place.
fn judgement(error: &ValidationError<'_>) -> String {
    let is = what(error.instance());
    match error.kind() {
        Kind::Type { kind } => format!("is {is}; it must be {}", type_names(kind)),
        Kind::Required { property } => {
            format!("lacks the key `{}`", property.as_str().unwrap_or_default())
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let keys = unexpected.iter().take(FIRST);
            format!("has the key {}, which it must not have", echo_toml::list(keys, "and"))
        }
        Kind::Enum { options } => match options.as_array() {
            Some(options) => format!("is {is}; it must be one of {}", list(options)),
            None => format!("is {is}, which is none of the choices"),
        },
        Kind::Constant { expected_value } => format!("is {is}; it must be {expected_value}"),
        Kind::Minimum { limit } => format!("is {is}; it must be at least {limit}"),
        Kind::Maximum { limit } => format!("is {is}; it must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("is {is}; it must be above {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("is {is}; it must be below {limit}"),
        Kind::MultipleOf { multiple_of } => {
            format!("is {is}; it must be a multiple of {multiple_of}")
        }
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} keys"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} keys"),
        Kind::UniqueItems => "has an item twice".to_owned(),
        Kind::Contains => "has no item of the kind that it must have".to_owned(),
        Kind::Pattern { pattern } => format!("is {is}; it must match `{pattern}`"),
        Kind::Format { format } => format!("is {is}; it must be of the format `{format}`"),
        Kind::FalseSchema => "must not be there".to_owned(),
        Kind::Not { .. } => format!("is {is}, which it must not be"),
        Kind::PropertyNames { error } => {
            format!("has a key that {}", judgement(error))
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => alternatives(&is, context),
        Kind::OneOfMultipleValid { .. } => {
            format!("is {is}, which fits several alternatives; it must fit one")
        }
        _ => format!("is not right: {error}"),
    }
}

/// Against several alternatives: what is wrong with the one that data comes nearest to.
fn alternatives(is: &str, branches: &[Vec<ValidationError<'static>>]) -> String {
    let deepest = |branch: &&Vec<ValidationError<'static>>| {
        let depth = |error: &ValidationError<'_>| error.instance_path().as_str().len();
        let deepest = branch.iter().map(depth).max().unwrap_or(0);
        (deepest, std::cmp::Reverse(branch.len()))
    };
    let nearest = branches.iter().filter(|branch| !branch.is_empty()).max_by_key(deepest);
    match nearest.and_then(|branch| branch.first()) {
        Some(error) => {
            let SchemaFault { path, fault } = explain(error);
            let place = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
            format!("is {is}, which fits no alternative; in the nearest, {place} {fault}")
        }
        None => format!("is {is}, which fits no alternative"),
    }
}

fn type_names(kind: &TypeKind) -> String {
    let names: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect(),
    };
    let article = |name: &String| match name.as_str() {
        "array" | "integer" | "object" => format!("an {name}"),
        "null" => "null".to_owned(),
        _ => format!("a {name}"),
    };
    names.iter().map(article).collect::<Vec<_>>().join(" or ")
}

fn list(options: &[Value]) -> String {
    options.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
}

/// What a value is: "the integer 5", "an array".
fn what(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) => format!("the string {:?}", quoted(text)),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The longest piece of data that is repeated, in characters.
const LONGEST_QUOTE: usize = 40;

fn quoted(text: &str) -> String {
    cut(text, LONGEST_QUOTE)
}

/// A text of somebody else's, bounded and on one line.
pub(super) fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&line, LONGEST)
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
