//! Plugins as shared libraries: what crosses the boundary, what is refused, and what is left behind.

mod calls;
mod kit;
mod refused;
mod unloading;
