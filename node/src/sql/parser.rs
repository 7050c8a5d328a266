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
    Assignment, Column, Comparison, Condition, Delete, Insert, Limit, Operand, OrderKey,
    Projection, Select, Statement, Target, Update,
};
use super::lexer::{Lexer, Token};

/// Deepest nesting of parentheses, NOTs and lists.
const DEPTH_MAX: usize = 64;

/// Words of the full language that end a clause here without being supported.
const KNOWN_WORDS: [&str; 22] = [
    "GROUP",
    "LET",
    "UNWIND",
    "FETCHPLAN",
    "TIMEOUT",
    "PARALLEL",
    "NOCACHE",
    "LOCK",
    "UPSERT",
    "RETURN",
    "MERGE",
    "CONTENT",
    "INCREMENT",
    "REMOVE",
    "PUT",
    "ADD",
    "FROM",
    "EDGE",
    "VERTEX",
    "STRATEGY",
    "OFFSET",
    "UNSAFE",
];

/// Words that begin other statements of the full language.
const OTHER_STATEMENTS: [&str; 24] = [
    "CREATE", "ALTER", "DROP", "TRUNCATE", "TRAVERSE", "MATCH", "MOVE", "GRANT", "REVOKE",
    "REBUILD", "BEGIN", "COMMIT", "ROLLBACK", "EXPLAIN", "PROFILE", "HA", "FIND", "LET", "IF",
    "RETURN", "OPTIMIZE", "SLEEP", "CONSOLE", "LIVE",
];

/// Values for placeholders.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Params {
    /// None given.
    #[default]
    None,
    /// For `?`, in order.
    Positional(Vec<Value>),
    /// For `:name`; `?` finds `"0"`, `"1"`, … as in the original.
    Named(Map<String, Value>),
}

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

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// What is looked at, and where it begins.
    token: Token,
    offset: usize,
    params: &'a Params,
    /// How many `?` were met.
    placeholders: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, params: &'a Params) -> Result<Self, SqlError> {
        let lexer = Lexer::new(text);
        let mut parser = Self { lexer, token: Token::End, offset: 0, params, placeholders: 0 };
        parser.advance()?;
        Ok(parser)
    }

    fn advance(&mut self) -> Result<Token, SqlError> {
        self.offset = self.lexer.offset();
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn position(&self) -> usize {
        self.lexer.position(self.offset)
    }

    /// The error for a token that does not fit: unsupported when it is a word of the full language.
    fn unexpected(&self, expected: &str) -> SqlError {
        match &self.token {
            Token::Word(word) if is_one_of(word, &KNOWN_WORDS) => self.unsupported(word),
            token => SqlError::Syntax {
                position: self.position(),
                expected: expected.to_owned(),
                found: token.describe(),
            },
        }
    }

    fn unsupported(&self, what: &str) -> SqlError {
        SqlError::Unsupported { position: self.position(), what: what.to_owned() }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(&self.token, Token::Symbol(s) if *s == symbol)
    }

    fn take_word(&mut self, word: &str) -> Result<bool, SqlError> {
        let is = self.is_word(word);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn take_symbol(&mut self, symbol: &str) -> Result<bool, SqlError> {
        let is = self.is_symbol(symbol);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn expect_word(&mut self, word: &str) -> Result<(), SqlError> {
        if self.take_word(word)? { Ok(()) } else { Err(self.unexpected(word)) }
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol)? {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{symbol}'")))
        }
    }

    /// A name: a word or something in backticks.
    fn name(&mut self, what: &str) -> Result<String, SqlError> {
        match &self.token {
            Token::Word(name) | Token::Quoted(name) => {
                let name = name.clone();
                self.advance()?;
                Ok(name)
            }
            _ => Err(self.unexpected(what)),
        }
    }

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
            return self.delete().map(Statement::Delete);
        }
        match &self.token {
            Token::Word(word) if is_one_of(word, &OTHER_STATEMENTS) => Err(self.unsupported(word)),
            _ => Err(self.unexpected("SELECT, INSERT, UPDATE or DELETE")),
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

    fn target(&mut self) -> Result<Target, SqlError> {
        match &self.token {
            Token::Rid(rid) => {
                let rid = *rid;
                self.advance()?;
                Ok(Target::Rids(vec![rid]))
            }
            Token::Symbol("[") => self.rid_list().map(Target::Rids),
            Token::Symbol("(") => Err(self.unsupported("a query as a target")),
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

    fn filter(&mut self) -> Result<Option<Condition>, SqlError> {
        if self.take_word("WHERE")? { self.any_of(0).map(Some) } else { Ok(None) }
    }

    fn any_of(&mut self, depth: usize) -> Result<Condition, SqlError> {
        let mut list = vec![self.all_of(depth)?];
        while self.take_word("OR")? {
            list.push(self.all_of(depth)?);
        }
        Ok(if list.len() == 1 { list.swap_remove(0) } else { Condition::Or(list) })
    }

    fn all_of(&mut self, depth: usize) -> Result<Condition, SqlError> {
        let mut list = vec![self.negation(depth)?];
        while self.take_word("AND")? {
            list.push(self.negation(depth)?);
        }
        Ok(if list.len() == 1 { list.swap_remove(0) } else { Condition::And(list) })
    }

    fn negation(&mut self, depth: usize) -> Result<Condition, SqlError> {
        self.check_depth(depth)?;
        if self.take_word("NOT")? {
            let inner = self.negation(depth + 1)?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        if self.take_symbol("(")? {
            let inner = self.any_of(depth + 1)?;
            self.expect_symbol(")")?;
            return Ok(inner);
        }
        self.comparison(depth)
    }

    fn check_depth(&self, depth: usize) -> Result<(), SqlError> {
        if depth < DEPTH_MAX {
            return Ok(());
        }
        Err(SqlError::TooDeep { position: self.position(), max: DEPTH_MAX })
    }

    fn comparison(&mut self, depth: usize) -> Result<Condition, SqlError> {
        let left = self.operand(depth)?;
        if let Token::Symbol(symbol) = self.token
            && let Some(comparison) = comparison(symbol)
        {
            self.advance()?;
            return Ok(Condition::Compare(left, comparison, self.operand(depth)?));
        }
        if self.take_word("IS")? {
            let negated = self.take_word("NOT")?;
            self.expect_word("NULL")?;
            return Ok(negate_if(negated, Condition::IsNull(left)));
        }
        let negated = self.take_word("NOT")?;
        if self.take_word("IN")? {
            return Ok(negate_if(negated, Condition::In(left, self.operand(depth)?)));
        }
        if self.take_word("LIKE")? {
            return Ok(negate_if(negated, Condition::Like(left, self.operand(depth)?)));
        }
        match &self.token {
            Token::Word(word) if is_one_of(word, &OTHER_OPERATORS) => Err(self.unsupported(word)),
            Token::Symbol("+" | "-" | "*") => Err(self.unsupported("arithmetic")),
            _ => Err(self.unexpected("a comparison")),
        }
    }

    /// A field, an attribute, or a value.
    fn operand(&mut self, depth: usize) -> Result<Operand, SqlError> {
        match &self.token {
            Token::Attribute(name) => {
                let operand = match name.to_ascii_lowercase().as_str() {
                    "rid" => Operand::Rid,
                    "class" => Operand::Class,
                    "version" => Operand::Version,
                    _ => return Err(self.unsupported(&format!("attribute @{name}"))),
                };
                self.advance()?;
                Ok(operand)
            }
            Token::Quoted(name) => {
                let name = name.clone();
                self.advance()?;
                self.path(name).map(Operand::Field)
            }
            Token::Word(word) if constant(word).is_none() => {
                let word = word.clone();
                let start = self.offset;
                self.advance()?;
                if self.is_symbol("(") {
                    self.offset = start;
                    return Err(self.unsupported(&format!("function {word}()")));
                }
                self.path(word).map(Operand::Field)
            }
            _ => self.value(depth).map(Operand::Value),
        }
    }

    fn path(&mut self, first: String) -> Result<Vec<String>, SqlError> {
        let mut path = vec![first];
        while self.take_symbol(".")? {
            path.push(self.name("a field")?);
        }
        Ok(path)
    }

    /// A value that is written out or given as a parameter.
    fn value(&mut self, depth: usize) -> Result<Value, SqlError> {
        self.check_depth(depth)?;
        let value = match &self.token {
            Token::Text(text) => Value::String(text.clone()),
            Token::Number(number) => number.clone(),
            Token::Rid(rid) => Value::String(rid.to_string()),
            Token::Word(word) => match constant(word) {
                Some(value) => value,
                None => {
                    let what = format!("'{word}' as a value");
                    return Err(self.unsupported(&what));
                }
            },
            Token::Named(_) | Token::Symbol("?") => self.parameter()?,
            Token::Symbol("[") => return self.list(depth + 1),
            Token::Symbol("{") => return self.object().map(Value::Object),
            _ => return Err(self.unexpected("a value")),
        };
        self.advance()?;
        Ok(value)
    }

    fn parameter(&mut self) -> Result<Value, SqlError> {
        let (name, value) = match &self.token {
            Token::Named(name) => {
                let value = match self.params {
                    Params::Named(map) => map.get(name),
                    Params::None | Params::Positional(_) => None,
                };
                (format!(":{name}"), value)
            }
            _ => {
                let index = self.placeholders;
                self.placeholders += 1;
                let value = match self.params {
                    Params::Positional(list) => list.get(index),
                    Params::Named(map) => map.get(&index.to_string()),
                    Params::None => None,
                };
                (format!("?{}", index + 1), value)
            }
        };
        value.cloned().ok_or_else(|| SqlError::Parameter { position: self.position(), name })
    }

    fn list(&mut self, depth: usize) -> Result<Value, SqlError> {
        self.expect_symbol("[")?;
        let mut list = Vec::new();
        while !self.is_symbol("]") {
            list.push(self.value(depth)?);
            if !self.take_symbol(",")? {
                break;
            }
        }
        self.expect_symbol("]")?;
        Ok(Value::Array(list))
    }

    /// A JSON object, which begins at the token looked at.
    fn object(&mut self) -> Result<Map<String, Value>, SqlError> {
        if !self.is_symbol("{") {
            return Err(self.unexpected("a JSON object"));
        }
        self.lexer.go_back(self.offset);
        let value = self.lexer.json()?;
        self.advance()?;
        match value {
            Value::Object(map) => Ok(map),
            _ => Err(self.unexpected("a JSON object")),
        }
    }

    fn insert(&mut self) -> Result<Insert, SqlError> {
        self.expect_word("INTO")?;
        let class = self.name("a class")?;
        let mut cluster = None;
        if self.is_word("CLUSTER") {
            // The name may hold characters that are no word's, so it is read before a token is.
            self.lexer.offset();
            let name = self.lexer.cluster_name();
            self.advance()?;
            if name.is_empty() {
                return Err(self.unexpected("a cluster's name"));
            }
            cluster = Some(name);
        }
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

    /// An object written out or given as a parameter.
    fn content(&mut self) -> Result<Map<String, Value>, SqlError> {
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

    fn assignments(&mut self) -> Result<Vec<Assignment>, SqlError> {
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
        if self.is_word("VERTEX") || self.is_word("EDGE") {
            return Err(self.unexpected("FROM"));
        }
        self.expect_word("FROM")?;
        let target = self.target()?;
        let filter = self.filter()?;
        let limit = self.limit()?;
        Ok(Delete { target, filter, limit })
    }

    fn limit(&mut self) -> Result<Limit, SqlError> {
        if self.take_word("LIMIT")? { self.count() } else { Ok(None) }
    }
}

/// Operators of the full language.
const OTHER_OPERATORS: [&str; 10] = [
    "BETWEEN",
    "CONTAINS",
    "CONTAINSALL",
    "CONTAINSKEY",
    "CONTAINSVALUE",
    "CONTAINSTEXT",
    "MATCHES",
    "INSTANCEOF",
    "IS",
    "CONTAINSANY",
];

fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|w| w.eq_ignore_ascii_case(word))
}

fn negate_if(negated: bool, condition: Condition) -> Condition {
    if negated { Condition::Not(Box::new(condition)) } else { condition }
}

fn comparison(symbol: &str) -> Option<Comparison> {
    Some(match symbol {
        "=" | "==" => Comparison::Equal,
        "<>" | "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn constant(word: &str) -> Option<Value> {
    if word.eq_ignore_ascii_case("null") {
        Some(Value::Null)
    } else if word.eq_ignore_ascii_case("true") {
        Some(Value::Bool(true))
    } else if word.eq_ignore_ascii_case("false") {
        Some(Value::Bool(false))
    } else {
        None
    }
}
