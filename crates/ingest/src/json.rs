//! Reading other programs' JSON without building a tree: typed structs that borrow from the bytes, lenient where the
//! sender may differ from what we know.
//!
//! A value of an unexpected type reads as absent instead of making the whole event unreadable; a list that is `null`
//! is empty; a list has a limit, and what is beyond it is counted and hashed.

use std::{borrow::Cow, fmt, marker::PhantomData};

use model::entry::Cut;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// Most items kept of one list, and most entries of one map.
pub(crate) const ITEMS: usize = 1024;

/// A string, borrowed when it has no escapes. Anything else reads as absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Str<'a>(pub(crate) Option<Cow<'a, str>>);

impl Str<'_> {
    /// The text, if there is one and it is not empty (Kubernetes writes absent strings both ways).
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.as_deref().filter(|text| !text.is_empty())
    }

    /// [`Str::get`], owned.
    pub(crate) fn owned(&self) -> Option<String> {
        self.get().map(str::to_owned)
    }

    /// As RFC 3339.
    pub(crate) fn time(&self) -> Option<model::Time> {
        self.get().and_then(model::Time::parse)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyType;
        impl<'de> Visitor<'de> for AnyType {
            type Value = Str<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Str(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Str(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Str(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Str(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Str(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Str(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Str(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Str(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Str(None))
            }
        }
        deserializer.deserialize_any(AnyType)
    }
}

/// At most `MOST` items; `null` is empty.
#[derive(Debug)]
pub(crate) struct List<T, const MOST: usize = ITEMS> {
    /// The first items.
    pub(crate) items: Vec<T>,
    /// How many more there were, and the hash over their JSON as received. Boxed: lists are moved about a lot, and almost none
    /// is so long.
    beyond: Option<Box<(u64, Sha256)>>,
}

impl<T, const MOST: usize> Default for List<T, MOST> {
    fn default() -> Self {
        Self { items: Vec::new(), beyond: None }
    }
}

impl<T, const MOST: usize> List<T, MOST> {
    /// How many items were left out.
    pub(crate) fn omitted(&self) -> u64 {
        self.beyond.as_ref().map_or(0, |beyond| beyond.0)
    }

    /// What was left out, for the list of the fact at `pointer` that this one feeds.
    pub(crate) fn cut(&self, pointer: &str, cuts: &mut Vec<Cut>) {
        if let Some((omitted, hash)) = self.beyond.as_deref() {
            let digest = crate::fit::hex(&hash.clone().finalize());
            cuts.push(Cut { list: pointer.to_owned(), omitted: *omitted, digest });
        }
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for List<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
            type Value = List<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or null")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(List::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Self::Value::default();
                while list.items.len() < MOST {
                    match seq.next_element()? {
                        Some(item) => list.items.push(item),
                        None => return Ok(list),
                    }
                }
                while let Some(item) = seq.next_element::<&RawValue>()? {
                    let beyond = list.beyond.get_or_insert_with(|| Box::new((0, Sha256::new())));
                    beyond.0 += 1;
                    beyond.1.update(item.get());
                }
                Ok(list)
            }
        }
        deserializer.deserialize_any(Items::<T, MOST>(PhantomData))
    }
}

/// An object with free keys, in the order received, at most [`ITEMS`] entries; `null` is empty.
#[derive(Debug)]
pub(crate) struct Map<'a, V>(pub(crate) Vec<(Cow<'a, str>, V)>);

impl<V> Default for Map<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Map<'_, V> {
    /// The value under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl Map<'_, Str<'_>> {
    /// The text under a key, if there is one and it is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Str::get)
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Map<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Map<'de, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Map::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while entries.len() < ITEMS {
                    match map.next_entry::<Str<'de>, V>()? {
                        Some((key, value)) => entries.push((key.0.unwrap_or_default(), value)),
                        None => return Ok(Map(entries)),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Map(entries))
            }
        }
        deserializer.deserialize_any(Entries(PhantomData))
    }
}

/// Calls `f` with every member of an object, also with those of equal keys, or with every item of a list, as far as the
/// text is JSON.
pub(crate) fn for_each<'de>(
    text: &'de [u8],
    f: impl FnMut(Option<Cow<'de, str>>, &'de RawValue),
) -> serde_json::Result<()> {
    struct Each<F>(F);
    impl<'de, F: FnMut(Option<Cow<'de, str>>, &'de RawValue)> Visitor<'de> for Each<F> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
            while let Some(item) = seq.next_element()? {
                (self.0)(None, item);
            }
            Ok(())
        }
        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<Str<'de>, _>()? {
                (self.0)(key.0, value);
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_slice(text).deserialize_any(Each(f))
}

/// The string that a raw value is, or `None` if it is something else.
pub(crate) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Str<'_>>(raw.get()).ok().and_then(|text| text.0)
}

/// The first bytes of an input, for [`model::fact::Opaque`].
pub(crate) fn head(bytes: &[u8]) -> model::Text {
    let mut end = bytes.len().min(256);
    // Do not make valid UTF-8 invalid by cutting a character.
    while end > 0 && end < bytes.len() && bytes[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    model::Text::new(&bytes[..end])
}
