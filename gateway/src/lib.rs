//! A host's doors: the NATS client protocol and HTTP, and who may do what through them.
