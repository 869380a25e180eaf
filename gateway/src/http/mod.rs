//! The HTTP door: publish, request, subscribe, and what a host says of itself.
//!
//! | route | does |
//! |---|---|
//! | `POST /v1/publish/{topic}` | publishes the body |
//! | `POST /v1/request/{topic}?timeout=5s` | publishes the body and answers with the first answer |
//! | `GET /v1/subscribe/{pattern}` | messages as server-sent events |
//! | `GET /v1/ws` | all of these over one WebSocket, in JSON |
//! | `GET /v1/topics`, `GET /v1/plugins` | what subscribes to what, and how the plugins are |
//! | `GET /metrics`, `GET /healthz` | for Prometheus, and for whoever restarts what is not well |
//! | `GET /openapi.json` | all of this, for programs |
//!
//! What may stand in a body `incoming` says, what keeps web pages out [`Guard`], and what errors look like
//! `problem`. In a path `>` is written as `%3E`.
//!
//! **Who owns what.** One task accepts. Each connection has a task of its own, and so has each event stream and
//! each WebSocket; a tracker counts them all. What waits for a client is in its outbox, which is bounded; the task
//! that fills it never waits for the client. A client that stops reading is told, if it reads again, and cut off; a
//! write that waits too long ends its connection.
//!
//! **Ending.** `closing` has requests in hand answered, streams told why they end, and nothing new begun. What has
//! not ended in time is dropped, as all is when the door is dropped. A request whose client goes away is dropped at
//! its next wait: what was published stays published.

mod body;
pub(crate) mod cloudevents;
mod door;
mod events;
mod frames;
mod guard;
mod host;
mod incoming;
mod login;
mod outbox;
mod problem;
mod publish;
mod query;
mod routes;
mod socket;
mod stall;

pub use door::{HttpDoor, HttpOptions};
pub use guard::Guard;
pub use host::{HostReport, HostView, PluginView};
