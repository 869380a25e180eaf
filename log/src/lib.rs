//! The log under durable topics: appended records, group commit, replay after a crash, compaction.
