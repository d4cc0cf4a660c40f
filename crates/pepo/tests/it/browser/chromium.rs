//! Chromium without a window, asked over a pipe ("Chrome DevTools Protocol", option `--remote-debugging-pipe`): each message ends with
//! a byte of zero.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// How long anything may take on a machine that is busy with others.
const LIMIT: Duration = Duration::from_secs(120);

/// A browser with one page.
pub(super) struct Chromium {
    program: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    /// Its settings, its caches.
    _folder: tempfile::TempDir,
    next: u64,
    session: Option<String>,
    /// What went wrong in pages, in the browser's words.
    pub(super) errors: Vec<String>,
    /// What is answered when a page asks for words.
    pub(super) answer: String,
}

impl Chromium {
    /// Starts it, with an empty page.
    pub(super) fn start() -> Chromium {
        let folder = tempfile::Builder::new().prefix("pepo-browser-").tempdir().unwrap();
        // It reads descriptor 3 and writes 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", "chromium"]);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args(["--remote-debugging-pipe", "--window-size=1280,900", "--proxy-server=127.0.0.1:9"]);
        command.arg(format!("--user-data-dir={}", folder.path().display())).arg("about:blank");
        command.env("HOME", folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = command.spawn().expect("chromium starts: `cargo xtask setup` installs it");
        let (to, stdout) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(stdout).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("JSON of the browser");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser = Chromium {
            program,
            to,
            from,
            _folder: folder,
            next: 0,
            session: None,
            errors: Vec::new(),
            answer: String::new(),
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attached);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file, and returns when all of it has run.
    pub(super) fn open(&mut self, file: &Path) {
        self.call("Page.navigate", json!({ "url": format!("file://{}", file.display()) }));
        self.wait("a page that is loaded", |browser| {
            browser.evaluate("document.readyState === 'complete' && location.protocol === 'file:'") == true
        });
    }

    /// What an expression comes to in the page.
    pub(super) fn evaluate(&mut self, expression: &str) -> Value {
        let said = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(said.get("exceptionDetails").is_none(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// Waits until something is so.
    pub(super) fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Chromium) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_so(self) {
            assert!(Instant::now() < end, "no {what}; {:?}", self.errors);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Moves the mouse there, in pixels of the window.
    pub(super) fn point(&mut self, x: f64, y: f64) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
    }

    /// Clicks there.
    pub(super) fn click(&mut self, x: f64, y: f64) {
        self.point(x, y);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses the mouse at one place and lets it go at another.
    pub(super) fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        for (kind, (x, y)) in [("mousePressed", from), ("mouseMoved", to), ("mouseReleased", to)] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Clicks into the middle of what a selector finds first.
    pub(super) fn click_on(&mut self, selector: &str) {
        let [x, y, w, h] = self.place(selector);
        self.click(x + w / 2.0, y + h / 2.0);
    }

    /// Where that is: left, top, width, height.
    pub(super) fn place(&mut self, selector: &str) -> [f64; 4] {
        let place = self.evaluate(&format!(
            "(() => {{ const b = document.querySelector({selector:?}).getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }})()"
        ));
        serde_json::from_value(place).unwrap()
    }

    /// Types a text.
    pub(super) fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// What the page looks like, as PNG.
    pub(super) fn picture(&mut self) -> Vec<u8> {
        let said = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        BASE64_STANDARD.decode(said["data"].as_str().unwrap()).unwrap()
    }

    /// Calls a method and waits for its result.
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.send(method, &parameters);
        let end = Instant::now() + LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.from.recv_timeout(left).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.hear(&message);
        }
    }

    fn send(&mut self, method: &str, parameters: &Value) -> u64 {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        self.next
    }

    fn hear(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(parameters["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if parameters["entry"]["level"] != "info" => {
                self.errors.push(parameters["entry"].to_string());
            }
            Some("Runtime.consoleAPICalled") => self.errors.push(parameters.to_string()),
            Some("Page.javascriptDialogOpening") => {
                let answer = json!({ "accept": true, "promptText": self.answer });
                self.send("Page.handleJavaScriptDialog", &answer);
            }
            _ => {}
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.session = None;
        self.send("Browser.close", &json!({}));
        let end = Instant::now() + LIMIT;
        while matches!(self.program.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.program.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
