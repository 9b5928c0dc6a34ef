//! Messages read by a description of the C header, without any struct of this crate.
//!
//! The description is `tests/abi/fuse-7.45.json`: for each opcode the fixed struct with the offset
//! and size of every field, and the names of what follows. [`Oracle::read`] cuts a message by it.

use std::collections::BTreeMap;
use std::string::String;
use std::sync::LazyLock;
use std::vec::Vec;

use serde::Deserialize;

/// The description, read once.
pub(super) static ORACLE: LazyLock<Oracle> = LazyLock::new(Oracle::load);

/// Size of `struct fuse_in_header`.
pub(super) const HEADER_LEN: usize = 40;

pub(super) struct Oracle {
    /// In the order of their numbers.
    rows: Vec<Row>,
    constants: BTreeMap<String, u64>,
    layouts: BTreeMap<String, Layout>,
}

/// Name, offset and size of each field of a struct.
pub(super) type Fields = Vec<(String, usize, usize)>;
/// Size of a struct, and its fields.
pub(super) type Layout = (usize, Fields);

/// An opcode.
#[derive(Deserialize)]
struct Row {
    number: u64,
    name: String,
    /// The fixed struct.
    argument: Option<String>,
    argument_len: usize,
    /// Those of the fixed struct.
    #[serde(skip)]
    fields: Fields,
    /// What a body may consist of: structs joined by `+`, forms separated by `|`.
    reply: Option<String>,
    /// What follows it: `name\0`, `data`, `fuse_forget_one*`, `extensions?`.
    after: Vec<String>,
}

/// The description as it is written, as far as it is used here.
#[derive(Deserialize)]
struct Description {
    opcodes: Vec<Row>,
    constants: BTreeMap<String, u64>,
    structs: BTreeMap<String, Struct>,
}

#[derive(Deserialize)]
struct Struct {
    size: usize,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    offset: usize,
    size: usize,
}

/// A message in pieces, as the description has them.
pub(super) struct Pieces<'a> {
    row: Option<&'static Row>,
    pub(super) argument: &'a [u8],
    pub(super) strings: Vec<&'a [u8]>,
    /// Data, a value or items.
    pub(super) tail: &'a [u8],
    pub(super) contexts: Vec<(&'a [u8], &'a [u8])>,
    pub(super) groups: Vec<u32>,
}

/// An unsigned integer of `size` bytes in host order.
pub(super) fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = &bytes[at..at + size];
    match size {
        2 => u16::from_ne_bytes(bytes.try_into().unwrap()).into(),
        4 => u32::from_ne_bytes(bytes.try_into().unwrap()).into(),
        _ => u64::from_ne_bytes(bytes.try_into().unwrap()),
    }
}

impl Oracle {
    fn load() -> Self {
        let text = include_str!("../../tests/abi/fuse-7.45.json");
        let Description { opcodes: mut rows, constants, structs } =
            serde_json::from_str(text).unwrap();
        let layout = |(name, it): (&String, &Struct)| {
            let mut fields = Vec::new();
            flatten(&structs, name, "", 0, &mut fields);
            (name.clone(), (it.size, fields))
        };
        let layouts: BTreeMap<_, _> = structs.iter().map(layout).collect();
        for row in &mut rows {
            let layout = row.argument.as_ref().map(|name| &layouts[name]);
            row.fields = layout.map_or(Vec::new(), |it| it.1.clone());
        }
        assert!(rows.is_sorted_by_key(|row| row.number));
        Self { rows, constants, layouts }
    }

    fn row(&self, number: u64) -> Option<&Row> {
        let place = self.rows.binary_search_by_key(&number, |row| row.number).ok()?;
        self.rows.get(place)
    }

    fn named(&self, name: &str) -> &Row {
        self.rows.iter().find(|row| row.name == name).unwrap()
    }

    /// The value of a constant of the header.
    pub(super) fn constant(&self, name: &str) -> u64 {
        self.constants[name]
    }

    /// The least and the greatest length of each form of the body of a reply.
    #[cfg(test)]
    pub(super) fn reply_lens(&self, opcode: u64) -> Vec<(usize, usize)> {
        let len = |part: &str| match part {
            "empty" => (0, 0),
            name if self.layouts.contains_key(name) => (self.layouts[name].0, self.layouts[name].0),
            // Bytes and streams.
            _ => (0, 1 << 20),
        };
        let form = |form: &str| {
            form.split('+').map(len).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
        };
        self.row(opcode).unwrap().forms().map(form).collect()
    }

    /// Name of an opcode, and the forms of the body of a success.
    pub(super) fn answered(&self, opcode: u64) -> Option<(&str, impl Iterator<Item = &str>)> {
        self.row(opcode).map(|row| (row.name.as_str(), row.forms()))
    }

    /// Size of a struct and its fields, if there is one of this name.
    pub(super) fn layout(&self, name: &str) -> Option<&Layout> {
        self.layouts.get(name)
    }

    /// Names of all opcodes, in the order of their numbers.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| row.name.as_str())
    }

    /// All fields of the fixed struct of `name` with this value, but for counts of what follows.
    pub(super) fn every_field(&self, name: &str, value: u64) -> Vec<(&str, u64)> {
        let words = self.named(name).fields.iter().filter(|(.., size)| *size <= 8);
        let labels = words.map(|(label, ..)| label.as_str());
        labels
            .filter(|it| !matches!(*it, "count" | "in_size" | "size"))
            .map(|it| (it, value))
            .collect()
    }

    /// A request of the opcode `name` with these fields as far as it has them, and `x` for strings.
    pub(super) fn ask(&self, name: &str, values: &[(&str, u64)]) -> Vec<u8> {
        let row = self.named(name);
        let mut message = row.message(&[], [b"x"; 2], &[], &[]);
        for (label, at, size) in &row.fields {
            if let Some((_, value)) = values.iter().find(|it| it.0 == label) {
                let at = HEADER_LEN + at;
                let bytes = value.to_ne_bytes();
                let from = if cfg!(target_endian = "big") { 8 - size } else { 0 };
                message[at..at + size].copy_from_slice(&bytes[from..from + size]);
            }
        }
        message
    }

    /// Compares the struct `name` at the front of `bytes` with the expected values; all other
    /// fields must be 0. Gives what stands behind it.
    pub(super) fn compare<'b>(
        &self,
        name: &str,
        bytes: &'b [u8],
        expected: &[(&'static str, u64)],
    ) -> &'b [u8] {
        let (size, fields) = &self.layouts[name];
        let (bytes, behind) = bytes.split_at(*size);
        for (field, at, len) in fields {
            let wanted = expected.iter().find(|it| it.0 == field).map_or(0, |it| it.1);
            if matches!(len, 2 | 4 | 8) {
                assert_eq!(number(bytes, *at, *len), wanted, "{name}.{field}");
            } else {
                assert!(bytes[*at..at + len].iter().all(|&it| it == 0), "{name}.{field}");
            }
        }
        let unknown = |it: &&(&str, u64)| !fields.iter().any(|field| field.0 == it.0);
        assert_eq!(expected.iter().find(unknown), None, "{name}");
        behind
    }

    /// Cuts a message, or gives `None` where it is not as described.
    pub(super) fn read<'a>(&'static self, message: &'a [u8], ext: bool) -> Option<Pieces<'a>> {
        if message.len() < HEADER_LEN || number(message, 0, 4) != message.len() as u64 {
            return None;
        }
        let body = &message[HEADER_LEN..];
        let mut pieces = Pieces {
            row: self.row(number(message, 4, 4)),
            argument: &[],
            strings: Vec::new(),
            tail: &[],
            contexts: Vec::new(),
            groups: Vec::new(),
        };
        let Some(row) = pieces.row else {
            pieces.tail = body;
            return Some(pieces);
        };
        let argument_len = match row.name.as_str() {
            "FUSE_SETXATTR" if !ext => 8,
            "FUSE_INIT" if body.len() < 16 => return None,
            "FUSE_INIT" if number(body, 12, 4) & self.constant("FUSE_INIT_EXT") != 0 => {
                body.len().max(20)
            }
            "FUSE_INIT" => body.len(),
            _ => row.argument_len,
        };
        pieces.argument = body.get(..argument_len)?;
        let rest = &body[argument_len..];
        let cut = rest.len().checked_sub(8 * number(message, 36, 2) as usize)?;
        let (rest, extensions) = rest.split_at(cut);
        pieces.follow(row, rest)?;
        if !row.after.iter().any(|part| part == "extensions?") && !extensions.is_empty() {
            return None;
        }
        pieces.extend(extensions)?;
        Some(pieces)
    }

    /// Makes a message of the opcode at `place` of the table, with counters that are true.
    pub(super) fn build(
        &self,
        place: usize,
        argument: &[u8],
        strings: [&[u8]; 2],
        tail: &[u8],
        extensions: &[u8],
    ) -> Vec<u8> {
        self.rows[place % self.rows.len()].message(argument, strings, tail, extensions)
    }
}

impl Row {
    /// The forms of the body of a success.
    fn forms(&self) -> impl Iterator<Item = &str> {
        self.reply.as_deref().unwrap_or("none").split('|')
    }

    /// Makes a message of this opcode, with counters that are true.
    fn message(
        &self,
        argument: &[u8],
        strings: [&[u8]; 2],
        tail: &[u8],
        extensions: &[u8],
    ) -> Vec<u8> {
        let mut message = std::vec![0; HEADER_LEN + self.argument_len];
        let room = &mut message[HEADER_LEN..];
        let len = room.len().min(argument.len());
        room[..len].copy_from_slice(&argument[..len]);
        let mut strings = strings.into_iter();
        for part in &self.after {
            let (counter, unit) = match part.as_str() {
                "data" if self.name == "FUSE_IOCTL" => ("in_size", 1),
                "data" | "value" => ("size", 1),
                "fuse_forget_one*" | "fuse_removemapping_one*" => ("count", 16),
                "extensions?" => {
                    message[36..38].copy_from_slice(&(extensions.len() as u16 / 8).to_ne_bytes());
                    message.extend(extensions);
                    continue;
                }
                _ => {
                    message.extend(strings.next().unwrap());
                    message.push(0);
                    continue;
                }
            };
            let field = self.fields.iter().find(|(label, ..)| label == counter);
            let at = HEADER_LEN + field.unwrap().1;
            message[at..at + 4].copy_from_slice(&(tail.len() as u32 / unit).to_ne_bytes());
            message.extend(tail);
        }
        let len = message.len() as u32;
        message[..4].copy_from_slice(&len.to_ne_bytes());
        message[4..8].copy_from_slice(&(self.number as u32).to_ne_bytes());
        message
    }
}

/// Lists the fields of a struct; those of a struct within it as `lk.start`.
fn flatten(
    structs: &BTreeMap<String, Struct>,
    name: &str,
    prefix: &str,
    base: usize,
    into: &mut Fields,
) {
    for field in &structs[name].fields {
        let label = [prefix, &field.name].concat();
        let offset = base + field.offset;
        match field.kind.strip_prefix("struct ") {
            Some(inner) => flatten(structs, inner, &[&label, "."].concat(), offset, into),
            None => into.push((label, offset, field.size)),
        }
    }
}

impl<'a> Pieces<'a> {
    /// The fields of the longest form of the fixed struct.
    pub(super) fn fields(&self) -> &'static [(String, usize, usize)] {
        self.row.map_or(&[], |row| row.fields.as_slice())
    }

    /// The value of a field, or with `field:CONSTANT` whether it has those bits.
    ///
    /// A field beyond a shorter form of the struct is 0.
    pub(super) fn value(&self, what: &str) -> u64 {
        let (name, bits) = what.split_once(':').unwrap_or((what, ""));
        let fields = self.row.map_or(&[][..], |row| row.fields.as_slice());
        let found = fields.iter().find(|(label, ..)| label == name);
        let &(_, at, size) = found.unwrap_or_else(|| panic!("no field {name}"));
        let value =
            if at + size > self.argument.len() { 0 } else { number(self.argument, at, size) };
        match bits {
            "" => value,
            bits => u64::from(value & ORACLE.constant(bits) != 0),
        }
    }

    /// Cuts what stands between the fixed struct and the extensions.
    fn follow(&mut self, row: &Row, mut rest: &'a [u8]) -> Option<()> {
        for part in &row.after {
            match part.as_str() {
                "data" => {
                    let counter = if row.name == "FUSE_IOCTL" { "in_size" } else { "size" };
                    self.tail = exactly(&mut rest, self.value(counter))?;
                }
                "value" => self.tail = exactly(&mut rest, self.value("size"))?,
                "fuse_forget_one*" | "fuse_removemapping_one*" => {
                    self.tail = exactly(&mut rest, 16 * self.value("count"))?;
                }
                "extensions?" => {}
                _ => {
                    let end = rest.iter().position(|&byte| byte == 0)?;
                    let string = &rest[..end];
                    let free = part == "target\\0" || row.name == "FUSE_TMPFILE";
                    let xattr = row.name.ends_with("XATTR");
                    let well = free || !string.is_empty() && (xattr || !string.contains(&b'/'));
                    well.then(|| self.strings.push(string))?;
                    rest = &rest[end + 1..];
                }
            }
        }
        rest.is_empty().then_some(())
    }

    /// Walks the extensions by absolute positions.
    fn extend(&mut self, all: &'a [u8]) -> Option<()> {
        let mut at = 0;
        while at < all.len() {
            let (size, kind) = (number(all, at, 4), number(all, at + 4, 4));
            let next = at as u64 + size.next_multiple_of(8);
            if size < 8 || next > all.len() as u64 {
                return None;
            }
            let (next, end) = (next as usize, at + size as usize);
            match kind {
                32 => {
                    let nr = number(all.get(..end)?.get(..at + 12)?, at + 8, 4);
                    (12 + 4 * nr <= size).then_some(())?;
                    let gid = |place| number(all, at + 12 + 4 * place, 4) as u32;
                    self.groups.extend((0..nr as usize).map(gid));
                }
                0..=31 => {
                    let mut here = at + 8;
                    for _ in 0..kind {
                        here = self.context(all, here, end)?;
                    }
                }
                _ => {}
            }
            at = next;
        }
        Some(())
    }

    /// Reads the security context at `here`; gives the position behind it.
    fn context(&mut self, all: &'a [u8], here: usize, end: usize) -> Option<usize> {
        (here + 8 <= end).then_some(())?;
        let label_len = number(all, here, 4);
        let name_len = all[here + 8..end].iter().position(|&byte| byte == 0)?;
        let label = here + 8 + name_len + 1;
        let next = here as u64 + (9 + name_len as u64 + label_len).next_multiple_of(8);
        (next <= end as u64).then_some(())?;
        self.contexts.push((&all[here + 8..][..name_len], &all[label..][..label_len as usize]));
        Some(next as usize)
    }
}

/// Takes all of `rest` if it is as long as a counter says.
fn exactly<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    (rest.len() as u64 == len).then(|| core::mem::take(rest))
}
