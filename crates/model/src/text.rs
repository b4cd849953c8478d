//! Text from outside that need not be UTF-8.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeMap as _};
use std::{borrow::Cow, fmt};

/// Bytes that were meant as text: a JSON string when they are UTF-8, `{"b64": "…"}` when they are not, so that no
/// byte of evidence is replaced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "TextShape")]
pub struct Text(Vec<u8>);

impl Text {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes as received.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people and the index: invalid sequences become U+FFFD.
    pub fn lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lossy())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("b64", &STANDARD.encode(&self.0))?;
        map.end()
    }
}

/// The two written forms of [`Text`].
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum TextShape {
    /// UTF-8.
    Plain(String),
    /// Anything else, base64 with padding.
    Bytes {
        /// The bytes.
        b64: String,
    },
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TextShape::deserialize(deserializer)? {
            TextShape::Plain(text) => Ok(Self(text.into_bytes())),
            TextShape::Bytes { b64 } => STANDARD.decode(b64).map(Self).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_stays_readable_and_other_bytes_come_back_unchanged() {
        let plain = Text::from("café");
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#""café""#);
        let raw = Text::new(b"GET /\xff".as_slice());
        let json = serde_json::to_string(&raw).unwrap();
        assert_eq!(json, r#"{"b64":"R0VUIC//"}"#);
        assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), raw);
    }
}
