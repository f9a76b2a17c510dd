//! The identity of a trace as it travels: the W3C header `traceparent`.

use std::fmt;

/// Names everything that one cause leads to, also in other programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl TraceId {
    /// One that nothing else has.
    pub fn random() -> Self {
        // 0 is no trace.
        Self(rand::random::<u128>().max(1))
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(super) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A span as the cause of others: what `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: TraceId,
    pub span: u64,
    /// It is sent to a collector.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the header. What follows the fields of version 00 belongs to a later version.
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.split('-');
        let (version, trace, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        hex(version, 2).filter(|version| *version != 0xff)?;
        let span = u64::try_from(hex(parent, 16).filter(|parent| *parent != 0)?).ok()?;
        let sampled = hex(flags, 2)? & 1 == 1;
        if version == "00" && fields.next().is_some() {
            return None;
        }
        let trace = hex(trace, 32).filter(|trace| *trace != 0).map(TraceId)?;
        Some(Self { trace, span, sampled })
    }
}

/// As the header has it.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// A number of exactly so many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_is_read_from_the_header_that_carries_it() {
        for header in [
            format!("00-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-00f067aa0ba902b7-00"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01-what-comes-later"),
        ] {
            let parent = TraceParent::parse(&header).unwrap();
            assert_eq!((parent.trace.to_string().as_str(), parent.span), (TRACE, 0x00f0_67aa_0ba9_02b7), "{header}");
        }
    }

    #[test]
    fn a_cause_is_written_as_it_is_read() {
        for header in [format!("00-{TRACE}-00f067aa0ba902b7-01"), format!("00-{TRACE}-00f067aa0ba902b7-00")] {
            assert_eq!(TraceParent::parse(&header).unwrap().to_string(), header);
        }
    }

    #[test]
    fn what_is_no_trace_context_names_no_trace() {
        let none = "0".repeat(32);
        for header in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{none}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("00-{TRACE}\"-00f067aa0ba902b-01"),
        ] {
            assert_eq!(TraceParent::parse(&header), None, "{header}");
        }
    }

    #[test]
    fn no_two_random_traces_are_the_same() {
        assert_ne!(TraceId::random(), TraceId::random());
    }
}
