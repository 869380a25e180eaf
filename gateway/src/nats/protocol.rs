//! What a host says to its clients, and what they say of themselves.

use std::io::Write;

use echo_bus::wire;
use echo_sdk::{MessageError, Received};
use memchr::memmem;
use serde::{Deserialize, Serialize};

/// The version of the NATS server that the gateway is like. Clients look at it for what they may ask for.
const LIKE_VERSION: &str = concat!("2.10.0-echo.", env!("CARGO_PKG_VERSION"));

/// What `-ERR` says, in the words of nats-server where it has some, since clients act on them.
pub(super) mod text {
    pub(crate) const AUTHORIZATION: &str = "Authorization Violation";
    pub(crate) const AUTHENTICATION_TIMEOUT: &str = "Authentication Timeout";
    pub(crate) const AUTHENTICATION_EXPIRED: &str = "User Authentication Expired";
    pub(crate) const STALE: &str = "Stale Connection";
    pub(crate) const INVALID_SUBJECT: &str = "Invalid Subject";
    pub(crate) const INVALID_PUBLISH_SUBJECT: &str = "Invalid Publish Subject";
    pub(crate) const INVALID_PROTOCOL: &str = "invalid client protocol";
    pub(crate) const PARSER: &str = "Parser Error";
    pub(crate) const NO_RESPONDERS_WITHOUT_HEADERS: &str = "no responders requires headers support";
}

/// What the gateway says of itself when a client connects, and when that changes.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Info {
    pub(super) server_id: String,
    pub(super) server_name: String,
    pub(super) version: &'static str,
    pub(super) proto: u8,
    pub(super) go: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) headers: bool,
    pub(super) max_payload: usize,
    pub(super) client_id: u64,
    pub(super) client_ip: String,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) tls_required: bool,
    #[serde(rename = "ldm", skip_serializing_if = "is_false")]
    pub(super) lame_duck: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Info {
    pub(super) fn new(server_id: String, server_name: String) -> Self {
        Self {
            server_id,
            server_name,
            version: LIKE_VERSION,
            proto: 1,
            go: "none",
            host: String::new(),
            port: 0,
            headers: true,
            max_payload: 0,
            client_id: 0,
            client_ip: String::new(),
            auth_required: false,
            tls_required: false,
            lame_duck: false,
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"INFO ");
        // Texts, numbers and flags always have a JSON form.
        let _ = serde_json::to_writer(&mut *out, self);
        out.extend_from_slice(b"\r\n");
    }
}

/// How a client wants to be spoken to, and who it is. What it leaves out is as nats-server has it.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct ConnectOptions {
    pub(super) verbose: bool,
    pub(super) pedantic: bool,
    pub(super) echo: bool,
    pub(super) headers: bool,
    pub(super) no_responders: bool,
    pub(super) protocol: i64,
    pub(super) name: Option<String>,
    pub(super) auth_token: Option<String>,
    pub(super) user: Option<String>,
    pub(super) pass: Option<String>,
    pub(super) jwt: Option<String>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: None,
            auth_token: None,
            user: None,
            pass: None,
            jwt: None,
        }
    }
}

/// Writes an `-ERR`.
pub(super) fn write_error(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = write!(out, "-ERR '{}'\r\n", text.replace(['\r', '\n'], " "));
}

/// Says that nobody hears what was asked, as a message on the reply subject.
pub(super) fn write_no_responders(out: &mut Vec<u8>, reply: &str, sid: &[u8]) {
    let headers = b"NATS/1.0 503\r\n\r\n";
    write_line(out, b"HMSG ", reply, sid, None);
    write_number(out, headers.len());
    out.push(b' ');
    write_number(out, headers.len());
    for part in [b"\r\n", &headers[..], b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Writes a message for a subscription; to a client that knows no headers without them. `scratch` is for the
/// time of the call.
pub(super) fn write_message(
    out: &mut Vec<u8>,
    received: &Received,
    sid: &[u8],
    with_headers: bool,
    scratch: &mut Vec<u8>,
) -> Result<(), MessageError> {
    let Received { topic, message } = received;
    let payload = wire::payload(message)?;
    scratch.clear();
    if with_headers {
        wire::headers(message, |name, value| {
            for part in [name, ": ", value, "\r\n"] {
                scratch.extend_from_slice(part.as_bytes());
            }
        });
    }
    let reply = message.reply_to();
    let reply = reply.as_ref().map(echo_sdk::Topic::as_str);
    if scratch.is_empty() {
        write_line(out, b"MSG ", topic.as_str(), sid, reply);
        write_number(out, payload.len());
        out.extend_from_slice(b"\r\n");
    } else {
        const VERSION: &[u8] = b"NATS/1.0\r\n";
        let len = VERSION.len() + scratch.len() + 2;
        write_line(out, b"HMSG ", topic.as_str(), sid, reply);
        write_number(out, len);
        out.push(b' ');
        write_number(out, len + payload.len());
        for part in [b"\r\n", VERSION, scratch.as_slice(), b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(&payload);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn write_line(out: &mut Vec<u8>, name: &[u8], subject: &str, sid: &[u8], reply: Option<&str>) {
    for part in [name, subject.as_bytes(), b" ", sid, b" "] {
        out.extend_from_slice(part);
    }
    if let Some(reply) = reply {
        out.extend_from_slice(reply.as_bytes());
        out.push(b' ');
    }
}

/// Decimal digits, without the formatter's machinery: two numbers a message.
fn write_number(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut count = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
        count += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

/// The headers of a block: its version line, `Name: value` lines, an empty line. `None` when it is none.
pub(super) fn headers(block: &[u8]) -> Option<Headers<'_>> {
    let text = std::str::from_utf8(block).ok()?;
    let (version, lines) = text.split_once("\r\n")?;
    let lines = lines.strip_suffix("\r\n")?;
    (version.starts_with("NATS/1.0") && (lines.is_empty() || lines.ends_with("\r\n")))
        .then_some(Headers(lines))
}

/// Names and values of a block of headers.
#[derive(Debug, Clone, Default)]
pub(super) struct Headers<'a>(&'a str);

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let end = memmem::find(self.0.as_bytes(), b"\r\n")?;
            let (line, rest) = self.0.split_at_checked(end)?;
            self.0 = rest.get(2..).unwrap_or_default();
            if let Some((name, value)) = line.split_once(':') {
                return Some((name, value.trim_matches([' ', '\t'])));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use echo_sdk::{BaseMessage, Form, Topic};

    use super::*;

    fn written(message: BaseMessage, with_headers: bool) -> String {
        let received = Received { topic: Topic::new("a.b").unwrap(), message };
        let mut out = Vec::new();
        write_message(&mut out, &received, b"7", with_headers, &mut Vec::new()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn messages_are_written_as_servers_write_them() {
        let builder = || BaseMessage::builder("me").form(Form::Text).data("hello");
        assert_eq!(written(builder().build().unwrap(), true), "MSG a.b 7 5\r\nhello\r\n");
        let reply = || builder().reply_to(Topic::new("_INBOX.1").unwrap());
        assert_eq!(written(reply().build().unwrap(), true), "MSG a.b 7 _INBOX.1 5\r\nhello\r\n");
        let headed = || reply().field("Tenant", "t").build().unwrap();
        assert_eq!(
            written(headed(), true),
            "HMSG a.b 7 _INBOX.1 23 28\r\nNATS/1.0\r\nTenant: t\r\n\r\nhello\r\n"
        );
        assert_eq!(written(headed(), false), "MSG a.b 7 _INBOX.1 5\r\nhello\r\n");
        let mut out = Vec::new();
        write_no_responders(&mut out, "_INBOX.1", b"7");
        assert_eq!(out, b"HMSG _INBOX.1 7 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for number in [0, 1, 9, 10, 12_345, usize::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }

    #[test]
    fn a_block_of_headers_is_read_or_refused_whole() {
        fn read(block: &str) -> Option<Vec<(&str, &str)>> {
            headers(block.as_bytes()).map(Iterator::collect)
        }
        assert_eq!(read("NATS/1.0\r\n\r\n"), Some(vec![]));
        assert_eq!(read("NATS/1.0\r\nA: b c\r\nA:d\r\n\r\n"), Some(vec![("A", "b c"), ("A", "d")]));
        for block in ["", "NATS/1.0", "NATS/1.0\r\n", "NATS/1.0\r\nA: b\r\n", "HTTP/1.1\r\n\r\n"] {
            assert_eq!(read(block), None, "{block:?}");
        }
        assert!(headers(b"NATS/1.0\r\nA: \xff\r\n\r\n").is_none());
    }

    #[test]
    fn what_a_client_leaves_out_is_as_a_server_has_it() {
        let options: ConnectOptions = serde_json::from_str(r#"{"lang":"x","user":null}"#).unwrap();
        assert!(options.verbose && options.pedantic && options.echo && !options.headers);
    }

    proptest::proptest! {
        #[test]
        fn no_block_makes_the_reader_panic(block: Vec<u8>) {
            headers(&block).into_iter().flatten().for_each(drop);
        }
    }
}
