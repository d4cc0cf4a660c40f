//! A kubelet that ends what stands still for too long, and stops that are shorter than it bears.

use std::time::Duration;

use pepo_testkit::{Image, Variant, fixtures, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Here, InPod, cluster, strict};
use crate::held::Held;

/// So long a kubelet may take to find a process dead, end it and start it anew.
const ENDED: Duration = Duration::from_secs(180);

/// One thread, which answers whoever asks how it is and works in between; it says how often it was asked.
const PROGRAM: &str = "\
import http.server


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *_):
        pass


def work(asked):
    return asked * 2


class Server(http.server.HTTPServer):
    # Few may wait to be heard: soon the kernel answers nobody.
    request_queue_size = 1
    timeout = 0.05
    asked = 0

    def get_request(self):
        self.asked += 1
        print('asked', self.asked, flush=True)
        return super().get_request()


server = Server(('0.0.0.0', 8080), Health)
while True:
    server.handle_request()
    work(server.asked)
";

/// What works, by its line in [`PROGRAM`].
fn work() -> String {
    let line = PROGRAM.lines().position(|line| line.contains("return asked")).unwrap();
    format!("break health.py:{}", line + 1)
}

fn image() -> Image {
    let fixture = fixtures::python(Variant::debug());
    let python = Image::usual(&fixture).command_line()[0].clone();
    let image = Image::usual(&fixture).text("/app/health.py", PROGRAM);
    let image = image.named("pepo.test/health:1").command(&[&python, "/app/health.py"]);
    cluster().import(&image).unwrap();
    image
}

/// Every kind of probe, as a kubelet carries it out.
fn probes(image: &Image) -> [(&'static str, Value); 3] {
    let asks = "import urllib.request as u; u.urlopen('http://127.0.0.1:8080', timeout=60)";
    [
        ("exec", json!({"exec": {"command": [image.command_line()[0], "-c", asks]}})),
        ("http", json!({"httpGet": {"port": 8080}})),
        ("tcp", json!({"tcpSocket": {"port": 8080}})),
    ]
}

/// A pod with a probe that fails twice before the kubelet ends it.
fn pod(name: &str, probe: &Value, image: &Image) -> Value {
    let mut pod = super::pod(name, &[("app", image, strict())]);
    let mut probe = probe.clone();
    probe["periodSeconds"] = 8.into();
    probe["timeoutSeconds"] = 8.into();
    probe["failureThreshold"] = 2.into();
    pod["spec"]["containers"][0]["livenessProbe"] = probe;
    pod
}

impl Here<'_> {
    fn restarts(&self, pod: &str) -> String {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        self.namespace.kubectl(&["get", "pod", pod, "--output", path]).unwrap()
    }

    /// How often the program was asked how it is.
    fn asked(&self, pod: &str) -> usize {
        let log = self.namespace.kubectl(&["logs", pod, "--container", "app"]).unwrap();
        log.lines().filter(|line| line.starts_with("asked ")).count()
    }
}

#[test]
fn a_stop_ends_before_the_kubelet_would_end_the_process_by_every_kind_of_probe() {
    let here = Here::new("restricted");
    let image = image();
    let all = probes(&image).map(|(name, probe)| (name, pod(name, &probe, &image)));
    for (_, pod) in &all {
        here.namespace.apply(pod.clone()).unwrap();
    }
    let mut sessions = Vec::new();
    for (name, _) in &all {
        here.namespace.wait_ready(name).unwrap();
        let target = format!("pod/{name}");
        let mut held = Held::attach(&here.surroundings, &here.line(&["attach", &target]));
        held.types(&format!("{}\ncontinue\n", work()));
        held.waits_for("stopped");
        sessions.push((*name, held));
    }
    for (name, held) in &mut sessions {
        let spent = held.waits_for("budget_spent");
        // (2 - 1) * 8 s + 8 s, less a tenth.
        assert!(spent["stood_still_millis"].as_u64().unwrap() <= 16_000, "{name}: {spent}");
        let asked = here.asked(name);
        wait::try_until(ENDED, || match here.asked(name) {
            now if now < asked + 3 => Err(format!("{name}: asked {now} times")),
            _ => Ok(()),
        })
        .unwrap();
        assert_eq!(here.restarts(name), "0", "{name}: the kubelet bore the stop");
        held.hangs_up();
        assert_eq!(held.status(), Some(0), "{name}");
    }
    // The control: this kubelet ends what stands still for longer, by any of them.
    for (name, _) in &all {
        let pid = Pid::from_raw(InPod::started(&here, name).pid.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
    }
    for (name, _) in &all {
        wait::try_until(ENDED, || match here.restarts(name).as_str() {
            "0" => Err(format!("{name}: not ended")),
            _ => Ok(()),
        })
        .unwrap();
    }
}
