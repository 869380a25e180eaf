//! What a client says: bytes to commands.
//!
//! [`parse`] is a pure function over the bytes that have come so far. It copies nothing, keeps nothing, and
//! trusts no length: one is checked against the [`Bounds`] before anybody makes room for it. A command that is
//! not whole yet says how many bytes it takes at least, so that a large payload is not looked at again for each
//! piece of it that comes.

use memchr::memchr;

/// How large a command may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The longest line, `CONNECT` aside, in bytes.
    pub control_line: usize,
    /// The largest payload, headers included, in bytes.
    pub payload: usize,
}

/// The longest line of a `CONNECT`, which may hold a signed token.
pub const MAX_CONNECT_LINE: usize = 64 * 1024;

/// One command of a client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Who it is and how it wants to be spoken to: a JSON object.
    Connect(&'a [u8]),
    /// A message.
    Publish(Publish<'a>),
    /// The wish to get what is published to a subject.
    Subscribe {
        /// The subject, perhaps with wildcards.
        subject: &'a [u8],
        /// The group whose members share the messages.
        queue: Option<&'a [u8]>,
        /// What the client calls the subscription.
        sid: &'a [u8],
    },
    /// The end of a subscription.
    Unsubscribe {
        /// What the client calls the subscription.
        sid: &'a [u8],
        /// After how many messages in all; at once without it.
        max: Option<u64>,
    },
    /// The question whether the other side is there.
    Ping,
    /// The answer to it.
    Pong,
    /// What needs no answer: `+OK`, `-ERR` and `INFO`, which a client may send and no client does.
    Remark,
}

/// A message as a client sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub subject: &'a [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// The block of headers, with its version line and the empty line at its end.
    pub headers: Option<&'a [u8]>,
    /// The bytes.
    pub payload: &'a [u8],
}

/// What the bytes so far hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A command, and how many bytes it took.
    Command(Command<'a>, usize),
    /// The beginning of one that takes at least so many bytes.
    Incomplete(usize),
}

/// Why bytes are no command. All that comes after them has no meaning either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No command begins so.
    #[error("Unknown Protocol Operation")]
    UnknownOperation,
    /// The arguments do not fit the command, or a payload does not end where it says.
    #[error("Parser Error")]
    Malformed,
    /// A line is longer than the bound.
    #[error("Maximum Control Line Exceeded")]
    LineTooLong,
    /// A payload is larger than the bound.
    #[error("Maximum Payload Violation")]
    PayloadTooLarge,
}

/// Reads the command at the beginning of `input`.
///
/// # Errors
/// [`ParseError`] as soon as the bytes so far show that no command within the bounds will come of them.
pub fn parse<'a>(input: &'a [u8], bounds: &Bounds) -> Result<Parsed<'a>, ParseError> {
    let Some(end) = memchr(b'\n', input) else {
        check_beginning(input, bounds)?;
        return Ok(Parsed::Incomplete(input.len() + 1));
    };
    let (line, rest) = input.split_at(end);
    let rest = rest.get(1..).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (operation, arguments) = split_operation(line);
    let is = |name: &[u8]| operation.eq_ignore_ascii_case(name);
    if is(b"CONNECT") {
        let within = line.len() <= MAX_CONNECT_LINE.max(bounds.control_line);
        let command = Command::Connect(arguments.trim_ascii());
        return if within {
            Ok(Parsed::Command(command, end + 1))
        } else {
            Err(ParseError::LineTooLong)
        };
    }
    if line.len() > bounds.control_line {
        return Err(ParseError::LineTooLong);
    }
    let command = if is(b"PUB") {
        return with_payload(Arguments::of(arguments), false, rest, end + 1, bounds);
    } else if is(b"HPUB") {
        return with_payload(Arguments::of(arguments), true, rest, end + 1, bounds);
    } else if is(b"SUB") {
        subscribe(&Arguments::of(arguments))?
    } else if is(b"UNSUB") {
        unsubscribe(&Arguments::of(arguments))?
    } else if is(b"PING") {
        Command::Ping
    } else if is(b"PONG") {
        Command::Pong
    } else if is(b"+OK") || is(b"-ERR") || is(b"INFO") {
        Command::Remark
    } else {
        return Err(ParseError::UnknownOperation);
    };
    Ok(Parsed::Command(command, end + 1))
}

const OPERATIONS: [&[u8]; 10] =
    [b"PUB", b"HPUB", b"SUB", b"UNSUB", b"PING", b"PONG", b"CONNECT", b"+OK", b"-ERR", b"INFO"];

/// Looks at a line that has not ended yet.
fn check_beginning(input: &[u8], bounds: &Bounds) -> Result<(), ParseError> {
    let (operation, arguments) = split_operation(input.strip_suffix(b"\r").unwrap_or(input));
    let is_whole = !arguments.is_empty();
    let begins = |name: &&&[u8]| {
        let beginning = name.get(..operation.len());
        beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(operation))
            && (!is_whole || name.len() == operation.len())
    };
    let name = OPERATIONS.iter().find(begins).ok_or(ParseError::UnknownOperation)?;
    let most = if *name == b"CONNECT" { MAX_CONNECT_LINE } else { 0 }.max(bounds.control_line);
    // The line's end, of up to two bytes, may have come in part.
    if input.len() > most + 1 { Err(ParseError::LineTooLong) } else { Ok(()) }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A line's first word and what follows it.
fn split_operation(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    line.split_at(end)
}

/// The most arguments that a command has, and one more.
const MAX_ARGUMENTS: usize = 5;

/// The words of a line.
struct Arguments<'a> {
    words: [&'a [u8]; MAX_ARGUMENTS],
    count: usize,
}

impl<'a> Arguments<'a> {
    fn of(line: &'a [u8]) -> Self {
        let mut words = [&[][..]; MAX_ARGUMENTS];
        let found = line.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
        let count = words.iter_mut().zip(found).map(|(place, word)| *place = word).count();
        Self { words, count }
    }

    fn as_slice(&self) -> &[&'a [u8]] {
        self.words.get(..self.count).unwrap_or_default()
    }
}

fn subscribe<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, ParseError> {
    match *arguments.as_slice() {
        [subject, sid] => Ok(Command::Subscribe { subject, queue: None, sid }),
        [subject, queue, sid] => Ok(Command::Subscribe { subject, queue: Some(queue), sid }),
        _ => Err(ParseError::Malformed),
    }
}

fn unsubscribe<'a>(arguments: &Arguments<'a>) -> Result<Command<'a>, ParseError> {
    match *arguments.as_slice() {
        [sid] => Ok(Command::Unsubscribe { sid, max: None }),
        [sid, max] => {
            let max = number(max).ok_or(ParseError::Malformed)?;
            // As the protocol has it, 0 is the same as none.
            Ok(Command::Unsubscribe { sid, max: (max > 0).then_some(max) })
        }
        _ => Err(ParseError::Malformed),
    }
}

/// A `PUB`, or with `headed` a `HPUB`, whose line took `line_len` bytes and is followed by `rest`.
fn with_payload<'a>(
    arguments: Arguments<'a>,
    headed: bool,
    rest: &'a [u8],
    line_len: usize,
    bounds: &Bounds,
) -> Result<Parsed<'a>, ParseError> {
    let (subject, reply, header_len, len) = match (headed, arguments.as_slice()) {
        (false, [subject, len]) => (subject, None, None, len),
        (false, [subject, reply, len]) => (subject, Some(*reply), None, len),
        (true, [subject, header_len, len]) => (subject, None, Some(header_len), len),
        (true, [subject, reply, header_len, len]) => (subject, Some(*reply), Some(header_len), len),
        _ => return Err(ParseError::Malformed),
    };
    let len = number(len).ok_or(ParseError::Malformed)?;
    let len = usize::try_from(len).map_err(|_| ParseError::PayloadTooLarge)?;
    if len > bounds.payload {
        return Err(ParseError::PayloadTooLarge);
    }
    let header_len =
        header_len.map(|word| number(word).ok_or(ParseError::Malformed)).transpose()?;
    let header_len = header_len.map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    if header_len.is_some_and(|header_len| header_len > len) {
        return Err(ParseError::Malformed);
    }
    // Within the bounds, so that nothing overflows.
    let Some((body, end)) = rest.split_at_checked(len) else {
        return Ok(Parsed::Incomplete(line_len + len + 2));
    };
    match end {
        [b'\r', b'\n', ..] => {}
        [] | [b'\r'] => return Ok(Parsed::Incomplete(line_len + len + 2)),
        _ => return Err(ParseError::Malformed),
    }
    let (headers, payload) = match header_len {
        Some(header_len) => {
            let (headers, payload) =
                body.split_at_checked(header_len).ok_or(ParseError::Malformed)?;
            (Some(headers), payload)
        }
        None => (None, body),
    };
    let publish = Publish { subject, reply, headers, payload };
    Ok(Parsed::Command(Command::Publish(publish), line_len + len + 2))
}

/// A decimal number without a sign.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { control_line: 128, payload: 1024 };

    fn parse_one(text: &str) -> Result<Parsed<'_>, ParseError> {
        parse(text.as_bytes(), &BOUNDS)
    }

    fn command(text: &str) -> Command<'_> {
        match parse_one(text) {
            Ok(Parsed::Command(command, len)) => {
                assert_eq!(len, text.len());
                command
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn commands_are_read_as_servers_read_them() {
        let message = Publish { subject: b"a.b", reply: None, headers: None, payload: b"hello" };
        assert_eq!(command("PUB a.b 5\r\nhello\r\n"), Command::Publish(message));
        assert_eq!(command("pub\ta.b  5 \nhello\r\n"), Command::Publish(message));
        let replied = Publish { reply: Some(b"r"), ..message };
        assert_eq!(command("PUB a.b r 5\r\nhello\r\n"), Command::Publish(replied));
        let headed = Publish { headers: Some(b"NATS/1.0\r\n\r\n"), ..replied };
        let text = "HPUB a.b r 12 17\r\nNATS/1.0\r\n\r\nhello\r\n";
        assert_eq!(command(text), Command::Publish(headed));
        assert_eq!(command("CONNECT {\"a\":1}\r\n"), Command::Connect(b"{\"a\":1}"));
        assert_eq!((command("PING\r\n"), command("PONG\n")), (Command::Ping, Command::Pong));
        assert_eq!(command("+OK\r\n"), Command::Remark);
        let subscribe = |queue| Command::Subscribe { subject: b"a.>", queue, sid: b"1" };
        assert_eq!(command("SUB a.> 1\r\n"), subscribe(None));
        assert_eq!(command("SUB a.> q 1\r\n"), subscribe(Some(b"q".as_slice())));
        let unsubscribe = |max| Command::Unsubscribe { sid: b"1", max };
        assert_eq!(command("UNSUB 1\r\n"), unsubscribe(None));
        assert_eq!(command("UNSUB 1 7\r\n"), unsubscribe(Some(7)));
        assert_eq!(command("UNSUB 1 0\r\n"), unsubscribe(None));
    }

    #[test]
    fn what_is_no_command_is_refused_at_once() {
        use ParseError::{LineTooLong, Malformed, PayloadTooLarge, UnknownOperation};
        let long = "x".repeat(200);
        for (text, error) in [
            ("\r\n", UnknownOperation),
            ("GET / HTTP/1.1\r\n", UnknownOperation),
            ("G", UnknownOperation),
            ("PUBS a 1", UnknownOperation),
            ("PU a 1", UnknownOperation),
            ("\u{16}\u{3}\u{1}", UnknownOperation),
            ("PUB a\r\n", Malformed),
            ("PUB a b c 1\r\n", Malformed),
            ("PUB a -1\r\n", Malformed),
            ("PUB a +1\r\n", Malformed),
            ("PUB a 1x\r\n", Malformed),
            ("PUB a 2\r\nabc\r\n", Malformed),
            ("PUB a 2\r\nab\n", Malformed),
            ("HPUB a 3 2\r\nabcde\r\n", Malformed),
            ("SUB a\r\n", Malformed),
            ("SUB a b c d\r\n", Malformed),
            ("UNSUB\r\n", Malformed),
            ("UNSUB 1 x\r\n", Malformed),
            ("PUB a 1025\r\n", PayloadTooLarge),
            ("PUB a 18446744073709551615\r\n", PayloadTooLarge),
            ("PUB a 18446744073709551616\r\n", Malformed),
            (&format!("SUB {long} 1"), LineTooLong),
            (&format!("SUB {long} 1\r\n"), LineTooLong),
        ] {
            assert_eq!(parse_one(text), Err(error), "{text:?}");
        }
        let long = "x".repeat(MAX_CONNECT_LINE);
        assert_eq!(parse_one(&format!("CONNECT {long}")), Err(LineTooLong));
        assert_eq!(parse_one(&format!("CONNECT {long}\r\n")), Err(LineTooLong));
    }

    #[test]
    fn a_payload_says_how_much_is_missing() {
        assert_eq!(parse_one("PUB a 1000\r\nab"), Ok(Parsed::Incomplete(12 + 1000 + 2)));
        assert_eq!(parse_one("PUB a 2\r\nab\r"), Ok(Parsed::Incomplete(13)));
        assert_eq!(parse_one("PI"), Ok(Parsed::Incomplete(3)));
        assert_eq!(parse_one(""), Ok(Parsed::Incomplete(1)));
    }

    fn encode(command: &Command<'_>) -> Vec<u8> {
        let mut words: Vec<Vec<u8>> = Vec::new();
        let mut body: Option<Vec<u8>> = None;
        match command {
            Command::Connect(json) => words.extend([b"CONNECT".to_vec(), json.to_vec()]),
            Command::Publish(Publish { subject, reply, headers, payload }) => {
                let name = if headers.is_some() { "HPUB" } else { "PUB" };
                words.extend([name.as_bytes().to_vec(), subject.to_vec()]);
                words.extend(reply.map(<[u8]>::to_vec));
                let header_len = headers.map(<[u8]>::len);
                words.extend(header_len.map(|len| len.to_string().into_bytes()));
                let len = header_len.unwrap_or_default() + payload.len();
                words.push(len.to_string().into_bytes());
                body = Some([headers.unwrap_or_default(), payload].concat());
            }
            Command::Subscribe { subject, queue, sid } => {
                words.extend([b"SUB".to_vec(), subject.to_vec()]);
                words.extend(queue.map(<[u8]>::to_vec));
                words.push(sid.to_vec());
            }
            Command::Unsubscribe { sid, max } => {
                words.extend([b"UNSUB".to_vec(), sid.to_vec()]);
                words.extend(max.map(|max| max.to_string().into_bytes()));
            }
            Command::Ping => words.push(b"PING".to_vec()),
            Command::Pong => words.push(b"PONG".to_vec()),
            Command::Remark => words.push(b"+OK".to_vec()),
        }
        let mut bytes = words.join(&b' ');
        bytes.extend(b"\r\n");
        if let Some(body) = body {
            bytes.extend(body);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[derive(Debug, Clone)]
    struct Sample {
        kind: usize,
        words: [Vec<u8>; 3],
        bodies: [Vec<u8>; 2],
        number: u64,
        flags: [bool; 2],
    }

    impl Sample {
        fn command(&self) -> Command<'_> {
            let [first, second, third] = &self.words;
            let [headers, payload] = &self.bodies;
            let second = self.flags[0].then_some(second.as_slice());
            match self.kind {
                0 => Command::Connect(b"{}"),
                1 => Command::Publish(Publish {
                    subject: first,
                    reply: second,
                    headers: self.flags[1].then_some(headers),
                    payload,
                }),
                2 => Command::Subscribe { subject: first, queue: second, sid: third },
                3 => {
                    let max = self.flags[0].then_some(self.number);
                    Command::Unsubscribe { sid: first, max }
                }
                4 => Command::Ping,
                5 => Command::Pong,
                _ => Command::Remark,
            }
        }
    }

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let word = || "[!-~]{1,20}".prop_map(String::into_bytes);
        let body = || proptest::collection::vec(any::<u8>(), 0..200);
        let sample = (
            0..7_usize,
            [word(), word(), word()],
            [body(), body()],
            1..u64::MAX,
            any::<[bool; 2]>(),
        );
        let sample = sample.prop_map(|(kind, words, bodies, number, flags)| Sample {
            kind,
            words,
            bodies,
            number,
            flags,
        });
        proptest::collection::vec(sample, 1..8)
    }

    /// Reads all commands of `bytes`, of which ever more come, as `pieces` say.
    fn read_in_pieces(bytes: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
        let mut read = Vec::new();
        let (mut start, mut come, mut needed) = (0, 0, 1);
        let mut pieces = pieces.iter().copied().cycle();
        while start < bytes.len() {
            while come < start + needed {
                come = (come + pieces.next().unwrap_or(1)).min(bytes.len());
            }
            match parse(&bytes[start..come], &BOUNDS).unwrap() {
                Parsed::Command(command, len) => {
                    read.push(encode(&command));
                    start += len;
                    needed = 1;
                }
                Parsed::Incomplete(more) => {
                    assert!(more > come - start, "asks for what is there");
                    needed = more;
                }
            }
        }
        read
    }

    proptest! {
        #[test]
        fn any_splits_give_the_same_commands(
            samples in samples(),
            pieces in proptest::collection::vec(1..40_usize, 1..20),
        ) {
            let sent: Vec<_> = samples.iter().map(|sample| encode(&sample.command())).collect();
            prop_assert_eq!(read_in_pieces(&sent.concat(), &pieces), sent);
        }

        #[test]
        fn no_bytes_make_it_panic_or_ask_for_more_than_the_bounds(bytes: Vec<u8>) {
            if let Ok(Parsed::Incomplete(needed)) = parse(&bytes, &BOUNDS) {
                prop_assert!(needed > bytes.len());
                prop_assert!(needed <= MAX_CONNECT_LINE + BOUNDS.payload + 4);
            }
        }

        #[test]
        fn nearly_right_lines_are_read_or_refused(
            line in "(PUB|HPUB|SUB|UNSUB|CONNECT|PING|pub|-ERR)[ \t0-9a-z.*>]{0,30}(\r\n)?[a-z]{0,9}(\r\n)?",
        ) {
            match parse(line.as_bytes(), &BOUNDS) {
                Ok(Parsed::Command(_, len)) => prop_assert!(len <= line.len()),
                Ok(Parsed::Incomplete(needed)) => prop_assert!(needed > line.len()),
                Err(_) => {}
            }
        }
    }
}
