//! A test that this machine cannot run says so here, so that the skip is counted and compared with the
//! expected ones in `skips.txt`.

use std::{env, fs::OpenOptions, io::Write, path::Path, process};

/// Notes that the test `id` (stable, `kebab-case`) did not run, and why; the test then returns.
///
/// The line `id<TAB>reason` goes to stderr and, if `PEPO_SKIPS` names a folder, to the file
/// `<pid>.skips` in it; whoever set the variable compares them with [`expected`].
#[allow(clippy::print_stderr)]
pub fn skip(id: &str, reason: &str) {
    eprintln!("skipped {id}: {reason}");
    let Some(folder) = env::var_os("PEPO_SKIPS") else { return };
    let path = Path::new(&folder).join(format!("{}.skips", process::id()));
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("cannot note a skip in {}: {error}", path.display()));
    // One write a line: O_APPEND keeps lines of several threads apart.
    let line = format!("{id}\t{}\n", reason.replace(['\n', '\t'], " "));
    file.write_all(line.as_bytes())
        .unwrap_or_else(|error| panic!("cannot note a skip in {}: {error}", path.display()));
}

/// The skips that are expected somewhere, as (id, reason) from `skips.txt`.
pub fn expected() -> Vec<(&'static str, &'static str)> {
    include_str!("../skips.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once('\t').unwrap_or_else(|| panic!("no tab in skips.txt: {line:?}")))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn expected_skips_are_sorted_and_unique() {
        let ids: Vec<_> = super::expected().iter().map(|(id, _)| *id).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    }
}
