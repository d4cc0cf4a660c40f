//! The parts of the Engine API's answers that are read, leniently: what is absent is empty, what is unknown is passed over.
//!
//! Docker Engine API 1.41 and later; Podman answers the same.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer};

use crate::{HealthCheck, HostPid};

/// `GET /version`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct About {
    pub(crate) api_version: String,
    pub(crate) version: String,
    pub(crate) kernel_version: String,
    /// As Go names it.
    pub(crate) arch: String,
}

/// `GET /info`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Info {
    /// Do containers outlive the engine?
    pub(crate) live_restore_enabled: bool,
}

/// An element of `GET /containers/json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Summary {
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    names: Vec<String>,
    pub(crate) image: String,
    pub(crate) state: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Summary {
    /// Its own name, not the one a link gave it (`/other/alias`).
    pub(crate) fn name(&self) -> &str {
        let names = || self.names.iter().map(|name| name.trim_start_matches('/'));
        names()
            .find(|name| !name.contains('/'))
            .or_else(|| names().next())
            .filter(|name| !name.is_empty())
            .unwrap_or(&self.id)
    }

    pub(crate) fn created(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.created).ok().filter(|&seconds| seconds > 0)?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }
}

/// `GET /containers/ID/json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Inspect {
    pub(crate) id: String,
    name: String,
    /// Id of the image.
    pub(crate) image: String,
    pub(crate) state: InspectState,
    pub(crate) config: Config,
    pub(crate) host_config: HostConfig,
    /// SELinux label of its processes.
    pub(crate) process_label: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct InspectState {
    pub(crate) status: String,
    pub(crate) running: bool,
    pid: i64,
    pub(crate) exit_code: i64,
    pub(crate) error: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Config {
    /// As it was asked for.
    pub(crate) image: String,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    healthcheck: Healthcheck,
}

/// Nanoseconds; 0 means the engine's default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Healthcheck {
    #[serde(deserialize_with = "nullable")]
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    retries: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct HostConfig {
    pub(crate) pid_mode: String,
    pub(crate) userns_mode: String,
    pub(crate) runtime: String,
    pub(crate) cgroup_parent: String,
}

/// `GET /images/ID/json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Image {
    /// As Go names it.
    pub(crate) architecture: String,
    pub(crate) os: String,
}

impl Inspect {
    pub(crate) fn name(&self) -> &str {
        let name = self.name.trim_start_matches('/');
        if name.is_empty() { &self.id } else { name }
    }

    pub(crate) fn pid(&self) -> Option<HostPid> {
        u32::try_from(self.state.pid).ok().and_then(HostPid::new)
    }

    /// The health check; the engine's defaults are 30 s, 30 s and 3 (Dockerfile reference, HEALTHCHECK).
    pub(crate) fn health(&self) -> Option<HealthCheck> {
        let check = &self.config.healthcheck;
        if check.test.first().is_none_or(|kind| kind.is_empty() || kind == "NONE") {
            return None;
        }
        let time = |nanos: i64| {
            u64::try_from(nanos)
                .ok()
                .filter(|&nanos| nanos > 0)
                .map_or(Duration::from_secs(30), Duration::from_nanos)
        };
        let retries = u32::try_from(check.retries).ok().filter(|&retries| retries > 0).unwrap_or(3);
        Some(HealthCheck { interval: time(check.interval), timeout: time(check.timeout), retries })
    }
}

/// The engine's words in the body of an error.
pub(crate) fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    let mut words = match serde_json::from_slice::<Error>(body) {
        Ok(error) => error.message,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(500)]).trim().to_owned(),
    };
    words.retain(|c| !c.is_control() || c == ' ');
    words
}

/// Engines written in Go say `null` for what is empty.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_with_an_unknown_state_and_nulls_is_read() {
        let list: Vec<Summary> = serde_json::from_str(
            r#"[{"Id":"abc","Names":["/web/alias","/shop"],"Image":"shop:1","State":"stopped","Created":1700000000,"Labels":null,"More":{}},
                {"Id":"def","Names":null,"State":"melting"}]"#,
        )
        .unwrap();
        assert_eq!(list[0].name(), "shop");
        assert_eq!(list[0].created(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        assert_eq!((list[1].name(), list[1].state.as_str(), list[1].created()), ("def", "melting", None));
    }

    #[test]
    fn health_checks_are_read_with_the_engines_defaults() {
        let health = |check: &str| {
            serde_json::from_str::<Inspect>(&format!(r#"{{"Config":{{"Healthcheck":{check}}}}}"#))
                .unwrap()
                .health()
        };
        assert_eq!(health("null"), None);
        assert_eq!(health(r#"{"Test":["NONE"]}"#), None);
        assert_eq!(health("{}"), None);
        let seconds = Duration::from_secs;
        let check =
            health(r#"{"Test":["CMD","/ok"],"Interval":10000000000,"Timeout":1000000000,"Retries":2}"#)
                .unwrap();
        assert_eq!(check, HealthCheck { interval: seconds(10), timeout: seconds(1), retries: 2 });
        let check = health(r#"{"Test":["CMD-SHELL","true"]}"#).unwrap();
        assert_eq!(check, HealthCheck { interval: seconds(30), timeout: seconds(30), retries: 3 });
    }

    #[test]
    fn a_process_id_that_is_none_is_not_one() {
        for (pid, expected) in [("0", None), ("-1", None), ("99999999999", None), ("4711", Some(4711))] {
            let inspect: Inspect = serde_json::from_str(&format!(r#"{{"State":{{"Pid":{pid}}}}}"#)).unwrap();
            assert_eq!(inspect.pid().map(HostPid::get), expected, "{pid}");
        }
    }

    #[test]
    fn the_engines_words_are_found_in_errors_of_any_form() {
        assert_eq!(words(br#"{"message":"No such container: x"}"#), "No such container: x");
        assert_eq!(
            words(br#"{"cause":"no such container","message":"it is gone","response":404}"#),
            "it is gone"
        );
        assert_eq!(words(b"404 page not found\n"), "404 page not found");
        assert_eq!(words(b"\x1b[2Jboo\xff"), "[2Jboo\u{fffd}");
    }
}
