//! Messages as they are given on the command line.

use std::io::{self, BufRead, Read};

use echo_bus::wire::header;
use echo_sdk::{BaseMessage, Form, MessageBuilder, MessageError, Topic, TopicError};
use tokio::sync::mpsc;

use crate::args::PublishArgs;
use crate::exit::Failure;

/// The longest line of standard input that is taken as a message, in bytes.
const MAX_LINE: u64 = 64 << 20;

/// Why a message could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Standard input cannot be read.
    #[error("the message cannot be read from standard input")]
    Stdin(#[source] io::Error),
    /// The data is no JSON.
    #[error("the data `{0}` is no JSON; write texts in quotes, such as '\"hello\"'")]
    NotJson(String, #[source] MessageError),
    /// A line of standard input is no JSON.
    #[error("line {line} of standard input is no JSON: `{text}`; write one JSON value a line")]
    Line {
        /// Which, from 1.
        line: usize,
        /// The line.
        text: String,
        /// Why.
        #[source]
        source: MessageError,
    },
    /// What is given beside the data cannot be part of a message.
    #[error(transparent)]
    Message(MessageError),
    /// The reply topic is none.
    #[error(transparent)]
    Reply(#[from] TopicError),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Stdin(_) => Self::surroundings(error),
            _ => Self::usage(error),
        }
    }
}

/// How many lines of standard input are read ahead.
const AHEAD: usize = 64;

/// The data of one message: JSON, `-` for all that stands on standard input, or nothing.
pub async fn one(json: Option<&str>) -> Result<String, DataError> {
    match json {
        Some("-") => {
            let read = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin())).await;
            read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(DataError::Stdin)
        }
        Some(json) => Ok(json.to_owned()),
        None => Ok("null".to_owned()),
    }
}

/// The data of messages, one after another.
pub enum Source {
    /// This one alone.
    Given(Option<String>),
    /// The lines of standard input, read by a thread that ends with them; and how many were taken.
    Lines(mpsc::Receiver<io::Result<String>>, usize),
}

impl Source {
    /// The data that was given, or each line of standard input for `-`.
    pub fn new(json: Option<&str>) -> Self {
        if json != Some("-") {
            return Self::Given(Some(json.unwrap_or("null").to_owned()));
        }
        let (sender, lines) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            while let Some(line) = next_line().transpose() {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self::Lines(lines, 0)
    }

    /// The next data. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<String>, DataError> {
        match self {
            Self::Given(data) => Ok(data.take()),
            Self::Lines(lines, count) => loop {
                let Some(line) = lines.recv().await else { return Ok(None) };
                let line = line.map_err(DataError::Stdin)?;
                *count += 1;
                if !line.trim().is_empty() {
                    return Ok(Some(line));
                }
            },
        }
    }

    /// What it means that this data is no JSON.
    pub fn fault(&self, data: &str, source: MessageError) -> DataError {
        let text = data.trim().to_owned();
        match (self, source) {
            (_, source @ (MessageError::TooLarge { .. } | MessageError::Field(_))) => {
                DataError::Message(source)
            }
            (Self::Lines(_, line), source) => DataError::Line { line: *line, text, source },
            (Self::Given(_), source) => DataError::NotJson(text, source),
        }
    }
}

/// A line of standard input, without its end; one that is too long comes in pieces, none of which is likely to be JSON.
fn next_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = io::stdin().lock().take(MAX_LINE).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\n', '\r']).len());
    Ok((read > 0).then_some(line))
}

/// What each message of a command has beside its data.
pub struct Envelope<'a> {
    args: &'a PublishArgs,
    reply: Option<Topic>,
}

impl<'a> Envelope<'a> {
    /// Checks it.
    pub fn new(args: &'a PublishArgs) -> Result<Self, DataError> {
        let reply = args.reply.as_ref().map(Topic::new).transpose()?;
        Ok(Self { args, reply })
    }

    /// Makes a message, with a fresh id.
    pub fn message<'b>(
        &'b self,
        builder: MessageBuilder<'b>,
        data: &str,
    ) -> Result<BaseMessage, MessageError> {
        let PublishArgs { key, schema, fields, plain, .. } = self.args;
        let mut builder = builder.data_json(data.as_bytes());
        builder = key.iter().fold(builder, |builder, key| builder.key(key));
        builder = schema.iter().fold(builder, |builder, schema| builder.schema(schema));
        builder = self.reply.iter().fold(builder, |builder, reply| builder.reply_to(reply.clone()));
        builder = fields.iter().fold(builder, |builder, (name, value)| builder.field(name, value));
        if *plain {
            // What came as plain JSON goes out with its fields alone; these say the rest.
            builder = builder.form(Form::Json);
            builder = key.iter().fold(builder, |builder, key| builder.field(header::KEY, key));
            let schema = schema.iter();
            builder = schema.fold(builder, |builder, schema| builder.field(header::SCHEMA, schema));
        }
        builder.build()
    }
}
