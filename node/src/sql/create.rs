//! The grammar of statements on the schema and on graphs: CREATE, DROP, DELETE VERTEX and EDGE.
//! May not know what classes or records there are.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar names the tokens that fit; whatever else stands there is the error"
)]

use quorate_control::indexes::{IndexKind, NewIndex};
use serde_json::{Map, Value};

use super::SqlError;
use super::ast::{
    AddCluster, CreateClass, CreateEdge, CreateIndex, CreateVertex, Delete, DeleteEdge, Drop,
    DropClass, Statement, Target,
};
use super::cursor::{Parser, is_one_of};
use super::lexer::Token;

/// Class of vertices that name none.
const VERTEX: &str = "V";
/// Class of edges that name none.
const EDGE: &str = "E";

/// Index types of the full language.
const OTHER_INDEX_KINDS: [&str; 7] = [
    "DICTIONARY",
    "FULLTEXT",
    "SPATIAL",
    "PROXY",
    "DICTIONARY_HASH_INDEX",
    "FULLTEXT_HASH_INDEX",
    "AUTOSHARDING",
];

impl Parser<'_> {
    /// Behind `CREATE`.
    pub(super) fn create(&mut self) -> Result<Statement, SqlError> {
        if self.take_word("CLASS")? {
            return self.create_class().map(Statement::CreateClass);
        }
        if self.take_word("INDEX")? {
            return self.create_index().map(Statement::CreateIndex);
        }
        if self.take_word("VERTEX")? {
            return self.create_vertex().map(Statement::CreateVertex);
        }
        if self.take_word("EDGE")? {
            return self.create_edge().map(Statement::CreateEdge);
        }
        match &self.token {
            Token::Word(word) => Err(self.unsupported(&format!("CREATE {word}"))),
            _ => Err(self.unexpected("CLASS, INDEX, VERTEX or EDGE")),
        }
    }

    /// Behind `ALTER`.
    pub(super) fn alter(&mut self) -> Result<Statement, SqlError> {
        if !self.take_word("CLASS")? {
            return Err(match &self.token {
                Token::Word(word) => self.unsupported(&format!("ALTER {word}")),
                _ => self.unexpected("CLASS"),
            });
        }
        let class = self.name("a class")?;
        if self.take_word("ADDCLUSTER")? || self.take_word("ADD_CLUSTER")? {
            let name = self.name("a cluster")?;
            return Ok(Statement::AddCluster(AddCluster { class, name }));
        }
        match &self.token {
            Token::Word(word) => Err(self.unsupported(&format!("ALTER CLASS … {word}"))),
            _ => Err(self.unexpected("ADDCLUSTER")),
        }
    }

    /// Behind `DROP`.
    pub(super) fn drop_something(&mut self) -> Result<Statement, SqlError> {
        if self.take_word("CLASS")? {
            let name = self.name("a class")?;
            let (if_exists, is_forced) = (self.if_exists()?, self.take_word("UNSAFE")?);
            return Ok(Statement::DropClass(DropClass { name, if_exists, is_forced }));
        }
        if self.take_word("INDEX")? {
            let name = self.index_name()?;
            return Ok(Statement::DropIndex(Drop { name, if_exists: self.if_exists()? }));
        }
        match &self.token {
            Token::Word(word) => Err(self.unsupported(&format!("DROP {word}"))),
            _ => Err(self.unexpected("CLASS or INDEX")),
        }
    }

    fn if_exists(&mut self) -> Result<bool, SqlError> {
        let is = self.take_word("IF")?;
        if is {
            self.expect_word("EXISTS")?;
        }
        Ok(is)
    }

    fn if_not_exists(&mut self) -> Result<bool, SqlError> {
        let is = self.take_word("IF")?;
        if is {
            self.expect_word("NOT")?;
            self.expect_word("EXISTS")?;
        }
        Ok(is)
    }

    fn create_class(&mut self) -> Result<CreateClass, SqlError> {
        let name = self.name("a class")?;
        let if_not_exists = self.if_not_exists()?;
        let mut super_classes = Vec::new();
        if self.take_word("EXTENDS")? {
            super_classes.push(self.name("a class")?);
            while self.take_symbol(",")? {
                super_classes.push(self.name("a class")?);
            }
        }
        match &self.token {
            Token::Word(word) if is_one_of(word, &["CLUSTER", "CLUSTERS", "ABSTRACT"]) => {
                Err(self.unsupported(word))
            }
            _ => Ok(CreateClass { name, if_not_exists, super_classes }),
        }
    }

    /// A name, or a class and a property with a dot between.
    fn index_name(&mut self) -> Result<String, SqlError> {
        let mut name = self.name("a name of an index")?;
        if self.take_symbol(".")? {
            name = format!("{name}.{}", self.name("a property")?);
        }
        Ok(name)
    }

    fn create_index(&mut self) -> Result<CreateIndex, SqlError> {
        let start = self.offset;
        let name = self.index_name()?;
        let if_not_exists = self.if_not_exists()?;
        let (class, field) = if self.take_word("ON")? {
            let class = self.name("a class")?;
            self.expect_symbol("(")?;
            let field = self.name("a property")?;
            if self.is_symbol(",") {
                return Err(self.unsupported("an index on several properties"));
            }
            self.expect_symbol(")")?;
            (class, field)
        } else if let Some((class, field)) = name.split_once('.') {
            (class.to_owned(), field.to_owned())
        } else {
            self.offset = start;
            return Err(self.unsupported("an index without ON class (property)"));
        };
        let kind = self.index_kind()?;
        let new = NewIndex { name, class, field, kind };
        Ok(CreateIndex { new, if_not_exists })
    }

    fn index_kind(&mut self) -> Result<IndexKind, SqlError> {
        let kind = match &self.token {
            Token::Word(word) if is_one_of(word, &["UNIQUE", "UNIQUE_HASH_INDEX"]) => {
                IndexKind::Unique
            }
            Token::Word(word) if is_one_of(word, &["NOTUNIQUE", "NOTUNIQUE_HASH_INDEX"]) => {
                IndexKind::NotUnique
            }
            Token::Word(word) if is_one_of(word, &OTHER_INDEX_KINDS) => {
                return Err(self.unsupported(&format!("index type {word}")));
            }
            _ => return Err(self.unexpected("UNIQUE or NOTUNIQUE")),
        };
        self.advance()?;
        match &self.token {
            Token::Word(word) if is_one_of(word, &["METADATA", "ENGINE"]) => {
                Err(self.unsupported(word))
            }
            _ => Ok(kind),
        }
    }

    /// The class, when one is named.
    fn optional_class(&mut self, default: &str) -> Result<String, SqlError> {
        let named = match &self.token {
            Token::Word(word) => {
                !is_one_of(word, &["SET", "CONTENT", "CLUSTER", "FROM", "TO", "WHERE", "LIMIT"])
            }
            Token::Quoted(_) => true,
            _ => false,
        };
        if named { self.name("a class") } else { Ok(default.to_owned()) }
    }

    /// `SET …` or `CONTENT {…}`, or nothing.
    fn fields(&mut self) -> Result<Map<String, Value>, SqlError> {
        if self.take_word("SET")? {
            let set = self.assignments()?;
            return Ok(set.into_iter().map(|a| (a.field, a.value)).collect());
        }
        if self.take_word("CONTENT")? {
            return self.content();
        }
        Ok(Map::new())
    }

    fn create_vertex(&mut self) -> Result<CreateVertex, SqlError> {
        let class = self.optional_class(VERTEX)?;
        let cluster = self.optional_cluster()?;
        Ok(CreateVertex { class, cluster, fields: self.fields()? })
    }

    fn create_edge(&mut self) -> Result<CreateEdge, SqlError> {
        let class = self.optional_class(EDGE)?;
        let cluster = self.optional_cluster()?;
        self.expect_word("FROM")?;
        let from = self.vertices()?;
        self.expect_word("TO")?;
        let to = self.vertices()?;
        Ok(CreateEdge { class, cluster, from, to, fields: self.fields()? })
    }

    /// Records by id or by a query.
    fn vertices(&mut self) -> Result<Target, SqlError> {
        match &self.token {
            Token::Rid(_) | Token::Symbol("[" | "(") => self.target(),
            Token::Named(_) | Token::Symbol("?") => {
                let at = self.unexpected("a parameter that is a record id, or a list of them");
                let rids = rids_of(&self.parameter()?).ok_or(at)?;
                self.advance()?;
                Ok(Target::Rids(rids))
            }
            _ => Err(self.unexpected("a record id, a list of them or a query in parentheses")),
        }
    }

    /// Behind `DELETE VERTEX`.
    pub(super) fn delete_vertex(&mut self) -> Result<Delete, SqlError> {
        self.take_word("FROM")?;
        let target = self.target()?;
        let filter = self.filter()?;
        Ok(Delete { target, filter, limit: self.limit()? })
    }

    /// Behind `DELETE EDGE`.
    pub(super) fn delete_edge(&mut self) -> Result<DeleteEdge, SqlError> {
        let target = match &self.token {
            Token::Rid(_) | Token::Symbol("[" | "(") => self.target()?,
            _ => Target::Class(self.optional_class(EDGE)?),
        };
        let from = if self.take_word("FROM")? { Some(self.vertices()?) } else { None };
        let to = if self.take_word("TO")? { Some(self.vertices()?) } else { None };
        let filter = self.filter()?;
        Ok(DeleteEdge { target, from, to, filter, limit: self.limit()? })
    }
}

/// Record ids of a parameter.
fn rids_of(value: &Value) -> Option<Vec<quorate_api::Rid>> {
    match value {
        Value::String(text) => Some(vec![text.parse().ok()?]),
        Value::Array(list) => list.iter().map(|v| v.as_str()?.parse().ok()).collect(),
        _ => None,
    }
}
