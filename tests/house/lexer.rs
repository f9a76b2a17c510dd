//! As much of Rust's lexer as the rules need: identifiers, punctuation and string literals with their lines. Comments
//! and characters vanish.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenKind {
    Ident(String),
    Text(String),
    Punct(char),
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: TokenKind,
    pub line: usize,
}

impl Token {
    pub fn ident(&self) -> Option<&str> {
        if let TokenKind::Ident(name) = &self.kind { Some(name) } else { None }
    }
}

pub fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&c) = chars.get(at) {
        let rest = &chars[at..];
        let (length, kind) = match c {
            '/' if rest.starts_with(&['/', '/']) => (rest.iter().take_while(|c| **c != '\n').count(), None),
            '/' if rest.starts_with(&['/', '*']) => (comment_length(rest), None),
            '"' => text_literal(rest, 0),
            'r' | 'b' | 'c' if literal_prefix(rest).is_some() => {
                let prefix = literal_prefix(rest).unwrap_or(0);
                if rest[..prefix].contains(&'r') { raw_literal(rest, prefix) } else { text_literal(rest, prefix) }
            }
            '\'' => (quote_length(rest), None),
            c if c.is_alphanumeric() || c == '_' => {
                let word: String = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                (word.chars().count(), Some(TokenKind::Ident(word)))
            }
            c if c.is_whitespace() => (1, None),
            c => (1, Some(TokenKind::Punct(c))),
        };
        found.extend(kind.map(|kind| Token { kind, line }));
        let end = (at + length.max(1)).min(chars.len());
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    found
}

/// Comments nest.
fn comment_length(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The letters before the quote of `r"`, `br#"`, `b"`, `c"`, if it is a literal that starts here.
fn literal_prefix(rest: &[char]) -> Option<usize> {
    let letters = rest.iter().take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let raw = rest[..letters].contains(&'r');
    let hashes = if raw { rest[letters..].iter().take_while(|c| **c == '#').count() } else { 0 };
    (letters <= 2 && rest.get(letters + hashes) == Some(&'"')).then_some(letters)
}

fn text_literal(rest: &[char], prefix: usize) -> (usize, Option<TokenKind>) {
    let mut at = prefix + 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    let end = at.min(rest.len());
    (end + 1, Some(TokenKind::Text(rest[prefix + 1..end].iter().collect())))
}

fn raw_literal(rest: &[char], prefix: usize) -> (usize, Option<TokenKind>) {
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let start = prefix + hashes + 1;
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let length = rest[start..].windows(closing.len()).position(|window| window == closing);
    let end = length.map_or(rest.len(), |length| start + length);
    (end + closing.len(), Some(TokenKind::Text(rest[start..end].iter().collect())))
}

/// A character literal, or only the quote of a lifetime.
fn quote_length(rest: &[char]) -> usize {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => 2 + rest[2..].iter().skip(1).take_while(|c| **c != '\'').count() + 2,
        (Some(_), Some('\'')) => 3,
        _ => 1,
    }
}
