//! Tokens to statements, by recursive descent; placeholders are replaced while parsing. May not
//! know what classes or records there are.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar names the tokens that fit; whatever else stands there is the error"
)]

use quorate_api::Rid;
use serde_json::{Map, Value};

use super::SqlError;
use super::ast::{
    Assignment, Column, Delete, Insert, Limit, Operand, OrderKey, Projection, Select, Statement,
    Target, Update,
};
use super::cursor::{Params, Parser, is_one_of};
use super::lexer::Token;

/// Words that begin other statements of the full language.
const OTHER_STATEMENTS: [&str; 19] = [
    "TRUNCATE", "TRAVERSE", "MATCH", "MOVE", "GRANT", "REVOKE", "REBUILD", "BEGIN", "COMMIT",
    "ROLLBACK", "PROFILE", "FIND", "LET", "IF", "RETURN", "OPTIMIZE", "SLEEP", "CONSOLE", "LIVE",
];

/// Reads one statement.
///
/// # Errors
/// The text is none, or one of a kind that is not supported.
pub fn parse(text: &str, params: &Params) -> Result<Statement, SqlError> {
    let mut parser = Parser::new(text, params)?;
    let statement = parser.statement()?;
    if parser.is_symbol(";") {
        parser.advance()?;
    }
    match &parser.token {
        Token::End => Ok(statement),
        _ => Err(parser.unexpected("the end of the statement")),
    }
}

impl Parser<'_> {
    fn statement(&mut self) -> Result<Statement, SqlError> {
        if self.take_word("SELECT")? {
            return self.select().map(Statement::Select);
        }
        if self.take_word("INSERT")? {
            return self.insert().map(Statement::Insert);
        }
        if self.take_word("UPDATE")? {
            return self.update().map(Statement::Update);
        }
        if self.take_word("DELETE")? {
            if self.take_word("VERTEX")? {
                return self.delete_vertex().map(Statement::DeleteVertex);
            }
            if self.take_word("EDGE")? {
                return self.delete_edge().map(Statement::DeleteEdge);
            }
            return self.delete().map(Statement::Delete);
        }
        if self.take_word("CREATE")? {
            return self.create();
        }
        if self.take_word("ALTER")? {
            return self.alter();
        }
        if self.take_word("DROP")? {
            return self.drop_something();
        }
        if self.take_word("EXPLAIN")? {
            self.expect_word("SELECT")?;
            return self.select().map(Statement::Explain);
        }
        if self.take_word("HA")? {
            return self.ha();
        }
        match &self.token {
            Token::Word(word) if is_one_of(word, &OTHER_STATEMENTS) => Err(self.unsupported(word)),
            _ => Err(self.unexpected("SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP or HA")),
        }
    }

    fn select(&mut self) -> Result<Select, SqlError> {
        let projections = if self.is_word("FROM") { Vec::new() } else { self.projections()? };
        self.expect_word("FROM")?;
        let target = self.target()?;
        let filter = self.filter()?;
        let mut order = Vec::new();
        if self.take_word("ORDER")? {
            self.expect_word("BY")?;
            order.push(self.order_key()?);
            while self.take_symbol(",")? {
                order.push(self.order_key()?);
            }
        }
        let mut skip = 0;
        let mut limit = None;
        loop {
            if self.take_word("SKIP")? {
                skip = self.count()?.unwrap_or(0);
            } else if self.take_word("LIMIT")? {
                limit = Some(self.count()?);
            } else {
                return Ok(Select { projections, target, filter, order, skip, limit });
            }
        }
    }

    fn projections(&mut self) -> Result<Vec<Projection>, SqlError> {
        let mut list = vec![self.projection()?];
        while self.take_symbol(",")? {
            list.push(self.projection()?);
        }
        let alone = list.iter().any(|p| !matches!(p.what, Column::Operand(_)));
        if alone && list.len() > 1 {
            return Err(self.unsupported("'*' or count(*) beside other columns"));
        }
        list.retain(|p| p.what != Column::All);
        Ok(list)
    }

    fn projection(&mut self) -> Result<Projection, SqlError> {
        if self.take_symbol("*")? {
            return Ok(Projection { what: Column::All, name: "*".to_owned() });
        }
        let start = self.offset;
        let word = match &self.token {
            Token::Word(word) => Some(word.clone()),
            _ => None,
        };
        let (what, name) = if word.as_deref().is_some_and(|w| w.eq_ignore_ascii_case("count")) {
            self.advance()?;
            if self.is_symbol("(") {
                self.count_all()?;
                (Column::Count, "count(*)".to_owned())
            } else {
                let path = self.path("count".to_owned())?;
                let name = path.join(".");
                (Column::Operand(Operand::Field(path)), name)
            }
        } else {
            let operand = self.operand(0)?;
            let name = match &operand {
                Operand::Field(path) => path.join("."),
                Operand::Rid => "@rid".to_owned(),
                Operand::Class => "@class".to_owned(),
                Operand::Version => "@version".to_owned(),
                Operand::Value(_) => {
                    self.offset = start;
                    return Err(self.unsupported("a constant as a column"));
                }
            };
            (Column::Operand(operand), name)
        };
        let name = if self.take_word("AS")? { self.name("a name")? } else { name };
        Ok(Projection { what, name })
    }

    fn count_all(&mut self) -> Result<(), SqlError> {
        self.expect_symbol("(")?;
        if !self.is_symbol("*") {
            return Err(self.unsupported("count() of anything but *"));
        }
        self.advance()?;
        self.expect_symbol(")")
    }

    fn order_key(&mut self) -> Result<OrderKey, SqlError> {
        let by = self.operand(0)?;
        if matches!(by, Operand::Value(_)) {
            return Err(self.unsupported("ORDER BY a constant"));
        }
        let descending = self.take_word("DESC")?;
        if !descending {
            self.take_word("ASC")?;
        }
        Ok(OrderKey { by, descending })
    }

    /// A number of records; -1 stands for all of them.
    fn count(&mut self) -> Result<Limit, SqlError> {
        let count = match &self.token {
            Token::Number(n) if n.as_i64() == Some(-1) => Some(None),
            Token::Number(n) => n.as_u64().and_then(|n| usize::try_from(n).ok()).map(Some),
            _ => None,
        };
        let count = count.ok_or_else(|| self.unexpected("a number of records"))?;
        self.advance()?;
        Ok(count)
    }

    pub(super) fn target(&mut self) -> Result<Target, SqlError> {
        match &self.token {
            Token::Rid(rid) => {
                let rid = *rid;
                self.advance()?;
                Ok(Target::Rids(vec![rid]))
            }
            Token::Symbol("[") => self.rid_list().map(Target::Rids),
            Token::Symbol("(") => self.query_target(),
            Token::Word(word) if word.eq_ignore_ascii_case("cluster") => self.cluster_target(),
            Token::Word(word)
                if matches!(word.to_ascii_lowercase().as_str(), "index" | "metadata") =>
            {
                let word = word.clone();
                Err(self.unsupported(&word))
            }
            _ => self.name("a class, cluster:name or record id").map(Target::Class),
        }
    }

    /// `(SELECT …)`: the records that it finds, so it may show nothing else.
    fn query_target(&mut self) -> Result<Target, SqlError> {
        self.check_depth(self.queries)?;
        self.queries += 1;
        self.expect_symbol("(")?;
        let start = self.offset;
        self.expect_word("SELECT")?;
        let select = self.select()?;
        self.expect_symbol(")")?;
        self.queries -= 1;
        let is_rid = |p: &Projection| p.what == Column::Operand(Operand::Rid);
        if !select.projections.iter().all(is_rid) {
            self.offset = start;
            return Err(self.unsupported("a query for columns as a target"));
        }
        Ok(Target::Query(Box::new(Select { projections: Vec::new(), ..select })))
    }

    /// `cluster:name`; without the colon it is a class of that name.
    fn cluster_target(&mut self) -> Result<Target, SqlError> {
        let mut ahead = self.lexer.clone();
        if !ahead.take_colon() {
            return self.name("a class").map(Target::Class);
        }
        let name = ahead.cluster_name();
        self.lexer = ahead;
        self.advance()?;
        if name.is_empty() {
            return Err(self.unexpected("a cluster's name"));
        }
        Ok(Target::Cluster(name))
    }

    fn rid_list(&mut self) -> Result<Vec<Rid>, SqlError> {
        self.expect_symbol("[")?;
        let mut rids = Vec::new();
        while let Token::Rid(rid) = &self.token {
            rids.push(*rid);
            self.advance()?;
            if !self.take_symbol(",")? {
                break;
            }
        }
        self.expect_symbol("]")?;
        Ok(rids)
    }

    fn insert(&mut self) -> Result<Insert, SqlError> {
        self.expect_word("INTO")?;
        let class = self.name("a class")?;
        let cluster = self.optional_cluster()?;
        let rows = if self.take_word("SET")? {
            let set = self.assignments()?;
            vec![set.into_iter().map(|a| (a.field, a.value)).collect()]
        } else if self.take_word("CONTENT")? {
            vec![self.content()?]
        } else if self.is_symbol("(") {
            self.value_rows()?
        } else {
            return Err(self.unexpected("SET, CONTENT or a list of fields"));
        };
        Ok(Insert { class, cluster, rows })
    }

    /// `CLUSTER name`, or nothing.
    pub(super) fn optional_cluster(&mut self) -> Result<Option<String>, SqlError> {
        if !self.is_word("CLUSTER") {
            return Ok(None);
        }
        // The name may hold characters that are no word's, so it is read before a token is.
        self.lexer.offset();
        let name = self.lexer.cluster_name();
        self.advance()?;
        if name.is_empty() {
            return Err(self.unexpected("a cluster's name"));
        }
        Ok(Some(name))
    }

    /// An object written out or given as a parameter.
    pub(super) fn content(&mut self) -> Result<Map<String, Value>, SqlError> {
        if !matches!(self.token, Token::Named(_) | Token::Symbol("?")) {
            return self.object();
        }
        match self.parameter()? {
            Value::Object(map) => {
                self.advance()?;
                Ok(map)
            }
            _ => Err(self.unexpected("a parameter that is an object")),
        }
    }

    fn value_rows(&mut self) -> Result<Vec<Map<String, Value>>, SqlError> {
        self.expect_symbol("(")?;
        let mut fields = vec![self.name("a field")?];
        while self.take_symbol(",")? {
            fields.push(self.name("a field")?);
        }
        self.expect_symbol(")")?;
        self.expect_word("VALUES")?;
        let mut rows = Vec::new();
        loop {
            self.expect_symbol("(")?;
            let mut row = Map::new();
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    self.expect_symbol(",")?;
                }
                row.insert(field.clone(), self.value(0)?);
            }
            self.expect_symbol(")")?;
            rows.push(row);
            if !self.take_symbol(",")? {
                return Ok(rows);
            }
        }
    }

    pub(super) fn assignments(&mut self) -> Result<Vec<Assignment>, SqlError> {
        let mut list = Vec::new();
        loop {
            let field = self.name("a field")?;
            self.expect_symbol("=")?;
            let value = self.value(0)?;
            if matches!(self.token, Token::Symbol("+" | "-" | "*") | Token::Number(_)) {
                return Err(self.unsupported("arithmetic"));
            }
            list.push(Assignment { field, value });
            if !self.take_symbol(",")? {
                return Ok(list);
            }
        }
    }

    fn update(&mut self) -> Result<Update, SqlError> {
        let target = self.target()?;
        self.expect_word("SET")?;
        let set = self.assignments()?;
        let filter = self.filter()?;
        let limit = self.limit()?;
        Ok(Update { target, set, filter, limit })
    }

    fn delete(&mut self) -> Result<Delete, SqlError> {
        self.expect_word("FROM")?;
        let target = self.target()?;
        let filter = self.filter()?;
        let limit = self.limit()?;
        Ok(Delete { target, filter, limit })
    }

    pub(super) fn limit(&mut self) -> Result<Limit, SqlError> {
        if self.take_word("LIMIT")? { self.count() } else { Ok(None) }
    }
}
