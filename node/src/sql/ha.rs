//! `HA …`: statements about the servers and not about records. May not know servers.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar names the tokens that fit; whatever else stands there is the error"
)]

use super::SqlError;
use quorate_api::Rid;
use quorate_control::distributed::ANY;
use quorate_control::servers::Role;
use quorate_control::status::{DatabaseStatus, Setting};

use super::ast::{HaDismiss, HaRemoveServer, HaResolve, HaStatus, HaSync, Statement};
use super::cursor::Parser;
use super::lexer::Token;

/// What can stand behind a dash.
const OPTIONS: &str = "-servers, -db, -latency, -messages, -all or -output=text";

/// What can stand behind `HA`.
const STATEMENTS: &str = "STATUS, REMOVE SERVER, SET, SYNC, CONFLICTS or RESOLVE";

/// What stands for one content of a record.
const STAMP: &str = "the stamp of a content, in quotes";

/// What is said of the original's options for a whole copy.
const NO_FULL: &str = "a whole copy instead of what differs";

/// What is said of the original's option for what its lock manager holds.
const NO_LOCKS: &str = "-locks (no server manages locks for the others here: a lock is a vote, and \
    ends with its transaction)";

/// Statuses of the original that are found, and not set: the name, why, and what to do instead.
const NOT_AVAILABLE: &str = "NOT_AVAILABLE (it is what others see of a server that they cannot \
    reach; OFFLINE keeps clients of the database away from a server, and HA SET ROLE or HA REMOVE \
    SERVER takes its vote)";
const SYNCHRONIZING: &str = "SYNCHRONIZING (a server that lacks something finds out and gets it \
    by itself; HA SYNC DATABASE -force compares what may differ)";
const BACKUP: &str = "BACKUP (there is none that holds a database; OFFLINE keeps clients away)";

impl Parser<'_> {
    /// Behind `HA`.
    pub(super) fn ha(&mut self) -> Result<Statement, SqlError> {
        if self.take_word("STATUS")? {
            return self.ha_status().map(Statement::HaStatus);
        }
        if self.take_word("REMOVE")? {
            self.expect_word("SERVER")?;
            let server = self.name("the name of a server")?;
            let force = self.take_word("FORCE")?;
            return Ok(Statement::HaRemoveServer(HaRemoveServer { server, force }));
        }
        if self.take_word("SET")? {
            return self.ha_set().map(Statement::HaSet);
        }
        if self.take_word("CONFLICTS")? {
            let after = if self.take_word("AFTER")? { Some(self.record_id()?) } else { None };
            return Ok(Statement::HaConflicts(after));
        }
        if self.take_word("RESOLVE")? {
            return self.ha_resolve();
        }
        if self.take_word("SYNC")? {
            return self.ha_sync().map(Statement::HaSync);
        }
        match &self.token {
            Token::Word(word) => Err(self.unsupported(&format!("HA {word}"))),
            _ => Err(self.unexpected(STATEMENTS)),
        }
    }

    /// Behind `HA RESOLVE`.
    fn ha_resolve(&mut self) -> Result<Statement, SqlError> {
        if self.take_symbol("*")? {
            self.expect_word("DISMISS")?;
            return Ok(Statement::HaDismiss(HaDismiss { rid: None, stamp: None }));
        }
        let rid = self.record_id()?;
        if self.take_word("DISMISS")? {
            let is_one = matches!(self.token, Token::Text(_));
            let stamp = if is_one { Some(self.text(STAMP)?) } else { None };
            return Ok(Statement::HaDismiss(HaDismiss { rid: Some(rid), stamp }));
        }
        if !self.take_symbol("=")? {
            return Err(self.unexpected("'=' or DISMISS"));
        }
        let winner = self.text(STAMP)?;
        Ok(Statement::HaResolve(HaResolve { rid, winner }))
    }

    fn record_id(&mut self) -> Result<Rid, SqlError> {
        let Token::Rid(rid) = self.token else { return Err(self.unexpected("a record id")) };
        self.advance()?;
        Ok(rid)
    }

    fn text(&mut self, what: &str) -> Result<String, SqlError> {
        let Token::Text(text) = &self.token else { return Err(self.unexpected(what)) };
        let text = text.clone();
        self.advance()?;
        Ok(text)
    }

    /// Behind `HA SYNC`.
    fn ha_sync(&mut self) -> Result<HaSync, SqlError> {
        if self.take_word("DATABASE")? {
            let mut force = false;
            while self.take_symbol("-")? {
                if self.is_word("full") {
                    return Err(self.unsupported(NO_FULL));
                }
                if !self.take_word("force")? {
                    return Err(self.unexpected("-force"));
                }
                force = true;
            }
            return Ok(HaSync::Database { force });
        }
        if !self.take_word("CLUSTER")? {
            return Err(self.unexpected("DATABASE or CLUSTER"));
        }
        let cluster = self.name("the name of a cluster")?;
        if self.take_symbol("-")? {
            if self.is_word("full_replace") {
                return Err(self.unsupported(NO_FULL));
            }
            // What differs is merged anyway; the original refuses it.
            self.expect_word("merge")?;
        }
        Ok(HaSync::Cluster(cluster))
    }

    /// Behind `HA SET`: one clause, or several.
    fn ha_set(&mut self) -> Result<Vec<Setting>, SqlError> {
        let mut settings = vec![self.ha_setting()?];
        while matches!(self.token, Token::Word(_)) {
            settings.push(self.ha_setting()?);
        }
        Ok(settings)
    }

    fn ha_setting(&mut self) -> Result<Setting, SqlError> {
        if self.take_word("OWNER")? {
            let every = self.take_symbol("*")?;
            let cluster =
                if every { ANY.to_owned() } else { self.name("the name of a cluster, or *")? };
            self.expect_symbol("=")?;
            let server = self.name("the name of a server")?;
            return Ok(Setting::Owner { cluster, server });
        }
        // The original's parser knows the first word, its manual the second one.
        if self.take_word("STATUS")? || self.take_word("DBSTATUS")? {
            let server = self.name("the name of a server")?;
            self.expect_symbol("=")?;
            return self.ha_database_status().map(|status| Setting::Status { server, status });
        }
        if !self.take_word("ROLE")? {
            return Err(match &self.token {
                Token::Word(word) => self.unsupported(&format!("HA SET {word}")),
                _ => self.unexpected("ROLE, OWNER or STATUS"),
            });
        }
        let server = self.name("the name of a server")?;
        self.expect_symbol("=")?;
        self.ha_role().map(|role| Setting::Role { server, role })
    }

    fn ha_role(&mut self) -> Result<Role, SqlError> {
        let role = if self.take_word("MASTER")? {
            Role::Master
        } else if self.take_word("REPLICA")? {
            Role::Replica
        } else if self.take_word("WITNESS")? {
            Role::Witness
        } else {
            return Err(self.unexpected("MASTER, REPLICA or WITNESS"));
        };
        Ok(role)
    }

    /// Those that can be set are said; the others are what a server finds out by itself.
    fn ha_database_status(&mut self) -> Result<DatabaseStatus, SqlError> {
        for why_not in [NOT_AVAILABLE, SYNCHRONIZING, BACKUP] {
            let name = why_not.split(' ').next().unwrap_or_default();
            if self.is_word(name) {
                return Err(self.unsupported(why_not));
            }
        }
        if self.take_word("ONLINE")? {
            Ok(DatabaseStatus::Online)
        } else if self.take_word("OFFLINE")? {
            Ok(DatabaseStatus::Offline)
        } else {
            Err(self.unexpected("ONLINE or OFFLINE"))
        }
    }

    /// Behind `HA STATUS`.
    fn ha_status(&mut self) -> Result<HaStatus, SqlError> {
        let mut wanted = HaStatus::default();
        while self.take_symbol("-")? {
            self.ha_status_option(&mut wanted)?;
        }
        // Who asks for nothing in particular is shown everything.
        if !(wanted.servers || wanted.database || wanted.latency || wanted.messages) {
            wanted = everything(wanted.as_text);
        }
        Ok(wanted)
    }

    /// Behind the dash.
    fn ha_status_option(&mut self, wanted: &mut HaStatus) -> Result<(), SqlError> {
        let option = match &self.token {
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return Err(self.unexpected(OPTIONS)),
        };
        match option.as_str() {
            "servers" => wanted.servers = true,
            "db" => wanted.database = true,
            "latency" => wanted.latency = true,
            "messages" => wanted.messages = true,
            "all" => *wanted = everything(wanted.as_text),
            "output" => {
                self.advance()?;
                self.expect_symbol("=")?;
                match &self.token {
                    Token::Word(word) if word.eq_ignore_ascii_case("text") => wanted.as_text = true,
                    Token::Word(word) => {
                        return Err(self.unsupported(&format!("-output={word}")));
                    }
                    _ => return Err(self.unexpected("text")),
                }
            }
            "locks" => return Err(self.unsupported(NO_LOCKS)),
            _ => return Err(self.unexpected(OPTIONS)),
        }
        self.advance().map(drop)
    }
}

const fn everything(as_text: bool) -> HaStatus {
    HaStatus { servers: true, database: true, latency: true, messages: true, as_text }
}

#[cfg(test)]
mod tests {
    use quorate_control::servers::Role;

    use quorate_api::Rid;

    use quorate_control::status::{DatabaseStatus, Setting};

    use crate::sql::{
        HaDismiss, HaRemoveServer, HaResolve, HaStatus, HaSync, Params, SqlError, Statement, parse,
    };

    fn read(text: &str) -> Result<HaStatus, SqlError> {
        match parse(text, &Params::None)? {
            statement @ Statement::HaStatus(parts) => {
                assert!(statement.is_idempotent() && !statement.is_ddl());
                Ok(parts)
            }
            other => panic!("{other:?}"),
        }
    }

    /// FEATURES: A20
    #[test]
    fn parts_and_output_are_chosen_by_options() {
        let none = HaStatus::default();
        let all = HaStatus {
            servers: true,
            database: true,
            latency: true,
            messages: true,
            as_text: false,
        };
        for (text, expected) in [
            ("HA STATUS", all),
            ("ha status -all;", all),
            ("HA STATUS -output=text", HaStatus { as_text: true, ..all }),
            ("HA STATUS -servers", HaStatus { servers: true, ..none }),
            ("HA STATUS -DB -output=TEXT", HaStatus { database: true, as_text: true, ..none }),
            ("HA STATUS -latency -messages", HaStatus { latency: true, messages: true, ..none }),
            ("HA STATUS -output=text -all", HaStatus { as_text: true, ..all }),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    /// FEATURES: A20, L7
    #[test]
    fn servers_get_roles_and_clusters_and_go() {
        let role = |server: &str, role| Setting::Role { server: server.to_owned(), role };
        let owner = |cluster: &str, server: &str| {
            let (cluster, server) = (cluster.to_owned(), server.to_owned());
            Setting::Owner { cluster, server }
        };
        let status = |server: &str, status| Setting::Status { server: server.to_owned(), status };
        let (on, off) = (DatabaseStatus::Online, DatabaseStatus::Offline);
        let several = Statement::HaSet;
        let set = |server: &str, to| several(vec![role(server, to)]);
        let own = |cluster: &str, server: &str| several(vec![owner(cluster, server)]);
        let remove = |server: &str, force| {
            Statement::HaRemoveServer(HaRemoveServer { server: server.to_owned(), force })
        };
        for (text, expected) in [
            ("HA SET ROLE n4=MASTER", set("n4", Role::Master)),
            ("HA SET ROLE n3 = witness", set("n3", Role::Witness)),
            ("ha set role `europe-1`=replica;", set("europe-1", Role::Replica)),
            ("HA SET OWNER item_n2=n1", own("item_n2", "n1")),
            ("ha set owner `*`=`europe-1`", own("*", "europe-1")),
            ("HA SET OWNER * = n1;", own("*", "n1")),
            ("HA SET STATUS n2=OFFLINE", several(vec![status("n2", off)])),
            ("ha set dbstatus `n-2` = online;", several(vec![status("n-2", on)])),
            (
                "HA SET ROLE a=REPLICA OWNER c=b DBSTATUS a=OFFLINE OWNER *=d",
                several(vec![
                    role("a", Role::Replica),
                    owner("c", "b"),
                    status("a", off),
                    owner("*", "d"),
                ]),
            ),
            ("HA REMOVE SERVER n1", remove("n1", false)),
            ("HA REMOVE SERVER `n-1`", remove("n-1", false)),
            ("ha remove server n1 force;", remove("n1", true)),
        ] {
            let statement = parse(text, &Params::None).unwrap();
            assert!(statement.is_ddl() && !statement.is_idempotent());
            assert_eq!(statement, expected, "{text}");
        }
    }

    /// FEATURES: A14, A20
    #[test]
    fn conflicts_are_listed_and_resolved_and_clusters_compared() {
        let rid = Rid { cluster: 12, position: 3 };
        let winner = "2@00c0ffee00c0ffee.1.7".to_owned();
        let dismiss = |rid, stamp: Option<&str>| {
            Statement::HaDismiss(HaDismiss { rid, stamp: stamp.map(str::to_owned) })
        };
        for (text, expected, reads) in [
            ("HA CONFLICTS", Statement::HaConflicts(None), true),
            ("ha conflicts after #12:3", Statement::HaConflicts(Some(rid)), true),
            (
                "HA RESOLVE #12:3 = '2@00c0ffee00c0ffee.1.7'",
                Statement::HaResolve(HaResolve { rid, winner }),
                false,
            ),
            ("HA RESOLVE * DISMISS", dismiss(None, None), false),
            ("ha resolve #12:3 dismiss;", dismiss(Some(rid), None), false),
            ("HA RESOLVE #12:3 DISMISS '4@1.2.3'", dismiss(Some(rid), Some("4@1.2.3")), false),
            ("HA SYNC DATABASE", Statement::HaSync(HaSync::Database { force: false }), false),
            ("ha sync database -force", Statement::HaSync(HaSync::Database { force: true }), false),
            (
                "HA SYNC CLUSTER item_n1",
                Statement::HaSync(HaSync::Cluster("item_n1".into())),
                false,
            ),
            (
                "HA SYNC CLUSTER item_n1 -merge",
                Statement::HaSync(HaSync::Cluster("item_n1".into())),
                false,
            ),
        ] {
            let statement = parse(text, &Params::None).unwrap();
            assert_eq!(statement.is_idempotent(), reads, "{text}");
            assert_eq!(statement, expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (text, expected) in [
            ("HA STATUS -locks", "character 12: -locks (no server manages locks"),
            ("HA STATUS -output=json", "character 19: -output=json is not supported"),
            ("HA STATUS -nope", "expected -servers, -db, -latency, -messages, -all or"),
            ("HA STATUS -", "found the end"),
            ("HA STATUS servers", "expected the end of the statement, found 'servers'"),
            ("HA STATUS -output text", "expected '=', found 'text'"),
            ("HA BACKUP", "character 4: HA BACKUP is not supported"),
            ("HA SYNC", "expected DATABASE or CLUSTER, found the end"),
            ("HA SYNC DATABASE -full", "a whole copy instead of what differs is not supported"),
            ("HA SYNC DATABASE -nope", "expected -force, found 'nope'"),
            ("HA SYNC CLUSTER item -full_replace", "a whole copy instead of what differs is not"),
            ("HA SYNC CLUSTER", "expected the name of a cluster, found the end"),
            ("HA CONFLICTS AFTER x", "expected a record id, found 'x'"),
            ("HA RESOLVE #1:2 3", "expected '=' or DISMISS, found"),
            ("HA RESOLVE * = 'x'", "expected DISMISS, found '='"),
            ("HA RESOLVE DISMISS", "expected a record id, found 'DISMISS'"),
            ("HA RESOLVE #1:2 = 3", "expected the stamp of a content, in quotes"),
            ("HA SET", "expected ROLE, OWNER or STATUS, found the end"),
            ("HA SET WEIGHT n1=3", "character 8: HA SET WEIGHT is not supported"),
            ("HA SET ROLE n1=MASTER n2=MASTER", "HA SET n2 is not supported"),
            ("HA SET ROLE n1=MASTER = n2", "expected the end of the statement, found '='"),
            ("HA SET STATUS n1=BACKUP", "BACKUP (there is none that holds a database; OFFLINE"),
            ("HA SET STATUS n1=not_available", "NOT_AVAILABLE (it is what others see of a server"),
            ("HA SET STATUS n1=SYNCHRONIZING", "finds out and gets it by itself; HA SYNC DATABASE"),
            ("HA SET STATUS n1=GONE", "expected ONLINE or OFFLINE, found 'GONE'"),
            ("HA SET STATUS =ONLINE", "expected the name of a server, found '='"),
            ("HA SET DBSTATUS n1 ONLINE", "expected '=', found 'ONLINE'"),
            ("HA REMOVE SERVER n1 NOW", "expected the end of the statement, found 'NOW'"),
            ("HA SET OWNER =n1", "expected the name of a cluster, or *, found '='"),
            ("HA SET OWNER a n1", "expected '=', found 'n1'"),
            ("HA SET OWNER a=", "expected the name of a server, found the end"),
            ("HA SET ROLE n1=OBSERVER", "expected MASTER, REPLICA or WITNESS, found 'OBSERVER'"),
            ("HA SET ROLE n1 MASTER", "expected '=', found 'MASTER'"),
            ("HA REMOVE n1", "expected SERVER, found 'n1'"),
            ("HA REMOVE SERVER", "expected the name of a server, found the end"),
            ("HA", "expected STATUS, REMOVE SERVER, SET, SYNC, CONFLICTS or RESOLVE, found"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected} in {error}");
        }
    }
}
