//! Paths here and paths in the target: one map of our own for every adapter, so that adapters stay unmapped.
//!
//! Two sources, in this order: rules the user gave (`--source-map REMOTE=LOCAL`, the longest prefix wins), and what is found
//! without asking: a path of the debug information or of a stack frame belongs to the file of the working folder with which it
//! shares the longest tail, if there is just one such file. What was found is remembered in both directions, together with the
//! folders in which it was found, so that its neighbours follow.

/// Paths as components, POSIX and Windows.
pub mod paths;
/// `source` objects inside messages.
pub mod rewrite;
/// The files of the working folder.
pub mod walk;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    str::FromStr,
};

use pepo_wire::{Code, Failure};

use self::{
    paths::{Parts, is_library},
    walk::Folder,
};

/// The most paths remembered in one direction.
const MAX_LEARNT: usize = 20_000;
/// The most pairs of folders remembered.
const MAX_PAIRS: usize = 64;

/// One rule of the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Prefix in the target.
    pub remote: String,
    /// The same folder here.
    pub local: String,
}

impl FromStr for Rule {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Rule, Failure> {
        match text.split_once('=') {
            Some((remote, local)) if !remote.is_empty() && !local.is_empty() => {
                Ok(Rule { remote: remote.to_owned(), local: local.to_owned() })
            }
            _ => Err(Failure::new(Code::Usage, format!("`{text}` is not a source map"))
                .because("it is written REMOTE=LOCAL")
                .hint("for example --source-map /app=. when the image holds this folder as /app")),
        }
    }
}

/// The map of one target.
#[derive(Debug, Default)]
pub struct SourceMap {
    rules: Vec<Rule>,
    folder: Option<Folder>,
    /// Found: remote to local.
    local: HashMap<String, String>,
    /// Found: local to remote.
    remote: HashMap<String, String>,
    /// Folders found to be the same: (remote, local).
    pairs: Vec<(Parts, Parts)>,
    /// Paths the target is known to have, by their last component.
    known: BTreeMap<String, BTreeSet<String>>,
    known_count: usize,
}

impl SourceMap {
    /// A map with the user's rules; `folder` is where the files of the user's lie (none: only rules are used).
    #[must_use]
    pub fn new(mut rules: Vec<Rule>, folder: Option<&Path>) -> SourceMap {
        for rule in &mut rules {
            rule.local = paths::absolute(&rule.local);
        }
        rules.sort_by_key(|rule| std::cmp::Reverse(Parts::of(&rule.remote).names.len()));
        SourceMap { rules, folder: folder.map(Folder::new), ..SourceMap::default() }
    }

    /// Notes paths that the target has (debug information, loaded sources), against which files here are matched.
    pub fn know<'a>(&mut self, remotes: impl IntoIterator<Item = &'a str>) {
        for remote in remotes {
            if self.known_count >= MAX_LEARNT {
                return;
            }
            let Some(name) = Parts::of(remote).names.pop() else { continue };
            if self.known.entry(name).or_default().insert(remote.to_owned()) {
                self.known_count += 1;
            }
        }
    }

    /// The file here that belongs to a path of the target's.
    pub fn to_local(&mut self, remote: &str) -> Option<String> {
        if let Some(rule) = self.rules.iter().find_map(|rule| move_prefix(remote, &rule.remote, &rule.local))
        {
            return Some(rule);
        }
        if let Some(local) = self.local.get(remote) {
            return Some(local.clone());
        }
        self.know([remote]);
        let parts = Parts::of(remote);
        if is_library(&parts) || parts.names.is_empty() {
            return None;
        }
        let same = self.folder.as_ref().filter(|folder| folder.has(remote)).map(|_| remote.to_owned());
        let local = same.or_else(|| self.neighbour(&parts)).or_else(|| self.best_local(&parts))?;
        self.learn(remote, &local);
        Some(local)
    }

    /// The path in the target that belongs to a file here; `None` when nothing is known of it.
    pub fn to_remote(&mut self, local: &str) -> Option<String> {
        let by_rule = |rule: &&Rule| paths::strip(&Parts::of(local), &Parts::of(&rule.local)).is_some();
        let longest = |rule: &&Rule| Parts::of(&rule.local).names.len();
        if let Some(rule) = self.rules.iter().filter(by_rule).max_by_key(longest) {
            return move_prefix(local, &rule.local, &rule.remote);
        }
        if let Some(remote) = self.remote.get(local) {
            return Some(remote.clone());
        }
        let parts = Parts::of(local);
        let named = parts.names.last().and_then(|name| self.known.get(name));
        let same = named.filter(|known| known.contains(local)).map(|_| local.to_owned());
        let remote = same.or_else(|| self.best_remote(&parts)).or_else(|| self.remote_neighbour(&parts))?;
        self.learn(&remote, local);
        Some(remote)
    }

    /// The paths of the target that end like `tail` ("main.go", "shop/main.go"), sorted.
    #[must_use]
    pub fn known_by_tail(&self, tail: &str) -> Vec<&str> {
        let tail = Parts::of(tail);
        let Some(name) = tail.names.last() else { return Vec::new() };
        let same = |path: &&String| Parts::of(path).ends_with(&tail.names);
        self.known.get(name).into_iter().flatten().filter(same).map(String::as_str).collect()
    }

    /// The file here that is meant by a path as typed: beside the user, at the top of the working folder, or the only one in
    /// it that ends so.
    pub fn in_folder(&mut self, typed: &str) -> Option<String> {
        let here = paths::absolute(typed);
        if Path::new(&here).is_file() {
            return Some(here);
        }
        let folder = self.folder.as_mut()?;
        let top = Parts::of(folder.root()).join(&Parts::of(typed).names);
        if Path::new(&top).is_file() {
            return Some(top);
        }
        let tail = Parts::of(typed).names;
        let mut fits = folder.named(tail.last()?).iter().filter(|path| Parts::of(path).ends_with(&tail));
        fits.next().filter(|_| fits.next().is_none()).cloned()
    }

    /// Names of known files that begin so, at most `count`, as `NAME:`.
    #[must_use]
    pub fn known_names(&self, start: &str, count: usize) -> Vec<String> {
        let names = self.known.range(start.to_owned()..).map(|(name, _)| name);
        names.take_while(|name| name.starts_with(start)).take(count).map(|name| format!("{name}:")).collect()
    }

    /// The end of a local path from the working folder on, for adapters that compare paths from their end.
    #[must_use]
    pub fn tail_in_folder(&self, local: &str) -> Option<String> {
        let tail = paths::strip(&Parts::of(local), &Parts::of(self.folder.as_ref()?.root()))?;
        (!tail.is_empty()).then(|| tail.join("/"))
    }

    /// What is mapped now: (remote, local), sorted.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let rules = self.rules.iter().map(|rule| (rule.remote.clone(), rule.local.clone()));
        let mut found: Vec<_> =
            self.local.iter().map(|(remote, local)| (remote.clone(), local.clone())).collect();
        found.sort();
        rules.chain(found).collect()
    }

    /// A file that stands beside files which were found already.
    fn neighbour(&self, remote: &Parts) -> Option<String> {
        self.pairs.iter().find_map(|(there, here)| {
            let rest = paths::strip(remote, there)?;
            let local = here.join(&rest);
            self.folder.as_ref()?.has(&local).then_some(local)
        })
    }

    fn remote_neighbour(&self, local: &Parts) -> Option<String> {
        self.pairs.iter().find_map(|(there, here)| Some(there.join(&paths::strip(local, here)?)))
    }

    /// The one file of the working folder that shares the longest tail.
    fn best_local(&mut self, remote: &Parts) -> Option<String> {
        let folder = self.folder.as_mut()?;
        let candidates = folder.named(remote.names.last()?);
        unique_best(remote, candidates.iter().map(String::as_str)).map(str::to_owned)
    }

    /// The one path of the target's that shares the longest tail, if the file here is in turn the best for it.
    fn best_remote(&mut self, local: &Parts) -> Option<String> {
        let name = local.names.last()?;
        let candidates = self.known.get(name)?;
        let own = candidates.iter().filter(|path| !is_library(&Parts::of(path))).map(String::as_str);
        let remote = unique_best(local, own)?.to_owned();
        let folder = self.folder.as_mut()?;
        let back =
            unique_best(&Parts::of(&remote), folder.named(name).iter().map(String::as_str)).map(Parts::of);
        back.is_none_or(|back| back == *local).then_some(remote)
    }

    /// The debugger found a path of the user's in the target as it is: it is the same file.
    pub fn confirm(&mut self, path: &str) {
        if !self.remote.contains_key(path) && !is_library(&Parts::of(path)) {
            self.learn(path, path);
        }
    }

    fn learn(&mut self, remote: &str, local: &str) {
        if self.local.len() >= MAX_LEARNT {
            return;
        }
        self.local.insert(remote.to_owned(), local.to_owned());
        self.remote.insert(local.to_owned(), remote.to_owned());
        let (there, here) = (Parts::of(remote), Parts::of(local));
        let same = there.common_tail(&here);
        let pair = (there.without_tail(same), here.without_tail(same));
        if self.pairs.len() < MAX_PAIRS && !self.pairs.contains(&pair) {
            self.pairs.push(pair);
        }
    }
}

/// `path` with the prefix `from` replaced by `to`, in the manner of writing of `to`; `None` when it does not begin so.
fn move_prefix(path: &str, from: &str, to: &str) -> Option<String> {
    let rest = paths::strip(&Parts::of(path), &Parts::of(from))?;
    Some(Parts::of(to).join(&rest))
}

/// The only candidate with the longest tail in common; `None` when two share it.
fn unique_best<'a>(path: &Parts, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    let mut twice = false;
    for candidate in candidates {
        let tail = path.common_tail(&Parts::of(candidate));
        match best {
            Some((most, _)) if tail < most => {}
            Some((most, _)) if tail == most => twice = true,
            _ => {
                best = Some((tail, candidate));
                twice = false;
            }
        }
    }
    best.filter(|(tail, _)| *tail > 0 && !twice).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A working folder with these files.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn map(rules: &[&str], folder: &tempfile::TempDir) -> SourceMap {
        SourceMap::new(rules.iter().map(|rule| rule.parse().unwrap()).collect(), Some(folder.path()))
    }

    fn here(folder: &tempfile::TempDir, file: &str) -> String {
        folder.path().join(file).to_str().unwrap().to_owned()
    }

    #[test]
    fn the_longest_rule_wins_in_both_directions() {
        let mut map = SourceMap::new(
            vec!["/src=/home/me/all".parse().unwrap(), "/src/shop=/home/me/shop".parse().unwrap()],
            None,
        );
        for (remote, local) in [("/src/shop/a.go", "/home/me/shop/a.go"), ("/src/b.go", "/home/me/all/b.go")]
        {
            assert_eq!(map.to_local(remote).as_deref(), Some(local));
            assert_eq!(map.to_remote(local).as_deref(), Some(remote));
        }
        assert_eq!(map.to_local("/srcs/a.go"), None, "a prefix ends at a slash");
    }

    #[test]
    fn windows_and_posix_meet() {
        let mut map = SourceMap::new(vec![r"/app=C:\Users\me\shop".parse().unwrap()], None);
        assert_eq!(map.to_local("/app/web/cart.py").as_deref(), Some(r"C:\Users\me\shop\web\cart.py"));
        assert_eq!(map.to_remote(r"c:\Users\me\shop\web\cart.py").as_deref(), Some("/app/web/cart.py"));
        assert_eq!(map.to_remote("c:/Users/me/shop/web/cart.py").as_deref(), Some("/app/web/cart.py"));
    }

    #[test]
    fn a_file_is_found_by_its_longest_tail_and_its_neighbours_follow() {
        let dir = folder(&["cmd/shop/main.go", "cmd/cart/main.go", "lib/a.go", "lib/deep/b.go"]);
        let mut map = map(&[], &dir);
        assert_eq!(map.to_local("/go/src/acme/cmd/cart/main.go"), Some(here(&dir, "cmd/cart/main.go")));
        assert_eq!(map.to_local("/go/src/acme/lib/deep/b.go"), Some(here(&dir, "lib/deep/b.go")));
        assert_eq!(map.to_remote(&here(&dir, "lib/a.go")).as_deref(), Some("/go/src/acme/lib/a.go"));
    }

    #[test]
    fn two_that_fit_alike_are_not_guessed() {
        let dir = folder(&["a/main.go", "b/main.go"]);
        assert_eq!(map(&[], &dir).to_local("/go/src/x/main.go"), None);
        let dir = folder(&["main.go"]);
        let mut map = map(&[], &dir);
        map.know(["/one/main.go", "/two/main.go"]);
        assert_eq!(map.to_remote(&here(&dir, "main.go")), None);
    }

    #[test]
    fn debug_information_tells_the_remote_path_of_a_file_here() {
        let dir = folder(&["serve.py", "web/cart.py"]);
        let mut map = map(&[], &dir);
        map.know(["/app/serve.py", "/app/web/cart.py", "/usr/lib/python3.12/serve.py"]);
        assert_eq!(map.to_remote(&here(&dir, "web/cart.py")).as_deref(), Some("/app/web/cart.py"));
        assert_eq!(map.to_remote(&here(&dir, "serve.py")).as_deref(), Some("/app/serve.py"));
    }

    #[test]
    fn a_path_that_is_the_same_on_both_sides_stays() {
        let dir = folder(&["deep/main.go", "main.go"]);
        let (one, other) = (here(&dir, "deep/main.go"), "/elsewhere/main.go");
        let mut map = map(&[], &dir);
        assert_eq!(map.to_local(&one), Some(one.clone()));
        map.know([other]);
        assert_eq!(map.to_remote(other).as_deref(), Some(other));
        map.confirm("/home/me/a.c");
        assert_eq!(map.to_local("/home/me/a.c").as_deref(), Some("/home/me/a.c"));
    }

    #[test]
    fn files_of_libraries_are_never_taken_for_ones_own() {
        let dir = folder(&["json/__init__.py", "mod.rs"]);
        let mut map = map(&[], &dir);
        assert_eq!(map.to_local("/usr/lib/python3.12/json/__init__.py"), None);
        assert_eq!(map.to_local("/rustc/90b35a6/library/core/src/num/mod.rs"), None);
    }

    #[test]
    fn paths_are_known_by_their_tail() {
        let mut map = SourceMap::default();
        map.know(["/app/shop/main.go", "/app/cart/main.go", "/app/xmain.go"]);
        assert_eq!(map.known_by_tail("shop/main.go"), ["/app/shop/main.go"]);
        assert_eq!(map.known_by_tail("main.go").len(), 2);
    }

    #[test]
    fn a_rule_that_is_none_says_how_it_is_written() {
        for text in ["", "/app", "=x", "/app="] {
            assert_eq!(text.parse::<Rule>().unwrap_err().code(), Code::Usage, "{text}");
        }
    }
}
