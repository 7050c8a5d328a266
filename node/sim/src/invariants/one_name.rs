//! One id, one name: what was created at several servers at once exists once, with the same id for
//! all of them, and an id that was given stays what it was (FEATURES L3; PROTOCOL.md 3.11).

use std::collections::{BTreeMap, BTreeSet};

use quorate_control::schema::Schema;

/// What each id has named, databases as those without a cluster.
#[derive(Debug, Default)]
pub(super) struct OneName(BTreeMap<(u32, Option<u32>), String>);

impl OneName {
    /// Something new was agreed on.
    pub(super) fn see(&mut self, schema: &Schema) -> Option<String> {
        let mut names = BTreeSet::new();
        for database in &schema.databases {
            let clusters = database.clusters.iter().map(|c| (Some(c.id), c.name.as_str()));
            for (cluster, name) in clusters.chain([(None, database.name.as_str())]) {
                let id = (database.id, cluster);
                let known = self.0.entry(id).or_insert_with(|| name.to_owned());
                if *known != name {
                    return Some(format!("{id:?} is '{name}', and was '{known}'"));
                }
                let place = cluster.map(|_| database.id);
                if !names.insert((place, name.to_owned())) {
                    return Some(format!("there is '{name}' twice, also as {id:?}"));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::NodeId;
    use quorate_control::members::WriteQuorum;
    use quorate_control::schema::DatabaseKind;
    use quorate_control::settings::NewDatabase;

    #[test]
    fn an_id_with_two_names_and_a_name_with_two_ids_are_caught() {
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        let schema = Schema::founded_by(&[("n1".to_owned(), NodeId(1))]);
        let schema = schema.create_database(&new).expect("a legal name");
        let mut invariant = OneName::default();
        assert_eq!(invariant.see(&schema), None);
        assert_eq!(invariant.see(&schema), None);
        let mut renamed = schema.clone();
        renamed.databases[0].clusters[0].name = "w".to_owned();
        assert!(invariant.see(&renamed).is_some());
        let mut twice = schema.clone();
        twice.databases.push(schema.databases[0].clone());
        twice.databases[1].id = 9;
        assert!(invariant.see(&twice).is_some());
    }
}
