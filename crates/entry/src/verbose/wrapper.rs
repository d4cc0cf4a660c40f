//! Programs that do nothing but start another one: where that stands in their command line.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// Their names, flags without a value, and flags with one. What has other flags is not looked through.
const KNOWN: [(&str, &[u8], &[u8]); 7] = [
    ("tini", b"svwg", b"pe"),
    ("tini-static", b"svwg", b"pe"),
    ("dumb-init", b"cv", b"r"),
    ("nice", b"", b"n"),
    ("nohup", b"", b""),
    ("setsid", b"cfw", b""),
    ("env", b"i", b"uC"),
];
/// Others, whose command lines are not understood here.
const OTHERS: [&str; 12] = [
    "setpriv",
    "gosu",
    "su-exec",
    "su",
    "sudo",
    "runuser",
    "chroot",
    "timeout",
    "stdbuf",
    "ionice",
    "chpst",
    "catatonit",
];

/// Whether a program's name is such a one's.
pub(super) fn is_one(name: &OsStr) -> bool {
    Path::new(name)
        .file_name()
        .and_then(OsStr::to_str)
        .is_some_and(|name| OTHERS.contains(&name) || KNOWN.iter().any(|(known, ..)| *known == name))
}

/// Where in a command line the program is that a wrapper starts, if that is sure.
pub(super) fn inner(command: &[OsString]) -> Option<usize> {
    let name = Path::new(command.first()?).file_name()?.to_str()?;
    let (_, plain, valued) = KNOWN.iter().find(|(known, ..)| *known == name)?;
    let mut at = 1;
    let found = loop {
        match command.get(at)?.as_bytes() {
            b"--" => break at + 1,
            [b'-', letters @ ..] => {
                let value = letters.iter().position(|letter| !plain.contains(letter));
                match value {
                    None if letters.is_empty() => return None,
                    None => at += 1,
                    // Its value is the rest of the word, or the next.
                    Some(place) if valued.contains(&letters[place]) => {
                        at += if place + 1 == letters.len() { 2 } else { 1 };
                    }
                    Some(_) => return None,
                }
            }
            _ => break at,
        }
    };
    let assignments = command.get(found..)?.iter();
    let assignments = assignments.take_while(|word| name == "env" && word.as_bytes().contains(&b'='));
    Some(found + assignments.count()).filter(|found| *found < command.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_is_found_where_it_is_sure() {
        for (line, expected) in [
            ("/sbin/tini -- ./start.sh a", Some("./start.sh")),
            ("tini -g -e 143 -pSIGTERM sh -c x -- y", Some("sh")),
            ("dumb-init -c start -- x", Some("start")),
            ("nice -n 5 sh", Some("sh")),
            ("env -i -u X A=b C=d bash -c x", Some("bash")),
            ("env A=b", None),
            ("nice -5 sh", None),
            ("setpriv --reuid 1 sh", None),
            ("tini", None),
            ("tini -e", None),
            ("python3 -- sh", None),
        ] {
            let words: Vec<_> = line.split(' ').map(OsString::from).collect();
            let found = inner(&words).map(|at| words[at].to_str().unwrap());
            assert_eq!(found, expected, "{line}");
        }
        assert!(is_one(OsStr::new("/usr/bin/gosu")) && !is_one(OsStr::new("sh")));
    }
}
