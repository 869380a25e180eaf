//! The bus over a NATS server: what the transport contract asks for, on subjects, queue groups and JetStream.
