//! Programs of a newer Debian in a folder of their own: apt with its own state downloads a package and
//! all it needs, `dpkg -x` unpacks it, and the programs run with the loader that came along. Nothing of
//! the system is touched; removing the folder removes it all.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::run::cmd;

/// The folder that unpacked packages of side `name` make up (its `usr/bin`, `usr/lib` …).
pub(crate) fn root(name: &str) -> PathBuf {
    paths::cache().join("sides").join(name).join("root")
}

/// Fetches `packages` with all they need from Debian's `suite` into the side `name`.
/// Done again from the start if an earlier try did not come to its end.
pub(crate) fn fetch(name: &str, suite: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = paths::cache().join("sides").join(name);
    let (done, log) = (folder.join("complete"), paths::log(name));
    if done.exists() {
        return Ok(root(name));
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let config = configure(&folder, suite)?;
    let apt = || cmd("apt-get").arg("-qq").env("APT_CONFIG", &config);
    // A mirror that was frozen at some day has release files which are past their date.
    apt().args(["-o", "Acquire::Check-Valid-Until=false", "update"]).logged(&log)?;
    apt().args(["-y", "--download-only", "install"]).args(packages).logged(&log)?;
    for package in fs::read_dir(folder.join("cache/archives"))? {
        let package = package?.path();
        if package.extension().is_some_and(|e| e == "deb") {
            cmd("dpkg").arg("-x").arg(&package).arg(root(name)).logged(&log)?;
        }
    }
    fs::remove_dir_all(folder.join("cache"))?;
    fs::write(done, packages.join(" "))?;
    Ok(root(name))
}

/// Writes an apt configuration that knows one suite and an empty list of installed packages.
fn configure(folder: &Path, suite: &str) -> Result<PathBuf> {
    for part in [
        "state/lists/partial",
        "cache/archives/partial",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "etc/sources.list.d",
        "root",
    ] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(folder.join("state/status"), "")?;
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    if !Path::new(keyring).exists() {
        bail!("{keyring} is missing; `apt-get install debian-archive-keyring` brings it");
    }
    let source = format!("deb [signed-by={keyring}] {} {suite} main\n", mirror());
    fs::write(folder.join("etc/sources.list"), source)?;
    let at = folder.display();
    let config = format!(
        "Dir::Etc \"{at}/etc\";\nDir::Etc::SourceList \"{at}/etc/sources.list\";\n\
         Dir::Etc::SourceParts \"{at}/etc/sources.list.d\";\n\
         Dir::Etc::PreferencesParts \"{at}/etc/preferences.d\";\nDir::State \"{at}/state\";\n\
         Dir::State::status \"{at}/state/status\";\nDir::Cache \"{at}/cache\";\n\
         APT::Install-Recommends \"false\";\nDebug::NoLocking \"true\";\nAPT::Sandbox::User \"root\";\n"
    );
    let file = folder.join("apt.conf");
    fs::write(&file, config)?;
    Ok(file)
}

/// The Debian mirror this machine uses; the official one where it uses none (Ubuntu, say).
fn mirror() -> String {
    let sources = fs::read_to_string("/etc/apt/sources.list.d/debian.sources").unwrap_or_default();
    let mut first = sources.lines().filter_map(|line| line.strip_prefix("URIs:"));
    let named = first.next().and_then(|uris| uris.split_whitespace().next());
    named.unwrap_or("http://deb.debian.org/debian").to_owned()
}

/// Writes an executable shell script.
pub(crate) fn script(file: &Path, text: &str) -> Result<()> {
    let folder = file.parent().context("a script stands in a folder")?;
    fs::create_dir_all(folder)?;
    // A script that runs at this moment keeps its own inode.
    let fresh = file.with_extension("new");
    fs::write(&fresh, text)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(fresh, file).with_context(|| format!("cannot write {}", file.display()))
}

/// Makes links below a folder of a side that lead to files of the system, as those to `/etc`, lead to the side's own.
pub(crate) fn lead_inside(name: &str, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match fs::read_link(&path) {
            Ok(target) => {
                let own = target.strip_prefix("/").map(|target| root(name).join(target));
                if let Some(own) = own.ok().filter(|own| own.exists()) {
                    fs::remove_file(&path)?;
                    std::os::unix::fs::symlink(own, &path)?;
                }
            }
            Err(_) if path.is_dir() => lead_inside(name, &path)?,
            Err(_) => {}
        }
    }
    Ok(())
}

/// Makes a program of a side be its own executable, and not the loader's: it names the side's loader and libraries itself.
/// `more` are folders of libraries beside those of the system.
pub(crate) fn stand_alone(name: &str, program: &Path, more: &[PathBuf]) -> Result<()> {
    let (loader, libraries) = loader()?;
    // Before Debian's 13, files of libraries were not all below usr/.
    let both = |path: &str| [root(name).join(path), root(name).join(path.trim_start_matches("usr/"))];
    // There it may be a link that holds in the side alone.
    let within = |file: PathBuf| match fs::read_link(&file) {
        Ok(target) if target.is_absolute() => root(name).join(target.strip_prefix("/").unwrap_or(&target)),
        _ => file,
    };
    let mut loaders = both(loader).into_iter().map(within);
    let loader = loaders.find(|file| file.exists()).context("no loader in the side")?;
    let folders: Vec<_> =
        more.iter().cloned().chain(both(libraries)).map(|folder| folder.display().to_string()).collect();
    cmd("patchelf")
        .arg("--set-interpreter")
        .arg(loader)
        // The old form: it holds for the libraries' libraries as well.
        .args(["--force-rpath", "--set-rpath", &folders.join(":")])
        .arg(program)
        .logged(&paths::log(name))
}

/// The loader and the library folder of Debian's packages for this machine, relative to a side's root.
pub(crate) fn loader() -> Result<(&'static str, &'static str)> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu")),
        "aarch64" => Ok(("usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu")),
        other => bail!("no side packages for {other}"),
    }
}
