//! Names, networks and ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use echo_sdk::contract::service::ExecReply;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Run, SUITE, inspect, obedient};

/// Serves one page on port 80, and not before a while.
fn late_server() -> serde_json::Value {
    let script = "trap 'exit 0' TERM; mkdir /www; echo hello > /www/index.html; sleep 0.3; \
                  httpd -f -p 80 -h /www & wait";
    json!({"command": ["sh", "-c", script], "ports": ["80"]})
}

/// The body of a page, fetched from this machine.
fn fetch(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split("\r\n\r\n").nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn services_reach_each_other_by_name() {
    let run = Run::new().await;
    let web = run.up("web", late_server()).await;
    let peers = web.peers.unwrap();
    assert_eq!((peers.host.as_str(), peers.ports["80"]), ("web", 80));
    run.up("client", json!({"command": obedient()})).await;
    assert_eq!(run.output("client", &["wget", "-q", "-O", "-", "http://web/"]).await, "hello\n");
    run.finish().await;
}

#[tokio::test]
async fn a_port_is_ready_when_the_service_listens_and_not_its_proxy() {
    let run = Run::new().await;
    let web = run.up("web", late_server()).await;
    assert_eq!(web.host, "127.0.0.1");
    assert_eq!(fetch(web.ports["80"]), "hello\n");
    run.finish().await;
}

#[tokio::test]
async fn a_port_of_this_machine_can_be_chosen_and_then_be_taken() {
    let run = Run::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut keys = late_server();
    keys["ports"] = json!([format!("{free}:80")]);
    let web = run.up("web", keys.clone()).await;
    assert_eq!(web.ports["80"], free);
    assert_eq!(fetch(free), "hello\n");

    let (reason, _) = run.refused("other", keys).await;
    assert!(reason.contains(&free.to_string()) && reason.contains("`ports`"), "{reason}");
    assert_eq!(run.containers().len(), 1);

    let other_program = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other_program.local_addr().unwrap().port();
    let ports = json!([format!("{taken}:80")]);
    let (reason, _) = run.refused("other", json!({"command": obedient(), "ports": ports})).await;
    assert!(reason.contains(&taken.to_string()) && reason.contains("free the port"), "{reason}");
    run.finish().await;
}

#[tokio::test]
async fn udp_and_tcp_ports_of_one_number_are_told_apart() {
    let run = Run::new().await;
    let keys = json!({"command": ["nc", "-l", "-p", "53"], "ports": ["53/udp", "53"]});
    let dns = run.up("dns", keys).await;
    assert_eq!(dns.ports.keys().collect::<Vec<_>>(), ["53", "53-udp"]);
    run.finish().await;
}

#[tokio::test]
async fn services_that_start_at_once_share_one_network() {
    let run = Run::new().await;
    let names = ["a", "b", "c", "d", "e"];
    join_all(names.map(|name| run.up(name, json!({"command": obedient()})))).await;
    assert_eq!(run.networks(), [format!("echo-core.{}.{SUITE}", run.id)]);
    run.output("a", &["nslookup", "e"]).await;

    join_all(names.map(|name| run.stop(name))).await;
    assert_eq!(run.left(), [""; 0], "the last service takes the network along");
    run.finish().await;
}

#[tokio::test]
async fn a_container_may_be_without_network() {
    let run = Run::new().await;
    run.up("web", late_server()).await;
    let alone = run.up("alone", json!({"command": obedient(), "network": "none"})).await;
    assert!(alone.ports.is_empty() && alone.peers.is_none());
    let wget = run.command("alone", &["wget", "-q", "-O", "-", "http://web/"]);
    let reply = run.exec(&wget).await;
    assert!(matches!(reply, ExecReply::Exited { exit_code: 1.., .. }), "{reply:?}");
    run.finish().await;
}

#[tokio::test]
async fn a_container_may_be_on_the_machine_s_own_network() {
    let run = Run::new().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let script = format!(
        "trap 'exit 0' TERM; mkdir /www; echo host > /www/index.html; httpd -f -p {free} -h /www & wait"
    );
    let keys = json!({"command": ["sh", "-c", script], "ports": [free], "network": "host"});
    let web = run.up("web", keys).await;
    assert_eq!(web.ports[&free].to_string(), free);
    assert_eq!(fetch(web.ports[&free]), "host\n");
    assert_eq!(run.networks(), [""; 0]);
    run.finish().await;
}

#[tokio::test]
async fn published_ports_are_open_to_this_machine_alone() {
    let run = Run::new().await;
    let web = run.up("web", late_server()).await;
    let bound = "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}}{{end}}{{end}}";
    assert_eq!(inspect(&web.instance, bound), "127.0.0.1");
    run.finish().await;
}
