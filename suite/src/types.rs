//! The types of services that suites may use.

use std::collections::BTreeMap;

use echo_sdk::{ServiceTypeInfo, is_name};
use echo_toml::{Schema, SchemaError};

use crate::schema::{common_keys, suite_schema};

/// Why types of services do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceTypesError {
    /// A type's name is no token of a topic.
    #[error("`{0}` cannot name a type of services; use up to 64 letters, digits, `-` and `_`")]
    Name(String),
    /// Two plugins provide the same type.
    #[error("two plugins provide services of the type `{0}`; disable one of them")]
    Twice(String),
    /// A type claims a key that every service has.
    #[error("the service type `{service_type}` claims the key `{key}`, which every service has")]
    CommonKey {
        /// The type.
        service_type: String,
        /// The key.
        key: String,
    },
    /// A type's schema is none.
    #[error("the schema of the service type `{service_type}` cannot be used")]
    Schema {
        /// The type.
        service_type: String,
        /// Why.
        source: SchemaError,
    },
    /// The schemas do not go together.
    #[error("the schemas of the service types do not go together")]
    Together(#[from] SchemaError),
}

/// The types of services that suites may use, and the schema of a suite that follows from them.
#[derive(Debug)]
pub struct ServiceTypes {
    types: BTreeMap<String, ServiceTypeInfo>,
    schema: Schema,
}

impl ServiceTypes {
    /// Takes the types that the plugins' manifests list.
    ///
    /// A type's `config_schema` describes an object by its `properties`. Keys that it does not name are
    /// refused unless it says otherwise with `additionalProperties`.
    ///
    /// # Errors
    /// [`ServiceTypesError`] that names the type at fault.
    pub fn new(
        infos: impl IntoIterator<Item = ServiceTypeInfo>,
    ) -> Result<Self, ServiceTypesError> {
        let mut types = BTreeMap::new();
        for info in infos {
            check(&info)?;
            let name = info.service_type.clone();
            if types.insert(name.clone(), info).is_some() {
                return Err(ServiceTypesError::Twice(name));
            }
        }
        let schema = Schema::new(suite_schema(&types))?;
        Ok(Self { types, schema })
    }

    /// The types, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &ServiceTypeInfo> {
        self.types.values()
    }

    /// The type of a name.
    pub fn get(&self, service_type: &str) -> Option<&ServiceTypeInfo> {
        self.types.get(service_type)
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }
}

fn check(info: &ServiceTypeInfo) -> Result<(), ServiceTypesError> {
    let service_type = info.service_type.clone();
    if !is_name(&service_type) {
        return Err(ServiceTypesError::Name(service_type));
    }
    if let Err(source) = Schema::new(info.config_schema.clone()) {
        return Err(ServiceTypesError::Schema { service_type, source });
    }
    let properties = info.config_schema.get("properties");
    let own = |key: &String| properties.is_some_and(|properties| properties.get(key).is_some());
    match common_keys().into_iter().find(own) {
        Some(key) => Err(ServiceTypesError::CommonKey { service_type, key }),
        None => Ok(()),
    }
}
