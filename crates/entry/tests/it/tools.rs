//! The small tools of `pepo-entry sh`, for images that have none.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use pepo_testkit::command;

use crate::support::{Init, Outcome, run};

/// What the tools say to these lines, in a folder of which `$` is the path.
fn tools(folder: &Path, lines: &str) -> Outcome {
    let input = folder.join("input");
    fs::write(&input, lines.replace('$', folder.to_str().unwrap())).unwrap();
    let outcome = run(command(Init::Ours.path()).arg("sh").stdin(fs::File::open(&input).unwrap()));
    fs::remove_file(input).unwrap();
    outcome
}

#[test]
fn files_are_listed_as_fingers_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("conf/inner")).unwrap();
    fs::write(at("conf/shop"), "port=80\n").unwrap();
    fs::write(at(".hidden"), vec![0; 3 << 20]).unwrap();
    fs::write(at("tool"), "").unwrap();
    // It takes the bit of the owner away.
    chown(at("tool"), Some(4711), Some(0)).unwrap();
    let mode = |name: &str, mode| fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
    mode("tool", 0o4751);
    mode(".hidden", 0o640);
    symlink("conf/shop", at("link")).unwrap();
    let old = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_709_164_800));
    fs::File::open(at("tool")).unwrap().set_times(old).unwrap();
    let said = |lines: &str| tools(folder.path(), lines);

    // The file of the lines is there, too.
    assert_eq!(said("ls $\n").stdout, "conf\ninput\nlink\ntool\n");
    assert_eq!(said("ls -1r $\n").stdout, "tool\nlink\ninput\nconf\n");
    assert_eq!(said("ls -a $/conf\n").stdout, ".\n..\ninner\nshop\n");
    assert!(said("ls -t $\n").stdout.ends_with("\ntool\n"));
    assert_eq!(said("cd $\nls tool conf conf/inner\n").stdout, "tool\n\nconf:\ninner\nshop\n\nconf/inner:\n");
    let long = said("ls -lA $\n");
    let line = |name: &str| {
        let line = long.stdout.lines().find(|line| line.contains(&format!(" {name}")));
        line.unwrap_or_else(|| panic!("no {name} in {}", long.stdout)).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("tool"), ["-rwsr-x--x", "1", "4711", "root", "0", "2024-02-29", "00:00", "tool"]);
    assert_eq!((line(".hidden")[0], line(".hidden")[4]), ("-rw-r-----", "3145728"));
    assert_eq!(line("link")[7..], ["link", "->", "conf/shop"]);
    assert!(line("conf")[0].starts_with("drwx") && line("link")[0] == "lrwxrwxrwx");
    assert!(said("ls -lah $\n").stdout.contains(" 3.0 MiB "));
    assert!(said("ls -ld $/conf\n").stdout.ends_with("/conf\n"));

    let outcome = said("ls $/nowhere $/conf\n");
    assert_eq!((outcome.code(), outcome.stdout.contains("shop\n")), (1, true), "{outcome:?}");
    assert!(outcome.stderr.contains("/nowhere: No such file"), "{outcome:?}");
    let outcome = said("ls -lz\nls --help\n");
    assert!(
        outcome.stderr.contains("-lz: not one of") && outcome.stdout.contains("where a link leads"),
        "{outcome:?}"
    );
}

#[test]
fn what_is_asked_each_time_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let said = tools(folder.path(), "df /\nid\nps\ncat /nowhere /proc/sys/kernel/ostype\n");
    assert_eq!(said.code(), 1, "{said:?}");
    let root = said.stdout.lines().nth(1).unwrap();
    assert!(root.ends_with("% /") && root.contains("iB"), "{said:?}");
    for words in ["user 0 (root), group 0 (root)", "control group: memory", "PPID", "Linux\n"] {
        assert!(said.stdout.contains(words), "no {words:?} in {said:?}");
    }
    assert!(said.stderr.contains("cat: /nowhere: No such file"), "{said:?}");
}
