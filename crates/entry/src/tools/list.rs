//! `ls`, with the flags that fingers type, and `df`.

use std::{
    collections::HashMap,
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::PathBuf,
};

use super::below;
use crate::{tell, verbose::facts::size};

const HELP: &str = "\
ls [-aAdhlrt1] [PATH...]   by name, one a line; folders show what is in them
  -a, -A  also what begins with a dot; -a with . and ..
  -d      a folder itself
  -h      sizes as in 1.5 MiB, with -l
  -l      mode, links, owner, group, size, time of change (UTC), where a link leads
  -r, -t  the other way round; the newest first
";

/// What is wanted.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Wish {
    dots: bool,
    itself_too: bool,
    folder: bool,
    readable: bool,
    long: bool,
    reverse: bool,
    newest: bool,
}

/// One line to be.
struct Entry {
    name: Vec<u8>,
    path: PathBuf,
    metadata: Metadata,
}

/// `ls`: what there is goes out; what could not be listed is told, and makes the status 1.
pub(super) fn list(words: &[&str]) -> Result<u8, String> {
    let (wish, paths) = match read(words)? {
        Some(read) => read,
        None => {
            tell::show(HELP);
            return Ok(0);
        }
    };
    let mut status = 0;
    let mut failed = |path: &str, error: io::Error| {
        tell::line(format!("ls: {path}: {error}"));
        status = 1;
    };
    let (mut alone, mut folders) = (Vec::new(), Vec::new());
    for path in &paths {
        // A link that is named is followed to a folder, unless it is to be told itself.
        let metadata = match wish.long || wish.folder {
            true => fs::symlink_metadata(below(path)),
            false => fs::metadata(below(path)).or_else(|_| fs::symlink_metadata(below(path))),
        };
        match metadata {
            Ok(metadata) if metadata.is_dir() && !wish.folder => folders.push(*path),
            Ok(metadata) => {
                alone.push(Entry { name: path.as_bytes().to_vec(), path: below(path), metadata });
            }
            Err(error) => failed(path, error),
        }
    }
    let owners = if wish.long { Owners::read() } else { Owners::default() };
    let mut is_first = alone.is_empty();
    show(alone, wish, &owners);
    for path in folders {
        let told = inside(path, wish).map(|entries| {
            if paths.len() > 1 {
                let gap = if std::mem::take(&mut is_first) { "" } else { "\n" };
                tell::show(&format!("{gap}{}:\n", tell::plain(path)));
            }
            show(entries, wish, &owners);
        });
        told.unwrap_or_else(|error| failed(path, error));
    }
    Ok(status)
}

/// Flags and paths; none if help is asked for.
fn read<'a>(words: &[&'a str]) -> Result<Option<(Wish, Vec<&'a str>)>, String> {
    let mut wish = Wish::default();
    let mut paths = Vec::new();
    let mut words = words.iter();
    for word in words.by_ref() {
        match *word {
            "--" => break,
            "--help" => return Ok(None),
            "--all" => (wish.dots, wish.itself_too) = (true, true),
            word if word.len() > 1 && word.starts_with('-') => {
                word[1..]
                    .chars()
                    .try_for_each(|flag| wish.set(flag))
                    .map_err(|()| format!("ls: {word}: not one of -aAdhlrt1; ls --help tells them"))?;
            }
            path => paths.push(path),
        }
    }
    paths.extend(words);
    if paths.is_empty() {
        paths.push(".");
    }
    Ok(Some((wish, paths)))
}

impl Wish {
    fn set(&mut self, flag: char) -> Result<(), ()> {
        match flag {
            'a' => (self.dots, self.itself_too) = (true, true),
            'A' => self.dots = true,
            'd' => self.folder = true,
            'h' => self.readable = true,
            'l' => self.long = true,
            'r' => self.reverse = true,
            't' => self.newest = true,
            '1' => {}
            _ => return Err(()),
        }
        Ok(())
    }
}

/// What is in a folder. What is gone meanwhile is left out.
fn inside(path: &str, wish: Wish) -> io::Result<Vec<Entry>> {
    let folder = below(path);
    let mut names: Vec<Vec<u8>> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        names.push(entry?.file_name().as_bytes().to_vec());
    }
    names.retain(|name| wish.dots || !name.starts_with(b"."));
    names.extend([&b"."[..], b".."].iter().filter(|_| wish.itself_too).map(|name| name.to_vec()));
    let entry = |name: Vec<u8>| {
        let path = folder.join(std::ffi::OsStr::from_bytes(&name));
        Some(Entry { metadata: fs::symlink_metadata(&path).ok()?, path, name })
    };
    Ok(names.into_iter().filter_map(entry).collect())
}

fn show(mut entries: Vec<Entry>, wish: Wish, owners: &Owners) {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if wish.newest {
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.metadata.mtime(), entry.metadata.mtime_nsec())));
    }
    if wish.reverse {
        entries.reverse();
    }
    let rows: Vec<_> = entries.iter().map(|entry| entry.row(wish, owners)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [links, user, group, bytes] = [1, 2, 3, 4].map(width);
    let mut text = String::new();
    for [mode, own_links, own_user, own_group, own_bytes, time, name] in &rows {
        if wish.long {
            text.push_str(&format!(
                "{mode} {own_links:>links$} {own_user:<user$} {own_group:<group$} {own_bytes:>bytes$} {time} "
            ));
        }
        text.push_str(name);
        text.push('\n');
    }
    tell::show(&text);
}

impl Entry {
    /// Mode, links, user, group, size (of a device: its numbers), time, name; all but the name are empty in a short list.
    fn row(&self, wish: Wish, owners: &Owners) -> [String; 7] {
        let name = tell::plain(&String::from_utf8_lossy(&self.name));
        if !wish.long {
            return [const { String::new() }; 6]
                .into_iter()
                .chain([name])
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_default();
        }
        let metadata = &self.metadata;
        let kind = metadata.file_type();
        let bytes = match () {
            () if kind.is_block_device() || kind.is_char_device() => {
                format!("{},{}", rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
            }
            () if wish.readable => size(metadata.len()),
            () => metadata.len().to_string(),
        };
        let link = fs::read_link(&self.path).ok().filter(|_| kind.is_symlink());
        let link =
            link.map(|link| format!(" -> {}", tell::plain(&link.to_string_lossy()))).unwrap_or_default();
        [
            mode(metadata),
            metadata.nlink().to_string(),
            owners.user(metadata.uid()),
            owners.group(metadata.gid()),
            bytes,
            time(metadata.mtime()),
            name + &link,
        ]
    }
}

/// `drwxr-xr-x`, with `s` and `t` where POSIX's ls has them.
fn mode(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let letter = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_block_device() => 'b',
        () if kind.is_char_device() => 'c',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => '-',
    };
    let bits = metadata.mode();
    let special = |shift: u32| match shift {
        6 => (bits & 0o4000 != 0).then_some('s'),
        3 => (bits & 0o2000 != 0).then_some('s'),
        _ => (bits & 0o1000 != 0).then_some('t'),
    };
    let mut text = String::from(letter);
    for shift in [6, 3, 0] {
        let has = |bit: u32| bits >> shift & bit != 0;
        text.push(if has(4) { 'r' } else { '-' });
        text.push(if has(2) { 'w' } else { '-' });
        text.push(match (special(shift), has(1)) {
            (Some(letter), true) => letter,
            (Some(letter), false) => letter.to_ascii_uppercase(),
            (None, true) => 'x',
            (None, false) => '-',
        });
    }
    text
}

/// Names of users and groups, as the root that is looked at has them.
#[derive(Default)]
struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    fn read() -> Owners {
        let names = |file: &str| {
            let text = fs::read(below(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let named = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
                Some((fields.nth(1)?.parse().ok()?, tell::plain(&name)))
            };
            // The first of several names of one number counts.
            text.lines().rev().filter_map(named).collect()
        };
        Owners { users: names("/etc/passwd"), groups: names("/etc/group") }
    }

    fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// `2026-11-27 12:05`, in UTC; since the Gregorian calendar repeats itself every 400 years, days are counted in those.
fn time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have the leap day at their end.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3_600, second / 60 % 60)
}

/// `df`: of each place that is mounted, or of these paths, how full it is.
pub(super) fn free(paths: &[&str], mounts: &str) -> Result<u8, String> {
    let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let places: Vec<&str> = if paths.is_empty() { mounted.collect() } else { paths.to_vec() };
    let mut status = 0;
    let mut text = format!("{:>10} {:>10} {:>10} {:>5} MOUNTED ON\n", "SIZE", "USED", "FREE", "USED");
    for place in places {
        let told = match rustix::fs::statvfs(below(place)) {
            Ok(told) => told,
            Err(error) if !paths.is_empty() => {
                tell::line(format!("df: {place}: {error}"));
                status = 1;
                continue;
            }
            Err(_) => continue,
        };
        // What has no size (procfs and the like) can't be full.
        if told.f_blocks == 0 {
            continue;
        }
        let bytes = |blocks: u64| size(blocks.saturating_mul(told.f_frsize));
        let used = told.f_blocks.saturating_sub(told.f_bfree);
        let room = used.saturating_add(told.f_bavail).max(1);
        let share = used.saturating_mul(100).div_ceil(room);
        text.push_str(&format!(
            "{:>10} {:>10} {:>10} {share:>4}% {}\n",
            bytes(told.f_blocks),
            bytes(used),
            bytes(told.f_bavail),
            tell::plain(place)
        ));
    }
    tell::show(&text);
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_the_calendar_has_them() {
        // As `date -u -d @SECONDS '+%F %R'` says.
        for (seconds, told) in [
            (0, "1970-01-01 00:00"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (1_709_164_800, "2024-02-29 00:00"),
            (1_795_780_000, "2026-11-27 11:46"),
            (-1, "1969-12-31 23:59"),
            (4_107_542_400, "2100-03-01 00:00"),
        ] {
            assert_eq!(time(seconds), told);
        }
    }

    #[test]
    fn flags_come_together_or_apart_and_paths_between_them() {
        let wish = Wish { dots: true, itself_too: true, long: true, readable: true, ..Wish::default() };
        assert_eq!(read(&["-la", "/etc", "-h", "x"]), Ok(Some((wish, vec!["/etc", "x"]))));
        assert_eq!(read(&["--", "-l"]), Ok(Some((Wish::default(), vec!["-l"]))));
        assert_eq!(read(&["-1"]), Ok(Some((Wish::default(), vec!["."]))));
        assert_eq!(read(&["--help", "-x"]), Ok(None));
        assert!(read(&["-lx"]).unwrap_err().contains("-lx: not one of"));
    }
}
