//! Types as a chunk tells them, and values of them.

use std::collections::HashMap;

use super::{Malformed, cursor::Cursor};

/// How deep elements of the description stand in each other, and values of types: six and three in what is written.
const DEEPEST: u32 = 12;

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
    name: String,
    kind: u64,
    is_constant: bool,
    is_array: bool,
}

#[derive(Default)]
struct Type {
    name: String,
    fields: Vec<Field>,
}

/// All types of a chunk, by number.
#[derive(Default)]
pub(super) struct Types(HashMap<u64, Type>);

impl Types {
    /// From the event that describes them.
    pub(super) fn read(event: &mut Cursor<'_>) -> Result<Types, Malformed> {
        // Its type, when, for how long, which.
        for _ in 0..4 {
            event.number()?;
        }
        let texts = (0..event.count()?).map(|_| event.text()).collect::<Result<Vec<_>, _>>()?;
        let mut types = Types::default();
        types.element(event, &texts, DEEPEST, 0)?;
        Ok(types)
    }

    /// An element of a tree: its name, what is said of it, what stands in it; `class` is the type around it.
    fn element(
        &mut self,
        event: &mut Cursor<'_>,
        texts: &[String],
        depth: u32,
        class: u64,
    ) -> Result<(), Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let text = |event: &mut Cursor<'_>| -> Result<&str, Malformed> {
            let index = usize::try_from(event.number()?).map_err(|_| Malformed)?;
            texts.get(index).map(String::as_str).ok_or(Malformed)
        };
        let element = text(event)?;
        let mut said: HashMap<&str, &str> = HashMap::new();
        for _ in 0..event.count()? {
            let (key, value) = (text(event)?, text(event)?);
            said.insert(key, value);
        }
        let number = |key: &str| said.get(key).and_then(|text| text.parse::<u64>().ok());
        let name = || said.get("name").map(|name| (*name).to_owned()).unwrap_or_default();
        let mut inner = class;
        match element {
            "class" => {
                inner = number("id").ok_or(Malformed)?;
                self.0.insert(inner, Type { name: name(), fields: Vec::new() });
            }
            "field" => {
                let field = Field {
                    name: name(),
                    kind: number("class").ok_or(Malformed)?,
                    is_constant: said.get("constantPool") == Some(&"true"),
                    is_array: number("dimension").is_some_and(|dimension| dimension > 0),
                };
                self.0.get_mut(&class).ok_or(Malformed)?.fields.push(field);
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
        self.0.iter().find(|(_, kind)| kind.name == name).map(|(number, _)| *number)
    }

    /// What a type is called.
    pub(super) fn name(&self, kind: u64) -> &str {
        self.0.get(&kind).map_or("", |kind| kind.name.as_str())
    }

    /// Which of a type's fields is called so.
    pub(super) fn field(&self, kind: u64, name: &str) -> Option<usize> {
        self.0.get(&kind)?.fields.iter().position(|field| field.name == name)
    }

    /// The next value of a type.
    pub(super) fn value(
        &self,
        kind: u64,
        event: &mut Cursor<'_>,
        budget: &mut usize,
    ) -> Result<Value, Malformed> {
        self.inner_value(kind, event, budget, DEEPEST)
    }

    fn inner_value(
        &self,
        kind: u64,
        event: &mut Cursor<'_>,
        budget: &mut usize,
        depth: u32,
    ) -> Result<Value, Malformed> {
        *budget = budget.checked_sub(1).ok_or(Malformed)?;
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let kind = self.0.get(&kind).ok_or(Malformed)?;
        Ok(match kind.name.as_str() {
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
                *budget = budget.checked_sub(1).ok_or(Malformed)?;
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
