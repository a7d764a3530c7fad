//! JSON that forgets nothing: objects keep every key, twice written ones too, so that a second `Effect` is an error and
//! not the winner.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value, as far as policy documents have a use for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    /// A number, a truth value or null: never right in a policy document.
    Other,
}

/// A key that may not stand where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyError {
    Unknown(String),
    Duplicate(String),
}

impl Node {
    /// The entries of an object that has only these keys, each at most once, in the order of `keys`.
    pub(crate) fn fields<const N: usize>(
        entries: Vec<(String, Self)>,
        keys: [&str; N],
    ) -> Result<[Option<Self>; N], KeyError> {
        let mut fields = [const { None }; N];
        for (key, node) in entries {
            let place = keys
                .iter()
                .position(|known| *known == key)
                .and_then(|index| fields.get_mut(index));
            match place {
                None => return Err(KeyError::Unknown(key)),
                Some(Some(_)) => return Err(KeyError::Duplicate(key)),
                Some(empty) => *empty = Some(node),
            }
        }
        Ok(fields)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = access.next_entry()? {
            object.push(entry);
        }
        Ok(Node::Object(object))
    }
}
