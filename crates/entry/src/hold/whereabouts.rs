//! Where we are: which engine, the container's name as far as it can be known from inside, and our own path.

use std::{env, fs, path::Path};

/// Who runs the container.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Engine {
    Kubernetes { namespace: String, container: Option<String> },
    Docker,
    Podman,
    Unknown,
}

/// A container, from inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Whereabouts {
    engine: Engine,
    /// A name or an id that the engine's commands take.
    name: String,
    /// Whether there is a shell.
    shell: bool,
    ours: String,
}

impl Whereabouts {
    /// Looks around.
    pub(super) fn find() -> Whereabouts {
        let read = |path: &str| {
            fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let engine = engine(&read);
        let name = name(&engine, &read, &host);
        let shell = Path::new("/bin/sh").exists();
        let ours =
            fs::read_link("/proc/self/exe").map_or_else(|_| "pepo-entry".to_owned(), |exe| called(&exe));
        Whereabouts { engine, name, shell, ours }
    }

    /// Commands that enter, as they are typed outside.
    pub(super) fn enter(&self) -> Vec<String> {
        let inside = if self.shell { "sh".to_owned() } else { format!("{} sh", self.ours) };
        let name = &self.name;
        let by_engine = |engine: &str| {
            vec![format!("{engine} exec -it {name} {inside}"), format!("pepo shell {engine}/{name}")]
        };
        match &self.engine {
            Engine::Kubernetes { namespace, container } => {
                let container =
                    container.as_ref().map(|container| format!(" -c {container}")).unwrap_or_default();
                vec![format!("kubectl exec -it -n {namespace} {name}{container} -- {inside}")]
            }
            Engine::Docker => by_engine("docker"),
            Engine::Podman => by_engine("podman"),
            Engine::Unknown => vec![
                format!("docker exec -it {name} {inside}"),
                format!("podman exec -it {name} {inside}"),
                format!("nerdctl exec -it {name} {inside}"),
            ],
        }
    }

    /// The command that attaches a debugger, as far as the container's name is known.
    pub(super) fn attach(&self) -> Option<String> {
        let name = &self.name;
        match &self.engine {
            Engine::Docker => Some(format!("pepo attach docker/{name}")),
            Engine::Podman => Some(format!("pepo attach podman/{name}")),
            Engine::Kubernetes { namespace, container } => {
                let container = container.as_ref()?;
                Some(format!("pepo attach cri/{namespace}.{name}.{container} (on its node)"))
            }
            Engine::Unknown => Some(format!("pepo attach {name}")),
        }
    }

    /// Our own path inside.
    pub(super) fn ours(&self) -> &str {
        &self.ours
    }

    pub(super) fn in_kubernetes(&self) -> bool {
        matches!(self.engine, Engine::Kubernetes { .. })
    }
}

/// How we are called: by our own name, or as a verb.
fn called(exe: &Path) -> String {
    let verb = if exe.file_name().is_some_and(|name| name == "pepo") { " entry" } else { "" };
    format!("{}{verb}", exe.display())
}

fn engine(read: &dyn Fn(&str) -> String) -> Engine {
    if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        let namespace = read("/var/run/secrets/kubernetes.io/serviceaccount/namespace");
        let namespace = if namespace.is_empty() { "default".to_owned() } else { namespace.trim().to_owned() };
        return Engine::Kubernetes { namespace, container: pods_container(&read("/proc/self/mountinfo")) };
    }
    if Path::new("/run/.containerenv").exists() {
        return Engine::Podman;
    }
    if Path::new("/.dockerenv").exists() {
        return Engine::Docker;
    }
    Engine::Unknown
}

/// The kubelet mounts each container's termination log from a folder that has its name.
fn pods_container(mounts: &str) -> Option<String> {
    let inner =
        mounts.lines().filter_map(|line| line.split(' ').nth(3)).find(|inner| inner.contains("/pods/"))?;
    let after = inner.split("/containers/").nth(1)?;
    after.split('/').next().map(str::to_owned)
}

fn name(engine: &Engine, read: &dyn Fn(&str) -> String, host: &str) -> String {
    match engine {
        Engine::Kubernetes { .. } => env::var("POD_NAME").unwrap_or_else(|_| host.to_owned()),
        Engine::Podman => {
            let told = read("/run/.containerenv");
            let field = |name: &str| {
                told.lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                    .map(|value| value.trim_matches('"').to_owned())
            };
            let known = field("name").or_else(|| field("id")).filter(|name| !name.is_empty());
            known
                .or_else(|| id(&read("/proc/self/mountinfo")))
                .or_else(|| id(&read("/proc/self/cgroup")))
                .unwrap_or_else(|| host.to_owned())
        }
        Engine::Docker | Engine::Unknown => id(&read("/proc/self/cgroup"))
            .or_else(|| id(&read("/proc/self/mountinfo")))
            .unwrap_or_else(|| host.to_owned()),
    }
}

/// The first container id (64 hexadecimal digits): 12 digits of it, as engines show it. In a control group's path it may stand
/// anywhere; what is mounted from outside may be a layer or a volume as well, so there it has to stand below `…containers`.
fn id(text: &str) -> Option<String> {
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let of_line = |line: &str| {
        if line.contains(" - ") {
            let inner: Vec<&str> = line.split(' ').nth(3)?.split('/').collect();
            let pair = inner.windows(2).find(|pair| pair[0].ends_with("containers") && is_id(pair[1]))?;
            return Some(pair[1].to_owned());
        }
        line.split(['/', '-', '.', ':']).find(|word| is_id(word)).map(str::to_owned)
    };
    text.lines().find_map(of_line).map(|id| id[..12].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn ids_are_found_in_either_version_of_control_groups() {
        for text in [
            format!("12:pids:/docker/{ID}\n"),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!(
                "700 690 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
            ),
            format!(
                "700 690 0:1 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n"
            ),
        ] {
            assert_eq!(id(&text).as_deref(), Some("0123456789ab"), "{text}");
        }
        assert_eq!(id("0::/\n"), None);
        let volume = format!(
            "700 690 8:1 /var/lib/containers/storage/volumes/{ID}/_data /data rw - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(id(&volume), None);
    }

    #[test]
    fn the_kubelet_tells_the_containers_name() {
        let line = "1 2 8:1 /var/lib/kubelet/pods/12-34/containers/web/5f /dev/termination-log rw - ext4 /dev/sda1 rw";
        assert_eq!(pods_container(line).as_deref(), Some("web"));
    }

    #[test]
    fn the_command_to_enter_fits_the_engine() {
        let engine = Engine::Kubernetes { namespace: "shop".to_owned(), container: Some("web".to_owned()) };
        let place =
            Whereabouts { engine, name: "web-0".to_owned(), shell: false, ours: "/pepo-entry".to_owned() };
        assert_eq!(place.enter(), ["kubectl exec -it -n shop web-0 -c web -- /pepo-entry sh"]);
        assert_eq!(place.attach().unwrap(), "pepo attach cri/shop.web-0.web (on its node)");
        let place = Whereabouts { engine: Engine::Docker, shell: true, ..place };
        assert_eq!(place.enter(), ["docker exec -it web-0 sh", "pepo shell docker/web-0"]);
    }
}
