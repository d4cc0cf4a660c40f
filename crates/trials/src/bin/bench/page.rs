//! The page of the benchmarks: a head, and a section for each word of `bench`.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::SECTIONS;

/// What stands before a section's name.
const HEADING: &str = "\n## ";

/// The sections that were measured, now or before.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Page(BTreeMap<&'static str, String>);

impl Page {
    /// The page as it was written last; an empty one if it never was.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(crate) fn read(file: &Path) -> io::Result<Page> {
        match fs::read_to_string(file) {
            Ok(text) => Ok(Page::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Page::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Page {
        let sections = text.split(HEADING).skip(1).filter_map(|section| {
            let (name, body) = section.split_once('\n')?;
            Some((*SECTIONS.iter().find(|known| **known == name)?, body.to_owned()))
        });
        Page(sections.collect())
    }

    /// A section as it was measured now.
    pub(crate) fn put(&mut self, name: &'static str, measured: &str) {
        let build = if cfg!(debug_assertions) {
            "a debug build, slower than what is shipped"
        } else {
            "the release build"
        };
        self.0.insert(name, format!("\n`cargo xtask bench {name}`, measured with {build}.\n\n{measured}"));
    }

    fn text(&self) -> String {
        let section = |name: &&'static str| Some(format!("{HEADING}{name}\n{}", self.0.get(name)?));
        let sections = SECTIONS.iter().filter_map(section);
        std::iter::once(include_str!("head.md").to_owned()).chain(sections).collect()
    }

    /// # Errors
    /// What writing said.
    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(file, self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_again_stays() {
        let mut page = Page::default();
        page.put(SECTIONS[1], "old\n");
        page.put(SECTIONS[0], "old\n");
        let mut page = Page::parse(&page.text());
        page.put(SECTIONS[0], "new\n");
        let text = page.text();
        assert_eq!(Page::parse(&text), page);
        let at = |what: &str| text.find(what).unwrap();
        assert!(at("new") < at("old") && text.matches("old").count() == 1, "{text}");
    }
}
