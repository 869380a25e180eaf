//! # Echo gateway
//!
//! A host's doors: the NATS client protocol and HTTP, and who may do what through them. [`Gateway`] opens and
//! closes them together; [`auth`] decides who comes in, [`limits`] what one client may take, [`tls`] encrypts.

pub mod auth;
pub mod http;
pub mod limits;
pub mod nats;
pub mod tls;

mod gateway;

pub use gateway::{Gateway, GatewayError, GatewayOptions, HttpSettings};
