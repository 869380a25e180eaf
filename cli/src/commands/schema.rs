//! `schema`: the registries of running hosts.
//!
//! Every host answers for its own registry. Where hosts disagree, what was asked for is taken from one that has it,
//! and standard error says what others say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use echo_sdk::contract::schema::{
    self, SchemaCheck, SchemaChecked, SchemaGet, SchemaInfo, SchemaList, SchemaListed,
    SchemaRegister, SchemaRegistered, SchemaRemove, SchemaRemoved,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Talk;
use crate::args::{Named, SchemaCommand, SchemaRegisterArgs};
use crate::commands::bus::data;
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Output;
use crate::summary::plural;
use crate::table::table;

/// Why there is no schema, or no data, to work with.
#[derive(Debug, thiserror::Error)]
enum InputError {
    /// The file cannot be read.
    #[error("the schema cannot be read from {}", file.display())]
    File {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// What was given is no JSON.
    #[error("{what} is no JSON")]
    NotJson {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

/// Does what was asked.
pub async fn schema(talk: &Talk<'_>, command: SchemaCommand) -> CommandResult {
    match command {
        SchemaCommand::List { json, at } => list(talk, at.url.as_deref(), json).await,
        SchemaCommand::Show { name, json, at } => show(talk, at.url.as_deref(), name, json).await,
        SchemaCommand::Register(args) => register(talk, args).await,
        SchemaCommand::Check { name, data, json, at } => {
            check(talk, at.url.as_deref(), &name, &data, json).await
        }
        SchemaCommand::Remove { name, json, at } => {
            remove(talk, at.url.as_deref(), name, json).await
        }
    }
}

/// Asks every host; what those say that did it, or the fault where none did.
async fn ask<Q: Serialize, T: DeserializeOwned>(
    talk: &Talk<'_>,
    url: Option<&str>,
    topic: &str,
    question: &Q,
) -> Result<Vec<T>, Failure> {
    let mut remote = talk.connect(url).await?;
    let answers = remote.ask_hosts::<_, T>(topic, question).await?;
    let (done, faults): (Vec<_>, Vec<_>) =
        answers.into_iter().map(|(_, said)| said).partition(Result::is_ok);
    let done: Vec<T> = done.into_iter().filter_map(Result::ok).collect();
    let mut faults = faults.into_iter().filter_map(Result::err);
    match faults.next() {
        Some(fault) if done.is_empty() => Err(Failure::usage(fault)),
        Some(fault) => {
            let hosts = plural(1 + faults.count(), "host");
            talk.output.complain(format_args!("on {hosts}: {fault}\n"));
            Ok(done)
        }
        None => Ok(done),
    }
}

/// What one of several hosts says.
fn first<T>(answers: Vec<T>) -> Result<T, Failure> {
    answers.into_iter().next().ok_or_else(|| Failure::surroundings("no host answered"))
}

/// A version of a schema on one host or several.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    version: u32,
    since: DateTime<Utc>,
    title: Option<String>,
    hosts: usize,
}

async fn list(talk: &Talk<'_>, url: Option<&str>, json: bool) -> CommandResult {
    let answers: Vec<SchemaListed> = ask(talk, url, schema::LIST, &SchemaList::default()).await?;
    let mut rows: BTreeMap<(String, u32), Row> = BTreeMap::new();
    for it in answers.into_iter().flat_map(|listed| listed.schemas) {
        let row = rows.entry((it.name.clone(), it.version));
        let (name, version, since, title) = (it.name, it.version, it.since, it.title);
        row.or_insert(Row { name, version, since, title, hosts: 0 }).hosts += 1;
    }
    let rows: Vec<Row> = rows.into_values().collect();
    let printed = if json {
        talk.output.json(&rows)
    } else if rows.is_empty() {
        talk.output.result("there are no schemas\n")
    } else {
        let headings = ["NAME", "VERSION", "SINCE", "HOSTS", "TITLE"];
        let cells = rows.into_iter().map(|row| {
            let since = row.since.to_rfc3339_opts(SecondsFormat::Secs, true);
            let title = row.title.unwrap_or_default().replace('\n', " ");
            [row.name, row.version.to_string(), since, row.hosts.to_string(), title]
        });
        talk.output.result(table(talk.output.out, headings, cells))
    };
    done(printed)
}

async fn show(talk: &Talk<'_>, url: Option<&str>, name: Named, json: bool) -> CommandResult {
    let question = SchemaGet { name: name.name, version: name.version };
    let found: SchemaInfo = first(ask(talk, url, schema::GET, &question).await?)?;
    done(if json { talk.output.json(&found) } else { talk.output.json(&found.schema) })
}

async fn register(talk: &Talk<'_>, args: SchemaRegisterArgs) -> CommandResult {
    let SchemaRegisterArgs { name, file, compatible, json, at } = args;
    let question = SchemaRegister { name, schema: read_schema(&file).await?, compatible };
    let answers: Vec<SchemaRegistered> =
        ask(talk, at.url.as_deref(), schema::REGISTER, &question).await?;
    if json {
        return done(talk.output.json(&answers));
    }
    let mut versions: BTreeMap<u32, usize> = BTreeMap::new();
    for registered in &answers {
        *versions.entry(registered.version).or_default() += 1;
    }
    let lines = versions.into_iter().map(|(version, hosts)| {
        format!("`{}` is version {version} on {}\n", question.name, plural(hosts, "host"))
    });
    done(talk.output.result(lines.collect::<String>()))
}

async fn read_schema(file: &str) -> Result<Value, Failure> {
    let text = match file {
        "-" => data::one(Some("-")).await?,
        file => tokio::fs::read_to_string(file).await.map_err(|source| {
            Failure::usage(InputError::File { file: PathBuf::from(file), source })
        })?,
    };
    json("the schema", &text)
}

fn json(what: &'static str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|source| Failure::usage(InputError::NotJson { what, source }))
}

async fn check(
    talk: &Talk<'_>,
    url: Option<&str>,
    name: &Named,
    data: &str,
    as_json: bool,
) -> CommandResult {
    let data = json("the data", &data::one(Some(data)).await?)?;
    let question = SchemaCheck { schema: name.to_string(), data };
    let checked: SchemaChecked = first(ask(talk, url, schema::CHECK, &question).await?)?;
    let exit = if checked.faults.is_empty() { Exit::Success } else { Exit::TestFailed };
    let printed = match as_json {
        true => talk.output.json(&checked),
        false => tell(talk.output, name, &checked),
    };
    printed.map_err(Failure::surroundings)?;
    Ok(exit)
}

fn tell(output: &Output, name: &Named, checked: &SchemaChecked) -> std::io::Result<()> {
    let version = checked.version;
    if checked.faults.is_empty() {
        let text = format!("the data keeps to version {version} of `{}`\n", name.name);
        return output.result(text);
    }
    let lines = checked.faults.iter().map(|fault| {
        let place = if fault.path.is_empty() { "the whole" } else { &fault.path };
        format!("{place} {}\n", fault.fault)
    });
    output.result(format!(
        "the data breaks version {version} of `{}`:\n{}",
        name.name,
        lines.collect::<String>()
    ))
}

async fn remove(talk: &Talk<'_>, url: Option<&str>, name: Named, json: bool) -> CommandResult {
    let question = SchemaRemove { name: name.name, version: name.version };
    let answers: Vec<SchemaRemoved> = ask(talk, url, schema::REMOVE, &question).await?;
    if json {
        return done(talk.output.json(&answers));
    }
    let versions = answers.iter().map(|removed| removed.versions.len()).sum();
    let hosts = plural(answers.len(), "host");
    let text =
        format!("removed {} of `{}` on {hosts}\n", plural(versions, "version"), question.name);
    done(talk.output.result(text))
}

fn done(printed: std::io::Result<()>) -> CommandResult {
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}
