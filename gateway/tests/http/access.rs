//! Who comes in, and from where.

use serde_json::json;

use crate::support::{Fixture, TOKEN};

#[tokio::test]
async fn nobody_comes_in_without_proof() {
    let door = Fixture::new().await;
    for path in ["/v1/plugins", "/v1/topics", "/metrics", "/v1/ws", "/v1/subscribe/a"] {
        let refused = door.send(door.bare("GET", path), "").await;
        assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"echo-core\"", "{path}");
        assert!(refused.problem(401).contains("echo-core url"), "{path}");
    }
    let wrong = door.bare("POST", "/v1/publish/a").header("authorization", "Bearer wrong");
    door.send(wrong, "1").await.problem(401);
    let malformed = door.bare("GET", "/metrics").header("authorization", "Digest x");
    door.send(malformed, "").await.problem(400);
    let lower = door.bare("GET", "/metrics").header("authorization", format!("bearer {TOKEN}"));
    assert_eq!(door.send(lower, "").await.status, 200);
}

#[tokio::test]
async fn an_open_host_lets_everybody_in() {
    let door = Fixture::with(json!({"open": true})).await;
    assert_eq!(door.send(door.bare("POST", "/v1/publish/a"), "1").await.status, 202);
    // Web pages are kept out all the same.
    let page = door.bare("POST", "/v1/publish/a").header("origin", "https://evil.example");
    door.send(page, "1").await.problem(403);
}

#[tokio::test]
async fn a_token_in_the_address_is_taken_for_streams_alone() {
    let door = Fixture::new().await;
    let streams = door.begin(door.bare("GET", &format!("/v1/subscribe/a?token={TOKEN}")), "").await;
    assert_eq!(streams.status(), 200);
    assert_eq!(streams.headers()["referrer-policy"], "no-referrer");
    let refused = door.send(door.bare("GET", &format!("/metrics?token={TOKEN}")), "").await;
    assert!(refused.problem(400).contains("Authorization"));
    let wrong = door.send(door.bare("GET", "/v1/subscribe/a?token=wrong"), "").await;
    wrong.problem(401);
}

#[tokio::test]
async fn web_pages_are_kept_out_unless_they_are_named() {
    let door = Fixture::with(json!({"allowed_origins": ["https://tools.example.org"]})).await;
    let publish = || door.request("POST", "/v1/publish/a");
    let refused = door.send(publish().header("origin", "https://evil.example"), "1").await;
    assert!(refused.problem(403).contains("allowed_origins"));
    assert_eq!(refused.header("access-control-allow-origin"), "");
    door.send(publish().header("sec-fetch-site", "cross-site"), "1").await.problem(403);

    let allowed = door.send(publish().header("origin", "https://tools.example.org"), "1").await;
    assert_eq!(allowed.status, 202);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://tools.example.org");
    assert_eq!(allowed.header("vary"), "Origin");

    let preflight = |origin: &str| {
        door.bare("OPTIONS", "/v1/publish/a")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, content-type")
    };
    let answer = door.send(preflight("https://tools.example.org"), "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-methods"), "POST");
    assert_eq!(answer.header("access-control-allow-headers"), "authorization, content-type");
    door.send(preflight("https://evil.example"), "").await.problem(403);
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_is_refused() {
    let door = Fixture::with(json!({"allowed_hosts": ["bus.example.org"]})).await;
    for (host, status) in [
        ("evil.example", 421),
        ("evil.example:8222", 421),
        ("bus.example.org", 200),
        ("localhost:1234", 200),
        ("[::1]", 200),
    ] {
        let request = door.request("GET", "/metrics").header("host", host);
        let answer = door.send(request, "").await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let door = Fixture::new().await;
    assert!(door.get("/v2/publish").await.problem(404).contains("/openapi.json"));
    door.get("/v1/publish/").await.problem(404);
    let refused = door.get("/v1/publish/a").await;
    assert_eq!(refused.header("allow"), "POST");
    assert!(refused.problem(405).contains("POST"));
}
