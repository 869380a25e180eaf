//! What the registry answers over the bus; the host subscribes and publishes.

use echo_sdk::contract::schema::{
    SchemaCheck, SchemaChecked, SchemaGet, SchemaInfo, SchemaListed, SchemaRegister,
    SchemaRegistered, SchemaRemove, SchemaRemoved, SchemaSummary,
};

use super::{SchemaError, Schemas, unknown};

impl Schemas {
    /// Answers [`SchemaRegister`]; compiles, so not on a thread that others wait for.
    pub(crate) fn answer_register(
        &self,
        asked: SchemaRegister,
    ) -> Result<SchemaRegistered, SchemaError> {
        let SchemaRegister { name, schema, compatible } = asked;
        let version = self.register(&name, schema, compatible)?;
        Ok(SchemaRegistered { name, version })
    }

    /// Answers [`SchemaGet`].
    pub(crate) fn answer_get(&self, asked: SchemaGet) -> Result<SchemaInfo, SchemaError> {
        let SchemaGet { name, version } = asked;
        let found = self.get(&name, version).ok_or_else(|| unknown(&name, version))?;
        Ok(SchemaInfo {
            name,
            version: found.number,
            since: found.since,
            schema: found.compiled.schema().clone(),
        })
    }

    /// Answers with all schemas.
    pub(crate) fn answer_list(&self) -> SchemaListed {
        let summary = |(name, version): (std::sync::Arc<str>, std::sync::Arc<super::Version>)| {
            let text = |key| version.compiled.schema().get(key)?.as_str().map(str::to_owned);
            SchemaSummary {
                name: name.to_string(),
                version: version.number,
                since: version.since,
                title: text("title"),
            }
        };
        SchemaListed { schemas: self.list().into_iter().map(summary).collect() }
    }

    /// Answers [`SchemaRemove`].
    pub(crate) fn answer_remove(&self, asked: SchemaRemove) -> Result<SchemaRemoved, SchemaError> {
        let SchemaRemove { name, version } = asked;
        let versions = self.remove(&name, version)?;
        Ok(SchemaRemoved { name, versions })
    }

    /// Answers [`SchemaCheck`].
    pub(crate) fn answer_check(&self, asked: SchemaCheck) -> Result<SchemaChecked, SchemaError> {
        let SchemaCheck { schema, data } = asked;
        match self.check_data(&schema, &data) {
            Ok(version) => Ok(SchemaChecked { schema, version, faults: Vec::new() }),
            Err(SchemaError::Broken { version, faults, .. }) => {
                Ok(SchemaChecked { schema, version, faults })
            }
            Err(error) => Err(error),
        }
    }
}
