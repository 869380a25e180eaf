//! What clients of the gateway say.

#[path = "../../gateway/src/nats/parser.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part of it is used here")]
mod parser;

use parser::{Bounds, Command, Parsed, parse};

const BOUNDS: Bounds = Bounds { control_line: 256, payload: 1024 };

/// A stream of bytes is the same commands however it is cut into pieces, and no command is past its bounds.
pub fn gateway_parser(data: &[u8]) {
    let mut rest = data;
    loop {
        let whole = parse(rest, &BOUNDS);
        let taken = match &whole {
            Ok(Parsed::Command(command, taken)) => {
                assert!((1..=rest.len()).contains(taken), "{command:?} took {taken}");
                if let Command::Publish(publish) = command {
                    let headers = publish.headers.map_or(0, <[u8]>::len);
                    assert!(publish.payload.len() + headers <= BOUNDS.payload);
                }
                *taken
            }
            Ok(Parsed::Incomplete(least)) => {
                assert!(*least > rest.len(), "{least} bytes are there");
                rest.len()
            }
            Err(_) => rest.len(),
        };
        // What comes in pieces.
        for end in (0..taken).take(32).chain(taken.saturating_sub(8)..taken) {
            match parse(&rest[..end], &BOUNDS) {
                Ok(Parsed::Incomplete(least)) => {
                    assert!(least > end);
                    assert!(
                        least <= taken || !matches!(whole, Ok(Parsed::Command(..))),
                        "of {end} bytes it says that {least} are needed, and takes {taken}"
                    );
                }
                Ok(Parsed::Command(..)) => {
                    let is_first = matches!(&whole, Ok(Parsed::Command(..)));
                    assert!(!is_first, "a piece of {end} of {taken} bytes is a command too");
                }
                Err(error) => assert_eq!(Some(error), whole.err(), "of {end} bytes"),
            }
        }
        match whole {
            Ok(Parsed::Command(_, taken)) => rest = &rest[taken..],
            _ => return,
        }
    }
}
