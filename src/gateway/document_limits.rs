//! Refuses a document that is too large before a tree is built of it: one pass over its text, which keeps a stack of open
//! brackets and what [`fragment_sizes`](super::fragment_sizes) needs.
//!
//! The pass does not judge the grammar. Where the text makes no sense it goes on; the parser reports that afterwards.

use async_graphql::Pos;

use super::field_names::FieldNames;
use super::fragment_sizes::FragmentSizes;
use super::request_errors::RequestError;
use super::top_level_errors::Code;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentLimits {
    /// Of the text: what is neither a token nor a bracket has to be read too.
    pub max_bytes: usize,
    /// Of one name or number.
    pub max_word_bytes: usize,
    pub max_tokens: usize,
    /// Open brackets of any kind. The depth of the fields is limited by the schema, more tightly.
    pub max_nesting: usize,
    pub max_aliases: usize,
    pub max_directives: usize,
    /// Of one operation.
    pub max_root_fields: usize,
    /// Fields and spreads of an operation after every fragment is put where it is spread: without it a chain of
    /// fragments that each spread the next twice doubles at every link.
    pub max_expanded_selections: usize,
}

/// Of one document: a client that needs the schema asks for it once.
const MAX_INTROSPECTIONS: usize = 10;
/// Names that no type has for a field: validation tells of so many, each with its place, and of no more.
const MAX_UNKNOWN_FIELDS: usize = 20;

impl Default for DocumentLimits {
    fn default() -> Self {
        Self {
            max_bytes: 65_536,
            max_word_bytes: 255,
            max_tokens: 1_000,
            max_nesting: 40,
            max_aliases: 100,
            max_directives: 50,
            max_root_fields: 20,
            max_expanded_selections: 10_000,
        }
    }
}

impl DocumentLimits {
    /// The answer to a text of more than `max_bytes`.
    pub fn too_long(&self) -> RequestError {
        too_many(self.max_bytes, "bytes")
    }
}

/// What an open bracket holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Selections,
    Arguments,
    List,
    Object,
}

/// The token before, as far as it tells what a name means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Previous {
    Spread,
    /// The word `on` after a spread.
    On,
    At,
    Colon,
    Other,
}

struct Scan<'a> {
    limits: &'a DocumentLimits,
    names: &'a FieldNames,
    fragments: FragmentSizes<'a>,
    open: Vec<Bracket>,
    previous: Previous,
    /// The definition's first token has been read.
    in_definition: bool,
    in_fragment: bool,
    /// The fragment's own name has been read.
    is_named: bool,
    /// What may turn out to be an alias is no known field.
    is_unknown: bool,
    unknown_fields: usize,
    introspections: usize,
    tokens: usize,
    aliases: usize,
    directives: usize,
    root_fields: usize,
}

/// Counts what the text holds; an error names the first limit that is passed.
pub fn check(text: &str, limits: &DocumentLimits, names: &FieldNames) -> Result<(), RequestError> {
    if text.len() > limits.max_bytes {
        return Err(limits.too_long());
    }
    let mut scan = Scan {
        limits,
        names,
        fragments: FragmentSizes::default(),
        open: Vec::new(),
        previous: Previous::Other,
        in_definition: false,
        in_fragment: false,
        is_named: false,
        is_unknown: false,
        unknown_fields: 0,
        introspections: 0,
        tokens: 0,
        aliases: 0,
        directives: 0,
        root_fields: 0,
    };
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        at = match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => at + 1,
            b'#' => skip_while(bytes, at, |byte| byte != b'\n' && byte != b'\r'),
            b'"' => {
                scan.other()?;
                skip_string(bytes, at).ok_or_else(|| unfinished_string(text, at))?
            }
            byte if is_name_start(byte) => {
                let end = skip_while(bytes, at, |byte| is_name_start(byte) || byte.is_ascii_digit());
                scan.word(end - at)?;
                scan.name(&bytes[at..end])?;
                end
            }
            byte if byte == b'-' || byte.is_ascii_digit() => {
                scan.other()?;
                let is_inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-');
                let end = skip_while(bytes, at + 1, is_inside);
                scan.word(end - at)?;
                end
            }
            b'.' => {
                scan.spread()?;
                skip_while(bytes, at, |byte| byte == b'.')
            }
            byte => {
                scan.punctuator(byte)?;
                at + 1
            }
        };
    }
    scan.fragments.check(limits.max_expanded_selections)?;
    scan.unknown_fields()
}

fn is_name_start(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphabetic()
}

fn skip_while(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|&byte| !wanted(byte)).map_or(bytes.len(), |length| from + length)
}

/// Past the string that begins here, if it ends: a block with the text, another one on its line.
fn skip_string(bytes: &[u8], from: usize) -> Option<usize> {
    if bytes[from..].starts_with(b"\"\"\"") {
        let mut at = from + 3;
        loop {
            at += bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if bytes[at..].starts_with(b"\\\"\"\"") {
                at += 4;
            } else if bytes[at..].starts_with(b"\"\"\"") {
                return Some(at + 3);
            } else {
                at += 1;
            }
        }
    }
    let mut at = from + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            b'\n' | b'\r' => return None,
            _ => at += 1,
        }
    }
    None
}

/// Said without the parser, which would read all of the string to find that out.
fn unfinished_string(text: &str, at: usize) -> RequestError {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    RequestError {
        locations: vec![Pos { line, column }],
        ..RequestError::new(Code::GraphqlParseFailed, "the string that begins here does not end")
    }
}

impl<'a> Scan<'a> {
    fn token(&mut self) -> Result<(), RequestError> {
        self.tokens += 1;
        within(self.tokens, self.limits.max_tokens, "tokens")
    }

    fn word(&self, length: usize) -> Result<(), RequestError> {
        let limit = self.limits.max_word_bytes;
        if length <= limit {
            return Ok(());
        }
        let message = format!("the document has a name or number of more than {limit} characters");
        Err(RequestError::new(Code::QueryTooComplex, message))
    }

    fn other(&mut self) -> Result<(), RequestError> {
        self.previous = Previous::Other;
        self.token()
    }

    fn spread(&mut self) -> Result<(), RequestError> {
        self.previous = Previous::Spread;
        self.fragments.selection();
        self.token()
    }

    fn name(&mut self, name: &'a [u8]) -> Result<(), RequestError> {
        self.token()?;
        if self.open.is_empty() {
            if !self.in_definition {
                self.begin_definition();
                self.in_fragment = name == b"fragment";
            } else if self.in_fragment && !self.is_named {
                self.is_named = true;
                self.fragments.fragment_named(name);
            }
        }
        if self.open.last() == Some(&Bracket::Selections) {
            match self.previous {
                Previous::Other => self.field_or_alias(name)?,
                Previous::Colon => self.field(name)?,
                Previous::Spread if name != b"on" => self.fragments.spread(name),
                Previous::Spread | Previous::On | Previous::At => {}
            }
        }
        self.previous = if self.previous == Previous::Spread && name == b"on" { Previous::On } else { Previous::Other };
        Ok(())
    }

    fn begin_definition(&mut self) {
        self.in_definition = true;
        self.is_named = false;
        self.fragments.definition();
    }

    fn field_or_alias(&mut self, name: &[u8]) -> Result<(), RequestError> {
        self.fragments.selection();
        if self.open.len() == 1 && !self.in_fragment {
            self.root_fields += 1;
            within(self.root_fields, self.limits.max_root_fields, "root fields")?;
        }
        self.field(name)
    }

    fn field(&mut self, name: &[u8]) -> Result<(), RequestError> {
        if matches!(name, b"__schema" | b"__type") {
            self.introspections += 1;
            within(self.introspections, MAX_INTROSPECTIONS, "fields of introspection")?;
        }
        self.is_unknown = !self.names.has(name);
        self.unknown_fields += usize::from(self.is_unknown);
        Ok(())
    }

    /// Called at the end. What is not closed is the parser's to refuse.
    fn unknown_fields(&self) -> Result<(), RequestError> {
        if self.unknown_fields <= MAX_UNKNOWN_FIELDS || !self.open.is_empty() {
            return Ok(());
        }
        let message = format!("the document asks for more than {MAX_UNKNOWN_FIELDS} fields that no type has");
        Err(RequestError::new(Code::GraphqlValidationFailed, message))
    }

    fn punctuator(&mut self, byte: u8) -> Result<(), RequestError> {
        self.token()?;
        let inside = self.open.last().copied();
        self.previous = Previous::Other;
        match byte {
            b'{' if matches!(inside, None | Some(Bracket::Selections)) => {
                if !self.in_definition {
                    self.begin_definition();
                }
                self.open(Bracket::Selections)?;
            }
            b'{' => self.open(Bracket::Object)?,
            b'(' => self.open(Bracket::Arguments)?,
            b'[' => self.open(Bracket::List)?,
            b'}' | b')' | b']' => {
                self.open.pop();
                if self.open.is_empty() && byte == b'}' {
                    self.in_definition = false;
                    self.in_fragment = false;
                    self.root_fields = 0;
                }
            }
            b':' => {
                self.previous = Previous::Colon;
                if inside == Some(Bracket::Selections) {
                    self.unknown_fields -= usize::from(std::mem::take(&mut self.is_unknown));
                    self.aliases += 1;
                    within(self.aliases, self.limits.max_aliases, "aliases")?;
                }
            }
            b'@' => {
                self.previous = Previous::At;
                self.directives += 1;
                within(self.directives, self.limits.max_directives, "directives")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, bracket: Bracket) -> Result<(), RequestError> {
        self.open.push(bracket);
        within(self.open.len(), self.limits.max_nesting, "levels of nesting")
    }
}

/// The error that says which limit is passed.
pub(super) fn within(count: usize, limit: usize, what: &str) -> Result<(), RequestError> {
    if count <= limit {
        return Ok(());
    }
    Err(too_many(limit, what))
}

fn too_many(limit: usize, what: &str) -> RequestError {
    RequestError::new(Code::QueryTooComplex, format!("the document has more than {limit} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: DocumentLimits = DocumentLimits {
        max_bytes: 300,
        max_word_bytes: 20,
        max_tokens: 60,
        max_nesting: 4,
        max_aliases: 2,
        max_directives: 2,
        max_root_fields: 3,
        max_expanded_selections: 100,
    };

    fn refusal(text: &str) -> Option<String> {
        check(text, &SMALL, &FieldNames::default()).err().map(|error| {
            assert_eq!(error.code, Code::QueryTooComplex);
            error.message.rsplit(&['2', '3', '4', '0'][..]).next().unwrap().trim().to_owned()
        })
    }

    #[test]
    fn what_is_within_the_limits_passes() {
        let texts = [
            "",
            "{ a b c }",
            "query Q($x: [Int!] = [1, 2], $y: In = {a: 1, b: 2, c: 3}) { a(x: $x, y: {p: 1, q: [2]}) }",
            "{ a: x b: y }",
            "{ a ...F ... on Query { b } ... @skip(if: true) { c } ...G }",
            "fragment F on Query { a b c d e f g }",
            "{ a } fragment F on Query { a b c d e f g } query Q { a b c }",
            "query fragment { a b c }",
            "# { { { { { {\n{ a(text: \"{{{{{{ \\\" : : : \") }",
            "{ a(text: \"\"\"{{{{{{ \\\"\"\" \" : : :\"\"\") b c }",
            "{ a(x: -1.5e+3, y: 2) }",
            "} ) ] { a b c }",
        ];
        for text in texts {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    #[test]
    fn each_limit_is_enforced() {
        let many_tokens = "x ".repeat(61);
        let cases = [
            (many_tokens.as_str(), "tokens"),
            ("{ a { b { c { d { e } } } } }", "levels of nesting"),
            ("{ a(x: [[[[[1]]]]]) }", "levels of nesting"),
            ("{{{{{", "levels of nesting"),
            ("{ p { a: x b: y c: z } }", "aliases"),
            ("{ a @x @x @x }", "directives"),
            ("{ a b c d }", "root fields"),
            ("query fragment { a b c d }", "root fields"),
            ("fragment F on Query { a b c d } mutation { a b c d }", "root fields"),
            ("{ a b ...F c d }", "root fields"),
            ("{ a(text: \"}\") b c d }", "root fields"),
        ];
        for (text, what) in cases {
            assert_eq!(refusal(text).as_deref(), Some(what), "{text}");
        }
    }

    #[test]
    fn a_text_and_a_word_may_only_be_so_long() {
        let code = |text: &str| check(text, &SMALL, &FieldNames::default()).unwrap_err();
        assert_eq!(code(&" ".repeat(301)).message, "the document has more than 300 bytes");
        let (digits, letters) = ("9".repeat(21), "a".repeat(21));
        for text in [format!("{{ {letters} }}"), format!("{{ a(x: {digits}) }}"), format!("{{ a(x: -0.{digits}) }}")] {
            assert!(code(&text).message.contains("name or number of more than 20"), "{text}");
        }
        assert_eq!(refusal(&format!("{{ a(x: \"{letters}{digits}\") }} # {letters}")), None);
    }

    #[test]
    fn an_unfinished_string_is_told_with_its_place() {
        for (text, line, column) in [
            ("{ a(x: \"", 1, 8),
            ("{ a(x: \"\\", 1, 8),
            ("{\n  é(x: \"a\n\") }", 2, 8),
            ("\"\"\"", 1, 1),
            ("\"\" \"\"\" \\\"\"\"", 1, 4),
        ] {
            let error = check(text, &SMALL, &FieldNames::default()).unwrap_err();
            assert_eq!((error.code, error.locations), (Code::GraphqlParseFailed, vec![Pos { line, column }]), "{text}");
        }
    }
    #[test]
    fn fragments_are_put_in_place_before_a_tree_is_built() {
        let limits = DocumentLimits { max_expanded_selections: 9, ..SMALL };
        let refusal = |text: &str| check(text, &limits, &FieldNames::default()).err().map(|error| error.message);
        let too_many = Some("the document has more than 9 fields with its fragments put in place".to_owned());
        let circle = |name: &str| Some(format!("the fragment {name} spreads itself"));
        for (text, expected) in [
            ("{ a ...F } fragment F on Query { b c { d } ... on Query { e } }", None),
            ("{ ...Missing }", None),
            ("{ ...F ...F ...F } fragment F on Query { a b c }", too_many.clone()),
            (
                "{ a } fragment F on Query { ...G ...G } fragment G on Query { ...H ...H } fragment H on Query { a b }",
                too_many,
            ),
            ("{ ...F } fragment F on Query { a { ...F } }", circle("F")),
            ("{ a } fragment F on Query { ...G } fragment G on Query { ...F }", circle("F")),
            ("query on { on: a ...on2 } fragment on2 on Query { fragment query on }", None),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_full_of_unknown_fields_is_refused_and_aliases_are_none() {
        let names = FieldNames::of("type Query { a(x: Int): Query b: Int }");
        let limits = DocumentLimits::default();
        let refusal = |text: &str| check(text, &limits, &names).err().map(|error| (error.code, error.message));
        let unknown = |count: usize| (0..count).map(|n| format!("u{n} ")).collect::<String>();
        let aliases: String = (0..40).map(|n| format!("u{n}: b ")).collect();
        assert_eq!(refusal(&format!("{{ a {{ {aliases} __typename }} }}")), None);
        assert_eq!(refusal(&format!("{{ a(x: {{ {} }}) {{ b }} }}", unknown(40))), None, "arguments");
        assert_eq!(refusal(&format!("{{ a {{ {} }} }}", unknown(20))), None, "validation tells which");
        let (code, message) = refusal(&format!("{{ a {{ {} }} }}", unknown(21))).unwrap();
        assert_eq!(code, Code::GraphqlValidationFailed);
        assert_eq!(message, "the document asks for more than 20 fields that no type has");
        let schemas = "a { __schema { b } } ".repeat(11);
        assert!(refusal(&format!("{{ a {{ {schemas} }} }}")).unwrap().1.contains("introspection"));
    }
}
