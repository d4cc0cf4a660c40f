//! Values of variables as they are shown: what is short as it is, what is long by its beginning and its size, secrets not at all.

use pepo_process::redact::{self, HIDDEN};

use super::{
    dicts::{Objects, SOME},
    memory::Memory,
    offsets::fixed,
    text,
};

/// The most variables of a frame.
const MOST: u64 = 64;
/// The most items of a container, and how deep they go.
const ITEMS: u64 = 4;
const DEEPEST: usize = 2;
/// The longest text, in characters; and how much of it is read, since a secret may be known only by what comes after it.
const LONGEST: usize = 80;
const READ: usize = 4096;
/// The longest name, in characters.
const NAME: usize = 100;
/// Digits of 30 bits: more than two are told by their number alone.
const DIGITS: u64 = 2;

/// `Py_TPFLAGS_…_SUBCLASS`.
mod subclass {
    pub(super) const INT: u64 = 1 << 24;
    pub(super) const LIST: u64 = 1 << 25;
    pub(super) const TUPLE: u64 = 1 << 26;
    pub(super) const BYTES: u64 = 1 << 27;
    pub(super) const STR: u64 = 1 << 28;
    pub(super) const DICT: u64 = 1 << 29;
}

/// `CO_FAST_HIDDEN`: of a comprehension that is part of its function.
const HIDDEN_KIND: u8 = 0x10;

/// A variable of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// The value's type, as it calls itself.
    pub(crate) kind: String,
    pub(crate) value: String,
}

impl<M: Memory> Objects<'_, M> {
    /// A whole number, if it is not too long.
    pub(super) fn integer(&self, address: u64) -> Option<i64> {
        let (count, negative) = self.int_head(address)?;
        if count > DIGITS {
            return None;
        }
        let bytes =
            self.memory.bytes(address.checked_add(self.offsets.object.digits)?, count as usize * 4)?;
        let digits = bytes.as_chunks::<4>().0.iter().map(|digit| i64::from(u32::from_ne_bytes(*digit)));
        let value = digits.rev().fold(0, |value, digit| value << 30 | digit & 0x3fff_ffff);
        Some(if negative { -value } else { value })
    }

    /// How many digits it has, and is it below zero?
    fn int_head(&self, address: u64) -> Option<(u64, bool)> {
        let head = self.word(address, fixed::SIZE)?;
        Some(match self.offsets.object.tagged_int {
            true => (head >> 3, head & 3 == 2),
            false => (head.cast_signed().unsigned_abs(), head.cast_signed() < 0),
        })
    }

    /// The variables of a frame that have a value.
    pub(crate) fn variables(&self, frame: u64, code: u64) -> Option<Vec<Variable>> {
        let mut names = self.items(self.word(code, self.offsets.code.variables)?)?;
        for field in self.offsets.code.shared.into_iter().flatten() {
            names.extend(self.items(self.word(code, field)?)?);
        }
        let count = names.len() as u64;
        let values = self.words(frame.checked_add(self.offsets.frame.locals)?, count)?;
        let kinds = match self.offsets.code.kinds {
            Some(kinds) => {
                self.memory.bytes(self.word(code, kinds)?.checked_add(fixed::BYTES)?, count as usize)?
            }
            None => vec![0; count as usize],
        };
        let all = names.iter().zip(values).zip(kinds).filter(|(_, kind)| kind & HIDDEN_KIND == 0);
        let variables = all.filter_map(|((name, value), _)| {
            let name = text::read(self.memory, self.offsets, *name, NAME)?;
            // The lowest bits of a reference say how it is counted.
            let value = self.out_of_cell(value & !7)?;
            let (kind, shown) = self.shown(value, 0)?;
            let value = if redact::name_is_secret(&name) && may_be_secret(&kind) {
                HIDDEN.to_owned()
            } else {
                redact::text(&shown).into_owned()
            };
            Some(Variable { name, kind, value })
        });
        Some(variables.collect())
    }

    /// The items of a tuple.
    fn items(&self, tuple: u64) -> Option<Vec<u64>> {
        let count = self.word(tuple, fixed::SIZE)?.min(MOST);
        if count == 0 {
            Some(Vec::new())
        } else {
            self.words(tuple.checked_add(self.offsets.object.items)?, count)
        }
    }

    /// What a variable that inner functions share refers to.
    fn out_of_cell(&self, value: u64) -> Option<u64> {
        if value == 0 || self.type_of(value)?.0 != "cell" {
            return (value != 0).then_some(value);
        }
        self.word(value, fixed::SIZE).filter(|inner| *inner != 0)
    }

    /// Name and flags of a value's type.
    fn type_of(&self, value: u64) -> Option<(String, u64)> {
        let kind = self.word(value, fixed::TYPE)?;
        let name = self.word(kind, fixed::TYPE_NAME)?;
        let flags = self.word(kind, fixed::TYPE_FLAGS)?;
        // It may end near the end of what is mapped.
        let bytes = [NAME, 16].into_iter().find_map(|length| self.memory.bytes(name, length))?;
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Some((String::from_utf8_lossy(name).into_owned(), flags))
    }

    /// Type and value, in words.
    fn shown(&self, value: u64, depth: usize) -> Option<(String, String)> {
        let (kind, flags) = self.type_of(value)?;
        let shown = match () {
            () if kind == "NoneType" => "None".to_owned(),
            () if kind == "bool" => {
                let is = self.integer(value)? != 0;
                if is { "True" } else { "False" }.to_owned()
            }
            () if kind == "float" => {
                let bits = self.word(value, fixed::FLOAT)?;
                format!("{:?}", f64::from_bits(bits))
            }
            () if flags & subclass::INT != 0 => self.int(value)?,
            () if flags & subclass::STR != 0 => self.string(value)?,
            () if flags & subclass::BYTES != 0 => {
                format!("<{} bytes>", self.word(value, fixed::SIZE)?)
            }
            () if flags & (subclass::LIST | subclass::TUPLE) != 0 => self.sequence(value, flags, depth)?,
            () if flags & subclass::DICT != 0 => self.dict(value, depth)?,
            () => format!("<{kind}>"),
        };
        Some((kind, shown))
    }

    fn int(&self, value: u64) -> Option<String> {
        match self.integer(value) {
            Some(number) => Some(number.to_string()),
            None => {
                let (digits, _) = self.int_head(value)?;
                Some(format!("<int of {} bits>", digits.saturating_mul(30)))
            }
        }
    }

    /// In quotes; of a long one the beginning, and how long it is.
    fn string(&self, value: u64) -> Option<String> {
        let length = self.word(value, fixed::SIZE)?;
        let text = text::read(self.memory, self.offsets, value, READ)?;
        let text: String = redact::text(&text).chars().take(LONGEST).collect();
        let quoted = format!("'{}'", text.escape_debug());
        Some(if length > LONGEST as u64 { format!("{quoted}… ({length} characters)") } else { quoted })
    }

    fn sequence(&self, value: u64, flags: u64, depth: usize) -> Option<String> {
        let count = self.word(value, fixed::SIZE)?;
        let is_list = flags & subclass::LIST != 0;
        let items = match is_list {
            true => self.word(value, fixed::LIST_ITEMS)?,
            false => value.checked_add(self.offsets.object.items)?,
        };
        let (open, close) = if is_list { ('[', ']') } else { ('(', ')') };
        if depth == DEEPEST {
            return Some(format!("{open}{count} items{close}"));
        }
        let mut shown = Vec::new();
        if count > 0 {
            for item in self.words(items, count.min(ITEMS))? {
                shown.push(self.shown(item, depth + 1)?.1);
            }
        }
        Some(format!("{open}{}{close}", with_count(&shown, count)))
    }

    fn dict(&self, value: u64, depth: usize) -> Option<String> {
        let count = self.word(value, fixed::DICT_USED)?;
        if depth == DEEPEST {
            return Some(format!("{{{count} items}}"));
        }
        let mut shown = Vec::new();
        for (key, item) in self.entries(value, SOME)?.into_iter().take(ITEMS as usize) {
            let name = self.shown(key, depth + 1)?.1;
            let (kind, item) = self.shown(item, depth + 1)?;
            let is_secret = redact::name_is_secret(name.trim_matches('\'')) && may_be_secret(&kind);
            shown.push(format!("{name}: {}", if is_secret { HIDDEN } else { &item }));
        }
        Some(format!("{{{}}}", with_count(&shown, count)))
    }
}

/// A secret is text or bytes, or in a container; not a number that says how many there are, nor that there is none.
fn may_be_secret(kind: &str) -> bool {
    !matches!(kind, "NoneType" | "bool")
}

fn with_count(shown: &[String], count: u64) -> String {
    let more = if count > shown.len() as u64 { format!(", … {count} items") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
