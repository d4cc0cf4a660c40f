//! Several archives, one after the other: judged together, before the first is put.

use std::fs;

use crate::{
    archive::{Member, tar},
    fstree::refuses,
    root::Root,
};

/// Each archive is judged as those before it will leave the image, and nothing is put if one of them is refused.
#[test]
fn a_chain_that_fights_itself_changes_nothing() {
    let file = |name: &'static str| Member::file(name, "x");
    let many: [(&[Member<'_>], &[Member<'_>], &str); 8] = [
        (
            &[file("data/f")],
            &[file("data/f/y")],
            "\"data/f/y\" is below /data/f, a file that the chain makes",
        ),
        (
            &[Member::link("etc/l", "/root")],
            &[file("etc/l/x")],
            "written through /etc/l, a link that the chain makes",
        ),
        // By another path, and by a link of the image whose target is exchanged.
        (&[Member::link("usr/lib/l", "/root")], &[file("lib/l/x")], "written through /usr/lib/l, a link"),
        (&[Member::link("second", "/root")], &[file("first/x")], "written through /second, a link"),
        (&[file("data/d/y")], &[file("data/d")], "\"data/d\" is a folder that the chain makes"),
        // What only the image forbids, and only the second archive does.
        (
            &[file("etc/ok")],
            &[file("etc/passwd/x")],
            "is in a folder of the archive, but a file in the image",
        ),
        (&[file("etc/ok")], &[file("etc")], "\"etc\" is a folder in the image"),
        (&[file("etc/ok")], &[file("lib/a"), file("usr/lib/a")], "\"usr/lib/a\" is there twice"),
    ];
    for (one, two, said) in many {
        let root = with_links();
        root.write("/one", tar(one));
        root.write("/two", tar(two));
        refuses(&root, "fstree=file:///one#strip=0,fstree=file:///two#strip=0", 6, said);
    }
}

/// A root with links of its own.
fn with_links() -> Root {
    let root = Root::new();
    fs::create_dir_all(root.at("/usr/lib")).unwrap();
    fs::create_dir_all(root.at("/data")).unwrap();
    for (link, to) in [("/lib", "usr/lib"), ("/first", "second"), ("/second", "/data")] {
        std::os::unix::fs::symlink(to, root.at(link)).unwrap();
    }
    root
}

#[test]
fn a_chain_follows_the_images_links() {
    let root = with_links();
    root.write("/one", tar(&[Member::link("lib", "usr/lib"), Member::file("first/new/a", "one")]));
    root.write("/two", tar(&[Member::file("lib/b", "two"), Member::file("data/new/a", "two")]));
    let outcome =
        root.run("fstree=file:///one#strip=0,fstree=file:///two#strip=0", "cat /usr/lib/b /data/new/a");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "twotwo"), "{outcome:?}");
    assert!(root.at("/lib").is_symlink() && root.at("/first").is_symlink());
}
