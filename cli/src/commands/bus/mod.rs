//! `publish`, `subscribe` and `request`: the bus from a shell, in a host of the command's own.

mod publish;
mod request;
mod subscribe;

use std::io::{self, Read};

use echo_sdk::{BaseMessage, MessageError, PluginContext};

use crate::exit::Failure;

pub use publish::publish;
pub use request::request;
pub use subscribe::subscribe;

/// Why a message could not be made.
#[derive(Debug, thiserror::Error)]
enum DataError {
    #[error("the message cannot be read from standard input")]
    Stdin(#[source] io::Error),
    #[error("the data `{0}` is no JSON; write texts in quotes, such as '\"hello\"'")]
    NotJson(String, #[source] MessageError),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Stdin(_) => Self::surroundings(error),
            DataError::NotJson(..) => Self::usage(error),
        }
    }
}

/// A running host has no way in yet: rather than speak to another one than is meant, say so.
fn refuse_url() -> Result<(), Failure> {
    match std::env::var("ECHO_URL") {
        Ok(url) if !url.is_empty() => Err(Failure::usage(
            "ECHO_URL names a running host, and there is no way into one yet; unset it to use a host of \
             this command's own",
        )),
        _ => Ok(()),
    }
}

/// The data as it was given: JSON, `-` for what stands on standard input, or nothing.
fn read_data(json: Option<&str>) -> Result<String, DataError> {
    match json {
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(DataError::Stdin)?;
            Ok(text)
        }
        Some(json) => Ok(json.to_owned()),
        None => Ok("null".to_owned()),
    }
}

fn message(
    client: &PluginContext,
    data: &str,
    key: Option<&str>,
) -> Result<BaseMessage, DataError> {
    let builder = client.message_builder().data_json(data.as_bytes());
    let builder = match key {
        Some(key) => builder.key(key),
        None => builder,
    };
    builder.build().map_err(|error| DataError::NotJson(data.trim().to_owned(), error))
}
