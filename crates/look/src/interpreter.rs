//! Interpreters whose frames are read from memory: Python's and Ruby's, which are looked at in one way.

use std::collections::{HashMap, HashSet};

use pepo_process::{
    Process,
    runtime::{Language, RuntimeFacts},
};

use crate::{
    python::{self, Placed, PythonThread, Shape, Unreadable},
    ruby::Ruby,
};

/// An opened one.
#[expect(clippy::large_enum_variant, reason = "there are few of them")]
pub(crate) enum Interpreter {
    Python(python::Interpreter),
    Ruby(Ruby),
}

/// Can the frames of its interpreter be read: whose, or why not? Nothing for what runs neither Python nor Ruby.
#[must_use]
pub fn readable(process: &Process, facts: &RuntimeFacts) -> Option<Result<String, String>> {
    let opened = Interpreter::runs(facts).then(|| Interpreter::open(process, facts))?;
    let told = opened.map(|opened| match opened {
        Interpreter::Python(_) => {
            format!("Python {}", facts.python.as_ref().map_or("", |python| &python.version))
        }
        Interpreter::Ruby(ruby) => format!("Ruby {}", ruby.version()),
    });
    Some(told.map_err(|unreadable| unreadable.0))
}

impl Interpreter {
    /// Is it a program of such a language?
    pub(crate) fn runs(facts: &RuntimeFacts) -> bool {
        facts.python.is_some() || facts.language == Language::Ruby
    }

    /// # Errors
    /// When it runs none, or one whose frames are not known, or its memory may not be read.
    pub(crate) fn open(process: &Process, facts: &RuntimeFacts) -> Result<Interpreter, Unreadable> {
        match &facts.python {
            Some(python) => python::Interpreter::open(process, python).map(Interpreter::Python),
            None if facts.language == Language::Ruby => Ruby::open(process, facts).map(Interpreter::Ruby),
            None => Err(Unreadable("it runs no Python or Ruby".to_owned())),
        }
    }

    /// As the language is called on the wire.
    pub(crate) fn language(&self) -> Language {
        match self {
            Interpreter::Python(_) => Language::Python,
            Interpreter::Ruby(_) => Language::Ruby,
        }
    }

    /// Its threads; nothing while it starts or ends, or when its memory is another program's.
    pub(crate) fn threads(&mut self) -> Option<Vec<PythonThread>> {
        match self {
            Interpreter::Python(python) => python.threads(),
            Interpreter::Ruby(ruby) => ruby.threads(),
        }
    }

    /// Finds out the kernel's numbers of threads that the interpreter does not know; `tids` are all, as the container numbers them.
    pub(crate) fn number(&self, threads: &mut [PythonThread], tids: &HashSet<u32>) {
        match self {
            Interpreter::Python(python) => python.number(threads, tids),
            Interpreter::Ruby(ruby) => ruby.number(threads, tids),
        }
    }

    /// What the program calls its threads, by `pthread_self()`; what it does not know is missing.
    pub(crate) fn names(&self, threads: &[PythonThread]) -> HashMap<u64, String> {
        match self {
            Interpreter::Python(python) => python.names(threads),
            Interpreter::Ruby(ruby) => ruby.names(threads),
        }
    }

    /// The frames of a thread at one moment, innermost first, and whether there are more; nothing when that could not be had. For so
    /// many attempts the innermost calls are tried to be seen too, however short they are.
    pub(crate) fn frames(
        &mut self,
        thread: &PythonThread,
        shape: &mut Shape,
        most: usize,
        whole: usize,
    ) -> Option<(Vec<Placed>, bool)> {
        match self {
            Interpreter::Python(python) => python.frames(thread, shape, most, whole),
            Interpreter::Ruby(ruby) => ruby.frames(thread, most, whole),
        }
    }

    /// The variables of a frame, as they are by now; of Ruby they are not known.
    pub(crate) fn variables(&self, frame: &Placed) -> Vec<python::Variable> {
        match self {
            Interpreter::Python(python) => python.variables(frame),
            Interpreter::Ruby(_) => Vec::new(),
        }
    }
}
