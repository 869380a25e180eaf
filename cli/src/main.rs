//! The `echo-core` command.
fn main() {}
