//! `publish`, `subscribe` and `request`: the bus from a shell, on a running host or in one of the command's own.

pub(super) mod data;
pub mod local;
mod publish;
mod request;
mod subscribe;

pub use publish::publish;
pub use request::request;
pub use subscribe::subscribe;
