//! The reference of the fields, made from their table: `docs/search-fields.md`.

use std::fmt::Write as _;

use crate::fields::{ALIASES, Case, Field, Kind, Match};

/// The whole page, Markdown.
pub fn fields() -> String {
    let mut page = String::from(
        "# Fields\n\n\
         Made from the table in `crates/indexer/src/fields.rs`; a test checks that it is current. How to ask for them: \
         [search.md](search.md).\n\n\
         | field | short | type | a value matches | what it holds |\n|---|---|---|---|---|\n",
    );
    for field in Field::ALL {
        let short: Vec<String> = ALIASES
            .iter()
            .filter(|alias| alias.fields.contains(field) && alias.name != field.name())
            .map(|alias| format!("`{}`", alias.name))
            .collect();
        let (kind, matching) = words(field.kind());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {} | {kind} | {matching} | {} |", field.name(), short.join(" "), field.doc());
    }
    page
}

const fn words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Text => ("words", "words that follow each other, in any case"),
        Kind::Number => ("number", "the number"),
        Kind::Date => ("time", "the moment; a cut one, such as a day, all of it"),
        Kind::Keyword(case, matching) => {
            let kind = match case {
                Case::Kept => "keyword",
                Case::Lower | Case::Upper => "keyword, in any case",
            };
            let matching = match matching {
                Match::Whole => "whole values",
                Match::Prefix => "values that begin so (4 characters or more)",
                Match::LastPart => "whole values, or what stands after the last `/`",
                Match::Dotted => "whole values, or those that go on with a dot",
            };
            (kind, matching)
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/search-fields.md");
        let page = super::fields();
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == page,
            "docs/search-fields.md is old: cargo run -p indexer --example search_fields > docs/search-fields.md"
        );
    }
}
