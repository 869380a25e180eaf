//! Middleware as it is set: a list of tables, each with what it uses and for whom.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::{Map, Value};

use super::Config;
use crate::middleware::{
    CircuitBreaker, CircuitBreakerOptions, Correlation, CorrelationOptions, DeadLetters,
    DeadLettersOptions, Deduplicate, DeduplicateOptions, DelayOnError, DelayOnErrorOptions, Layer,
    Log, LogOptions, Metrics, MetricsOptions, NamePattern, On, Retry, RetryOptions, Throttle,
    ThrottleOptions, Timeout, TimeoutOptions, Trace, TraceOptions, Validate, ValidateOptions,
};
use crate::schema::Schemas;

/// One middleware of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct MiddlewareSettings {
    /// What stands there, with its options.
    pub uses: BuiltIn,
    /// The hook that it is asked at; without it, the first of those that it has.
    pub on: Option<On>,
    /// The plugins that it is for, those of tools included; without any, all.
    pub plugins: Vec<NamePattern>,
}

const BOTH: &[On] = &[On::Delivery, On::Publish];
const DELIVERY: &[On] = &[On::Delivery];
const PUBLISH: &[On] = &[On::Publish];

macro_rules! built_in {
    ($($word:literal $variant:ident($options:ident) $hooks:ident, $about:literal;)*) => {
        /// The middleware that can be set, each with its options.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum BuiltIn {
            $(#[doc = $about] $variant($options),)*
        }

        impl BuiltIn {
            /// Its name, as it stands after `use`.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $word,)*
                }
            }

            fn hooks(&self) -> &'static [On] {
                match self {
                    $(Self::$variant(_) => $hooks,)*
                }
            }

            fn read<E: serde::de::Error>(name: &str, options: Map<String, Value>) -> Result<Self, E> {
                match name {
                    $($word => decode(options).map(Self::$variant),)*
                    other => {
                        let known = echo_toml::list([$($word),*], "and");
                        Err(E::custom(format!("there is no middleware `{other}`; there are {known}")))
                    }
                }
            }

            fn write(&self) -> serde_json::Result<Value> {
                match self {
                    $(Self::$variant(options) => serde_json::to_value(options),)*
                }
            }

            /// The schema of a table for each of them.
            fn tables(generator: &mut SchemaGenerator) -> Vec<Schema> {
                vec![$(table($word, $about, $hooks, $options::json_schema(generator), generator)),*]
            }
        }
    };
}

built_in! {
    "log" Log(LogOptions) BOTH, "Writes a line for each message.";
    "trace" Trace(TraceOptions) BOTH, "Writes down a message's way, with all that it can be found by.";
    "metrics" Metrics(MetricsOptions) BOTH, "Counts by topic.";
    "retry" Retry(RetryOptions) DELIVERY, "Tries again before the host counts a failed attempt.";
    "throttle" Throttle(ThrottleOptions) BOTH, "Lets so many messages pass in a time.";
    "circuit_breaker" CircuitBreaker(CircuitBreakerOptions) DELIVERY, "Spares a handler that keeps failing.";
    "timeout" Timeout(TimeoutOptions) DELIVERY, "Cuts off what takes too long.";
    "deduplicate" Deduplicate(DeduplicateOptions) BOTH, "Lets a message pass once.";
    "validate" Validate(ValidateOptions) BOTH, "Judges data by a schema.";
    "dead_letters" DeadLetters(DeadLettersOptions) DELIVERY, "Puts what cannot be handled aside at once.";
    "correlation" Correlation(CorrelationOptions) PUBLISH, "Passes a field on to what follows from a message.";
    "delay_on_error" DelayOnError(DelayOnErrorOptions) DELIVERY, "Says how long a message waits after a fault.";
}

impl MiddlewareSettings {
    /// The layer that it comes to, with a value for each plugin.
    pub(crate) fn layer(&self, schemas: &Arc<Schemas>) -> Layer {
        let layer = match self.uses.clone() {
            BuiltIn::Log(options) => Layer::each(move |_| Log::new(options)),
            BuiltIn::Trace(options) => Layer::each(move |_| Trace::new(options)),
            BuiltIn::Metrics(options) => Layer::each(move |_| Metrics::new(options)),
            BuiltIn::Retry(options) => Layer::each(move |_| Retry::new(options)),
            BuiltIn::Throttle(options) => Layer::each(move |_| Throttle::new(options)),
            BuiltIn::CircuitBreaker(options) => Layer::each(move |_| CircuitBreaker::new(options)),
            BuiltIn::Timeout(options) => Layer::each(move |_| Timeout::new(options)),
            BuiltIn::Deduplicate(options) => {
                Layer::each(move |_| Deduplicate::new(options.clone()))
            }
            BuiltIn::Validate(options) => {
                let schemas = Arc::clone(schemas);
                Layer::each(move |_| Validate::new(options.clone(), Arc::clone(&schemas)))
            }
            BuiltIn::DeadLetters(options) => {
                Layer::each(move |_| DeadLetters::new(options.clone()))
            }
            BuiltIn::Correlation(options) => {
                Layer::each(move |_| Correlation::new(options.clone()))
            }
            BuiltIn::DelayOnError(options) => Layer::each(move |_| DelayOnError::new(options)),
        };
        let on = self.on.or_else(|| self.uses.hooks().first().copied()).unwrap_or_default();
        layer.on(on).plugins(self.plugins.iter().cloned())
    }

    /// What is wrong with it beyond the form of its values, at a place below its own.
    pub(super) fn fault(&self, of_plugin: bool) -> Option<(&'static str, String)> {
        let name = self.uses.name();
        if of_plugin && !self.plugins.is_empty() {
            let fault = format!("`{name}` stands with a plugin, so it is for that plugin alone");
            return Some(("/plugins", fault));
        }
        if let BuiltIn::Deduplicate(options) = &self.uses
            && options.window.is_zero()
        {
            return Some(("/window", "`window` is 0s; nothing would be remembered".to_owned()));
        }
        None
    }
}

impl Config {
    /// What is wrong with the middleware of the host and of single plugins, and where.
    pub(super) fn middleware_faults(&self) -> Vec<(String, String)> {
        let host = self
            .middleware
            .iter()
            .enumerate()
            .map(|(index, settings)| (format!("/middleware/{index}"), settings.fault(false)));
        let plugins = self.plugins.register.iter().enumerate().flat_map(|(plugin, settings)| {
            settings.middleware.iter().enumerate().map(move |(index, settings)| {
                let place = format!("/plugins/register/{plugin}/middleware/{index}");
                (place, settings.fault(true))
            })
        });
        let faults = host.chain(plugins);
        faults.filter_map(|(at, fault)| fault.map(|(key, fault)| (at + key, fault))).collect()
    }
}

fn decode<T: DeserializeOwned, E: serde::de::Error>(options: Map<String, Value>) -> Result<T, E> {
    serde_json::from_value(Value::Object(options)).map_err(E::custom)
}

impl<'de> Deserialize<'de> for MiddlewareSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Map::deserialize(deserializer)?;
        let mut take = |key| table.remove(key).unwrap_or_default();
        let (uses, on, plugins) = (take("use"), take("on"), take("plugins"));
        let Some(uses) = uses.as_str() else {
            return Err(D::Error::custom("a middleware says in `use` what it is"));
        };
        let plugins: Option<Vec<NamePattern>> =
            serde_json::from_value(plugins).map_err(D::Error::custom)?;
        let on: Option<On> = serde_json::from_value(on).map_err(D::Error::custom)?;
        let uses = BuiltIn::read(uses, table)?;
        Ok(Self { uses, on, plugins: plugins.unwrap_or_default() })
    }
}

impl Serialize for MiddlewareSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = self.uses.write().map_err(ser::Error::custom)?;
        if let Value::Object(fields) = &mut table {
            fields.insert("use".to_owned(), self.uses.name().into());
            let on = self.on.map(serde_json::to_value).transpose().map_err(ser::Error::custom)?;
            fields.extend(on.map(|on| ("on".to_owned(), on)));
            if !self.plugins.is_empty() {
                let plugins = serde_json::to_value(&self.plugins).map_err(ser::Error::custom)?;
                fields.insert("plugins".to_owned(), plugins);
            }
        }
        table.serialize(serializer)
    }
}

impl JsonSchema for MiddlewareSettings {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MiddlewareSettings".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": BuiltIn::tables(generator) })
    }
}

/// A table with the options of one middleware, what it uses, and for whom.
fn table(
    name: &str,
    about: &str,
    hooks: &[On],
    mut options: Schema,
    generator: &mut SchemaGenerator,
) -> Schema {
    let plugins = generator.subschema_for::<Vec<NamePattern>>();
    let fields = options.ensure_object();
    fields.insert("description".to_owned(), about.into());
    let properties = fields.entry("properties").or_insert_with(|| Map::new().into());
    if let Value::Object(properties) = properties {
        properties.insert("use".to_owned(), serde_json::json!({ "const": name }));
        properties.insert("on".to_owned(), serde_json::json!({ "enum": hooks }));
        properties.insert("plugins".to_owned(), plugins.to_value());
    }
    let required = fields.entry("required").or_insert_with(|| Vec::<Value>::new().into());
    if let Value::Array(required) = required {
        required.push("use".into());
    }
    options
}
