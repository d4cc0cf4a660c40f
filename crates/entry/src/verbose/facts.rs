//! What Linux says of us, in lines: user, rights, limits, control group, mounts. What cannot be read is not told.

use std::{fs, path::Path};

/// Capabilities by number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// Limits that programs run into.
const LIMITS: [(&str, &str); 6] = [
    ("Max open files", "open files"),
    ("Max processes", "processes"),
    ("Max core file size", "core"),
    ("Max stack size", "stack"),
    ("Max address space", "address space"),
    ("Max locked memory", "locked memory"),
];
/// File systems that every container has.
const USUAL: [&str; 8] = ["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs", "securityfs"];

/// All of it.
pub(crate) fn lines() -> Vec<String> {
    let status = read("/proc/self/status");
    let parts = [user(&status), rights(&status), limits(&read("/proc/self/limits")), group()];
    parts.into_iter().flatten().chain(mounts(&read("/proc/self/mountinfo"))).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// `user 1000 (app), group 1000 (app), also in 4 27`: the effective ones.
fn user(status: &str) -> Option<String> {
    let effective = |name| field(status, name)?.split_whitespace().nth(1);
    let named = |id: &str, file: &str| {
        let text = read(file);
        let line = text.lines().find(|line| line.split(':').nth(2) == Some(id));
        let name = line.and_then(|line| line.split(':').next()).map(|name| format!(" ({name})"));
        format!("{id}{}", name.unwrap_or_default())
    };
    let (user, group) = (effective("Uid")?, effective("Gid")?);
    let others = field(status, "Groups").filter(|groups| !groups.is_empty());
    let others = others.map(|groups| format!(", also in {groups}")).unwrap_or_default();
    Some(format!("user {}, group {}{others}", named(user, "/etc/passwd"), named(group, "/etc/group")))
}

fn rights(status: &str) -> Option<String> {
    let has = u64::from_str_radix(field(status, "CapEff")?, 16).ok()?;
    let names = CAPABILITIES.iter().enumerate().filter(|(bit, _)| has & (1 << bit) != 0);
    let names: Vec<_> = names.map(|(_, name)| *name).collect();
    let names = match names.len() {
        0 => "none".to_owned(),
        count if count == CAPABILITIES.len() => "all".to_owned(),
        _ => names.join(" "),
    };
    let mut line = format!("capabilities: {names}");
    if field(status, "NoNewPrivs") == Some("1") {
        line.push_str("; no new privileges");
    }
    match field(status, "Seccomp") {
        Some("2") => line.push_str("; seccomp filter"),
        Some("1") => line.push_str("; seccomp strict"),
        _ => {}
    }
    Some(line)
}

/// `limits: open files 1024 of 4096, …`: soft of hard.
fn limits(text: &str) -> Option<String> {
    let told = LIMITS.iter().filter_map(|(name, short)| {
        let mut values = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        let (soft, hard) = (values.next()?, values.next()?);
        Some(if soft == hard { format!("{short} {soft}") } else { format!("{short} {soft} of {hard}") })
    });
    let told: Vec<_> = told.collect();
    (!told.is_empty()).then(|| format!("limits: {}", told.join(", ")))
}

/// Memory, CPU and number of processes that the control group grants, in either version.
fn group() -> Option<String> {
    let groups = read("/proc/self/cgroup");
    let of = |controller: &str, file: &str| {
        let path = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let fits = if controller.is_empty() {
                names.is_empty()
            } else {
                names.split(',').any(|n| n == controller)
            };
            fits.then(|| path.to_owned())
        })?;
        let root = Path::new("/sys/fs/cgroup").join(controller);
        // In a namespace of its own the group is the root, whatever its path says.
        let found = [root.join(path.trim_start_matches('/')).join(file), root.join(file)];
        found.iter().find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
    };
    let bytes = |text: String| text.parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60).map(size);
    let memory = of("", "memory.max").or_else(|| of("memory", "memory.limit_in_bytes")).and_then(bytes);
    let used = of("", "memory.current").or_else(|| of("memory", "memory.usage_in_bytes")).and_then(bytes);
    let quota = of("", "cpu.max")
        .or_else(|| Some(format!("{} {}", of("cpu", "cpu.cfs_quota_us")?, of("cpu", "cpu.cfs_period_us")?)));
    let quota = quota.and_then(|text| {
        let (quota, period) = text.split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0.0 && period > 0.0).then(|| format!("{:.2}", quota / period))
    });
    let pids = of("", "pids.max").or_else(|| of("pids", "pids.max")).filter(|pids| pids != "max");
    let unlimited = || "unlimited".to_owned();
    Some(format!(
        "control group: memory {}{}, CPU {}, processes {}",
        memory.unwrap_or_else(unlimited),
        used.map(|used| format!(" ({used} used)")).unwrap_or_default(),
        quota.unwrap_or_else(unlimited),
        pids.unwrap_or_else(unlimited)
    ))
}

/// `512.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

/// Mounts that not every container has: volumes, and the root.
fn mounts(text: &str) -> Vec<String> {
    let told = text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (inner, place, options) = (before.next()?, before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, source) = (after.next()?, after.next()?);
        let of_kernel =
            ["/proc/", "/sys/", "/dev/"].iter().any(|folder| place.starts_with(folder)) || place == "/dev";
        if USUAL.contains(&kind) || of_kernel {
            return None;
        }
        let access = options.split(',').next().unwrap_or_default();
        let from = if inner == "/" { source.to_owned() } else { format!("{source}:{inner}") };
        Some(format!("mount: {place} {kind} {access} from {from}"))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_named() {
        let status = "CapEff:\t0000000000000401\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let expected = "capabilities: CHOWN NET_BIND_SERVICE; no new privileges; seccomp filter";
        assert_eq!(rights(status).as_deref(), Some(expected));
        assert_eq!(rights("CapEff:\t0\n").as_deref(), Some("capabilities: none"));
    }

    #[test]
    fn mounts_of_note_are_told() {
        let text = "22 1 0:5 / /proc rw - proc proc rw\n\
                    23 1 0:6 / / ro,relatime - overlay overlay rw\n\
                    24 1 8:1 /vol /data rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
        assert_eq!(
            mounts(text),
            ["mount: / overlay ro from overlay", "mount: /data ext4 rw from /dev/sda1:/vol"]
        );
    }

    #[test]
    fn sizes_and_limits_read_well() {
        assert_eq!((size(512).as_str(), size(1 << 29).as_str()), ("512 bytes", "512.0 MiB"));
        let text = "Max open files            1024                 4096                 files\n";
        assert_eq!(limits(text).as_deref(), Some("limits: open files 1024 of 4096"));
    }
}
