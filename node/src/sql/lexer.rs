//! Text to tokens, one at a time, so that the parser can hand a stretch of it to the JSON reader.
//! May not know grammar.

use quorate_api::Rid;
use serde_json::Value;

use super::SqlError;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Identifier or keyword.
    Word(String),
    /// Identifier in backticks, never a keyword.
    Quoted(String),
    /// `@rid` and the like, without `@`.
    Attribute(String),
    /// A text.
    Text(String),
    /// A number.
    Number(Value),
    /// A record id.
    Rid(Rid),
    /// `:name`.
    Named(String),
    /// Punctuation or operator.
    Symbol(&'static str),
    /// Nothing is left.
    End,
}

impl Token {
    /// For the words of an error.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(w) => format!("'{w}'"),
            Self::Quoted(w) => format!("`{w}`"),
            Self::Attribute(a) => format!("'@{a}'"),
            Self::Text(_) => "a text".to_owned(),
            Self::Number(n) => format!("number {n}"),
            Self::Rid(rid) => rid.to_string(),
            Self::Named(n) => format!("':{n}'"),
            Self::Symbol(s) => format!("'{s}'"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 21] = [
    "<=", ">=", "<>", "!=", "==", "=", "<", ">", "(", ")", "[", "]", "{", "}", ",", "*", "?", ".",
    ";", "+", "-",
];

/// Reads tokens off a text.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Byte offset of what comes next; always at a character boundary.
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Byte offset of the next token.
    pub(super) fn offset(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// A byte offset as people count: characters from 1.
    pub(super) fn position(&self, offset: usize) -> usize {
        self.text.get(..offset).map_or(0, |t| t.chars().count()) + 1
    }

    fn error(&self, offset: usize, expected: &str, found: String) -> SqlError {
        SqlError::Syntax { position: self.position(offset), expected: expected.to_owned(), found }
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Result<Token, SqlError> {
        self.skip_blanks();
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Token::End) };
        if first.is_alphabetic() || first == '_' {
            return Ok(Token::Word(self.take_word()));
        }
        match first {
            '\'' | '"' | '`' => self.quoted(first),
            '#' => self.rid(),
            '@' | ':' => {
                self.at += 1;
                let name = self.take_word();
                if name.is_empty() {
                    let found = format!("'{first}'");
                    return Err(self.error(self.at - 1, "a name behind it", found));
                }
                Ok(if first == '@' { Token::Attribute(name) } else { Token::Named(name) })
            }
            '0'..='9' => self.number(),
            '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            _ => match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(symbol) => {
                    self.at += symbol.len();
                    Ok(Token::Symbol(symbol))
                }
                None => Err(self.error(self.at, "a token", format!("'{first}'"))),
            },
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn take_word(&mut self) -> String {
        self.take_while(|c| c.is_alphanumeric() || c == '_').to_owned()
    }

    /// Takes a colon that follows at once.
    pub(super) fn take_colon(&mut self) -> bool {
        let is = self.rest().starts_with(':');
        self.at += usize::from(is);
        is
    }

    /// Looks again at what begins at an offset given by [`Self::offset`].
    pub(super) fn go_back(&mut self, offset: usize) {
        debug_assert!(offset <= self.at && self.text.is_char_boundary(offset));
        self.at = offset;
    }

    /// Name of a cluster, which may hold the characters of a server's name.
    pub(super) fn cluster_name(&mut self) -> String {
        self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')).to_owned()
    }

    fn quoted(&mut self, quote: char) -> Result<Token, SqlError> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut chars = self.rest().chars();
        loop {
            let Some(c) = chars.next() else {
                let expected = format!("{quote} at the end of the text");
                return Err(self.error(start, &expected, "the end".to_owned()));
            };
            self.at += c.len_utf8();
            if c == quote {
                break;
            }
            if c != '\\' || quote == '`' {
                text.push(c);
                continue;
            }
            let Some(escaped) = chars.next() else { continue };
            self.at += escaped.len_utf8();
            match escaped {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                '\\' | '\'' | '"' | '/' => text.push(escaped),
                other => {
                    let found = format!("'\\{other}'");
                    return Err(self.error(self.at, r#"one of \n \t \r \\ \' \" \/"#, found));
                }
            }
        }
        Ok(if quote == '`' { Token::Quoted(text) } else { Token::Text(text) })
    }

    fn rid(&mut self) -> Result<Token, SqlError> {
        let start = self.at;
        self.at += 1;
        let text = self.take_while(|c| c.is_ascii_digit() || c == ':');
        match text.parse() {
            Ok(rid) => Ok(Token::Rid(rid)),
            Err(_) => Err(self.error(start, "a record id like #12:0", format!("'#{text}'"))),
        }
    }

    fn number(&mut self) -> Result<Token, SqlError> {
        let start = self.at;
        let sign = usize::from(self.rest().starts_with('-'));
        self.at += sign;
        let digits = |c: char| c.is_ascii_alphanumeric() || c == '.';
        self.take_while(digits);
        // The sign of an exponent is part of the number: 1e-3.
        if self.text[start..self.at].ends_with(['e', 'E']) && self.rest().starts_with(['+', '-']) {
            self.at += 1;
            self.take_while(digits);
        }
        let text = &self.text[start..self.at];
        match serde_json::from_str::<serde_json::Number>(text) {
            Ok(number) => Ok(Token::Number(Value::Number(number))),
            Err(_) => Err(self.error(start, "a number", format!("'{text}'"))),
        }
    }

    /// Reads a JSON value that begins here.
    pub(super) fn json(&mut self) -> Result<Value, SqlError> {
        self.skip_blanks();
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                self.at += values.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => Err(self.error(self.at, "JSON", error.to_string())),
            None => Err(self.error(self.at, "JSON", "the end".to_owned())),
        }
    }
}
