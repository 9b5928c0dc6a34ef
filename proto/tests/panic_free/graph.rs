//! Who can call whom, from the object files of a static library.
//!
//! The compiler puts each function into a section of its own, so a relocation in a section is a
//! reference by that function; those of data (tables of pointers) count as calls too.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolIndex};

type File<'a> = object::File<'a>;
/// A section: which object file, and which in it.
type Place = (usize, SectionIndex);

pub(crate) struct Graph {
    files: Vec<File<'static>>,
    /// Where each name that other files may use is defined.
    defined: HashMap<String, Place>,
}

impl Graph {
    /// Reads a static library, which stays in memory.
    pub(crate) fn read(library: &Path) -> Self {
        let bytes: &'static [u8] = std::fs::read(library).unwrap().leak();
        let archive = ArchiveFile::parse(bytes).unwrap();
        let files: Vec<File<'static>> = archive
            .members()
            .filter_map(|member| File::parse(member.unwrap().data(bytes).unwrap()).ok())
            .collect();
        let mut defined = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            for symbol in file.symbols().filter(|symbol| symbol.is_global()) {
                if let Some(section) = symbol.section_index() {
                    defined.insert(symbol.name().unwrap().to_owned(), (number, section));
                }
            }
        }
        Self { files, defined }
    }

    /// The shortest chain of references from the function `start` to one that `is_goal` takes,
    /// which is told the name and whether the library has the code.
    pub(crate) fn way(
        &self,
        start: &str,
        is_goal: impl Fn(&str, bool) -> bool,
    ) -> Option<Vec<String>> {
        let first = *self.defined.get(start).unwrap_or_else(|| panic!("no function {start}"));
        let mut from: HashMap<Place, Option<Place>> = HashMap::from([(first, None)]);
        let mut queue = VecDeque::from([first]);
        while let Some(here) = queue.pop_front() {
            for (name, target) in self.references(here) {
                if is_goal(&name, target.is_some()) {
                    return Some(self.chain(&from, here, name));
                }
                let Some(there) = target else { continue };
                from.entry(there).or_insert_with(|| {
                    queue.push_back(there);
                    Some(here)
                });
            }
        }
        None
    }

    /// What the code or data at `place` refers to: name, and where it is if it is in the library.
    fn references(&self, place: Place) -> Vec<(String, Option<Place>)> {
        let file = &self.files[place.0];
        let section = file.section_by_index(place.1).unwrap();
        let targets = section.relocations().map(|(_, relocation)| relocation.target());
        targets
            .filter_map(|target| match target {
                RelocationTarget::Symbol(symbol) => Some(self.resolve(place.0, symbol)),
                RelocationTarget::Section(section) => {
                    let there = (place.0, section);
                    Some((self.name(there), Some(there)))
                }
                _ => None,
            })
            .collect()
    }

    fn resolve(&self, file: usize, symbol: SymbolIndex) -> (String, Option<Place>) {
        let symbol = self.files[file].symbol_by_index(symbol).unwrap();
        let name = symbol.name().unwrap();
        let place = match symbol.section_index() {
            Some(section) => Some((file, section)),
            None => self.defined.get(name).copied(),
        };
        match place {
            Some(place) if name.is_empty() => (self.name(place), Some(place)),
            _ => (demangle(name), place),
        }
    }

    /// The function in a section, or the section's own name for data.
    fn name(&self, (number, section): Place) -> String {
        let file = &self.files[number];
        let of_section = |symbol: &object::Symbol<'_, '_>| symbol.section_index() == Some(section);
        let function = file
            .symbols()
            .find(|symbol| of_section(symbol) && !symbol.name().unwrap_or_default().is_empty());
        match function {
            Some(symbol) => demangle(symbol.name().unwrap()),
            None => file.section_by_index(section).unwrap().name().unwrap().to_owned(),
        }
    }

    fn chain(
        &self,
        from: &HashMap<Place, Option<Place>>,
        last: Place,
        goal: String,
    ) -> Vec<String> {
        let mut chain = vec![goal];
        let mut here = Some(last);
        while let Some(place) = here {
            chain.push(self.name(place));
            here = from[&place];
        }
        chain.reverse();
        chain
    }
}

fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
