//! A witness drops a content only when every server of the cluster that keeps contents durably has
//! it, or something newer (`machine/witness` of the protocol): whoever has less may have nobody
//! else to get it from.

use std::collections::BTreeMap;

use quorate_api::{ItemId, Stamp};
use quorate_protocol::io::Write;

use crate::disk::Contents;
use crate::options::Options;

/// The batch without what only drops contents.
pub(super) fn without_drops<'a>(writes: &'a [Write], before: &Contents) -> Vec<Write> {
    let mut written: BTreeMap<&ItemId, Stamp> = BTreeMap::new();
    let is_more = |write: &&'a Write| {
        let Write::Item(item, committed) = *write else { return true };
        let stored = before.items.get(item).map(|stored| stored.stamp);
        let stamp = written.insert(item, committed.stamp).or(stored);
        committed.elsewhere.is_none() || stamp != Some(committed.stamp)
    };
    writes.iter().filter(is_more).cloned().collect()
}

/// Looks at a batch of one server, with what every other one holds durably. `has_dropped`: the
/// server has dropped the item's tombstone.
pub(super) fn check(
    writes: &[Write],
    disks: &[&Contents],
    options: &Options,
    has_dropped: impl Fn(usize, &ItemId) -> bool,
) -> Option<String> {
    writes.iter().find_map(|write| {
        let Write::Item(item, committed) = write else { return None };
        let keeps = |server: &usize| {
            options.belongs(*server, item.cluster) && !options.witnesses.contains(server)
        };
        let lacks = |server: &usize| {
            let held = disks[*server].items.get(item).map(|held| held.stamp.version);
            held.is_none_or(|version| version < committed.stamp.version)
                && !has_dropped(*server, item)
        };
        committed.elsewhere?;
        let without = (0..options.servers).filter(keeps).find(lacks)?;
        Some(format!("dropped the content of {item}, and server {without} does not have it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Shape;
    use quorate_api::Committed;

    fn options() -> Options {
        let clusters = vec![Shape::new(0, vec![0, 1, 2], 2)];
        Options { servers: 3, clusters, witnesses: vec![2], ..Options::of_seed(1) }
    }

    fn with(version: u64) -> Contents {
        let stamp = Stamp { version, ..Stamp::ABSENT };
        let committed = Committed { stamp, live: true, image: None, elsewhere: None };
        let mut contents = Contents::default();
        contents.items.insert(options().record_of(0), committed);
        contents
    }

    fn dropped(version: u64) -> Vec<Write> {
        let stamp = Stamp { version, ..Stamp::ABSENT };
        let kept = Committed::without_content(stamp, true, 7);
        vec![Write::Item(options().record_of(0), kept)]
    }

    #[test]
    fn a_content_dropped_early_is_caught() {
        for (there, version, caught) in [(2, 2, false), (3, 2, false), (1, 2, true)] {
            let (own, other) = (with(2), with(there));
            let found = check(&dropped(version), &[&own, &other, &own], &options(), |_, _| false);
            assert_eq!(found.is_some(), caught, "{there} {version}");
            assert!(
                check(&dropped(version), &[&own, &other, &own], &options(), |s, _| s == 1)
                    .is_none()
            );
        }
    }

    #[test]
    fn a_dropped_content_is_no_commit() {
        assert!(without_drops(&dropped(2), &with(2)).is_empty());
        assert_eq!(without_drops(&dropped(3), &with(2)).len(), 1, "taken from another witness");
    }
}
