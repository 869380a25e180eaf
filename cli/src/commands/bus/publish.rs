//! `publish`: messages to a running host.

use std::time::{Duration, Instant};

use echo_sdk::{BaseMessage, Topic};
use tokio::time::{Interval, interval};

use super::data::{Envelope, Source};
use crate::args::PublishArgs;
use crate::commands::Talk;
use crate::exit::{CommandResult, Exit, Failure};
use crate::host::CLIENT;
use crate::interrupts::Interrupts;
use crate::remote::Remote;
use crate::summary::plural;

/// Publishes, and ends when the server has taken all of it. A signal ends it as well, after what was published
/// by then.
pub async fn publish(talk: &Talk<'_>, args: PublishArgs) -> CommandResult {
    let topic = Topic::new(&args.topic).map_err(Failure::usage)?;
    let envelope = Envelope::new(&args)?;
    let source = Source::new(args.json.as_deref());
    if let Source::Given(Some(data)) = &source {
        // What is wrong with the command is said before anybody is looked for.
        let made = envelope.message(BaseMessage::builder(CLIENT), data);
        made.map_err(|error| source.fault(data, error))?;
    }
    let mut interrupts = Interrupts::catch().map_err(Failure::surroundings)?;
    let remote = talk.connect(args.at.url.as_deref()).await?;
    let pace = args.rate.map(|rate| interval(Duration::from_secs(1) / rate));
    let mut sending =
        Sending { remote, topic, envelope, source, count: args.count, pace, published: 0 };
    let begin = Instant::now();
    let sent = tokio::select! {
        sent = sending.run() => sent.map(|()| Exit::Success),
        _ = interrupts.next() => Ok(Exit::Interrupted),
    };
    let published = sending.published;
    let confirmed = sending.remote.close().await;
    let exit = sent?;
    confirmed?;
    if published != 1 {
        let (took, count) = (begin.elapsed(), plural(published, "message"));
        let rate = published as f64 / took.as_secs_f64();
        talk.output.say(format_args!("published {count} in {took:.1?}, {rate:.0} a second"));
    }
    Ok(exit)
}

/// A publish on its way.
struct Sending<'a> {
    remote: Remote,
    topic: Topic,
    envelope: Envelope<'a>,
    source: Source,
    count: usize,
    pace: Option<Interval>,
    published: usize,
}

impl Sending<'_> {
    async fn run(&mut self) -> Result<(), Failure> {
        while let Some(data) = self.source.next().await? {
            for _ in 0..self.count {
                let message = self.envelope.message(BaseMessage::builder(CLIENT), &data);
                let message = message.map_err(|error| self.source.fault(&data, error))?;
                if let Some(pace) = &mut self.pace {
                    pace.tick().await;
                }
                self.remote.publish(&self.topic, &message).await?;
                self.published += 1;
                self.remote.look()?;
            }
        }
        Ok(())
    }
}
