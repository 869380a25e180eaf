//! What a client says, and what follows from it.
//!
//! Commands are carried out one after another, in the order in which they came; whatever has to wait, for room
//! in a slot above all, holds back those behind it, and with them the client's socket. Dropping a session while
//! it waits to publish publishes to all or to none, as the bus has it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use echo_bus::{SubscribeOptions, give_way};
use echo_sdk::{Overflow, Pattern};
use parking_lot::Mutex;
use tokio::io::AsyncRead;

use super::connection::End;
use super::door::Door;
use super::groups::CAPACITY;
use super::inbound::Inbound;
use super::output::{Output, Source};
use super::parser::{self, Bounds, Command, ParseError, Parsed};
use super::protocol::{ConnectOptions, text};
use super::publishing::{Publishing, Waiting};
use super::ready::Hush;
use crate::auth::{Access, Credentials};
use crate::limits::{LimitError, MAX_CONTROL_LINE};

/// What publishing stops at.
enum Stop {
    /// A message that has to wait for room.
    Full(Waiting),
    /// A command that is no message.
    Other,
}

/// The side of a connection that comes in.
pub(super) struct Session<'a> {
    door: &'a Arc<Door>,
    output: &'a Mutex<Output>,
    bounds: Bounds,
    options: ConnectOptions,
    /// What it publishes; nothing before it has logged in.
    publishing: Option<Publishing<'a>>,
}

impl<'a> Session<'a> {
    pub(super) fn new(door: &'a Arc<Door>, output: &'a Mutex<Output>) -> Self {
        let bounds = Bounds { control_line: MAX_CONTROL_LINE, payload: door.limits.max_payload };
        Self { door, output, bounds, options: ConnectOptions::default(), publishing: None }
    }

    /// Reads and carries out what comes, until the connection ends; `waits` is told whether nothing has come.
    pub(super) async fn run<R: AsyncRead + Unpin>(
        &mut self,
        reader: &mut R,
        waits: impl Fn(bool),
    ) -> End {
        let mut inbound = Inbound::default();
        let access = match self.log_in(&mut inbound, reader, &waits).await {
            Ok(access) => access,
            Err(end) => return end,
        };
        let turns = async {
            loop {
                if let Err(end) = self.turn(&mut inbound, reader, &waits).await {
                    return end;
                }
            }
        };
        tokio::select! {
            biased;
            end = turns => end,
            () = access.expired() => End::Error(text::AUTHENTICATION_EXPIRED.into()),
        }
    }

    async fn log_in<R: AsyncRead + Unpin>(
        &mut self,
        inbound: &mut Inbound,
        reader: &mut R,
        waits: &impl Fn(bool),
    ) -> Result<Access, End> {
        if self.door.auth.is_open() {
            // Whoever is let in anyway need not say who it is.
            self.connect(ConnectOptions::default()).await?;
        }
        let patience = self.door.limits.login_timeout;
        let login = async {
            loop {
                if let Some(publishing) = &self.publishing {
                    return Ok(publishing.access().clone());
                }
                self.turn(inbound, reader, waits).await?;
            }
        };
        let login = tokio::time::timeout(patience, login).await;
        login.unwrap_or_else(|_| Err(End::Error(text::AUTHENTICATION_TIMEOUT.into())))
    }

    /// Reads once, and carries out what is whole by then.
    async fn turn<R: AsyncRead + Unpin>(
        &mut self,
        inbound: &mut Inbound,
        reader: &mut R,
        waits: &impl Fn(bool),
    ) -> Result<(), End> {
        if inbound.fill(reader, waits).await.map_err(|_| End::Left)? {
            self.carry_out(inbound).await?;
            if let Some(publishing) = &mut self.publishing {
                publishing.end_turn(&self.door.congestion).await;
            }
            // Others on this thread, and this connection's own output, have their turn.
            give_way().await;
        }
        Ok(())
    }

    async fn carry_out(&mut self, inbound: &mut Inbound) -> Result<(), End> {
        while let Some(stop) = self.publish_all(inbound)? {
            match (stop, &mut self.publishing) {
                (Stop::Full(waiting), Some(publishing)) => {
                    publishing.wait_for_room(waiting, self.output).await?;
                }
                _ => self.control_next(inbound).await?,
            }
        }
        Ok(())
    }

    /// Publishes what has come, up to another command or to a message that has to wait; those who get the messages
    /// are woken at the end. Gives nothing once all is carried out that is whole.
    fn publish_all(&mut self, inbound: &mut Inbound) -> Result<Option<Stop>, End> {
        let _hush = Hush::new();
        loop {
            let unread = inbound.unread();
            if unread.is_empty() {
                inbound.need(1);
                return Ok(None);
            }
            if self.publishing.is_none() && !matches!(unread, [b'C' | b'c', ..]) {
                return Err(End::Error(text::AUTHORIZATION.into()));
            }
            match (parser::parse(unread, &self.bounds), &mut self.publishing) {
                (Ok(Parsed::Command(Command::Publish(publish), len)), Some(publishing)) => {
                    let waiting = publishing.publish(&publish, self.output)?;
                    inbound.consume(len);
                    if let Some(waiting) = waiting {
                        return Ok(Some(Stop::Full(waiting)));
                    }
                }
                (Ok(Parsed::Command(..)), _) => return Ok(Some(Stop::Other)),
                (Ok(Parsed::Incomplete(needed)), _) => {
                    inbound.need(needed);
                    return Ok(None);
                }
                (Err(error), _) => return Err(End::Error(fault(error).into())),
            }
        }
    }

    /// Carries out the next command, which is whole and no message.
    async fn control_next(&mut self, inbound: &mut Inbound) -> Result<(), End> {
        if let Ok(Parsed::Command(command, len)) = parser::parse(inbound.unread(), &self.bounds) {
            self.control(command).await?;
            inbound.consume(len);
        }
        Ok(())
    }

    /// Carries out what is no message.
    async fn control(&mut self, command: Command<'_>) -> Result<(), End> {
        match command {
            Command::Connect(json) => {
                let options = serde_json::from_slice(json);
                let options = options.map_err(|_| End::Error(text::PARSER.into()))?;
                self.connect(options).await?;
            }
            Command::Subscribe { subject, queue, sid } => {
                if !self.subscribe(subject, queue, sid).await {
                    return Ok(());
                }
            }
            Command::Unsubscribe { sid, max } => self.output.lock().unsubscribe(sid, max)?,
            Command::Ping => {
                // What the client has published to itself comes before the answer.
                poll_fn(|cx| Poll::Ready(self.output.lock().deliver(cx))).await?;
                self.output.lock().append(|out| out.extend_from_slice(b"PONG\r\n"));
                return Ok(());
            }
            Command::Publish(_) | Command::Pong | Command::Remark => return Ok(()),
        }
        if self.options.verbose {
            self.output.lock().append(|out| out.extend_from_slice(b"+OK\r\n"));
        }
        Ok(())
    }

    /// Lets the client in, if it shows what it has to; one that is in stays who it is.
    async fn connect(&mut self, options: ConnectOptions) -> Result<(), End> {
        if !(0..=1).contains(&options.protocol) {
            return Err(End::Error(text::INVALID_PROTOCOL.into()));
        }
        if options.no_responders && !options.headers {
            return Err(End::Error(text::NO_RESPONDERS_WITHOUT_HEADERS.into()));
        }
        let access = match &self.publishing {
            Some(publishing) => publishing.access().clone(),
            None => {
                let credentials = Credentials {
                    token: options.auth_token.as_deref(),
                    user: options.user.as_deref(),
                    password: options.pass.as_deref(),
                    jwt: options.jwt.as_deref(),
                };
                self.door.auth.admit(credentials).await.map_err(|error| {
                    tracing::debug!(%error, "a client was not let in");
                    End::Error(text::AUTHORIZATION.into())
                })?
            }
        };
        self.output.lock().admit(&access, options.headers, options.echo);
        self.publishing = Some(Publishing::new(self.door, access, &options));
        self.options = options;
        Ok(())
    }

    /// Says whether it did not tell the client an error.
    async fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> bool {
        {
            let output = self.output.lock();
            if output.has_subscription(sid) {
                return true;
            }
            if output.subscriptions() >= self.door.limits.max_subscriptions {
                drop(output);
                self.complain(&LimitError::Subscriptions.to_string());
                return false;
            }
        }
        let texts = (std::str::from_utf8(subject), queue.map(std::str::from_utf8).transpose());
        let (Ok(subject), Ok(queue)) = texts else {
            self.complain(text::INVALID_SUBJECT);
            return false;
        };
        let Ok(pattern) = Pattern::new(subject) else {
            self.complain(text::INVALID_SUBJECT);
            return false;
        };
        let is_allowed =
            self.publishing.as_ref().is_some_and(|p| p.access().may_subscribe(&pattern));
        if !is_allowed {
            let group = queue.map(|queue| format!(" using queue \"{queue}\"")).unwrap_or_default();
            self.complain(&format!(
                "Permissions Violation for Subscription to \"{subject}\"{group}"
            ));
            return false;
        }
        let source = self.open(&pattern, queue).await;
        match source {
            Ok(source) => self.output.lock().subscribe(sid, pattern, source),
            Err(error) => {
                self.complain(&format!(
                    "Permissions Violation for Subscription to \"{subject}\": {error}"
                ));
            }
        }
        true
    }

    async fn open(
        &self,
        pattern: &Pattern,
        queue: Option<&str>,
    ) -> Result<Source, echo_bus::BusError> {
        let transport = &self.door.transport;
        if let Some(queue) = queue {
            let pressure = Arc::clone(self.output.lock().pressure());
            let member = self.door.groups.join(transport, queue, pattern, &pressure).await?;
            return Ok(Source::Shared(Box::new(member)));
        }
        // It waits for this task to run, and never for the client: see the module `output`.
        let options = SubscribeOptions { capacity: CAPACITY, overflow: Overflow::Block };
        Ok(Source::Alone(transport.subscribe(pattern, options).await?))
    }

    fn complain(&self, text: &str) {
        self.output.lock().error(text);
    }
}

/// What a client is told of bytes that are no command.
fn fault(error: ParseError) -> String {
    match error {
        ParseError::UnknownOperation | ParseError::Malformed => error.to_string(),
        ParseError::LineTooLong => LimitError::ControlLine.to_string(),
        ParseError::PayloadTooLarge => LimitError::Payload.to_string(),
    }
}
