//! Indexes: what is under which key, who derives entries, who fills a new index. The same functions
//! serve writers (claims of unique keys), the store (entries derived while a commit is applied)
//! and queries, so that they cannot disagree. May not know HTTP, SQL or how a transaction is agreed
//! on.
//!
//! **Unique keys** are items of the index's own cluster, kept by all MASTERs and decided by
//! majority (PROTOCOL.md 3.1, trap A13): claimed, moved and released in the transaction that
//! changes the record. **Entries of the others** are a pure function of committed records and
//! schema: every server derives its own in the batch that applies the commit, so they are as
//! durable and as whole as the records, cost no message, and cannot be in doubt.

pub(crate) mod key;
pub(crate) mod table;
pub(crate) mod worker;
