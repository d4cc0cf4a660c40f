//! Where the kernel put a core, as far as it can be known here (core(5)).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The core of a process that ended by a signal, in words.
pub(super) fn told(pid: i32, signal: i32) -> Option<String> {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let pattern = setting("core_pattern")?;
    let pattern = pattern.trim_end_matches('\n');
    if let Some(handler) = pattern.strip_prefix('|') {
        return Some(format!("the core went to the machine's own handler: {handler}"));
    }
    let numbered = setting("core_uses_pid").is_some_and(|value| value.trim() == "1");
    let path = PathBuf::from(expanded(pattern, numbered, pid, signal));
    // The program started in the folder that is ours.
    let path = std::env::current_dir().map_or(path.clone(), |folder| folder.join(path));
    Some(match newest(&path) {
        Some(core) => format!("the core is at {}", core.display()),
        None => format!("the core should be at {}, or in the folder where the program was", path.display()),
    })
}

/// A pattern with what is known; the rest is `*`.
fn expanded(pattern: &str, numbered: bool, pid: i32, signal: i32) -> String {
    let mut out = String::new();
    let mut letters = pattern.chars();
    let mut has_pid = false;
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => out.push('%'),
            Some('p') => {
                has_pid = true;
                out += &pid.to_string();
            }
            Some('s') => out += &signal.to_string(),
            Some('u') => out += &rustix::process::getuid().as_raw().to_string(),
            Some('h') => out += &rustix::system::uname().nodename().to_string_lossy(),
            // A lone % at the end is left out.
            None => {}
            Some(_) => out.push('*'),
        }
    }
    if numbered && !has_pid { format!("{out}.{pid}") } else { out }
}

/// The newest file of that name, where `*` is anything but a folder.
fn newest(path: &Path) -> Option<PathBuf> {
    let pattern = path.file_name()?.to_str()?;
    let files = fs::read_dir(path.parent()?).ok()?.flatten();
    let named = files.filter(|file| file.file_name().to_str().is_some_and(|name| fits(name, pattern)));
    let newest = named.max_by_key(|file| file.metadata().and_then(|facts| facts.modified()).ok());
    newest.map(|file| file.path())
}

fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_tells_what_is_known() {
        assert_eq!(expanded("core", true, 7, 11), "core.7");
        assert_eq!(expanded("core", false, 7, 11), "core");
        assert_eq!(expanded("/var/c/core.%e.%p.%t.%s", true, 7, 11), "/var/c/core.*.7.*.11");
        assert_eq!(expanded("100%%.%", false, 7, 11), "100%.");
    }

    #[test]
    fn the_newest_core_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["core.app.7.100", "core.app.8.100", "other"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = newest(&folder.path().join("core.*.7.*"));
        assert_eq!(found, Some(folder.path().join("core.app.7.100")));
        assert_eq!(newest(&folder.path().join("core")), None);
        assert_eq!(newest(&folder.path().join("none/core")), None);
        for (name, pattern, fit) in [
            ("a", "*", true),
            ("ab", "a*b", true),
            ("a", "a*a", false),
            ("axbyc", "a*b*c", true),
            ("ac", "a*b*c", false),
        ] {
            assert_eq!(fits(name, pattern), fit, "{name} {pattern}");
        }
    }
}
