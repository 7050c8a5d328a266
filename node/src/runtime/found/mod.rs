//! Databases that a server finds on its disk when it comes to a cluster: it stood alone before, and
//! has some of its own. They are set aside with the identity that they were written under
//! (`aside`), brought in through ordinary transactions (`bring`), and served by each server once it
//! has all of them (`arrive`). What is agreed on about them is `quorate_control::found`.
//!
//! Killed anywhere, it goes on: the folder that was set aside is that of a server that stands
//! alone, whole, and nothing is written to it but what such a server writes for itself; what is
//! brought in is agreed on, item by item, and looked at again.

pub(super) mod arrive;
pub(super) mod aside;
pub(super) mod bring;
