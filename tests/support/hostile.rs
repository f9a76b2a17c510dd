//! Hostile requests, made by families: what a stranger sends to make a gateway work. Each is to be refused by the limit that
//! was made for it.

use serde_json::json;

/// One request and what refuses it.
pub struct Hostile {
    pub name: String,
    /// The body of a POST.
    pub body: String,
    pub code: &'static str,
    /// Part of the message.
    pub says: &'static str,
}

const COMPLEX: &str = "QUERY_TOO_COMPLEX";
const INVALID: &str = "GRAPHQL_VALIDATION_FAILED";
const PARSE: &str = "GRAPHQL_PARSE_FAILED";

#[derive(Default)]
pub struct Corpus(pub Vec<Hostile>);

impl Corpus {
    /// All families.
    pub fn new() -> Self {
        let mut corpus = Self::default();
        corpus.aliases();
        corpus.repetitions();
        corpus.fragments();
        corpus.nesting();
        corpus.directives();
        corpus.bytes();
        corpus.long_tokens();
        corpus.introspection();
        corpus.unfinished();
        corpus.illegal_symbols();
        corpus.variables();
        corpus.definitions();
        corpus.costs();
        corpus.nonsense();
        corpus
    }

    fn add(&mut self, name: impl Into<String>, query: &str, code: &'static str, says: &'static str) {
        let body = json!({ "query": query }).to_string();
        self.0.push(Hostile { name: name.into(), body, code, says });
    }

    fn add_body(&mut self, name: impl Into<String>, body: String, code: &'static str, says: &'static str) {
        self.0.push(Hostile { name: name.into(), body, code, says });
    }

    fn aliases(&mut self) {
        let sign_in = "signIn(input: {email: \"a@b.example\", password: \"x\"}) { session { accessToken } }";
        let refresh = "tokenRefresh(refreshToken: \"x\") { session { accessToken } }";
        let reset = "passwordResetRequest(email: \"a@b.example\") { accepted }";
        for count in [51, 100, 400, 1_000, 2_000] {
            let root = |field: &str| numbered(count, |n| format!("a{n}: {field} "));
            for (name, field) in [
                ("categories", "categories { name }"),
                ("pages", "products(first: 100) { nodes { id } }"),
                ("me", "me { id }"),
            ] {
                self.add(format!("{count} aliases of {name}"), &format!("{{ {} }}", root(field)), COMPLEX, "");
            }
            for (name, field) in [("signIn", sign_in), ("tokenRefresh", refresh), ("passwordResetRequest", reset)] {
                self.add(format!("{count} aliases of {name}"), &format!("mutation {{ {} }}", root(field)), COMPLEX, "");
            }
        }
        for count in [101, 500, 2_000, 10_000] {
            let inner = numbered(count, |n| format!("a{n}: id "));
            self.add(format!("{count} aliases inside"), &format!("{{ me {{ {inner} }} }}"), COMPLEX, "");
            let fragment = format!("{{ me {{ ...F }} }} fragment F on User {{ {inner} }}");
            self.add(format!("{count} aliases in a fragment"), &fragment, COMPLEX, "");
        }
    }

    fn repetitions(&mut self) {
        for count in [51, 500, 5_000, 30_000] {
            let root = format!("{{ {} }}", "__typename ".repeat(count));
            self.add(format!("{count} times the same root field"), &limited(root), COMPLEX, "");
            let spread = format!("{{ {} }} fragment F on Query {{ me {{ id }} }}", "...F ".repeat(count));
            self.add(format!("{count} times the same spread"), &limited(spread), COMPLEX, "");
        }
        for count in [2_001, 10_000, 30_000] {
            self.add(
                format!("{count} times the same field"),
                &limited(format!("{{ me {{ {} }} }}", "id ".repeat(count))),
                COMPLEX,
                "",
            );
            let list = format!("{{ products(where: {{ category: [{}] }}) {{ totalCount }} }}", "1 ".repeat(count));
            self.add(format!("{count} entries of a list"), &limited(list), COMPLEX, "");
            let object = numbered(count, |n| format!("a{n}:1 "));
            let object = format!("{{ products(where: {{ {object} }}) {{ totalCount }} }}");
            self.add(format!("{count} members of an object"), &limited(object), COMPLEX, "");
            let arguments = numbered(count, |n| format!("a{n}:1 "));
            self.add(
                format!("{count} arguments"),
                &limited(format!("{{ products({arguments}) {{ totalCount }} }}")),
                COMPLEX,
                "",
            );
        }
    }

    fn fragments(&mut self) {
        for length in [1, 2, 3, 10, 50] {
            let link = |n: usize| format!("fragment F{n} on Query {{ ...F{} }} ", (n + 1) % length);
            let cycle = numbered(length, link);
            self.add(
                format!("a cycle of {length} fragments"),
                &format!("{{ ...F0 }} {cycle}"),
                INVALID,
                "spreads itself",
            );
            let inner = |n: usize| {
                format!("fragment F{n} on User {{ orders {{ nodes {{ customer {{ ...F{} }} }} }} }} ", (n + 1) % length)
            };
            let cycle = numbered(length, inner);
            let through = format!("{{ me {{ ...F0 }} }} {cycle}");
            self.add(format!("a cycle of {length} fragments through fields"), &through, INVALID, "spreads itself");
            let unused = format!("{{ me {{ id }} }} {cycle}");
            self.add(format!("a cycle of {length} fragments that is not used"), &unused, INVALID, "spreads itself");
        }
        for (fan, links) in [(2, 14), (2, 40), (2, 90), (3, 10), (5, 8), (10, 5), (30, 4), (100, 3)] {
            let link = |n: usize| format!("fragment F{n} on Query {{ {} }} ", format!("...F{} ", n + 1).repeat(fan));
            let chain = numbered(links, link);
            let text = format!("{{ ...F0 }} {chain} fragment F{links} on Query {{ me {{ id }} }}");
            self.add(format!("{links} fragments that each spread the next {fan} times"), &text, COMPLEX, "");
            let inline = format!("query Q {{ me {{ id }} }} {chain} fragment F{links} on Query {{ me {{ id }} }}");
            self.add(
                format!("the same, not used: {fan} to the power of {links}"),
                &inline,
                COMPLEX,
                "fragments put in place",
            );
        }
    }

    fn nesting(&mut self) {
        for depth in [41, 100, 1_000, 10_000] {
            let levels = |open: &str, close: &str| limited(open.repeat(depth)) + &close.repeat(depth.min(2_000));
            let texts = [
                ("selections", format!("{{ me {}", levels("{ a ", "}"))),
                ("selections never closed", "{ a ".repeat(depth)),
                ("brackets alone", "{".repeat(depth)),
                ("inline fragments", format!("{{ me {{ {}", levels("... on User { ", "}"))),
                ("lists", format!("{{ a(x: {}) }}", levels("[", "]"))),
                ("objects", format!("{{ a(x: {}) }}", levels("{a:", "}"))),
                ("parentheses", format!("{{ a{} }}", levels("(x: ", ")"))),
                ("types", format!("query Q($x: {}) {{ a }}", levels("[", "]"))),
                ("default values", format!("query Q($x: Int = {}) {{ a }}", levels("[", "]"))),
            ];
            for (name, text) in texts {
                self.add(format!("{depth} levels of {name}"), &limited(text), COMPLEX, "levels of nesting");
            }
        }
        for levels in [6, 8, 12] {
            let text =
                format!("{{ me {}{{ id }}{} }}", "{ orders { nodes { customer ".repeat(levels), "} } }".repeat(levels));
            self.add(format!("{levels} times around through orders"), &text, COMPLEX, "");
        }
    }

    fn directives(&mut self) {
        for count in [9, 30, 51, 200, 600] {
            let many = "@include(if: true) ".repeat(count);
            self.add(
                format!("{count} directives on a field"),
                &format!("{{ me {many} {{ id }} }}"),
                COMPLEX,
                "directives",
            );
        }
        for count in [51, 500, 1_500] {
            let unknown = numbered(count, |n| format!("@d{n} "));
            self.add(
                format!("{count} unknown directives"),
                &format!("{{ me {unknown} {{ id }} }}"),
                COMPLEX,
                "directives",
            );
            let on_operation = format!("query Q {unknown} {{ me {{ id }} }}");
            self.add(format!("{count} directives on an operation"), &on_operation, COMPLEX, "directives");
            let spread = numbered(count, |_| "... @skip(if: false) { id } ".to_owned());
            self.add(format!("{count} directives on fragments"), &format!("{{ me {{ {spread} }} }}"), COMPLEX, "");
        }
    }

    fn bytes(&mut self) {
        for size in [70_000, 200_000, 500_000] {
            let fill = |unit: &str| unit.repeat(size / unit.len());
            let texts = [
                ("a string", format!("{{ product(id: \"{}\") {{ id }} }}", fill("x"))),
                ("a block string", format!("{{ product(id: \"\"\"{}\"\"\") {{ id }} }}", fill("x\n "))),
                ("unicode escapes", format!("{{ product(id: \"{}\") {{ id }} }}", fill("\\u0041"))),
                ("quotes", fill("\"\"")),
                ("commas", format!("{{ me {{ id {} }} }}", fill(","))),
                ("white space", format!("{{ me {{ id {} }} }}", fill(" \n\t"))),
                ("comments", format!("{{ me {{ id }} }} {}", fill("# {{{{\n"))),
                ("one comment", format!("{{ me {{ id }} }} #{}", fill("x"))),
                ("byte order marks", fill("\u{feff}")),
                ("a name", format!("{{ {} }}", fill("a"))),
                ("a number", format!("{{ products(first: {}) {{ totalCount }} }}", fill("9"))),
                ("letters that are none", fill("é")),
            ];
            for (name, text) in texts {
                self.add(format!("{size} bytes of {name}"), &text, COMPLEX, "bytes");
            }
        }
    }

    fn long_tokens(&mut self) {
        for length in [300, 5_000, 50_000] {
            let (digits, letters) = ("9".repeat(length), "a".repeat(length));
            for (name, text) in [
                ("an integer", format!("{{ products(first: {digits}) {{ totalCount }} }}")),
                ("a fraction", format!("{{ products(first: 0.{digits}) {{ totalCount }} }}")),
                ("an exponent", format!("{{ products(first: 1e{digits}) {{ totalCount }} }}")),
                ("a field's name", format!("{{ {letters} }}")),
                ("an alias", format!("{{ {letters}: me {{ id }} }}")),
                ("a variable's name", format!("query(${letters}: Int) {{ me {{ id }} }}")),
                ("an enum value", format!("{{ products(sort: {letters}) {{ totalCount }} }}")),
                ("an operation's name", format!("query {letters} {{ me {{ id }} }}")),
            ] {
                self.add(format!("{length} characters of {name}"), &text, COMPLEX, "name or number");
            }
        }
    }

    fn introspection(&mut self) {
        for levels in [4, 5, 6] {
            let fields = format!("{}name{}", "fields { type { ".repeat(levels), "} }".repeat(levels));
            for (name, text) in [
                ("types", format!("{{ __schema {{ types {{ {fields} }} }} }}")),
                ("an aliased schema", format!("{{ s: __schema {{ t: types {{ {fields} }} }} }}")),
                ("a fragment", format!("{{ __schema {{ types {{ ...F }} }} }} fragment F on __Type {{ {fields} }}")),
            ] {
                self.add(format!("{levels} lists in lists of {name}"), &text, COMPLEX, "introspection");
            }
        }
        let every =
            "fields { name type { name ofType { name } } } inputFields { name } possibleTypes { name fields { name } }";
        for count in [45, 50] {
            let schemas = numbered(count, |n| format!("s{n}: __schema {{ types {{ {every} }} }} "));
            self.add(format!("{count} times the whole schema"), &format!("{{ {schemas} }}"), COMPLEX, "introspection");
        }
        let deep = format!("{{ __schema {{ types {}{{ name }}{} }} }}", "{ ofType ".repeat(20), "}".repeat(20));
        self.add("20 levels of ofType", &deep, COMPLEX, "deep");
    }

    fn unfinished(&mut self) {
        for text in [
            "",
            " ",
            "#",
            "{",
            "}",
            "{ me {",
            "{ me { id }",
            "{ me { id } } }",
            "{ me(",
            "{ me( {",
            "{ me(x",
            "{ me(x:",
            "{ me(x: [",
            "{ me(x: {",
            "{ me(x: $",
            "{ me(x: \"",
            "{ me(x: \"\\",
            "{ me(x: \"\"\"",
            "{ me(x: \"\"\"\\\"\"\"",
            "{ me @",
            "{ ...",
            "{ ... on",
            "{ ... on User",
            "{ a:",
            "query",
            "query Q",
            "query Q(",
            "query Q($",
            "query Q($a",
            "query Q($a:",
            "query Q($a: [",
            "query Q($a: Int =",
            "fragment",
            "fragment F",
            "fragment F on",
            "fragment F on Query",
            "mutation {",
            "subscription",
            "{ me { id ) }",
            "{ me ( id ] }",
        ] {
            self.add(format!("unfinished: {text}"), text, PARSE, "");
        }
        for levels in [20, 39] {
            self.add(format!("{levels} levels never closed"), &"{ a ".repeat(levels), PARSE, "");
            self.add(format!("{levels} lists never closed"), &format!("{{ a(x: {}", "[".repeat(levels - 2)), PARSE, "");
        }
        for size in [1_000, 20_000, 60_000] {
            for (name, open) in [("string", "\""), ("block string", "\"\"\"")] {
                let text = format!("{{ product(id: {open}{}", "x".repeat(size));
                self.add(format!("{size} bytes of an unfinished {name}"), &text, PARSE, "");
            }
        }
    }

    fn illegal_symbols(&mut self) {
        for symbol in [
            "\0", "\u{1}", "\u{7f}", "%", ";", "\\", "^", "~", "`", "'", "?", "é", "\u{202e}", "𝕏", "\u{fffe}", "&&",
            "..", "$$",
        ] {
            self.add(format!("the symbol {symbol:?}"), &format!("{{ me {{ id {symbol} }} }}"), PARSE, "");
        }
        for escape in ["\\q", "\\u12", "\\uZZZZ", "\\x41"] {
            self.add(format!("the escape {escape}"), &format!("{{ product(id: \"{escape}\") {{ id }} }}"), PARSE, "");
        }
        for text in [
            "{ products(first: 01) { totalCount } }",
            "{ products(first: 1.) { totalCount } }",
            "{ products(first: -) { totalCount } }",
        ] {
            self.add(format!("a number that is none: {text}"), text, PARSE, "");
        }
        self.add("a line break in a string", "{ product(id: \"a\nb\") { id } }", PARSE, "");
        self.add("a schema", "type Query { a: Int }", PARSE, "");
    }

    fn variables(&mut self) {
        let with = |variables: &str| {
            format!(
                "{{\"query\":\"query($w: ProductWhere) {{ products(where: $w) {{ totalCount }} }}\",\"variables\":{variables}}}"
            )
        };
        for depth in [65, 200, 5_000, 100_000] {
            for (name, open, close) in [("lists", "[", "]"), ("objects", "{\"a\":", "}")] {
                let value = format!("{{\"w\":{}1{}}}", open.repeat(depth), close.repeat(depth));
                self.add_body(format!("variables of {depth} {name} in each other"), with(&value), COMPLEX, "nesting");
            }
        }
        for count in [5_001, 20_000, 60_000] {
            let list = format!("{{\"w\":{{\"category\":[{}1]}}}}", "1,".repeat(count));
            self.add_body(format!("variables of {count} entries"), with(&list), COMPLEX, "values");
            let names = numbered(count, |n| format!("\"v{n}\":1,"));
            self.add_body(
                format!("{count} variables that nobody declared"),
                with(&format!("{{{names}\"w\":null}}")),
                COMPLEX,
                "values",
            );
            let extensions = format!("{{\"query\":\"{{ me {{ id }} }}\",\"extensions\":{{{names}\"w\":null}}}}");
            self.add_body(format!("{count} extensions"), extensions, COMPLEX, "values");
        }
        for count in [700, 5_000] {
            let declared = numbered(count, |n| format!("$v{n}: Int "));
            self.add(
                format!("{count} declarations of variables"),
                &limited(format!("query({declared}) {{ me {{ id }} }}")),
                COMPLEX,
                "tokens",
            );
        }
    }

    fn definitions(&mut self) {
        for count in [700, 3_000] {
            let operations = numbered(count, |n| format!("query Q{n} {{ me {{ id }} }} "));
            self.add(format!("{count} operations"), &limited(operations), COMPLEX, "tokens");
            let fragments = numbered(count, |n| format!("fragment F{n} on Query {{ a }} "));
            self.add(
                format!("{count} fragments"),
                &limited(format!("{{ me {{ id }} }} {fragments}")),
                COMPLEX,
                "tokens",
            );
        }
        self.add("two operations without a name", "{ me { id } } { me { id } }", PARSE, "");
        self.add("two operations of one name", "query A { me { id } } query A { me { id } }", PARSE, "");
        self.add(
            "two fragments of one name",
            "{ ...F } fragment F on Query { a } fragment F on Query { b }",
            PARSE,
            "",
        );
    }

    fn costs(&mut self) {
        let page = "products(first: 100) { nodes { id name price { amount } } }";
        for count in [30, 40, 50] {
            let pages = numbered(count, |n| format!("p{n}: {page} "));
            self.add(format!("{count} pages of products"), &format!("{{ {pages} }}"), COMPLEX, "root fields");
        }
        for (users, orders) in [(100, 100), (100, 90), (90, 100)] {
            let text = format!(
                "{{ users(first: {users}) {{ nodes {{ orders(first: {orders}) {{ nodes {{ id number }} }} }} }} }}"
            );
            self.add(format!("{orders} orders of each of {users} users"), &text, COMPLEX, "complex");
        }
    }

    fn nonsense(&mut self) {
        for count in [1, 10, 20] {
            let fields = numbered(count, |n| format!("nothing{n} "));
            self.add(format!("{count} unknown fields"), &format!("{{ {fields} }}"), INVALID, "");
            let conflicts = numbered(count, |_| "x: id x: name ".to_owned());
            let text = format!("{{ me {{ {conflicts} }} }}");
            self.add(format!("{count} conflicts of aliases"), &text, INVALID, "");
            let undefined = numbered(count, |n| format!("@include(if: $v{n}) "));
            let text = format!("{{ me {} {{ id }} }}", undefined);
            self.add(format!("{count} undefined variables"), &text, if count > 8 { COMPLEX } else { INVALID }, "");
        }
        for count in [100, 400] {
            let fields = numbered(count, |n| format!("nothing{n} "));
            self.add(
                format!("{count} unknown fields of a type"),
                &format!("{{ me {{ {fields} }} }}"),
                INVALID,
                "no type has",
            );
        }
    }
}

fn numbered(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect()
}

/// So much of a text as is refused by what it holds and not by its length.
fn limited(mut text: String) -> String {
    text.truncate(60_000);
    text
}
