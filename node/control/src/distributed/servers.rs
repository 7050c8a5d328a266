//! Lists of servers and the tag that stands for whoever joins (`<NEW_NODE>`). May not know who is
//! there.

use alloc::string::String;
use alloc::vec::Vec;

/// The place in a list where servers that join are put.
pub const NEW_NODE: &str = "<NEW_NODE>";

/// Servers that keep a cluster, the owner first, and where the next one is put.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerList {
    names: Vec<String>,
    /// So many names stand before the tag; `None`: no tag, nobody is added.
    new_node: Option<usize>,
}

impl ServerList {
    /// A list with the tag behind so many names, or without.
    ///
    /// # Panics
    /// More names before the tag than there are.
    #[must_use]
    pub fn new(names: Vec<String>, new_node: Option<usize>) -> Self {
        assert!(new_node.is_none_or(|before| before <= names.len()), "the tag is in the list");
        Self { names, new_node }
    }

    /// The servers, without the tag.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether servers that join are added.
    #[must_use]
    pub const fn grows(&self) -> bool {
        self.new_node.is_some()
    }

    /// True for a cluster that is not replicated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.new_node.is_none()
    }

    /// Names and tag, in order.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        let (before, after) = self.names.split_at(self.new_node.unwrap_or(self.names.len()));
        let tag = self.new_node.map(|_| NEW_NODE);
        before.iter().map(String::as_str).chain(tag).chain(after.iter().map(String::as_str))
    }
}
