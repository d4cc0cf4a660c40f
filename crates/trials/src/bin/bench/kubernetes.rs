//! Pods: from a command to what it shows, beside `kubectl debug`; what the stream to a helper costs; many replicas.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use pepo_platform::HELPER_IMAGE;
use pepo_testkit::{
    Fixture, Image, Life as _, Variant, fixtures,
    kubernetes::{Cluster, Namespace, Settings, Version},
    pepo, spawn,
};
use pepo_trials::measure::middle;
use serde_json::{Value, json};

use crate::timing::timed;

/// Replicas that are recorded together.
const REPLICAS: usize = 20;
/// Round trips of one session.
const TRIPS: usize = 50;
/// How long a command may be silent: `kubectl debug` waits for ever for a container that cannot start.
const LIMIT: Duration = Duration::from_secs(120);
/// What the shell is asked to say, and says.
const READY: &str = "ready";

/// All of it, on the cluster that `PEPO_CLUSTER` names, else on one of its own.
pub(crate) fn run(rounds: usize) -> Result<String> {
    if env::var_os("PEPO_CLUSTER").is_some() {
        return measured(Cluster::shared(), rounds);
    }
    let folder = Cluster::usual_folder().with_file_name("cluster-bench");
    let settings = Settings { folder, version: Version::default(), nodes: 1 };
    let cluster = Cluster::up(&settings, &|_| {})?;
    let measured = measured(&cluster, rounds);
    cluster.down()?;
    measured
}

fn measured(cluster: &Cluster, rounds: usize) -> Result<String> {
    let bench = Bench::new(cluster)?;
    Ok(include_str!("kubernetes.md").to_owned()
        + &bench.starts(rounds)?
        + &bench.round_trips(rounds)?
        + &bench.replicas(rounds)?)
}

/// A namespace with what is measured in it.
struct Bench<'c> {
    cluster: &'c Cluster,
    namespace: Namespace<'c>,
    fixture: Fixture,
    program: Image,
    shell: Image,
}

impl<'c> Bench<'c> {
    fn new(cluster: &'c Cluster) -> Result<Bench<'c>> {
        let fixture = fixtures::python(Variant::debug());
        let program = Image::usual(&fixture);
        let shell = Image::new("pepo.test/shell-of-nobody:1").with_shell().user("65532");
        for image in [&program, &shell, &Image::pepo(Path::new(&pepo()), HELPER_IMAGE)] {
            cluster.import(image)?;
        }
        let namespace = cluster.namespace("restricted")?;
        Ok(Bench { cluster, namespace, fixture, program, shell })
    }

    /// What a pod's containers are.
    fn spec(&self) -> Value {
        let security = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        });
        let container = json!({"name": "app", "image": self.program.name(), "securityContext": security});
        json!({"terminationGracePeriodSeconds": 0, "containers": [container]})
    }

    /// A pod that runs.
    fn pod(&self, name: &str) -> Result<()> {
        let meta = json!({"name": name});
        self.namespace
            .apply(json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": self.spec()}))?;
        let pod = self.namespace.wait_ready(name)?;
        pod.wait_started();
        Ok(())
    }

    fn gone(&self, pod: &str) -> Result<()> {
        self.namespace.kubectl(&["delete", "pod", pod, "--wait=false"]).map(drop)
    }

    fn pepo(&self, words: &[&str]) -> Command {
        let mut command = pepo_testkit::command(pepo());
        command.args(words).args(["--namespace", self.namespace.name()]);
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        command
    }

    /// `kubectl debug`, to the shell's first answer.
    fn debug(&self, pod: &str) -> Result<Duration> {
        let mut command = self.cluster.kubectl_command();
        command.args(["--namespace", self.namespace.name(), "debug", pod, "--image", self.shell.name()]);
        command.args(["--profile", "restricted", "--target", "app", "--stdin", "--quiet", "--", "sh"]);
        let started = Instant::now();
        let mut talk = Talk::begin(command)?;
        talk.say(&format!("echo {READY}"))?;
        talk.until(READY)?;
        let took = started.elapsed();
        talk.end()?;
        Ok(took)
    }

    /// From nothing to a look and to a debugger, in turns.
    fn starts(&self, rounds: usize) -> Result<String> {
        let mut times: [Vec<Duration>; 4] = Default::default();
        for round in 0..rounds {
            let [theirs, ours] = ["theirs", "ours"].map(|who| format!("{who}-{round}"));
            self.pod(&theirs)?;
            self.pod(&ours)?;
            let target = format!("pod/{ours}");
            let stack = || timed(&mut self.pepo(&["stack", &target]));
            let attach = || timed(&mut self.pepo(&["attach", &target, "-ex", "detach"]));
            // Whoever comes first warms the caches of the other: in turns.
            let mut debugged = (round % 2 == 0).then(|| self.debug(&theirs)).transpose()?;
            let (first, again) = (stack()?, stack()?);
            if debugged.is_none() {
                debugged = Some(self.debug(&theirs)?);
            }
            let all = [debugged.context("measured just now")?, first, again, attach()?];
            times.iter_mut().zip(all).for_each(|(times, took)| times.push(took));
            self.gone(&theirs)?;
            self.gone(&ours)?;
        }
        let [theirs, first, again, attach] = times.map(|mut times| middle(&mut times).as_secs_f64());
        let mut out = format!("| | median |\n|---|---|\n| `kubectl debug`, to the shell | {theirs:.2} s |\n");
        for (name, time) in [
            ("`pepo stack`, first", first),
            ("`pepo stack`, again", again),
            ("`pepo attach -ex detach`: to the prompt of the debugger and back, helper there", attach),
        ] {
            out += &format!("| {name} | {time:.2} s ({:.2}) |\n", time / theirs);
        }
        Ok(out)
    }

    /// A `threads` request of a session in a pod, and of one on a process of this machine.
    fn round_trips(&self, rounds: usize) -> Result<String> {
        self.pod("trips")?;
        let here = spawn(&self.fixture, &[]);
        let here_name = format!("pid/{}", here.pid());
        let (mut there, mut local) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            there.extend(self.trips("pod/trips")?);
            local.extend(self.trips(&here_name)?);
        }
        self.gone("trips")?;
        let (there, local) = (middle(&mut there).as_secs_f64() * 1e3, middle(&mut local).as_secs_f64() * 1e3);
        Ok(format!(
            "\nA request (`threads`, from a line typed to its answer) while the target stands at a breakpoint.\n\n\
             | | median |\n|---|---|\n| on a process of this machine | {local:.2} ms |\n\
             | in a pod, over an exec | {there:.2} ms |\n| added by the stream | {:.2} ms |\n",
            there - local
        ))
    }

    fn trips(&self, target: &str) -> Result<Vec<Duration>> {
        let words = ["attach", target, "--pause-budget", "0", "--output", "json"];
        let mut talk = Talk::begin(self.pepo(&words))?;
        talk.until("\"kind\":\"attached\"")?;
        talk.say(&format!("break {}:{}", self.fixture.source_name(), self.fixture.line("BREAK")))?;
        talk.say("continue")?;
        talk.until("\"kind\":\"stopped\"")?;
        let mut times = Vec::new();
        for _ in 0..TRIPS {
            let begun = Instant::now();
            talk.say("threads")?;
            talk.until("\"kind\":\"threads\"")?;
            times.push(begun.elapsed());
        }
        talk.end()?;
        Ok(times)
    }

    /// A profile of many pods, helpers not there and there.
    fn replicas(&self, rounds: usize) -> Result<String> {
        let selector = json!({"matchLabels": {"app": "many"}});
        let template = json!({"metadata": {"labels": {"app": "many"}}, "spec": self.spec()});
        let count = REPLICAS.to_string();
        let folder = tempfile::tempdir()?;
        let out = folder.path().join("many.folded");
        let out = out.to_str().context("a path that is text")?;
        let record = |target: &str| {
            let words = ["record", target, "-d", "2", "-o", out, "--at-once", &count];
            timed(&mut self.pepo(&words))
        };
        let (mut first, mut again, mut one) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds.min(3) {
            let name = format!("many-{round}");
            self.namespace
                .apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {"replicas": REPLICAS, "selector": selector, "template": template}}))?;
            let deployment = format!("deployment/{name}");
            self.namespace.kubectl(&["rollout", "status", &deployment, "--timeout=300s"])?;
            let target = format!("deploy/{name}");
            first.push(record(&target)?);
            again.push(record(&target)?);
            let pods = ["get", "pods", "-l", "app=many", "-o", "jsonpath={.items[0].metadata.name}"];
            one.push(record(&format!("pod/{}", self.namespace.kubectl(&pods)?))?);
            self.namespace.kubectl(&["delete", &deployment, "--wait=true", "--cascade=foreground"])?;
        }
        let [first, again, one] = [first, again, one].map(|mut times| middle(&mut times).as_secs_f64());
        Ok(format!(
            "\n`pepo record -d 2`, from the start of the command to the file, merged; what is over 2 s is the way there and the names.\n\n\
             | | median |\n|---|---|\n| one pod, helper there | {one:.2} s |\n\
             | {REPLICAS} pods of a Deployment, first | {first:.2} s |\n\
             | {REPLICAS} pods of a Deployment, again | {again:.2} s |\n"
        ))
    }
}

/// A command that is spoken to by lines.
struct Talk {
    child: Child,
    said: mpsc::Receiver<String>,
}

impl Talk {
    fn begin(mut command: Command) -> Result<Talk> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let (line, said) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Ok(Talk { child, said })
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("its input is a pipe")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// Reads on to a line with this in it.
    fn until(&mut self, wanted: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left).with_context(|| format!("it did not say {wanted}"))?;
            if line.contains(wanted) {
                return Ok(());
            }
        }
    }

    /// Ends its input, which ends it.
    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
