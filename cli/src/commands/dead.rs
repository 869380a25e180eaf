//! `dead`: the messages that slots gave up, on all hosts of the bus.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use echo_sdk::contract::dead::{
    self, DeadDiscard, DeadDiscarded, DeadEntry, DeadFault, DeadFound, DeadGet, DeadList, DeadPage,
    DeadReplay, DeadReplayed, DeadReplays, DeadSelection,
};
use serde::Serialize;
use uuid::Uuid;

use super::Talk;
use crate::args::{DeadCommand, DeadFilter, DeadPick};
use crate::exit::{CommandResult, Exit, Failure};
use crate::output::Style;
use crate::remote::{Remote, RemoteError};
use crate::summary::plural;
use crate::table::table;

/// Does what was asked.
pub async fn dead(talk: &Talk<'_>, command: DeadCommand) -> CommandResult {
    match command {
        DeadCommand::List { filter, json, at } => {
            let mut remote = talk.connect(at.url.as_deref()).await?;
            let listed = list(&mut remote, selection(filter)).await?;
            show_list(talk, &listed, json)
        }
        DeadCommand::Show { id, json, at } => {
            show(talk, talk.connect(at.url.as_deref()).await?, id, json).await
        }
        DeadCommand::Replay { pick, new_id } => replay(talk, pick, new_id).await,
        DeadCommand::Discard { pick } => discard(talk, pick).await,
    }
}

fn selection(DeadFilter { slot, topic, ids }: DeadFilter) -> DeadSelection {
    DeadSelection { ids, slot, topic, died_before: None }
}

/// The letters that are picked, as they are now: a replay does not run after what it brings about.
fn picked(pick: DeadPick) -> Result<DeadSelection, Failure> {
    let DeadFilter { slot, topic, ids } = &pick.filter;
    if !pick.all && slot.is_none() && topic.is_none() && ids.is_empty() {
        let way_out = "say which with --slot, --topic or --id, or --all";
        return Err(Failure::usage(format!("no dead letter was picked; {way_out}")));
    }
    Ok(DeadSelection { died_before: Some(Utc::now()), ..selection(pick.filter) })
}

/// All that hosts list.
#[derive(Debug, Default, Serialize)]
struct Listed {
    letters: Vec<DeadEntry>,
    forgotten: u64,
    waiting: usize,
}

/// A page of each host, then, host by host, the rest.
async fn list(remote: &mut Remote, select: DeadSelection) -> Result<Listed, RemoteError> {
    let question = DeadList { select, ..DeadList::default() };
    let mut listed = Listed::default();
    for (host, page) in remote.ask_hosts::<_, DeadPage>(dead::LIST, &question).await? {
        let mut page = page.map_err(RemoteError::Said)?;
        listed.forgotten += page.forgotten;
        listed.waiting += page.waiting;
        loop {
            let after = page.letters.last().map(|entry| entry.id);
            listed.letters.append(&mut page.letters);
            if !page.more {
                break;
            }
            let next = DeadList { host: Some(host.clone()), after, ..question.clone() };
            page = remote.ask_host(dead::LIST, &next).await?;
        }
    }
    listed.letters.sort_by_key(|entry| entry.died_at);
    Ok(listed)
}

fn show_list(talk: &Talk<'_>, listed: &Listed, json: bool) -> CommandResult {
    let output = talk.output;
    let printed = if json {
        output.json(listed)
    } else if listed.letters.is_empty() {
        output.result("there are no dead letters\n")
    } else {
        let headings = ["ID", "DIED", "SLOT", "TOPIC", "ATTEMPTS", "REPLAYED", "REASON"];
        let rows = listed.letters.iter().map(|entry| {
            [
                entry.id.to_string(),
                time(entry.died_at),
                entry.slot.clone(),
                entry.topic.to_string(),
                entry.attempts.to_string(),
                entry.replayed_at.map_or_else(|| "-".to_owned(), time),
                entry.reason.replace('\n', " "),
            ]
        });
        output.result(table(output.out, headings, rows))
    };
    printed.map_err(Failure::surroundings)?;
    if listed.forgotten > 0 {
        let count = listed.forgotten;
        output.say(format_args!("older ones, {count}, were forgotten for want of room"));
    }
    if listed.waiting > 0 {
        let count = listed.waiting;
        output.say(format_args!("{count} more wait until some of these are replayed or discarded"));
    }
    Ok(Exit::Success)
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

async fn show(talk: &Talk<'_>, mut remote: Remote, id: Uuid, json: bool) -> CommandResult {
    let answers = remote.ask_hosts::<_, DeadFound>(dead::GET, &DeadGet { id }).await?;
    let mut faults = answers.iter().filter_map(|(_, found)| found.as_ref().err());
    let found = answers.iter().filter_map(|(_, found)| found.as_ref().ok());
    let found = found.filter_map(|it| Some((it.letter.as_ref()?, it.replayed_at))).next();
    let Some((letter, replayed_at)) = found else {
        return Err(match faults.next() {
            Some(fault) => RemoteError::Said(fault.clone()).into(),
            None => {
                let way_out = "`echo-core dead list` shows those there are";
                Failure::usage(format!("no host has the dead letter {id}; {way_out}"))
            }
        });
    };
    let output = talk.output;
    let printed = if json {
        output.json(&DeadFound { letter: Some(letter.clone()), replayed_at })
    } else {
        let label = |name: &str| output.out.paint(Style::Strong, format_args!("{name:<9}"));
        let message =
            serde_json::to_string_pretty(&letter.message).map_err(Failure::surroundings)?;
        output.result(format_args!(
            "{} {}\n{} {}\n{} {}\n{} {}\n{} {}\n{}\n{message}\n",
            label("slot"),
            letter.slot,
            label("topic"),
            letter.topic,
            label("reason"),
            letter.reason,
            label("attempts"),
            letter.attempts,
            label("replayed"),
            replayed_at.map_or_else(|| "no".to_owned(), time),
            label("message"),
        ))
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}

/// All that hosts published again.
#[derive(Debug, Default, Serialize)]
struct Replayed {
    replayed: Vec<DeadReplayed>,
    failed: Vec<DeadFault>,
}

async fn replay(talk: &Talk<'_>, pick: DeadPick, new_id: bool) -> CommandResult {
    let (json, url) = (pick.json, pick.at.url.clone());
    let question = DeadReplay { select: picked(pick)?, new_id, ..DeadReplay::default() };
    let mut remote = talk.connect(url.as_deref()).await?;
    let mut all = Replayed::default();
    for (host, page) in remote.ask_hosts::<_, DeadReplays>(dead::REPLAY, &question).await? {
        let mut page = page.map_err(RemoteError::Said)?;
        loop {
            all.replayed.append(&mut page.replayed);
            all.failed.append(&mut page.failed);
            let Some(after) = page.more_after else { break };
            let (host, after) = (Some(host.clone()), Some(after));
            let next = DeadReplay { host, after, ..question.clone() };
            page = remote.ask_host(dead::REPLAY, &next).await?;
        }
    }
    if json {
        talk.output.json(&all).map_err(Failure::surroundings)?;
    } else {
        let by_topic = all.replayed.iter().fold(BTreeMap::new(), |mut topics, replayed| {
            *topics.entry(&replayed.topic).or_insert(0usize) += 1;
            topics
        });
        let lines = by_topic.iter().map(|(topic, count)| format!("{count} to {topic}\n"));
        let count = plural(all.replayed.len(), "message");
        let text = format!("published {count} again\n{}", lines.collect::<String>());
        talk.output.result(text).map_err(Failure::surroundings)?;
    }
    for DeadFault { id, reason } in &all.failed {
        talk.output.complain(format_args!("{id} stays: {reason}\n"));
    }
    Ok(if all.failed.is_empty() { Exit::Success } else { Exit::Surroundings })
}

async fn discard(talk: &Talk<'_>, pick: DeadPick) -> CommandResult {
    let (json, url) = (pick.json, pick.at.url.clone());
    let question = DeadDiscard { select: picked(pick)?, ..DeadDiscard::default() };
    let mut remote = talk.connect(url.as_deref()).await?;
    let mut count = 0;
    for (host, page) in remote.ask_hosts::<_, DeadDiscarded>(dead::DISCARD, &question).await? {
        let mut page = page.map_err(RemoteError::Said)?;
        count += page.discarded;
        while page.more {
            let next = DeadDiscard { host: Some(host.clone()), ..question.clone() };
            page = remote.ask_host(dead::DISCARD, &next).await?;
            count += page.discarded;
        }
    }
    let printed = match json {
        true => talk.output.json(&serde_json::json!({ "discarded": count })),
        false => talk.output.result(format_args!("forgot {}\n", plural(count, "dead letter"))),
    };
    printed.map_err(Failure::surroundings)?;
    Ok(Exit::Success)
}
