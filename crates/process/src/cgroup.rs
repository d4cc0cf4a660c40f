//! Control groups of a process, and the container they name.
//!
//! Every engine puts its containers into control groups whose names carry the container's id, each in its own style. That
//! is how a container of any engine is recognised without asking it; cgroups(7) describes the file.

use std::fmt;

/// One line of `/proc/PID/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupEntry {
    /// Number of the hierarchy; 0 is version 2.
    pub hierarchy: u32,
    /// Its controllers (`memory`, `name=systemd`); empty for version 2.
    pub controllers: Vec<String>,
    /// The group, relative to the root of our own cgroup namespace: it may begin with `/..`.
    pub path: String,
}

impl CgroupEntry {
    /// Reads the whole file's text; lines that are not as the manual says are left out.
    #[must_use]
    pub fn parse_all(text: &[u8]) -> Vec<CgroupEntry> {
        String::from_utf8_lossy(text).lines().filter_map(CgroupEntry::parse).collect()
    }

    fn parse(line: &str) -> Option<CgroupEntry> {
        let mut parts = line.splitn(3, ':');
        let hierarchy = parts.next()?.parse().ok()?;
        let controllers =
            parts.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let path = parts.next().filter(|path| path.starts_with('/'))?;
        let path = path.strip_suffix(" (deleted)").unwrap_or(path).to_owned();
        Some(CgroupEntry { hierarchy, controllers, path })
    }

    /// Is it of this version 1 controller?
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Who made a container, as far as its control groups tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman.
    Podman,
    /// containerd for Kubernetes.
    Containerd,
    /// CRI-O.
    Crio,
    /// nerdctl on containerd.
    Nerdctl,
    /// A CRI runtime whose groups carry no name of its own.
    Cri,
    /// Something that names its groups by 64 hexadecimal digits.
    Unknown,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
            Engine::Containerd => "containerd",
            Engine::Crio => "cri-o",
            Engine::Nerdctl => "nerdctl",
            Engine::Cri => "cri",
            Engine::Unknown => "unknown",
        })
    }
}

/// The container that a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its runtime's id: 64 hexadecimal digits in lower case.
    pub id: String,
    /// Who made it, as a guess.
    pub engine: Engine,
    /// The Kubernetes pod's uid with dashes, when the groups name it.
    pub pod: Option<String>,
}

/// The container the control groups name: the innermost, when containers are nested.
#[must_use]
pub fn container_of(entries: &[CgroupEntry]) -> Option<Container> {
    // Some hierarchies may be left at the root; the deepest path knows most.
    let mut paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    paths.into_iter().find_map(container_of_path)
}

/// The innermost container that a control group's path names.
#[must_use]
pub fn container_of_path(path: &str) -> Option<Container> {
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (depth, (id, prefix)) =
        components.iter().enumerate().rev().find_map(|(depth, part)| Some((depth, container_name(part)?)))?;
    let above = components.get(..depth).unwrap_or_default();
    let in_pods = path.contains("kubepods");
    let engine = engine_of_prefix(prefix)
        .or_else(|| above.iter().rev().find_map(|part| engine_of_parent(part)))
        .unwrap_or(if in_pods { Engine::Cri } else { Engine::Unknown });
    let pod = components.iter().take(depth + 1).rev().find_map(|part| pod_uid(part));
    Some(Container { id: id.to_owned(), engine, pod })
}

/// Does a component of the path name the container with this id? Runtimes may use ids that are no hexadecimal digits.
#[must_use]
pub fn path_names(path: &str, id: &str) -> bool {
    !id.is_empty()
        && path.split('/').any(|part| {
            let name = bare(part);
            name == id
                || (!is_helper(name) && name.strip_suffix(id).is_some_and(|prefix| prefix.ends_with('-')))
        })
}

/// The id and what stands before it in one component: `docker-ID.scope`, `pods.slice:cri-containerd:ID`, `ID`.
fn container_name(component: &str) -> Option<(&str, &str)> {
    let name = bare(component);
    let start = name.len().checked_sub(64)?;
    let (id, before) = (name.get(start..)?, name.get(..start)?);
    let whole = before.is_empty() || before.ends_with('-');
    if !whole || is_helper(name) || !is_container_id(id) {
        return None;
    }
    let prefix = before.strip_suffix('-').filter(|prefix| !prefix.is_empty());
    // systemd's style on cgroupfs: SLICE:PREFIX:ID.
    let by_colon = component.rsplit(':').nth(1).unwrap_or_default();
    Some((id, prefix.unwrap_or(by_colon)))
}

/// A component without unit suffix and without what stands before its last colon.
fn bare(component: &str) -> &str {
    let name =
        component.strip_suffix(".scope").or_else(|| component.strip_suffix(".service")).unwrap_or(component);
    name.rsplit(':').next().unwrap_or(name)
}

/// The monitors that Podman and CRI-O run beside a container are not in it.
fn is_helper(name: &str) -> bool {
    name.contains("conmon-")
}

/// Is it an id as engines make them: 64 hexadecimal digits in lower case?
#[must_use]
pub fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn engine_of_prefix(prefix: &str) -> Option<Engine> {
    match prefix {
        "docker" => Some(Engine::Docker),
        "libpod" | "podman" | "libpod-payload" => Some(Engine::Podman),
        "cri-containerd" | "containerd" => Some(Engine::Containerd),
        "crio" => Some(Engine::Crio),
        "nerdctl" => Some(Engine::Nerdctl),
        _ => None,
    }
}

fn engine_of_parent(component: &str) -> Option<Engine> {
    match component {
        "docker" | "moby" => Some(Engine::Docker),
        "libpod_parent" | "libpod" => Some(Engine::Podman),
        "k8s.io" => Some(Engine::Containerd),
        "nerdctl" | "default" => Some(Engine::Nerdctl),
        // An outer container is not the maker of the inner one.
        _ if container_name(component).is_some() => Some(Engine::Unknown),
        _ if component.starts_with("kubepods") || pod_uid(component).is_some() => Some(Engine::Cri),
        _ => None,
    }
}

/// The uid in `podUID` or `kubepods-burstable-podUID.slice`, where systemd writes `_` for `-`.
fn pod_uid(component: &str) -> Option<String> {
    let name = component.split(':').next()?;
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.rsplit_once("-pod") {
        Some((before, uid)) if before.contains("kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|&byte| byte == b'-').count();
    // A uid of the API server, or the hash of a static pod's file.
    (digits == 32 && digits + dashes == uid.len() && matches!(dashes, 0 | 4)).then_some(uid)
}

/// The container whose engine has mounted its files here: what is left to see from inside a cgroup namespace, and for
/// rootless containers without control groups.
#[must_use]
pub fn container_of_mounts(mountinfo: &[u8]) -> Option<Container> {
    String::from_utf8_lossy(mountinfo).lines().find_map(|line| {
        // proc_pid_mountinfo(5): field 4 is the root of the mount within its file system, field 5 the mount point.
        let mut fields = line.split(' ');
        let source = fields.nth(3)?;
        let at = fields.next()?;
        matches!(at, "/etc/hostname" | "/etc/hosts" | "/etc/resolv.conf" | "/run/.containerenv")
            .then(|| container_of_source(source))?
    })
}

/// `…/containers/ID/hostname` is Docker's, `…/overlay-containers/ID/userdata/…` is Podman's and CRI-O's.
fn container_of_source(source: &str) -> Option<Container> {
    let components: Vec<&str> = source.split('/').collect();
    let place = components.windows(2).find(|pair| is_container_id(pair[1]))?;
    let engine = match place[0] {
        "containers" => Engine::Docker,
        parent if parent.ends_with("-containers") => Engine::Podman,
        // `…/sandboxes/ID/hostname` names the pod's sandbox, which is another container.
        _ => return None,
    };
    Some(Container { id: place[1].to_owned(), engine, pod: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3f2a9c0b6d1e4f5a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a";
    const B: &str = "00000000000000000000000000000000000000000000000000000000000000b1";
    const POD: &str = "1c4b2f0e-98a7-4d3c-b2a1-0f9e8d7c6b5a";

    /// Checks one path; `A`, `B`, `POD` and `P_O_D` (with underscores) stand for the ids.
    fn check(path: &str, expected: Option<(&str, Engine, bool)>) {
        let path = path.replace("P_O_D", &POD.replace('-', "_")).replace("POD", POD);
        let path = path.replace("{A}", A).replace("{B}", B);
        let found = container_of_path(&path);
        let expected = expected.map(|(id, engine, pod)| Container {
            id: id.to_owned(),
            engine,
            pod: pod.then(|| POD.to_owned()),
        });
        assert_eq!(found, expected, "{path}");
    }

    /// Paths as engines make them, who made the container, and whether a pod is named.
    const CONTAINERS: &[(&str, Engine, bool)] = &[
        ("/docker/{A}", Engine::Docker, false),
        ("/system.slice/docker-{A}.scope", Engine::Docker, false),
        ("/system.slice:docker:{A}", Engine::Docker, false),
        ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope", Engine::Docker, false),
        ("/moby/{A}", Engine::Docker, false),
        ("/machine.slice/libpod-{A}.scope", Engine::Podman, false),
        ("/machine.slice/libpod-{A}.scope/container", Engine::Podman, false),
        ("/libpod_parent/libpod-{A}", Engine::Podman, false),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            Engine::Podman,
            false,
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{B}.slice/libpod-{A}.scope",
            Engine::Podman,
            false,
        ),
        ("/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", Engine::Podman, false),
        ("/kubepods/burstable/podPOD/{A}", Engine::Cri, true),
        ("/kubepods/podPOD/{A}", Engine::Cri, true),
        ("/kubepods/besteffort/podPOD/crio-{A}", Engine::Crio, true),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podP_O_D.slice/cri-containerd-{A}.scope",
            Engine::Containerd,
            true,
        ),
        ("/kubepods.slice/kubepods-podP_O_D.slice/crio-{A}.scope", Engine::Crio, true),
        ("/kubepods.slice/kubepods-podP_O_D.slice/crio-{A}.scope/container", Engine::Crio, true),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_O_D.slice/docker-{A}.scope",
            Engine::Docker,
            true,
        ),
        ("/kubepods-burstable-podP_O_D.slice:cri-containerd:{A}", Engine::Containerd, true),
        (
            "/system.slice/containerd.service/kubepods-burstable-podP_O_D.slice:cri-containerd:{A}",
            Engine::Containerd,
            true,
        ),
        (
            "/some/prefix/kubepods.slice/kubepods-podP_O_D.slice/cri-containerd-{A}.scope",
            Engine::Containerd,
            true,
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podP_O_D.slice/cri-containerd-{A}.scope",
            Engine::Containerd,
            true,
        ),
        ("/k8s.io/{A}", Engine::Containerd, false),
        ("/system.slice/nerdctl-{A}.scope", Engine::Nerdctl, false),
        ("/default/{A}", Engine::Nerdctl, false),
        ("/ecs/0123456789abcdef0123456789abcdef/{A}", Engine::Unknown, false),
        ("/my/own/parent/{A}", Engine::Unknown, false),
        ("/../../system.slice/docker-{A}.scope", Engine::Docker, false),
        ("/docker/{A}/init.scope", Engine::Docker, false),
        ("/docker/{A}/system.slice/nginx.service", Engine::Docker, false),
        ("/docker/{B}/docker/{A}", Engine::Docker, false),
        ("/docker/{B}/kubelet/kubepods/burstable/podPOD/{A}", Engine::Cri, true),
        (
            "/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podP_O_D.slice/cri-containerd-{A}.scope",
            Engine::Containerd,
            true,
        ),
        ("/docker/{B}/{A}", Engine::Unknown, false),
        ("/system.slice/docker-{B}.scope/libpod_parent/libpod-{A}", Engine::Podman, false),
    ];

    #[test]
    fn containers_are_recognised_in_every_engines_style() {
        for &(path, engine, pod) in CONTAINERS {
            check(path, Some((A, engine, pod)));
        }
    }

    #[test]
    fn what_is_no_container_is_not_taken_for_one() {
        for path in [
            "/",
            "/../..",
            "/init.scope",
            "/user.slice/user-1000.slice/session-2.scope",
            "/system.slice/docker.service",
            "/system.slice/containerd.service",
            "/machine.slice/libpod-conmon-{A}.scope",
            "/libpod_parent/conmon-{A}",
            "/kubepods.slice/kubepods-podP_O_D.slice/crio-conmon-{A}.scope",
            "/machine.slice/machine-libpod_pod_{A}.slice",
            "/kubepods/burstable/podPOD",
            "/process_api/c7c0091e671d19ffaeee113efc081984",
            "/x{A}",
            "/{A}{A}",
            "/docker/ABCDEF",
        ] {
            check(path, None);
        }
        assert_eq!(container_of_path(&format!("/docker/{}", A.to_uppercase())), None);
        assert_eq!(container_of_path("/é\u{1f383}docker-ü"), None);
    }

    #[test]
    fn a_monitor_beside_a_container_in_a_container_belongs_to_the_outer_one() {
        check("/docker/{B}/machine.slice/libpod-conmon-{A}.scope", Some((B, Engine::Docker, false)));
    }

    #[test]
    fn the_hierarchy_that_knows_most_decides() {
        let text = format!(
            "9:name=systemd:/\n4:memory:/docker/{A}\n1:cpu,cpuacct:/docker/{A}\n0::/system.slice/docker.service\n"
        );
        let entries = CgroupEntry::parse_all(text.as_bytes());
        assert_eq!(entries.len(), 4);
        assert!(entries[2].has("cpuacct") && !entries[3].has("cpu") && entries[3].hierarchy == 0);
        assert_eq!(container_of(&entries).map(|container| container.id).as_deref(), Some(A));
        let broken =
            CgroupEntry::parse_all(b"x:y:/z\n1:cpu\n0::relative\n\n\xff:\xff:\xff\n3:a:/b:c (deleted)");
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].path, "/b:c");
    }

    #[test]
    fn containers_with_names_of_their_own_are_found_by_them() {
        for (path, id, expected) in [
            ("/default/shop", "shop", true),
            ("/system.slice/nerdctl-shop.scope", "shop", true),
            ("/pods.slice:cri-containerd:shop", "shop", true),
            ("/default/shop/init.scope", "shop", true),
            ("/default/workshop", "shop", false),
            ("/system.slice/libpod-conmon-shop.scope", "shop", false),
            ("/default/shop", "", false),
        ] {
            assert_eq!(path_names(path, id), expected, "{path} {id}");
        }
    }

    #[test]
    fn mounted_files_name_the_container_when_its_groups_are_hidden() {
        let docker = format!(
            "700 690 0:52 / / rw - overlay overlay rw\n712 700 254:1 /var/lib/docker/containers/{A}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw\n"
        );
        let podman = format!(
            "44 40 0:25 /containers/storage/overlay-containers/{A}/userdata/.containerenv /run/.containerenv rw - tmpfs tmpfs rw\n"
        );
        let pod = format!(
            "5 4 0:25 /io.containerd.grpc.v1.cri/sandboxes/{A}/hostname /etc/hostname rw - tmpfs tmpfs rw\n"
        );
        assert_eq!(
            container_of_mounts(docker.as_bytes()).map(|found| (found.id, found.engine)),
            Some((A.into(), Engine::Docker))
        );
        assert_eq!(
            container_of_mounts(podman.as_bytes()).map(|found| (found.id, found.engine)),
            Some((A.into(), Engine::Podman))
        );
        assert_eq!(container_of_mounts(pod.as_bytes()), None);
        // The host itself has such mounts elsewhere.
        assert_eq!(container_of_mounts(docker.replace("/etc/hostname", "/mnt/x").as_bytes()), None);
    }
}
