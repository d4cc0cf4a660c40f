//! The small target programs below `fixtures/`, each in several languages and of the same shape, so that one
//! test body holds for all of them.
//!
//! `loop` calls `tick` for ever; `tick` has the locals `counter` (a number), `name` (`"pepo"`), `order` (id 7,
//! price 19.5), `sizes` (1, 2, 3), `factor` (2); at the line marked BREAK it computes `answer = factor * 21`.
//! Whoever sets `factor` to 5 there sees `answer=105` on its output. `shop` is a tiny HTTP server whose `price`
//! has the variable `discount`. Lines are found by their marks: [`Fixture::line`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    compile::{self, Recipe},
    python::Python,
};

/// In which language a fixture is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// C, by gcc.
    C,
    /// C++, by g++.
    Cpp,
    /// Rust, by rustc.
    Rust,
    /// Go.
    Go,
    /// Python; variants make no difference.
    Python,
}

/// Where the symbols and the debug information of a program are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symbols {
    /// All in the program.
    Inside,
    /// In a file of their own, found by build id or by `.gnu_debuglink`; not beside the program.
    Split,
    /// Function names only (`strip --strip-debug`, Go's `-ldflags=-w`).
    NamesOnly,
    /// None at all.
    Stripped,
}

/// How a fixture is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variant {
    /// `-O2` instead of `-O0`.
    pub optimised: bool,
    /// What is left of the debug information.
    pub symbols: Symbols,
    /// Static (Rust: musl) instead of dynamic (Rust: glibc). Go is static unless it is linked with C.
    pub linked_statically: bool,
    /// Go: with C's own linker, together with parts in C, as programs with cgo are.
    pub linked_with_c: bool,
    /// The source folder as written in the debug information, where it is not the true one.
    pub built_in: Option<&'static str>,
}

impl Variant {
    /// Not optimised, all symbols, dynamic.
    pub const fn debug() -> Variant {
        Variant {
            optimised: false,
            symbols: Symbols::Inside,
            linked_statically: false,
            linked_with_c: false,
            built_in: None,
        }
    }

    /// Optimised, all symbols, dynamic.
    pub const fn release() -> Variant {
        Variant { optimised: true, ..Variant::debug() }
    }

    /// The same with other symbols.
    pub const fn symbols(self, symbols: Symbols) -> Variant {
        Variant { symbols, ..self }
    }

    /// The same, linked statically.
    pub const fn linked_statically(self) -> Variant {
        Variant { linked_statically: true, ..self }
    }

    /// The same, linked with C (Go).
    pub const fn linked_with_c(self) -> Variant {
        Variant { linked_with_c: true, ..self }
    }

    /// The same, as if it was built in another folder (an absolute path), as programs from CI are.
    pub const fn built_in(self, folder: &'static str) -> Variant {
        Variant { built_in: Some(folder), ..self }
    }
}

/// A built program.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// `loop` or `shop`.
    pub program: &'static str,
    /// Its language.
    pub language: Language,
    /// How it was built.
    pub variant: Variant,
    /// The executable; for Python the script.
    pub path: PathBuf,
    /// The source file.
    pub source: PathBuf,
    /// The split debug file ([`Symbols::Split`]); it stands alone in its folder but for `.build-id/`.
    pub debug_file: Option<PathBuf>,
    /// The interpreter (Python).
    pub python: Option<Python>,
}

/// `loop` in C.
pub fn c(variant: Variant) -> Fixture {
    build(Language::C, "loop", variant)
}

/// `loop` in C++.
pub fn cpp(variant: Variant) -> Fixture {
    build(Language::Cpp, "loop", variant)
}

/// `loop` in Rust.
pub fn rust(variant: Variant) -> Fixture {
    build(Language::Rust, "loop", variant)
}

/// `loop` in Go.
pub fn go(variant: Variant) -> Fixture {
    build(Language::Go, "loop", variant)
}

/// `loop` in Python, with the default interpreter; see [`Fixture::with_python`].
pub fn python(variant: Variant) -> Fixture {
    build(Language::Python, "loop", variant)
}

/// `loop` in each language.
pub fn all(variant: Variant) -> Vec<Fixture> {
    let languages = [Language::C, Language::Cpp, Language::Rust, Language::Go, Language::Python];
    languages.into_iter().map(|language| build(language, "loop", variant)).collect()
}

/// `shop` in Go, Python or C.
pub fn shop(language: Language, variant: Variant) -> Fixture {
    build(language, "shop", variant)
}

/// Any program (`loop`, `shop`) in any language it is written in.
///
/// # Panics
/// If it does not compile.
pub fn build(language: Language, program: &'static str, variant: Variant) -> Fixture {
    try_build(language, program, variant).unwrap_or_else(|error| panic!("fixture {program}: {error:#}"))
}

fn try_build(language: Language, program: &'static str, variant: Variant) -> Result<Fixture> {
    let source = compile::workspace().join("fixtures").join(program).join(language.file_name(program));
    let mut fixture =
        Fixture { program, language, variant, path: source.clone(), source, debug_file: None, python: None };
    if language == Language::Python {
        fixture.python = Some(Python::of_the_system());
        return Ok(fixture);
    }
    let folder = compile::cached(&recipe(&fixture))?;
    fixture.path = folder.join(program);
    fixture.debug_file =
        (variant.symbols == Symbols::Split).then(|| folder.join(format!("symbols/{program}.debug")));
    Ok(fixture)
}

impl Language {
    fn file_name(self, program: &str) -> String {
        let extension = match self {
            Language::C => "c",
            Language::Cpp => "cpp",
            Language::Rust => "rs",
            Language::Go => "go",
            Language::Python => "py",
        };
        format!("{program}.{extension}")
    }
}

impl Fixture {
    /// The number (from 1) of the line with this mark in a comment: BREAK, NEXT (the line after it), INSIDE (in
    /// `price_of`, called by NEXT), RARE (never reached), CALL (where `tick` is called).
    pub fn line(&self, mark: &str) -> u32 {
        let text = fs::read_to_string(&self.source).expect("a fixture's source is readable");
        let marked = |line: &str| {
            ["// ", "# "].iter().any(|comment| line.trim_end().ends_with(&format!("{comment}{mark}")))
        };
        let index = text.lines().position(marked);
        u32::try_from(index.unwrap_or_else(|| panic!("no mark {mark} in {}", self.source.display())) + 1)
            .expect("a fixture is short")
    }

    /// File name of the source, e.g. `loop.go`.
    pub fn source_name(&self) -> &str {
        self.source.file_name().and_then(|name| name.to_str()).expect("fixtures have plain names")
    }

    /// `tick` as its language's debugger calls it.
    pub fn tick(&self) -> &'static str {
        self.function("main.tick", "looper::tick", "tick")
    }

    /// The function that is never called, as its language's debugger calls it.
    pub fn rare(&self) -> &'static str {
        self.function("main.rare", "looper::rare", "rare")
    }

    /// The line of the function `price`/`price_of` as its language's debugger calls it.
    pub fn price_of(&self) -> &'static str {
        self.function("main.priceOf", "looper::price_of", "price_of")
    }

    fn function(&self, go: &'static str, rust: &'static str, other: &'static str) -> &'static str {
        match self.language {
            Language::Go => go,
            Language::Rust => rust,
            _ => other,
        }
    }

    /// The command line that starts it on this machine.
    pub fn command(&self) -> Vec<String> {
        let interpreter = self.python.as_ref().map(|python| python.path.as_path());
        interpreter.into_iter().chain([self.path.as_path()]).map(|path| path.display().to_string()).collect()
    }

    /// The same script with another interpreter.
    pub fn with_python(self, python: &Python) -> Fixture {
        assert_eq!(self.language, Language::Python, "only a script has an interpreter");
        Fixture { python: Some(python.clone()), ..self }
    }

    /// A copy of the program (or script) below `folder`, for tests that change or hide the file.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn copied_to(&self, folder: &Path) -> Result<Fixture> {
        let path = folder.join(self.path.file_name().context("a fixture has a name")?);
        fs::copy(&self.path, &path).with_context(|| format!("cannot copy to {}", path.display()))?;
        Ok(Fixture { path, ..self.clone() })
    }
}

/// How a fixture is compiled and what is then taken away.
fn recipe(fixture: &Fixture) -> Recipe {
    let program = fixture.program;
    let mut steps = vec![compiler(fixture)];
    let go = fixture.language == Language::Go;
    match fixture.variant.symbols {
        Symbols::Inside => {}
        // Go's linker has done it.
        Symbols::NamesOnly | Symbols::Stripped if go => {}
        Symbols::NamesOnly => steps.push(words(&["strip", "--strip-debug", program])),
        Symbols::Stripped => steps.push(words(&["strip", program])),
        Symbols::Split => steps.push(words(&["sh", "-ec", SPLIT, "split", program])),
    }
    Recipe { name: program.to_owned(), source: fixture.source.clone(), steps }
}

/// Moves the debug information of `$1` to `symbols/$1.debug`, and links to it as `.build-id/xx/yyyy.debug`.
const SPLIT: &str = r#"
mkdir symbols
objcopy --only-keep-debug "$1" "symbols/$1.debug"
strip "$1"
objcopy --add-gnu-debuglink="symbols/$1.debug" "$1"
id=$(readelf --notes "$1" | sed -n 's/^ *Build ID: //p')
rest=${id#??}
mkdir -p "symbols/.build-id/${id%"$rest"}"
ln -s "../../$1.debug" "symbols/.build-id/${id%"$rest"}/$rest.debug"
"#;

fn compiler(fixture: &Fixture) -> Vec<String> {
    let source = fixture.source.display().to_string();
    let folder = fixture.source.parent().expect("a fixture is in a folder").display().to_string();
    match fixture.language {
        Language::C => gcc("gcc", fixture, &source, &folder),
        Language::Cpp => gcc("g++", fixture, &source, &folder),
        Language::Rust => rustc(fixture, &source, &folder),
        Language::Go => go_build(fixture, &source, &folder),
        Language::Python => unreachable!("a script is not compiled"),
    }
}

fn gcc(program: &str, fixture: &Fixture, source: &str, folder: &str) -> Vec<String> {
    let Variant { optimised, linked_statically, built_in, .. } = fixture.variant;
    let mut line = words(&[program, "-g", "-Wall", "-Wl,--build-id=sha1", "-pthread", "-o", fixture.program]);
    line.push(if optimised { "-O2" } else { "-O0" }.into());
    line.extend(linked_statically.then(|| "-static".to_owned()));
    line.extend(built_in.map(|other| format!("-ffile-prefix-map={folder}={other}")));
    line.push(source.to_owned());
    line
}

fn rustc(fixture: &Fixture, source: &str, folder: &str) -> Vec<String> {
    let Variant { optimised, linked_statically, built_in, .. } = fixture.variant;
    let libc = if linked_statically { "musl" } else { "gnu" };
    let target = format!("{}-unknown-linux-{libc}", std::env::consts::ARCH);
    // `loop` is a word of Rust's own, also in debuggers' expressions.
    let name = if fixture.program == "loop" { "looper" } else { fixture.program };
    let mut line = words(&["rustc", "--edition=2024", "-Cdebuginfo=2", "-Clink-arg=-Wl,--build-id=sha1"]);
    line.extend(words(&["--target", &target, "--crate-name", name, "-o", fixture.program]));
    line.push(format!("-Copt-level={}", if optimised { 2 } else { 0 }));
    line.extend(built_in.map(|other| format!("--remap-path-prefix={folder}={other}")));
    line.push(source.to_owned());
    line
}

fn go_build(fixture: &Fixture, source: &str, folder: &str) -> Vec<String> {
    let Variant { optimised, symbols, linked_with_c, built_in, .. } = fixture.variant;
    let mut compile = if optimised { String::new() } else { "all=-N -l".to_owned() };
    if let Some(other) = built_in {
        // Our own package alone: the standard library keeps its places.
        let all = if optimised { "" } else { "-N -l" };
        compile = format!("{all} -trimpath={folder}=>{other}");
    }
    let link = match symbols {
        Symbols::Inside | Symbols::Split => "-B gobuildid",
        Symbols::NamesOnly => "-B gobuildid -w",
        Symbols::Stripped => "-B gobuildid -s -w",
    };
    let mut line = words(if linked_with_c { &["env", "CGO_ENABLED=1"] } else { &[] });
    line.extend(words(&["go", "build", "-o", fixture.program]));
    line.push(format!("-gcflags={compile}"));
    line.push(format!("-ldflags={link}{}", if linked_with_c { " -linkmode=external" } else { "" }));
    line.push(source.to_owned());
    line
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
