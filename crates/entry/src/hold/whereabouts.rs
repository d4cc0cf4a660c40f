//! Where we are: which engine, the container's name as far as it can be known from inside, and our own path.

use std::{env, fs, path::Path};

/// Who runs the container.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Engine {
    /// What is not known is left to whoever types the command.
    Kubernetes {
        namespace: Option<String>,
        container: Option<String>,
    },
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
                let of = pods(namespace.as_deref(), container.as_deref());
                vec![format!("kubectl exec -it {name}{of} -- {inside}"), format!("pepo shell pod/{name}{of}")]
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

    /// The commands that attach a debugger to what is held and that let it go on, as they are typed outside.
    pub(super) fn attach(&self) -> [String; 2] {
        let name = &self.name;
        let target = match &self.engine {
            Engine::Docker => format!("docker/{name}"),
            Engine::Podman => format!("podman/{name}"),
            Engine::Kubernetes { namespace, container } => {
                format!("pod/{name}{}", pods(namespace.as_deref(), container.as_deref()))
            }
            Engine::Unknown => name.clone(),
        };
        ["attach", "release"].map(|verb| format!("pepo {verb} {target}"))
    }

    /// Our own path inside.
    pub(super) fn ours(&self) -> &str {
        &self.ours
    }

    pub(super) fn in_kubernetes(&self) -> bool {
        matches!(self.engine, Engine::Kubernetes { .. })
    }
}

/// What names a pod's container beside the pod's name, for kubectl and pepo alike.
fn pods(namespace: Option<&str>, container: Option<&str>) -> String {
    let flags = [("-n", namespace), ("-c", container)];
    flags.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", value?))).collect()
}

/// How we are called: by our own name, or as a verb.
fn called(exe: &Path) -> String {
    let verb = if exe.file_name().is_some_and(|name| name == "pepo") { " entry" } else { "" };
    format!("{}{verb}", exe.display())
}

fn engine(read: &dyn Fn(&str) -> String) -> Engine {
    if env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        let namespace = read("/var/run/secrets/kubernetes.io/serviceaccount/namespace");
        let namespace = Some(namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty());
        let namespace = env::var("POD_NAMESPACE").ok().or(namespace);
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
        let engine =
            Engine::Kubernetes { namespace: Some("shop".to_owned()), container: Some("web".to_owned()) };
        let place =
            Whereabouts { engine, name: "web-0".to_owned(), shell: false, ours: "/pepo-entry".to_owned() };
        assert_eq!(
            place.enter(),
            [
                "kubectl exec -it web-0 -n shop -c web -- /pepo-entry sh",
                "pepo shell pod/web-0 -n shop -c web"
            ]
        );
        assert_eq!(
            place.attach(),
            ["pepo attach pod/web-0 -n shop -c web", "pepo release pod/web-0 -n shop -c web"]
        );
        let unknown = Engine::Kubernetes { namespace: None, container: None };
        let place = Whereabouts { engine: unknown, shell: true, ..place };
        assert_eq!(place.enter(), ["kubectl exec -it web-0 -- sh", "pepo shell pod/web-0"]);
        let place = Whereabouts { engine: Engine::Docker, shell: true, ..place };
        assert_eq!(place.enter(), ["docker exec -it web-0 sh", "pepo shell docker/web-0"]);
        assert_eq!(place.attach(), ["pepo attach docker/web-0", "pepo release docker/web-0"]);
    }
}
