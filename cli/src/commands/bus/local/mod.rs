//! The bus of a host of the command's own: it starts with the command and ends with it.

mod publish;
mod request;
mod subscribe;

pub use publish::publish;
pub use request::request;
pub use subscribe::subscribe;
