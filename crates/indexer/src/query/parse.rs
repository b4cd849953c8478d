//! Text to [`Node`], by recursive descent.
//!
//! ```text
//! or     = and { ("OR" | "||") and }
//! and    = not { ["AND" | "&&"] not }            two tests side by side mean both
//! not    = ("NOT" | "!" | "-") not | "+" not | test
//! test   = "(" or ")" | "#" digits | [name ":"] value
//! value  = "(" or ")" | quoted | range | (">" | ">=" | "<" | "<=") word | word
//! range  = ("[" | "{") end "TO" end ("]" | "}")
//! ```

use super::{Clause, End, MAX_CLAUSES, MAX_DEPTH, MAX_LENGTH, Node, Piece, QueryError, Span, Test};
use crate::fields::{self, Field};

/// Reads a query. An empty one matches everything.
pub fn parse(text: &str) -> Result<Node, QueryError> {
    if text.len() > MAX_LENGTH {
        let what = format!("the query has {} bytes, at most {MAX_LENGTH} are read", text.len());
        return Err(QueryError::general(what));
    }
    let mut parser = Parser { text, at: 0, depth: 0, clauses: 0 };
    parser.spaces();
    if parser.rest().is_empty() {
        return Ok(Node::All);
    }
    let node = parser.or(&[])?;
    if parser.rest().is_empty() {
        return Ok(node);
    }
    // `or` stops only at a bracket that nobody opened.
    Err(parser.wrong(1, "`)` closes nothing").hint(r"write `\)` for the character"))
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    clauses: usize,
}

/// A word as read: with what was escaped told apart from what was not.
struct Word {
    span: Span,
    pieces: Vec<Piece>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// An error at the present place, over so many bytes and the rest of the last one's character.
    fn wrong(&self, len: usize, what: impl Into<String>) -> QueryError {
        let end = self.text.ceil_char_boundary(self.at + len);
        QueryError::at(self.text, Span { start: self.at, end }, what)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// An operator in capitals, standing alone.
    fn is_operator(&self, word: &str) -> bool {
        self.rest().strip_prefix(word).is_some_and(|after| {
            after.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '[' | '{'))
        })
    }

    fn operator(&mut self, word: &str, sign: &str) -> bool {
        self.spaces();
        if self.is_operator(word) {
            self.at += word.len();
            return true;
        }
        self.eat(sign)
    }

    fn or(&mut self, fields: &'static [Field]) -> Result<Node, QueryError> {
        let mut nodes = vec![self.and(fields)?];
        while self.operator("OR", "||") {
            nodes.push(self.and(fields)?);
        }
        Ok(one_or(nodes, Node::Or))
    }

    fn and(&mut self, fields: &'static [Field]) -> Result<Node, QueryError> {
        let mut nodes = vec![self.not(fields)?];
        loop {
            let asked = self.operator("AND", "&&");
            self.spaces();
            let ends =
                matches!(self.peek(), None | Some(')')) || self.is_operator("OR") || self.rest().starts_with("||");
            if ends && !asked {
                return Ok(one_or(nodes, Node::And));
            }
            nodes.push(self.not(fields)?);
        }
    }

    fn not(&mut self, fields: &'static [Field]) -> Result<Node, QueryError> {
        self.spaces();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.wrong(1, format!("nested deeper than {MAX_DEPTH}")));
        }
        let node = if self.operator("NOT", "!") || self.eat("-") {
            Node::Not(Box::new(self.not(fields)?))
        } else if self.eat("+") {
            self.not(fields)?
        } else {
            self.test(fields)?
        };
        self.depth -= 1;
        Ok(node)
    }

    /// A group, an entry, or a value with or without a name. `fields` are those of the group around it.
    fn test(&mut self, fields: &'static [Field]) -> Result<Node, QueryError> {
        self.clauses += 1;
        if self.clauses > MAX_CLAUSES {
            return Err(self.wrong(1, format!("more than {MAX_CLAUSES} tests")));
        }
        match self.peek() {
            None => return Err(self.wrong(0, "something is missing at the end")),
            Some('(') => return self.group(fields),
            Some(')') => return Err(self.wrong(1, "nothing stands before `)`")),
            Some('#') => {
                let start = self.at;
                self.at += 1;
                let digits = self.rest().bytes().take_while(u8::is_ascii_digit).count();
                let value = self.rest()[..digits].to_owned();
                self.at += digits;
                let span = Span { start, end: self.at };
                if value.is_empty() || self.peek().is_some_and(|c| !c.is_whitespace() && c != ')') {
                    return Err(QueryError::at(self.text, span, "an entry is `#` and its index, such as `#48213`"));
                }
                return Ok(clause(span, &[Field::Entry], Test::Value(value)));
            }
            Some(_) => {}
        }
        for word in ["AND", "OR", "TO"] {
            if self.is_operator(word) {
                return Err(self
                    .wrong(word.len(), format!("`{word}` has nothing before it"))
                    .hint("quote it to look for the word"));
            }
        }
        let Some(len) = self.name() else { return self.value(fields) };
        let span = Span { start: self.at, end: self.at + len };
        let name = self.text[self.at..span.end].to_owned();
        self.at = span.end + 1;
        if name == "_exists_" {
            self.spaces();
            let word = self.word()?;
            let text = literal(&word.pieces);
            return Ok(clause(word.span, self.known(&text, word.span)?, Test::Exists));
        }
        let fields = self.known(&name, span)?;
        self.spaces();
        if self.peek().is_none_or(|c| c == ')') {
            return Err(QueryError::at(self.text, span, format!("`{name}:` has no value"))
                .hint(format!("`_exists_:{name}` finds whatever has one")));
        }
        self.value(fields)
    }

    /// The length of a name before a colon, when one stands here. A colon before `//` belongs to an address, and
    /// `sha256:` to a digest.
    fn name(&self) -> Option<usize> {
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '@' | '-')))?;
        let name = &rest[..len];
        let after = rest[len..].strip_prefix(':')?;
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '@'));
        (begins && !after.starts_with("//") && name != "sha256").then_some(len)
    }

    fn known(&self, name: &str, span: Span) -> Result<&'static [Field], QueryError> {
        fields::named(name).ok_or_else(|| {
            let error = QueryError::at(self.text, span, format!("there is no field `{name}`"));
            let near: Vec<String> = fields::nearest(name).into_iter().map(|name| format!("`{name}`")).collect();
            if near.is_empty() {
                error.hint("docs/search-fields.md lists them; quote the text to look for it as it stands")
            } else {
                error.hint(format!("did you mean {}?", near.join(" or ")))
            }
        })
    }

    fn group(&mut self, fields: &'static [Field]) -> Result<Node, QueryError> {
        let open = self.at;
        self.at += 1;
        let node = self.or(fields)?;
        self.spaces();
        if self.eat(")") {
            return Ok(node);
        }
        Err(QueryError::at(self.text, Span { start: open, end: open + 1 }, "`(` is never closed"))
    }

    fn value(&mut self, fields: &'static [Field]) -> Result<Node, QueryError> {
        let start = self.at;
        match self.peek() {
            Some('(') => return self.group(fields),
            Some('"') => {
                let value = self.quoted()?;
                return Ok(clause(Span { start, end: self.at }, fields, Test::Value(value)));
            }
            Some('[' | '{') => {
                let (low, high) = self.range()?;
                let span = Span { start, end: self.at };
                if fields.is_empty() {
                    return Err(
                        QueryError::at(self.text, span, "a range needs a field").hint("such as `count:[2 TO 5]`")
                    );
                }
                return Ok(clause(span, fields, Test::Range(low, high)));
            }
            Some('>' | '<') if !fields.is_empty() => {
                let above = self.eat(">") || !self.eat("<");
                let equal = self.eat("=");
                self.spaces();
                let value = self.end()?;
                let end = if equal { End::Included(value) } else { End::Excluded(value) };
                let test = if above { Test::Range(end, End::Open) } else { Test::Range(End::Open, end) };
                return Ok(clause(Span { start, end: self.at }, fields, test));
            }
            _ => {}
        }
        let word = self.word()?;
        if word.pieces == [Piece::Any] {
            return Ok(if fields.is_empty() { Node::All } else { clause(word.span, fields, Test::Exists) });
        }
        let test = match word.pieces.as_slice() {
            [Piece::Literal(value)] => Test::Value(value.clone()),
            _ => Test::Pattern(word.pieces),
        };
        Ok(clause(word.span, fields, test))
    }

    fn range(&mut self) -> Result<(End, End), QueryError> {
        let open = self.at;
        let low_included = self.eat("[") || !self.eat("{");
        self.spaces();
        let low = self.end()?;
        self.spaces();
        if !self.is_operator("TO") {
            return Err(self.wrong(1, "a range is written `[a TO b]`").hint("`*` leaves an end open"));
        }
        self.at += 2;
        self.spaces();
        let high = self.end()?;
        self.spaces();
        let high_included = self.eat("]");
        if !high_included && !self.eat("}") {
            return Err(QueryError::at(self.text, Span { start: open, end: open + 1 }, "the range is never closed"));
        }
        let end = |value: String, included| match (value.as_str(), included) {
            ("*", _) => End::Open,
            (_, true) => End::Included(value),
            (_, false) => End::Excluded(value),
        };
        Ok((end(low, low_included), end(high, high_included)))
    }

    /// One end of a range.
    fn end(&mut self) -> Result<String, QueryError> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let len =
            self.rest().find(|c: char| c.is_whitespace() || matches!(c, ']' | '}' | ')')).unwrap_or(self.rest().len());
        if len == 0 {
            return Err(self.wrong(1, "a value is missing here"));
        }
        let value = self.rest()[..len].to_owned();
        self.at += len;
        Ok(value)
    }

    fn quoted(&mut self) -> Result<String, QueryError> {
        let open = self.at;
        self.at += 1;
        let mut value = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(value),
                '\\' => {
                    if let Some(next) = self.peek() {
                        self.at += next.len_utf8();
                        value.push(next);
                    }
                }
                _ => value.push(c),
            }
        }
        Err(QueryError::at(self.text, Span { start: open, end: open + 1 }, "the quotation mark is never closed"))
    }

    /// A word up to a space or bracket; colons and slashes belong to it, a backslash takes the next character as it is.
    fn word(&mut self) -> Result<Word, QueryError> {
        let start = self.at;
        let mut pieces = Vec::new();
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                _ if c.is_whitespace() => break,
                '(' | ')' | '"' | '[' | ']' | '{' | '}' => break,
                '*' | '?' => {
                    if !text.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut text)));
                    }
                    let piece = if c == '*' { Piece::Any } else { Piece::One };
                    // `**` is `*`, so that matching stays linear in what is written.
                    if piece != Piece::Any || pieces.last() != Some(&Piece::Any) {
                        pieces.push(piece);
                    }
                }
                '~' | '^' if self.at > start => {
                    return Err(self
                        .wrong(1, format!("`{c}` (fuzzy search, boost) is not understood"))
                        .hint(format!(r"write `\{c}` for the character")));
                }
                '\\' => {
                    self.at += 1;
                    let Some(next) = self.peek() else {
                        return Err(self.wrong(0, r"nothing follows the last `\`"));
                    };
                    text.push(next);
                    self.at += next.len_utf8();
                    continue;
                }
                _ => text.push(c),
            }
            self.at += c.len_utf8();
        }
        if !text.is_empty() {
            pieces.push(Piece::Literal(text));
        }
        if pieces.is_empty() {
            let found = self.peek().map_or_else(|| "the end".to_owned(), |c| format!("`{c}`"));
            return Err(self.wrong(1, format!("a value is missing before {found}")));
        }
        Ok(Word { span: Span { start, end: self.at }, pieces })
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() == 1 { nodes.remove(0) } else { many(nodes) }
}

fn clause(at: Span, fields: &'static [Field], test: Test) -> Node {
    Node::Clause(Clause { at, fields, test })
}

/// A word as it was written, wildcards and all.
fn literal(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => text.as_str(),
            Piece::Any => "*",
            Piece::One => "?",
        })
        .collect()
}
