//! Refuses JSON of too many values before a tree is built of it: one pass over its text, without an allocation.
//!
//! The pass does not judge the grammar: the parser reports afterwards what makes no sense.

use super::request_errors::RequestError;
use super::top_level_errors::Code;

/// Of variables or extensions: the largest order has some hundreds.
const MAX_VALUES: usize = 5_000;
const MAX_NESTING: usize = 64;

/// Judges one member of a request, by its name.
pub fn check(name: &str, json: &str) -> Result<(), RequestError> {
    let bytes = json.as_bytes();
    let (mut values, mut nesting, mut at) = (1_usize, 0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = after_string(bytes, at),
            b'[' | b'{' => {
                nesting += 1;
                values += 1;
                within(nesting, MAX_NESTING, name, "levels of nesting")?;
            }
            b']' | b'}' => nesting = nesting.saturating_sub(1),
            b',' => values += 1,
            _ => continue,
        }
        within(values, MAX_VALUES, name, "values")?;
    }
    Ok(())
}

/// Whether a JSON string, quotes included, unpacks to more than `max_bytes`, as far as its escapes alone tell: each counts as
/// one byte, the least that it can be. It reads no more than it needs to know, and unpacks nothing.
pub fn unpacks_to_more_than(max_bytes: usize, json_string: &str) -> bool {
    let bytes = json_string.as_bytes();
    let (mut unpacked, mut at) = (0_usize, 1);
    let end = bytes.len().saturating_sub(1);
    while at < end && unpacked <= max_bytes {
        let plain = bytes[at..end].iter().take_while(|&&byte| byte != b'\\').count();
        unpacked += plain;
        at += plain;
        if at < end {
            unpacked += 1;
            at += if bytes.get(at + 1) == Some(&b'u') { 6 } else { 2 };
        }
    }
    unpacked > max_bytes
}

/// Past the string whose quote stands before `from`.
fn after_string(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\')))
    {
        at += length + 1;
        if bytes[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

fn within(count: usize, limit: usize, name: &str, what: &str) -> Result<(), RequestError> {
    if count <= limit {
        return Ok(());
    }
    Err(RequestError::new(Code::QueryTooComplex, format!("{name} must not have more than {limit} {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> Option<String> {
        check("variables", json).err().map(|error| {
            assert_eq!(error.code, Code::QueryTooComplex);
            error.message
        })
    }

    #[test]
    fn what_is_within_the_limits_passes() {
        let texts = [
            String::new(),
            "null".into(),
            r#"{"input": {"lines": [{"quantity": 1}]}}"#.into(),
            format!("[{}1]", "1,".repeat(4_990)),
            format!("{{\"a\": \"{}\"}}", "[,{:\\\"\\\\".repeat(10_000)),
            "[".repeat(64) + &"]".repeat(64),
            "\"unfinished".into(),
            "\"unfinished\\".into(),
            "[]".repeat(100),
        ];
        for text in texts {
            assert_eq!(refusal(&text), None, "{text:.60}");
        }
    }

    #[test]
    fn a_string_is_measured_without_unpacking_it() {
        for (json_string, least) in [
            (r#""""#, 0),
            (r#""abc""#, 3),
            (r#""\t\n""#, 2),
            (r#""a\"b""#, 3),
            (r#""\\""#, 1),
            (r#""\u0020x\u0041""#, 3),
            (r#""é\uD83D\uDE00""#, 4),
        ] {
            assert!(!unpacks_to_more_than(least, json_string), "{json_string}");
            assert_eq!(unpacks_to_more_than(least.wrapping_sub(1), json_string), least > 0, "{json_string}");
            let unpacked: String = serde_json::from_str(json_string).unwrap();
            assert!(unpacked.len() >= least);
        }
    }

    #[test]
    fn too_many_values_and_levels_are_refused() {
        let members: String = (0..5_001).map(|n| format!("\"a{n}\":1,")).collect();
        let (values, levels) =
            ("variables must not have more than 5000 values", "variables must not have more than 64 levels of nesting");
        for (text, expected) in [
            (format!("[{}1]", "1,".repeat(5_000)), values),
            (format!("{{{members}}}"), values),
            (format!("[{}]", "[],".repeat(5_000)), values),
            ("[".repeat(65), levels),
            ("{\"a\":".repeat(65), levels),
        ] {
            assert_eq!(refusal(&text).as_deref(), Some(expected), "{text:.60}");
        }
    }
}
