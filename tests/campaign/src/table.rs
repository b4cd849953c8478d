//! Figures, one a line.

use std::fmt;

/// A small table of figures.
#[derive(Clone, Debug, Default)]
pub struct Table {
    title: String,
    rows: Vec<(String, String)>,
}

impl Table {
    /// An empty one.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    /// Adds a figure.
    pub fn row(&mut self, what: impl Into<String>, figure: impl fmt::Display) {
        self.rows.push((what.into(), figure.to_string()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let width = self.rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        self.rows.iter().try_for_each(|(what, figure)| writeln!(f, "  {what:<width$}  {figure}"))
    }
}
