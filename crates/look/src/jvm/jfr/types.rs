//! Types as a chunk tells them, and values of them.

use std::{collections::HashMap, sync::Arc};

use super::{Malformed, cursor::Cursor, spend};

/// How deep elements of the description stand in each other, and values of types: six and three in what is written.
const DEEPEST: u32 = 12;
/// Most values in one: a stack has a few for each frame.
const LARGEST: usize = 1 << 16;

/// A value of which something is wanted.
pub(super) enum Value {
    /// Also what stands for a constant.
    Number(u64),
    Text(String),
    /// An array's elements, or a type's fields.
    All(Vec<Value>),
}

impl Value {
    /// One of a type's fields.
    pub(super) fn at(&self, field: usize) -> Option<&Value> {
        match self {
            Value::All(fields) => fields.get(field),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
}

struct Field {
    name: Arc<str>,
    kind: u64,
    is_constant: bool,
    is_array: bool,
}

#[derive(Default)]
struct Type {
    name: Arc<str>,
    fields: Vec<Field>,
}

/// All types of a chunk.
#[derive(Default)]
pub(super) struct Types {
    by_number: HashMap<u64, Type>,
    numbers: HashMap<Arc<str>, u64>,
}

impl Types {
    /// From the event that describes them.
    pub(super) fn read(event: &mut Cursor<'_>) -> Result<Types, Malformed> {
        // Its type, when, for how long, which.
        for _ in 0..4 {
            event.number()?;
        }
        let texts =
            (0..event.count()?).map(|_| event.text().map(Arc::from)).collect::<Result<Vec<_>, _>>()?;
        let mut types = Types::default();
        types.element(event, &texts, DEEPEST, 0)?;
        Ok(types)
    }

    /// An element of a tree: its name, what is said of it, what stands in it; `class` is the type around it.
    fn element(
        &mut self,
        event: &mut Cursor<'_>,
        texts: &[Arc<str>],
        depth: u32,
        class: u64,
    ) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let text = |event: &mut Cursor<'_>| -> Result<&Arc<str>, Malformed> {
            let index = usize::try_from(event.number()?).map_err(|_| Malformed)?;
            texts.get(index).ok_or(Malformed)
        };
        let element = text(event)?;
        let mut said: HashMap<&str, &Arc<str>> = HashMap::new();
        for _ in 0..event.count()? {
            let (key, value) = (text(event)?, text(event)?);
            said.insert(key, value);
        }
        let number = |key: &str| said.get(key).and_then(|text| text.parse::<u64>().ok());
        let name = || said.get("name").map(|name| Arc::clone(name)).unwrap_or_default();
        let mut inner = class;
        match &**element {
            "class" => {
                inner = number("id").ok_or(Malformed)?;
                self.by_number.insert(inner, Type { name: name(), fields: Vec::new() });
                self.numbers.insert(name(), inner);
            }
            "field" => {
                let field = Field {
                    name: name(),
                    kind: number("class").ok_or(Malformed)?,
                    is_constant: said.get("constantPool").is_some_and(|said| &***said == "true"),
                    is_array: number("dimension").is_some_and(|dimension| dimension > 0),
                };
                self.by_number.get_mut(&class).ok_or(Malformed)?.fields.push(field);
            }
            _ => {}
        }
        for _ in 0..event.count()? {
            self.element(event, texts, depth, inner)?;
        }
        Ok(())
    }

    /// The number of the type that is called so.
    pub(super) fn named(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }

    /// What a type is called.
    pub(super) fn name(&self, kind: u64) -> &str {
        self.by_number.get(&kind).map_or("", |kind| &kind.name)
    }

    /// Which of a type's fields is called so.
    pub(super) fn field(&self, kind: u64, name: &str) -> Option<usize> {
        self.by_number.get(&kind)?.fields.iter().position(|field| &*field.name == name)
    }

    /// The next value of a type.
    pub(super) fn value(
        &self,
        kind: u64,
        event: &mut Cursor<'_>,
        budget: &mut usize,
    ) -> Result<Value, Malformed> {
        let most = LARGEST.min(*budget);
        let mut left = most;
        let value = self.inner_value(kind, event, &mut left, DEEPEST);
        *budget -= most - left;
        value
    }

    fn inner_value(
        &self,
        kind: u64,
        event: &mut Cursor<'_>,
        budget: &mut usize,
        depth: u32,
    ) -> Result<Value, Malformed> {
        spend(budget)?;
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let kind = self.by_number.get(&kind).ok_or(Malformed)?;
        Ok(match &*kind.name {
            "boolean" | "byte" => Value::Number(event.byte()?.into()),
            "short" | "char" | "int" | "long" => Value::Number(event.number()?),
            "float" => Value::Number(event.bytes(4).map(|_| 0)?),
            "double" => Value::Number(event.bytes(8).map(|_| 0)?),
            "java.lang.String" => Value::Text(event.text()?),
            _ => {
                let fields = kind.fields.iter().map(|field| self.field_value(field, event, budget, depth));
                Value::All(fields.collect::<Result<_, _>>()?)
            }
        })
    }

    fn field_value(
        &self,
        field: &Field,
        event: &mut Cursor<'_>,
        budget: &mut usize,
        depth: u32,
    ) -> Result<Value, Malformed> {
        let mut one = |event: &mut Cursor<'_>| match field.is_constant {
            true => {
                spend(budget)?;
                event.number().map(Value::Number)
            }
            false => self.inner_value(field.kind, event, budget, depth),
        };
        match field.is_array {
            true => {
                let count = event.count()?;
                Ok(Value::All((0..count).map(|_| one(event)).collect::<Result<_, _>>()?))
            }
            false => one(event),
        }
    }
}
