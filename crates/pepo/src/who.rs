//! Who asks, for people who look at `pepo sessions`: as much as is known, and nothing that is guessed.

use crate::environment::Environment;

/// What this process is known by.
#[derive(Default)]
struct Known {
    /// Its user's number; none where users have none.
    uid: Option<u32>,
    /// The account of that number.
    account: Option<String>,
    /// Who logged in, where that is another account than the one that asks.
    behind: Option<String>,
    host: Option<String>,
    process: u32,
}

/// `root (uid 0) for ada, at laptop, process 4711`.
pub(crate) fn who(environment: &Environment) -> String {
    let uid = uid();
    // The environment's name may be that of whoever this user was before.
    let named = environment.user.as_ref().or(environment.username.as_ref()).cloned();
    let account = uid.and_then(account).or(named);
    let behind = login().or_else(|| environment.sudo_user.clone());
    let behind = behind.filter(|behind| Some(behind) != account.as_ref());
    Known { uid, account, behind, host: host(), process: std::process::id() }.told()
}

impl Known {
    fn told(&self) -> String {
        let who = match (&self.account, self.uid) {
            (Some(account), Some(uid)) => format!("{account} (uid {uid})"),
            (Some(account), None) => account.clone(),
            (None, Some(uid)) => format!("uid {uid}"),
            (None, None) => "an unnamed user".to_owned(),
        };
        let behind = self.behind.as_ref().map(|behind| format!(" for {behind}")).unwrap_or_default();
        let host = self.host.as_ref().map(|host| format!(" at {host}")).unwrap_or_default();
        format!("{who}{behind}{host}, process {}", self.process)
    }
}

/// The account's name in the file that every Unix has.
#[cfg(unix)]
fn account(uid: u32) -> Option<String> {
    name_in(&std::fs::read_to_string("/etc/passwd").ok()?, uid)
}

#[cfg(not(unix))]
fn account(_: u32) -> Option<String> {
    None
}

/// passwd(5): name, password, number.
#[cfg(any(unix, test))]
fn name_in(accounts: &str, uid: u32) -> Option<String> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Who logged in, as the kernel keeps it for audits through sudo and su (proc_pid_loginuid(5)).
#[cfg(target_os = "linux")]
fn login() -> Option<String> {
    let uid = std::fs::read_to_string("/proc/self/loginuid").ok()?.trim().parse().ok()?;
    // The largest number says that nobody did.
    if uid == u32::MAX { None } else { account(uid).or_else(|| Some(format!("uid {uid}"))) }
}

#[cfg(not(target_os = "linux"))]
fn login() -> Option<String> {
    None
}

#[cfg(unix)]
fn host() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(not(unix))]
fn host() -> Option<String> {
    None
}

#[cfg(unix)]
fn uid() -> Option<u32> {
    Some(rustix::process::getuid().as_raw())
}

#[cfg(not(unix))]
fn uid() -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_told_as_is_known() {
        let known = |uid, account: &str, behind: &str, host: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Known { uid, account: some(account), behind: some(behind), host: some(host), process: 7 }.told()
        };
        assert_eq!(known(Some(0), "root", "ada", "laptop"), "root (uid 0) for ada at laptop, process 7");
        assert_eq!(known(Some(1000), "ada", "", "laptop"), "ada (uid 1000) at laptop, process 7");
        assert_eq!(known(Some(65532), "", "", ""), "uid 65532, process 7");
        assert_eq!(known(None, "ada", "", ""), "ada, process 7");
        assert_eq!(known(None, "", "", ""), "an unnamed user, process 7");
    }

    #[test]
    fn accounts_are_found_by_their_numbers() {
        let text = "root:x:0:0:root:/root:/bin/sh\n::7::\nbroken\nada:x:1000:1000::/home/ada:/bin/sh\ntoor:x:0:0::/:\n";
        let found = [0, 1000, 7].map(|uid| name_in(text, uid));
        assert_eq!(found, [Some("root".to_owned()), Some("ada".to_owned()), None]);
    }
}
