//! Prints `docs/search-fields.md`.

fn main() {
    print!("{}", indexer::reference::fields());
}
