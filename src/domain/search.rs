//! Search over the catalogue: the same words and the same scores on every store.
//!
//! Text is lower-cased and split at anything not alphanumeric. Every query word must match a word or the beginning of
//! one; it scores by its best field, doubled for a whole word; the sum ranks, then the name, then the id.

/// The searched fields of a product with the score of a match in each.
pub struct SearchedFields<'a> {
    pub sku: &'a str,
    pub name: &'a str,
    pub category: &'a str,
    pub description: &'a str,
}

const SKU: u32 = 8;
const NAME: u32 = 4;
const CATEGORY: u32 = 2;
const DESCRIPTION: u32 = 1;

/// The words of a text, in order, lower-cased.
pub fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Each distinct word of a product with the sum of what a prefix match in its best field scores.
/// Used by stores that keep the words in an index.
pub fn indexed_words(fields: &SearchedFields<'_>) -> Vec<(String, u32)> {
    let mut best: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
    for (text, score) in
        [(fields.sku, SKU), (fields.name, NAME), (fields.category, CATEGORY), (fields.description, DESCRIPTION)]
    {
        for word in words(text) {
            let entry = best.entry(word).or_default();
            *entry = (*entry).max(score);
        }
    }
    best.into_iter().collect()
}

/// The score of a product for query words, or `None` when one of them matches nothing.
pub fn score(query: &[String], indexed: &[(String, u32)]) -> Option<u32> {
    query.iter().try_fold(0, |sum, wanted| {
        let best = indexed
            .iter()
            .filter(|(word, _)| word.starts_with(wanted.as_str()))
            .map(|(word, score)| if word.len() == wanted.len() { score * 2 } else { *score })
            .max()?;
        Some(sum + best)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAMP: SearchedFields<'_> = SearchedFields {
        sku: "LMP-100",
        name: "Brass Lamp",
        category: "Lighting",
        description: "A lamp of brass, for the reading-desk.",
    };

    fn score_of(query: &str) -> Option<u32> {
        score(&words(query), &indexed_words(&LAMP))
    }

    #[test]
    fn a_whole_word_counts_double_and_the_best_field_wins() {
        assert_eq!(score_of("lamp"), Some(8));
        assert_eq!(score_of("lam"), Some(4));
        assert_eq!(score_of("LMP"), Some(16));
        assert_eq!(score_of("light"), Some(2));
        assert_eq!(score_of("desk"), Some(2));
    }

    #[test]
    fn every_word_must_match() {
        assert_eq!(score_of("brass desk"), Some(10));
        assert_eq!(score_of("brass sofa"), None);
        assert_eq!(score_of("amp"), None);
        assert_eq!(score_of("  "), Some(0));
    }
}
