//! `topics`: what the plugins of all hosts subscribe to, how fast messages come and are handled, and what waits.
//!
//! Hosts count; rates are what the counters grow by between two looks.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use echo_sdk::Pattern;
use echo_sdk::contract::host::{self, SlotInfo, TopicsQuestion, TopicsReply};
use echo_sdk::contract::system::PluginStatus;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::Talk;
use crate::args::TopicsArgs;
use crate::exit::{CommandResult, Exit, Failure};
use crate::interrupts::Interrupts;
use crate::output::Palette;
use crate::remote::{Remote, RemoteError};
use crate::table::table;

/// What the hosts say at one time: by host and slot.
type Look = BTreeMap<(String, String), (DateTime<Utc>, SlotInfo)>;

/// A slot on all hosts together.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    slot: String,
    patterns: Vec<Pattern>,
    status: PluginStatus,
    hosts: usize,
    workers: usize,
    depth: usize,
    capacity: usize,
    /// Messages that it is behind: the hosts that share a slot all tell of the same ones, and of what each of them
    /// holds for itself alone. Nothing where no host could find out.
    lag: Option<usize>,
    delayed: usize,
    /// Messages that came in and were handled, a second.
    in_per_s: f64,
    done_per_s: f64,
    accepted: u64,
    acknowledged: u64,
    retried: u64,
    dead: u64,
    dropped: u64,
}

/// Lists the slots, once or until a signal comes.
pub async fn topics(talk: &Talk<'_>, args: TopicsArgs) -> CommandResult {
    if args.interval.is_zero() {
        return Err(Failure::usage("`--interval` is 0; rates are taken over a time"));
    }
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let mut remote = talk.connect(args.at.url.as_deref()).await?;
    tokio::select! {
        shown = show(talk, &mut remote, &args) => shown,
        _ = interrupts.next() => Ok(Exit::Interrupted),
    }
}

async fn show(talk: &Talk<'_>, remote: &mut Remote, args: &TopicsArgs) -> CommandResult {
    let mut before = look(remote).await?;
    let mut times = interval(args.interval);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    times.tick().await;
    loop {
        times.tick().await;
        let now = look(remote).await?;
        let rows = rows(&before, &now);
        let goes_on = match (args.json, args.watch) {
            (true, true) => talk.output.json_line(&rows),
            (true, false) => talk.output.json(&rows).map(|()| true),
            (false, _) => talk.output.result_line(listing(&rows, talk.output.out)),
        };
        if !goes_on.map_err(Failure::surroundings)? || !args.watch {
            return Ok(Exit::Success);
        }
        before = now;
    }
}

async fn look(remote: &mut Remote) -> Result<Look, RemoteError> {
    let mut look = Look::new();
    let question = TopicsQuestion::default();
    let replies = remote.ask_hosts::<_, TopicsReply>(host::TOPICS, &question).await?;
    for (host, reply) in replies {
        let TopicsReply { at, slots } = reply.map_err(RemoteError::Said)?;
        let slots = slots.into_iter().map(|slot| ((host.clone(), slot.slot.clone()), (at, slot)));
        look.extend(slots);
    }
    Ok(look)
}

fn rows(before: &Look, now: &Look) -> Vec<Row> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for (key, (at, slot)) in now {
        let row = rows.entry(&slot.slot).or_insert_with(|| empty(slot));
        // A host that came meanwhile has no rate yet.
        if let Some((since, earlier)) = before.get(key) {
            let seconds = (*at - *since).to_std().unwrap_or(Duration::ZERO).as_secs_f64();
            let rate = |count: u64, earlier: u64| match seconds > 0.0 {
                true => count.saturating_sub(earlier) as f64 / seconds,
                false => 0.0,
            };
            row.in_per_s += rate(slot.accepted, earlier.accepted);
            row.done_per_s += rate(slot.acknowledged, earlier.acknowledged);
        }
        row.hosts += 1;
        row.workers += slot.workers;
        row.depth += slot.depth;
        row.capacity += slot.capacity;
        row.lag = row.lag.max(slot.lag);
        row.delayed += slot.delayed;
        row.accepted += slot.accepted;
        row.acknowledged += slot.acknowledged;
        row.retried += slot.retried;
        row.dead += slot.dead;
        row.dropped += slot.dropped;
    }
    for row in rows.values_mut() {
        row.lag = row.lag.map(|lag| lag.max(row.depth));
    }
    rows.into_values().collect()
}

fn empty(slot: &SlotInfo) -> Row {
    Row {
        slot: slot.slot.clone(),
        patterns: slot.patterns.clone(),
        status: slot.status,
        hosts: 0,
        workers: 0,
        depth: 0,
        capacity: 0,
        lag: None,
        delayed: 0,
        in_per_s: 0.0,
        done_per_s: 0.0,
        accepted: 0,
        acknowledged: 0,
        retried: 0,
        dead: 0,
        dropped: 0,
    }
}

fn listing(rows: &[Row], palette: Palette) -> String {
    let headings = [
        "SLOT", "STATUS", "HOSTS", "WORKERS", "IN/S", "DONE/S", "DEPTH", "LAG", "RETRIED", "DEAD",
        "DROPPED", "PATTERNS",
    ];
    let cells = rows.iter().map(|row| {
        [
            row.slot.clone(),
            row.status.as_str().to_owned(),
            row.hosts.to_string(),
            row.workers.to_string(),
            format!("{:.1}", row.in_per_s),
            format!("{:.1}", row.done_per_s),
            format!("{}/{}", row.depth, row.capacity),
            row.lag.map_or_else(|| "?".to_owned(), |lag| lag.to_string()),
            row.retried.to_string(),
            row.dead.to_string(),
            row.dropped.to_string(),
            row.patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" "),
        ]
    });
    table(palette, headings, cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(accepted: u64, depth: usize, lag: Option<usize>) -> SlotInfo {
        SlotInfo {
            slot: "s".to_owned(),
            version: "1.0.0".to_owned(),
            status: PluginStatus::Running,
            patterns: vec![Pattern::new("a.>").unwrap()],
            workers: 2,
            depth,
            capacity: 10,
            lag,
            delayed: 0,
            accepted,
            acknowledged: accepted,
            retried: 0,
            dead: 1,
            dropped: 0,
        }
    }

    #[test]
    fn rates_are_the_growth_between_two_looks_and_hosts_add_up() {
        let begin = Utc::now();
        let entry = |host: &str, seconds: i64, accepted, depth| {
            let at = begin + chrono::Duration::seconds(seconds);
            ((host.to_owned(), "s".to_owned()), (at, slot(accepted, depth, Some(depth))))
        };
        let before = Look::from([entry("a", 0, 100, 0), entry("b", 0, 0, 0)]);
        let now = Look::from([entry("a", 2, 300, 3), entry("b", 2, 10, 4), entry("new", 2, 50, 0)]);
        let rows = rows(&before, &now);
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.in_per_s, row.hosts, row.workers, row.depth), (105.0, 3, 6, 7));
        assert_eq!((row.accepted, row.dead, row.lag), (360, 3, Some(7)));
        let text = listing(&rows, Palette::PLAIN);
        assert!(
            text.contains("105.0") && text.contains("7/30") && text.ends_with("a.>\n"),
            "{text}"
        );
    }

    #[test]
    fn what_hosts_share_is_behind_once() {
        let lag = |lags: &[Option<usize>]| {
            let entry = |(host, lag): (usize, &Option<usize>)| {
                ((host.to_string(), "s".to_owned()), (Utc::now(), slot(0, 3, *lag)))
            };
            let now: Look = lags.iter().enumerate().map(entry).collect();
            let rows = rows(&now, &now);
            (rows[0].lag, listing(&rows, Palette::PLAIN).contains(" ? "))
        };
        assert_eq!(lag(&[Some(100), None, Some(101)]), (Some(101), false));
        assert_eq!(lag(&[Some(3), Some(3)]), (Some(6), false));
        assert_eq!(lag(&[None, None]), (None, true));
    }
}
