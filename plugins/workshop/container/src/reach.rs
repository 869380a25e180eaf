//! Whether somebody listens on a container's port.
//!
//! An engine publishes a port through a proxy of its own, which accepts a connection before it knows
//! whether anybody listens behind it, and hangs up when nobody does. So a connection to a published port
//! proves nothing.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection has to hold before there is somebody behind the proxy; a proxy on the same
/// machine hangs up within a millisecond or two.
const HOLDS: Duration = Duration::from_millis(100);

/// Whether this machine is on the container's network itself, as the network's gateway. An address that
/// merely can be routed to may be another machine's.
pub fn is_attached(own: IpAddr, gateway: IpAddr) -> bool {
    let any: IpAddr = match own {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a datagram socket sends nothing: it asks the routes which address would be used.
    let from = || -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((own, 9))?;
        socket.local_addr()
    };
    from().is_ok_and(|from| from.ip() == gateway)
}

/// Connects to a port that nobody proxies.
pub async fn connects(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect(address).await.map(drop)
}

/// Connects to a port that may be proxied, and sees whether the connection holds or something is said.
pub async fn answers_for_itself(address: (&str, u16)) -> io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(ErrorKind::ConnectionRefused.into());
    }
    match timeout(HOLDS, stream.peek(&mut [0])).await {
        Ok(Ok(0)) => Err(io::Error::new(ErrorKind::ConnectionReset, "it was closed at once")),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_closed_at_once_proves_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = async { drop(listener.accept().await.unwrap()) };
        let (answer, ()) = tokio::join!(answers_for_itself(("127.0.0.1", port)), proxy);
        assert!(answer.is_err());
        let server = async { listener.accept().await.unwrap() };
        let (answer, _connection) = tokio::join!(answers_for_itself(("127.0.0.1", port)), server);
        answer.unwrap();
    }

    #[test]
    fn only_an_own_network_counts_as_attached() {
        let [own, other] = ["127.0.0.1", "192.0.2.1"].map(|text| text.parse().unwrap());
        assert!(is_attached(own, own));
        assert!(!is_attached(own, other));
    }
}
