//! Archives: what they become, and what must change nothing.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex},
};

use pepo_testkit::{children, command, wait};
use rustix::process::Signal;

use crate::{
    archive::{Member, tar, tar_that_says},
    root::Root,
    server::{Certificate, Request, Server, ok, raw, serve, serve_tls},
    support::{LIMIT, Outcome, run, signal, start},
};

/// A root into which one archive was put from a file in it.
fn put(archive: &[u8], fragment: &str) -> (Root, Outcome) {
    let root = Root::new();
    root.write("/archive", archive);
    let outcome = root.run(&format!("fstree=file:///archive{fragment}"), "echo started");
    (root, outcome)
}

/// Refuses: this status, these words, the program not started, nothing changed.
pub(crate) fn refuses(root: &Root, words: &str, status: i32, said: &str) {
    let before = root.all();
    let outcome = root.run(words, "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (status, ""), "{words}: {outcome:?}");
    assert!(outcome.stderr.contains(said), "{words}: not {said:?} but {}", outcome.stderr);
    assert!(outcome.stderr.contains("→"), "{words}: says what to do: {}", outcome.stderr);
    assert_eq!(root.all(), before, "{words}: something changed");
}

/// Runs a shell on this machine, in `folder`.
fn sh(folder: &Path, script: &str) {
    let output = command("bash").args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn each_format_is_known_by_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir -p x/usr/bin; echo hello > x/usr/bin/hello; chmod 755 x/usr/bin/hello; ln -s hello x/usr/bin/hi; \
                  tar -cf a.tar x; gzip -k a.tar; bzip2 -k a.tar; xz -k a.tar; zstd -q a.tar; zip -qry a.zip x; \
                  cat a.tar.gz > twice; gzip twice; mv twice.gz twice; zstd -q --content-size a.tar -o b.zst; \
                  head -c 300 a.tar > h; tail -c +301 a.tar > t; (zstd -qc h; zstd -qc t) > frames; (gzip -c h; gzip -c t) > members";
    sh(folder.path(), script);
    for name in
        ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "a.zip", "twice", "frames", "members"]
    {
        let (root, outcome) = put(&fs::read(folder.path().join(name)).unwrap(), "");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{name}: {outcome:?}");
        assert_eq!(root.read("/usr/bin/hello"), "hello\n", "{name}");
        assert_eq!(fs::read_link(root.at("/usr/bin/hi")).unwrap(), Path::new("hello"), "{name}");
        assert_eq!(root.at("/usr/bin/hello").metadata().unwrap().mode() & 0o7777, 0o755, "{name}");
        assert!(outcome.stderr.contains("took what is below x/"), "{name}: {}", outcome.stderr);
    }
}

#[test]
fn what_a_file_has_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(150);
    let script = format!(
        "mkdir -p etc/deep; cd etc; echo a > file; chmod 640 file; chown 12:34 file; touch -d @1000000000.5 file; ln file other; \
         mkfifo pipe; chmod 700 deep; touch -d @1000000001 deep; echo l > {long}; \
         truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none; \
         python3 -c 'import os; os.setxattr(\"file\", \"user.kind\", b\"green\")'"
    );
    sh(folder.path(), &script);
    for flags in ["--format=gnu -S", "--format=pax -S --xattrs", "--format=pax -S --sparse-version=0.1"] {
        sh(folder.path(), &format!("tar -cf a.tar {flags} etc"));
        let (root, outcome) = put(&fs::read(folder.path().join("a.tar")).unwrap(), "");
        assert_eq!(outcome.code(), 0, "{flags}: {outcome:?}");
        let file = root.at("/etc/file").metadata().unwrap();
        assert_eq!(
            (file.mode() & 0o7777, file.uid(), file.gid(), file.mtime()),
            (0o640, 12, 34, 1_000_000_000)
        );
        assert_eq!(file.ino(), root.at("/etc/other").metadata().unwrap().ino(), "{flags}: a hard link");
        assert!(root.at("/etc/pipe").exists() && root.at(&format!("/etc/{long}")).exists());
        let deep = root.at("/etc/deep").metadata().unwrap();
        assert_eq!((deep.mode() & 0o7777, deep.mtime()), (0o700, 1_000_000_001), "{flags}");
        let sparse = root.at("/etc/sparse");
        assert_eq!(
            fs::read(&sparse).unwrap(),
            fs::read(folder.path().join("etc/sparse")).unwrap(),
            "{flags}"
        );
        assert!(sparse.metadata().unwrap().blocks() < 1000, "{flags}: holes stay holes");
        if flags.contains("--xattrs") {
            let mut value = [0; 16];
            let length = rustix::fs::getxattr(root.at("/etc/file"), "user.kind", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"green");
        }
    }
}

#[test]
fn what_is_replaced_is_told_and_links_of_the_image_are_followed() {
    let root = Root::new();
    root.write("/etc/config", "old");
    fs::create_dir_all(root.at("/usr/lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", root.at("/lib")).unwrap();
    let members = [
        Member::of_kind("lib/", b'5'),
        Member::file("lib/new.so", "so"),
        Member::file("etc/config", "newer"),
    ];
    root.write("/archive", tar(&members));
    let outcome = root.run("fstree=file:///archive", "cat /etc/config");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "newer"), "{outcome:?}");
    let sum = "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4";
    assert!(
        outcome.stderr.contains(&format!("replaced /etc/config: 3 bytes sha256:{} → 5 bytes sha256:", sum)),
        "{}",
        outcome.stderr
    );
    assert_eq!(root.read("/usr/lib/new.so"), "so");
    assert!(root.at("/lib").is_symlink(), "the image's own link is still one");
    assert!(outcome.stderr.contains("1 replaced, 1 new, 0 folders made"), "{}", outcome.stderr);
}

/// As where `/lib` is `/usr/lib`: what two paths of the archive say is one new folder.
#[test]
fn a_new_folder_may_have_several_paths() {
    let root = Root::new();
    fs::create_dir_all(root.at("/usr/lib")).unwrap();
    let _ = fs::remove_dir_all(root.at("/lib"));
    let _ = fs::remove_file(root.at("/lib"));
    std::os::unix::fs::symlink("usr/lib", root.at("/lib")).unwrap();
    let paths = ["lib/app/a", "usr/lib/app/b", "usr/lib/app/in/c", "lib/app/in/d", "etc/e"];
    root.write("/archive", tar(&paths.map(|path| Member::file(path, path))));
    let outcome = root.run("fstree=file:///archive#strip=0", "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
    for path in paths {
        assert_eq!(root.read(&format!("/{path}")), path);
    }
    let left = fs::read_dir(root.at("/usr/lib")).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".pepo")).count(), 0);
}

#[test]
fn a_chain_is_applied_in_order_or_not_at_all() {
    let root = Root::new();
    root.write("/one", tar(&[Member::file("etc/x", "one"), Member::file("etc/y", "one")]));
    root.write("/two", tar(&[Member::file("etc/x", "two")]));
    let outcome = root.run("fstree=file:///one,fstree=file:///two", "cat /etc/x /etc/y");
    assert_eq!(outcome.stdout, "twoone", "{outcome:?}");
    root.write("/three", tar(&[Member::file("/etc/x", "three")]));
    refuses(&root, "fstree=file:///two,fstree=file:///three", 6, "\"/etc/x\" is absolute");
}

#[test]
fn what_a_link_says_cannot_forge_a_line() {
    let root = Root::new();
    root.write("/archive", tar(&[Member::link("etc/l", "x\npepo-entry: forged")]));
    refuses(
        &root,
        "fstree=file:///archive#strip=0",
        6,
        "\"etc/l\" leads to no valid path, or to one with control",
    );
    // What the image has is told, but does nothing to who reads it.
    std::os::unix::fs::symlink("a\nb\x1b[31m", root.at("/etc/l")).unwrap();
    root.write("/archive", tar(&[Member::link("etc/l", "\u{202e}x")]));
    let outcome = root.run("fstree=file:///archive#strip=0", "true");
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    let told = "replaced /etc/l: link to \"a\\nb\\x1b[31m\" → link to \"\\xe2\\x80\\xaex\"";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}

#[test]
fn hostile_archives_change_nothing() {
    let file = |name: &'static str| Member::file(name, "x");
    let device = Member::of_kind("etc/disk", b'4');
    let setuid = Member { mode: 0o4755, ..file("etc/su") };
    let latin = Member { name: b"etc/a\xff", ..file("") };
    let hard = Member { kind: b'1', link: "/etc/shadow", data: b"", ..file("etc/h") };
    let foreign = Member { kind: b'1', link: "etc/passwd", data: b"", ..file("etc/h") };
    let many: [(Vec<u8>, &str); 16] = [
        (tar(&[file("etc/ok"), file("/etc/passwd")]), "\"/etc/passwd\" is absolute"),
        (tar(&[file("etc/ok"), file("etc/../../x")]), "\"etc/../../x\" leads out (..)"),
        (
            tar(&[Member::link("etc/l", "/root"), file("etc/l/x")]),
            "\"etc/l/x\" would be written through a link",
        ),
        (tar(&[file("etc/l/x"), Member::link("etc/l", "/root")]), "would be written through a link"),
        (tar(&[device]), "\"etc/disk\" is a device"),
        (tar(&[setuid]), "\"etc/su\" is setuid or setgid"),
        (tar(&[file("etc/ok"), file("etc/a\nb")]), "\"etc/a\\nb\" has a newline"),
        (tar(&[latin]), "\"etc/a\\xff\" is not UTF-8"),
        (tar(&[file("etc/twice"), file("etc/twice")]), "\"etc/twice\" is there twice"),
        (tar(&[hard]), "\"etc/h\" links to a path that is absolute"),
        (tar(&[foreign]), "hard link to what is no earlier file"),
        (tar(&[file("etc/f"), file("etc/f/x")]), "is below what is no folder"),
        (tar_that_says(5000, "short"), "ends in the middle"),
        (tar(&[Member::of_kind("etc/odd", b'Q')]), "unknown kind"),
        (tar(&[file("etc/passwd/x")]), "is in a folder of the archive, but a file in the image"),
        (tar(&[file("bin")]), "is a folder in the image"),
    ];
    for (archive, said) in many {
        let root = Root::new();
        root.write("/archive", archive);
        refuses(&root, "fstree=file:///archive#strip=0", 6, said);
    }
}

#[test]
fn an_entry_that_is_twice_in_a_zip_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let script = "import warnings, zipfile; warnings.simplefilter('ignore')\nwith zipfile.ZipFile('a', 'w') as z:\n  \
                  [z.writestr(n, 'x') for n in ('etc/a', 'etc/twice', 'etc/b', 'etc/twice')]";
    sh(folder.path(), &format!("python3 -c \"{script}\""));
    let root = Root::new();
    root.write("/archive", fs::read(folder.path().join("a")).unwrap());
    refuses(&root, "fstree=file:///archive", 6, "the entry \"etc/twice\" is there twice\n");
}

#[test]
fn what_puts_nothing_is_told() {
    let root = Root::new();
    root.write("/archive", tar(&[Member::file("etc/x", "x")]));
    refuses(&root, "fstree=file:///archive#strip=9", 6, "#strip=9 leaves nothing");
    root.write("/archive", tar(&[]));
    let outcome = root.run("fstree=file:///archive", "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("warning: /archive is an empty archive"), "{}", outcome.stderr);
    let outcome = root.run("fstree-limit=10", "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("do nothing without fstree=URL"), "{}", outcome.stderr);
}

#[test]
fn a_folder_keeps_its_group_for_what_is_made_in_it() {
    let root = Root::new();
    root.write("/archive", tar(&[Member { mode: 0o2755, ..Member::of_kind("opt/shared/", b'5') }]));
    assert_eq!(root.run("fstree=file:///archive#strip=0", "true").code(), 0);
    assert_eq!(root.at("/opt/shared").metadata().unwrap().mode() & 0o7777, 0o2755);
}

#[test]
fn what_is_allowed_goes_in() {
    let root = Root::new();
    root.write(
        "/archive",
        tar(&[Member { mode: 0o4755, ..Member::file("etc/su", "x") }, Member::of_kind("etc/null", b'3')]),
    );
    let outcome = root.run("fstree=file:///archive,fstree-allow=setuid+devices", "true");
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(root.at("/etc/su").metadata().unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(root.at("/etc/null").metadata().unwrap().rdev(), rustix::fs::makedev(1, 3));
}

#[test]
fn bombs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    sh(
        folder.path(),
        "mkdir etc; truncate -s 200M etc/zeros; tar -c etc | gzip > a; tar -c etc | xz -0 > b; zip -qr c etc; mv c.zip c",
    );
    for name in ["a", "b", "c"] {
        let root = Root::new();
        root.write("/archive", fs::read(folder.path().join(name)).unwrap());
        refuses(&root, "fstree=file:///archive", 6, "times as much data as bytes");
        refuses(
            &root,
            "fstree=file:///archive,fstree-allow=ratio,fstree-limit=10M",
            8,
            "has more than 10485760 bytes",
        );
    }
}

/// An archive says how much memory its decoder needs; nobody believes all of it.
#[test]
fn memory_that_an_archive_asks_for_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    // The dictionary of xz's only block is 4 GiB then (the .xz file format, 3.1 and 5.3.1).
    let script = "mkdir etc; echo x > etc/x; tar -c etc | xz -0 > a; python3 -c \"
import zlib
a = bytearray(open('a', 'rb').read())
end = 12 + (a[12] + 1) * 4 - 4
at = a.index(b'\\x21\\x01', 12, end) + 2
a[at] = 40
a[end:end + 4] = zlib.crc32(a[12:end]).to_bytes(4, 'little')
open('a', 'wb').write(a)\"";
    sh(folder.path(), script);
    let root = Root::new();
    root.write("/archive", fs::read(folder.path().join("a")).unwrap());
    refuses(&root, "fstree=file:///archive", 8, "ran out of memory");
}

#[test]
fn a_wrong_sum_and_a_broken_archive_change_nothing() {
    let archive = tar(&[Member::file("etc/x", "x")]);
    let root = Root::new();
    root.write("/archive", &archive);
    refuses(&root, &format!("fstree=file:///archive#sha256={}", "0".repeat(64)), 6, "its SHA-256 is");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), &archive).unwrap();
    sh(
        folder.path(),
        "gzip -k a; xz -k a; bzip2 -k a; zstd -q a; zip -q a.zip a; sha256sum < a | cut -c-64 > sum",
    );
    let sum = fs::read_to_string(folder.path().join("sum")).unwrap();
    assert_eq!(root.run(&format!("fstree=file:///archive#sha256={}", sum.trim()), "true").code(), 0);
    for name in ["a.gz", "a.xz", "a.bz2", "a.zst", "a.zip"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let root = Root::new();
        root.write("/archive", &bytes[..bytes.len() * 2 / 3]);
        refuses(&root, "fstree=file:///archive", 6, "is refused");
    }
    root.write("/archive", "");
    refuses(&root, "fstree=file:///archive", 6, "no archive but empty");
    refuses(&root, "fstree=file:///none", 5, "cannot open /none");
}

/// A server of one archive that also does all that servers do wrong.
fn server(archive: Vec<u8>) -> Server {
    let cut_once = Mutex::new(true);
    serve(move |request, to| match request.path() {
        "/ok" | "/ok?a=b%2Cc" => ok(to, &archive),
        "/page" => ok(to, b"<!DOCTYPE html><html>Sign in</html>"),
        "/gone" => raw(to, "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>"),
        "/denied" => raw(to, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        "/loop" => raw(to, "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n"),
        "/moved" => raw(to, "HTTP/1.1 301 Moved\r\nLocation: ok\r\nContent-Length: 0\r\n\r\n"),
        "/chunks" => chunks(to, &archive),
        "/cut" => cut(to, &archive, 0, archive.len() / 2),
        "/resumed" => match from(request) {
            _ if std::mem::take(&mut *cut_once.lock().unwrap()) => cut(to, &archive, 0, archive.len() / 2),
            from => cut(to, &archive, from, archive.len()),
        },
        "/busy" => match std::mem::take(&mut *cut_once.lock().unwrap()) {
            true => raw(to, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
            false => ok(to, &archive),
        },
        "/nonsense" => raw(to, "SSH-2.0-OpenSSH_9\r\n\r\n"),
        other => panic!("nobody asks for {other}"),
    })
}

fn from(request: &Request) -> usize {
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    range.map_or(0, |from| from.parse().unwrap())
}

/// Part of the archive, whose end is said to be further on.
fn cut(to: &mut dyn Write, archive: &[u8], from: usize, end: usize) {
    let (status, length) = (if from > 0 { "206 Partial" } else { "200 OK" }, archive.len() - from);
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", archive.len() - 1, archive.len());
    raw(to, &format!("HTTP/1.1 {status}\r\nETag: \"one\"\r\n{range}Content-Length: {length}\r\n\r\n"));
    let _ = to.write_all(&archive[from..end]);
}

fn chunks(to: &mut dyn Write, archive: &[u8]) {
    raw(to, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in archive.chunks(700) {
        raw(to, &format!("{:x}\r\n", chunk.len()));
        let _ = to.write_all(chunk);
        raw(to, "\r\n");
    }
    raw(to, "0\r\n\r\n");
}

#[test]
fn servers_are_asked_as_they_need_it() {
    let server = server(tar(&[Member::file("etc/x", &"x".repeat(5000))]));
    for path in ["/ok", "/ok?a=b%2Cc", "/moved", "/chunks", "/resumed", "/busy"] {
        let root = Root::new();
        let outcome = root.run(&format!("fstree={}", server.url(path)), "echo started");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{path}: {outcome:?}");
        assert_eq!(root.read("/etc/x").len(), 5000, "{path}");
    }
    let resumed = server.asked().into_iter().filter(|request| request.path() == "/resumed").nth(1).unwrap();
    assert!(from(&resumed) > 0 && resumed.header("if-range") == Some("\"one\""), "{resumed:?}");
}

#[test]
fn servers_that_misbehave_change_nothing() {
    let server = server(tar(&[Member::file("etc/x", &"x".repeat(5000))]));
    let root = Root::new();
    for (path, status, said) in [
        ("/page", 6, "is no archive but an HTML page"),
        ("/gone", 5, "status 404 (not there)"),
        ("/denied", 4, "status 403 (not allowed)"),
        ("/loop", 5, "more than 10 redirects"),
        ("/nonsense", 5, "does not speak HTTP"),
    ] {
        let before = root.all();
        let outcome = root.run(&format!("fstree={}", server.url(path)), "echo started");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (status, ""), "{path}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{path}: {}", outcome.stderr);
        assert_eq!(root.all(), before, "{path}");
    }
    let outcome = root.run(&format!("fstree={},fstree-time=3s", server.url("/cut")), "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (5, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("broke off after"), "{}", outcome.stderr);
    assert!(!root.at("/etc/x").exists());
}

/// The time counts also while nobody says anything.
#[test]
fn a_silent_server_is_left_when_the_time_is_over() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let root = Root::new();
    for scheme in ["http", "https"] {
        let words = format!("fstree={scheme}://{address}/x,fstree-time=1s");
        refuses(&root, &words, 8, &format!("fetching {scheme}://{address}/x took too long"));
    }
    drop(silent);
}

#[test]
fn a_dead_proxy_is_named() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let root = Root::new();
    let mut command = root.command("fstree=http://files.example/x,fstree-time=1s", "echo started");
    let outcome = run(command.env("http_proxy", format!("http://me:pw@{dead}")));
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (5, ""), "{outcome:?}");
    let said =
        format!("the proxy http://{dead}/ cannot be reached: cannot connect to {dead}: Connection refused");
    assert!(
        outcome.stderr.contains(&said) && outcome.stderr.contains("→ no_proxy=HOST"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn an_optional_archive_does_not_hold_the_program_back() {
    let root = Root::new();
    let outcome = root.run("fstree=file:///none,fstree-optional", "echo started");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("cannot open /none"), "{}", outcome.stderr);
}

#[test]
fn only_a_trusted_server_is_believed() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let right = Certificate::new(folders[0].path(), "IP:127.0.0.1");
    let other = Certificate::new(folders[1].path(), "DNS:elsewhere.example");
    let archive = tar(&[Member::file("etc/x", "x")]);
    let sent = archive.clone();
    let trusted = serve_tls(&right, move |_, to| ok(to, &sent));
    let wrong = serve_tls(&other, move |_, to| ok(to, &archive));
    let url = |server: &Server| format!("https://127.0.0.1:{}/x", server.port);
    let root = Root::new();
    refuses(&root, &format!("fstree={}", url(&trusted)), 5, "is not trusted: UnknownIssuer");
    root.write("/ca.pem", fs::read(&right.authority).unwrap());
    root.write("/other.pem", fs::read(&other.authority).unwrap());
    let with = |server: &Server, file: &str| {
        run(root.command(&format!("fstree={}", url(server)), "echo started").env("SSL_CERT_FILE", file))
    };
    let outcome = with(&wrong, "/other.pem");
    assert!(outcome.code() == 5 && outcome.stderr.contains("NotValidForName"), "{outcome:?}");
    let outcome = with(&trusted, "/ca.pem");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
    let outcome = with(&trusted, "/none.pem");
    let why = "SSL_CERT_FILE=/none.pem: has no certificate that can be read";
    assert!(outcome.code() == 2 && outcome.stderr.contains(why), "{outcome:?}");
    // Who asks without TLS needs nobody's trust.
    let plain = server(tar(&[Member::file("etc/y", "y")]));
    let mut command = root.command(&format!("fstree=http://127.0.0.1:{}/ok", plain.port), "echo started");
    assert_eq!(run(command.env("SSL_CERT_FILE", "/none.pem")).code(), 0);
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let spoken = format!("fstree=https://{}/x", refusing.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        // As servers of plain HTTP answer to what is no request.
        let (mut to, _) = refusing.accept().unwrap();
        let _ = to.read(&mut [0; 2048]);
        to.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
        let _ = to.read(&mut [0; 2048]);
    });
    refuses(&root, &spoken, 5, "→ if it speaks plain HTTP, write http://");
    // The image's own bundle counts, too.
    fs::create_dir_all(root.at("/etc/ssl/certs")).unwrap();
    fs::copy(root.at("/ca.pem"), root.at("/etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert_eq!(root.run(&format!("fstree={}", url(&trusted)), "true").code(), 0);
}

#[test]
fn proxies_of_the_environment_are_used() {
    let archive = tar(&[Member::file("etc/x", "x")]);
    let proxy = serve(move |request, to| {
        let expected = "http://files.example/x";
        match request.path() == expected && request.header("proxy-authorization") == Some("Basic bWU6cHc=") {
            true => ok(to, &archive),
            false => raw(to, "HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"),
        }
    });
    let root = Root::new();
    let mut command = root.command("fstree=http://files.example/x", "echo started");
    let outcome = run(command.env("http_proxy", format!("http://me:pw@127.0.0.1:{}", proxy.port)));
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "started\n"), "{outcome:?}");
}

#[test]
fn where_nothing_can_be_written_nothing_is() {
    let script = "echo started";
    let large = tar(&[Member::file("data/a", "a"), Member::file("data/b", &"b".repeat(3 << 20))]);
    for (setup, status, said) in [
        ("mount -t tmpfs -o size=1m none $ROOT/data", 8, "cannot put /data/b: No space left"),
        ("mount -t tmpfs -o ro none $ROOT/data", 4, "cannot put /data/a: Read-only file system"),
        (
            "touch $ROOT/data/a; mount --bind $ROOT/bin/busybox $ROOT/data/a",
            6,
            "/data/a is a mount of its own",
        ),
        ("mount -t proc none $ROOT/data", 6, "/data is in a file system of the kernel's"),
    ] {
        let root = Root::new();
        fs::create_dir(root.at("/data")).unwrap();
        root.write("/archive", &large);
        let outcome = run(&mut root.command_after(setup, "fstree=file:///archive#strip=0", script));
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (status, ""), "{setup}: {outcome:?}");
        assert!(outcome.stderr.contains(said), "{setup}: {}", outcome.stderr);
        let left: Vec<_> =
            fs::read_dir(root.at("/data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "a"), "{setup}: {left:?}");
    }
}

#[test]
fn without_rights_nothing_is_changed() {
    let root = Root::new();
    root.write("/archive", tar(&[Member::file("tmp/mine", "x"), Member::file("etc/theirs", "x")]));
    let before = root.all();
    let line = "exec setpriv --reuid 1000 --regid 1000 --clear-groups unshare --user --map-current-user --pid --fork --kill-child \
                --root \"$ROOT\" -- /pepo-entry -- /bin/sh -c 'echo started'";
    let mut command = command("sh");
    command.args(["-c", line]).env_clear().env("PATH", "/usr/bin:/bin").env("ROOT", root.at("/"));
    let outcome = run(command.env("PEPO_DEBUG", "fstree=file:///archive#strip=0"));
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (4, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("cannot put /etc/theirs: Permission denied"), "{}", outcome.stderr);
    assert_eq!(root.all(), before);
}

#[test]
fn a_running_programs_text_is_replaced() {
    let root = Root::new();
    fs::copy(root.at("/bin/busybox"), root.at("/bin/held")).unwrap();
    fs::set_permissions(root.at("/bin/held"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut held = command(root.at("/bin/held"));
    let held = start(std::os::unix::process::CommandExt::arg0(&mut held, "busybox").args(["sleep", "60"]));
    root.write(
        "/archive",
        tar(&[Member { mode: 0o755, ..Member::file("bin/held", "#!/bin/sh\necho replaced\n") }]),
    );
    let outcome = root.run("fstree=file:///archive#strip=0", "/bin/held");
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "replaced\n"), "{outcome:?}");
    let exe = fs::read_link(format!("/proc/{}/exe", held.pid())).unwrap();
    assert!(exe.to_string_lossy().ends_with("(deleted)"), "it runs on with the text it had: {exe:?}");
}

#[test]
fn a_download_that_hangs_ends_with_the_container() {
    let hangs = Arc::new(Mutex::new(()));
    let held = Arc::clone(&hangs);
    let guard = hangs.lock().unwrap();
    let server = serve(move |_, to| {
        raw(to, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        drop(held.lock());
    });
    let root = Root::new();
    let started = start(&mut root.command(&format!("fstree={}", server.url("/x")), "echo started"));
    wait::until("it asks", LIMIT, || if server.asked().is_empty() { Err("not yet") } else { Ok(()) });
    let init = wait::until("it runs", LIMIT, || children(started.pid()).first().copied().ok_or("nobody"));
    signal(init, Signal::TERM);
    assert_eq!(started.end().code(), 143);
    drop(guard);
}
