//! The least of HTTP that a readiness check needs: a GET, and the status that it is answered with.

use std::io;

use tokio::net::TcpStream;

/// How much of an answer is read while looking for its first line.
const MAX_STATUS_LINE: usize = 1024;

/// Sends a GET for `path` and gives the status of the answer.
///
/// # Errors
/// When the connection breaks, or what comes back is not HTTP.
pub(super) async fn get(stream: &TcpStream, host: &str, path: &str) -> io::Result<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: echo\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    send(stream, request.as_bytes()).await?;
    let line = receive_line(stream).await?;
    status(&line).ok_or_else(|| {
        let line = String::from_utf8_lossy(&line);
        io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not HTTP: {line:?}"))
    })
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn receive_line(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; MAX_STATUS_LINE];
    while !line.contains(&b'\n') && line.len() < MAX_STATUS_LINE {
        stream.readable().await?;
        match stream.try_read(&mut piece) {
            Ok(0) => break,
            Ok(read) => line.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let end = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(line.len());
    line.truncate(end);
    Ok(line)
}

fn status(line: &[u8]) -> Option<u16> {
    let line = str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("HTTP/1.")?.split(' ');
    let (_minor, status) = (words.next()?, words.next()?);
    status.parse().ok().filter(|status| (100..600).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_anything_else_refused() {
        assert_eq!(status(b"HTTP/1.1 200 OK"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503"), Some(503));
        for line in
            [&b""[..], b"HTTP/1.1", b"HTTP/2 200", b"SSH-2.0-x", b"HTTP/1.1 99999 x", b"\xff"]
        {
            assert_eq!(status(line), None, "{line:?}");
        }
    }
}
