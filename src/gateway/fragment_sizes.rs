//! How much a document holds once its fragments are put where they are spread, told from its text before a tree is built.
//!
//! A fragment that spreads the next one twice doubles with every link of such a chain, and one that spreads itself has no
//! end: both are told by a graph of a few numbers a definition.

use std::collections::HashMap;

use super::document_limits::within;
use super::request_errors::RequestError;
use super::top_level_errors::Code;

/// An operation or a fragment.
#[derive(Default)]
struct Definition<'a> {
    /// Of a fragment.
    name: Option<&'a [u8]>,
    /// Fields, spreads and inline fragments in its own text.
    selections: usize,
    spreads: Vec<&'a [u8]>,
}

/// Filled by a pass over the text.
#[derive(Default)]
pub(super) struct FragmentSizes<'a> {
    definitions: Vec<Definition<'a>>,
    has_spreads: bool,
}

/// What is known of a definition while the graph is gone through.
#[derive(Clone, Copy)]
enum Known {
    Nothing,
    /// It is being reckoned: whoever comes back to it has gone round in a circle.
    InHand,
    Size(usize),
}

impl<'a> FragmentSizes<'a> {
    pub fn definition(&mut self) {
        self.definitions.push(Definition::default());
    }

    pub fn fragment_named(&mut self, name: &'a [u8]) {
        if let Some(definition) = self.definitions.last_mut() {
            definition.name = Some(name);
        }
    }

    pub fn selection(&mut self) {
        if let Some(definition) = self.definitions.last_mut() {
            definition.selections += 1;
        }
    }

    /// The name after the dots of a selection that has been counted.
    pub fn spread(&mut self, name: &'a [u8]) {
        self.has_spreads = true;
        if let Some(definition) = self.definitions.last_mut() {
            definition.spreads.push(name);
        }
    }

    /// Refuses a fragment that spreads itself, and a definition that holds more than this.
    pub fn check(&self, limit: usize) -> Result<(), RequestError> {
        if !self.has_spreads {
            return Ok(());
        }
        let named = self.definitions.iter().enumerate();
        let by_name = named.filter_map(|(place, definition)| Some((definition.name?, place))).collect();
        let mut known = vec![Known::Nothing; self.definitions.len()];
        for place in 0..self.definitions.len() {
            let size = self.size(place, &by_name, &mut known)?;
            within(size, limit, "fields with its fragments put in place")?;
        }
        Ok(())
    }

    /// As deep as there are definitions, which the limit of tokens bounds.
    fn size(&self, place: usize, by_name: &HashMap<&[u8], usize>, known: &mut [Known]) -> Result<usize, RequestError> {
        let definition = &self.definitions[place];
        match known[place] {
            Known::Size(size) => return Ok(size),
            Known::InHand => {
                let name = String::from_utf8_lossy(definition.name.unwrap_or_default());
                let message = format!("the fragment {name} spreads itself");
                return Err(RequestError::new(Code::GraphqlValidationFailed, message));
            }
            Known::Nothing => {}
        }
        known[place] = Known::InHand;
        let mut total = definition.selections;
        // One that is missing is reported by validation.
        for &place in definition.spreads.iter().filter_map(|name| by_name.get(name)) {
            total = total.saturating_add(self.size(place, by_name, known)?);
        }
        known[place] = Known::Size(total);
        Ok(total)
    }
}
