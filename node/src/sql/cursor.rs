//! The parser's view of a statement: the token looked at, what may stand there, the errors when it
//! does not. May not know grammar.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the grammar names the tokens that fit; whatever else stands there is the error"
)]

use serde_json::{Map, Value};

use super::SqlError;
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
    "EDGE",
    "VERTEX",
    "STRATEGY",
    "OFFSET",
    "RETRY",
    "UNSAFE",
];

/// Words that are names only in backticks.
const RESERVED: [&str; 10] =
    ["SELECT", "FROM", "WHERE", "ORDER", "SKIP", "LIMIT", "AND", "OR", "NOT", "SET"];

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

/// Reads a statement token by token.
pub(super) struct Parser<'a> {
    pub(super) lexer: Lexer<'a>,
    /// What is looked at, and where it begins.
    pub(super) token: Token,
    pub(super) offset: usize,
    pub(super) params: &'a Params,
    /// How many `?` were met.
    pub(super) placeholders: usize,
    /// Queries inside each other here.
    pub(super) queries: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, params: &'a Params) -> Result<Self, SqlError> {
        let lexer = Lexer::new(text);
        let mut parser =
            Self { lexer, token: Token::End, offset: 0, params, placeholders: 0, queries: 0 };
        parser.advance()?;
        Ok(parser)
    }

    pub(super) fn advance(&mut self) -> Result<Token, SqlError> {
        self.offset = self.lexer.offset();
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    pub(super) fn position(&self) -> usize {
        self.lexer.position(self.offset)
    }

    /// The error for a token that does not fit: unsupported when it is a word of the full language.
    pub(super) fn unexpected(&self, expected: &str) -> SqlError {
        match &self.token {
            Token::Word(word) if is_one_of(word, &KNOWN_WORDS) => self.unsupported(word),
            token => SqlError::Syntax {
                position: self.position(),
                expected: expected.to_owned(),
                found: token.describe(),
            },
        }
    }

    pub(super) fn unsupported(&self, what: &str) -> SqlError {
        SqlError::Unsupported { position: self.position(), what: what.to_owned() }
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(&self.token, Token::Symbol(s) if *s == symbol)
    }

    pub(super) fn take_word(&mut self, word: &str) -> Result<bool, SqlError> {
        let is = self.is_word(word);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    pub(super) fn take_symbol(&mut self, symbol: &str) -> Result<bool, SqlError> {
        let is = self.is_symbol(symbol);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<(), SqlError> {
        if self.take_word(word)? { Ok(()) } else { Err(self.unexpected(word)) }
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol)? {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{symbol}'")))
        }
    }

    /// A name: a word or something in backticks.
    pub(super) fn name(&mut self, what: &str) -> Result<String, SqlError> {
        match &self.token {
            Token::Word(name) if is_one_of(name, &RESERVED) => Err(self.unexpected(what)),
            Token::Word(name) | Token::Quoted(name) => {
                let name = name.clone();
                self.advance()?;
                Ok(name)
            }
            _ => Err(self.unexpected(what)),
        }
    }

    pub(super) fn check_depth(&self, depth: usize) -> Result<(), SqlError> {
        if depth < DEPTH_MAX {
            return Ok(());
        }
        Err(SqlError::TooDeep { position: self.position(), max: DEPTH_MAX })
    }
}

pub(super) fn is_one_of(word: &str, list: &[&str]) -> bool {
    list.iter().any(|w| w.eq_ignore_ascii_case(word))
}

/// True for a word that ends a clause rather than naming something.
pub(super) fn is_reserved(word: &str) -> bool {
    is_one_of(word, &RESERVED)
}
