//! What can be asked about schemas.

use clap::{Args, Subcommand};

use super::At;

const WHICH: &str = "\
Each host has a registry of its own: the command asks every host on the bus. What is registered is gone when the \
host ends; what is to stay belongs into its folder of schemas (`schemas.dir`).";

/// `schema`.
#[derive(Debug, Subcommand)]
#[command(after_help = WHICH)]
pub enum SchemaCommand {
    /// Lists the schemas, each with its newest version.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// The host.
        #[command(flatten)]
        at: At,
    },
    /// Prints a schema.
    Show {
        /// Which: NAME for the newest version, or NAME@VERSION.
        #[arg(value_name = "NAME[@VERSION]")]
        name: Named,
        /// Prints the version and the time with it, as JSON.
        #[arg(long)]
        json: bool,
        /// The host.
        #[command(flatten)]
        at: At,
    },
    /// Takes a JSON Schema in, as the newest version of its name.
    Register(SchemaRegisterArgs),
    /// Checks data against a schema, without publishing it; exits with 1 where it does not keep to it.
    Check {
        /// Which: NAME for the newest version, or NAME@VERSION.
        #[arg(value_name = "NAME[@VERSION]")]
        name: Named,
        /// The data: JSON, or `-` for what stands on standard input.
        #[arg(value_name = "JSON|-")]
        data: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// The host.
        #[command(flatten)]
        at: At,
    },
    /// Removes a schema, or one version of it.
    Remove {
        /// Which: NAME for all versions, or NAME@VERSION.
        #[arg(value_name = "NAME[@VERSION]")]
        name: Named,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// The host.
        #[command(flatten)]
        at: At,
    },
}

/// `schema register`.
#[derive(Debug, Args)]
pub struct SchemaRegisterArgs {
    /// What messages call it: up to 128 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The file with the JSON Schema; `-` reads standard input.
    #[arg(value_name = "FILE|-")]
    pub file: String,
    /// Refuses it unless it takes all data that the newest version takes.
    #[arg(long)]
    pub compatible: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// The host.
    #[command(flatten)]
    pub at: At,
}

/// A schema as a message names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// One version of it; without it, the newest, or all.
    pub version: Option<u32>,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, version)) = text.split_once('@') else {
            return Ok(Self { name: text.to_owned(), version: None });
        };
        match version.parse() {
            Ok(version) if version > 0 => {
                Ok(Self { name: name.to_owned(), version: Some(version) })
            }
            _ => Err(format!("`{version}` is no version; write NAME, or NAME@VERSION from 1 up")),
        }
    }
}

/// As a message names it.
impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.version {
            None => f.write_str(&self.name),
            Some(version) => write!(f, "{}@{version}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_named_as_messages_name_it() {
        for (text, version) in [("order", None), ("order@2", Some(2))] {
            let named: Named = text.parse().unwrap();
            assert_eq!((named.version, named.to_string().as_str()), (version, text));
        }
        for text in ["order@", "order@0", "order@newest", "order@-1"] {
            assert!(text.parse::<Named>().is_err(), "{text}");
        }
    }
}
