//! Docker's engine behind TLS: the real dockerd with `--tlsverify`, and certificates made here by the openssl command.

use std::{fs, path::Path};

use pepo_testkit::{Door, command, engine::Docker};
use pepo_wire::Failure;

use super::*;

/// Where dockerd listens, in its own network namespace.
const PORT: u16 = 2376;

/// An authority and what it has signed, in a folder of its own.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let authority = Authority { folder: tempfile::tempdir().unwrap() };
        fs::write(authority.path("config"), "[req]\ndistinguished_name=name\n[name]\n").unwrap();
        let ends = ["-days", "2", "-addext", "basicConstraints=critical,CA:TRUE", "-out", "ca.pem"];
        authority.request("authority", "ca-key.pem", &[&["-x509"], &ends[..]].concat());
        authority
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, words: &[&str]) {
        let output = command("openssl").args(words).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn request(&self, name: &str, key: &str, more: &[&str]) {
        let name = format!("/CN={name}");
        let own = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config"];
        self.openssl(&[&own[..], &["config", "-subj", &name, "-keyout", key], more].concat());
    }

    /// `NAME-cert.pem` and `NAME-key.pem`, good for so many days from now.
    fn sign(&self, name: &str, extension: &str, days: &str) {
        let [key, request, certificate] = ["key", "request", "cert"].map(|what| format!("{name}-{what}.pem"));
        self.request(name, &key, &["-new", "-out", &request]);
        fs::write(self.path("extensions"), extension).unwrap();
        let by = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "extensions"];
        let what = ["x509", "-req", "-in", &request, "-days", days, "-out", &certificate];
        self.openssl(&[&what[..], &by[..]].concat());
    }

    /// A dockerd that shows this certificate and asks for one of this authority's.
    fn dockerd(&self, name: &str, days: &str) -> (Engine, Door) {
        self.sign(name, "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n", days);
        let flag = |flag: &str, file: String| format!("--{flag}={}", self.path(&file).display());
        let engine = Docker::start_with(&[
            format!("--host=tcp://127.0.0.1:{PORT}"),
            "--tlsverify".to_owned(),
            flag("tlscacert", "ca.pem".to_owned()),
            flag("tlscert", format!("{name}-cert.pem")),
            flag("tlskey", format!("{name}-key.pem")),
        ]);
        let door = Door::to(engine.daemon(), PORT);
        (engine, door)
    }

    /// A folder as docker's command wants it, for a client of this authority.
    fn client(&self) -> TempDir {
        self.sign("client", "extendedKeyUsage=clientAuth\n", "2");
        let folder = tempfile::tempdir().unwrap();
        for (from, to) in
            [("ca.pem", "ca.pem"), ("client-cert.pem", "cert.pem"), ("client-key.pem", "key.pem")]
        {
            fs::copy(self.path(from), folder.path().join(to)).unwrap();
        }
        folder
    }
}

/// Looks at this address with the files in this folder.
fn at(address: &str, folder: &Path) -> At {
    let nowhere = tempfile::tempdir().unwrap();
    let environment = Environment::of(
        nowhere.path(),
        [
            ("DOCKER_HOST", address),
            ("DOCKER_TLS_VERIFY", "1"),
            ("DOCKER_CERT_PATH", folder.to_str().unwrap()),
        ],
    );
    let options = Options { environment, on: Some(pepo_wire::name::Kind::Docker), ..Options::usual(None) };
    At { options, prefix: "docker", _nowhere: nowhere }
}

async fn refused(address: &str, folder: &Path) -> Failure {
    let listing = at(address, folder).platforms().list_all().await;
    let [(_, failure)] = listing.failed.as_slice() else { panic!("{listing:?}") };
    failure.clone()
}

/// Why there is no connection, and what to do.
async fn says(address: &str, folder: &Path, why: &str, hint: &str) {
    let failure = refused(address, folder).await;
    assert_eq!(failure.code(), Code::EngineUnreachable, "{failure}");
    assert!(failure.to_string().contains(why), "no {why:?} in {failure}");
    assert!(failure.hints.iter().any(|one| one.text.contains(hint)), "no {hint:?} in {:?}", failure.hints);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_behind_tls_is_listed_located_and_reached() {
    let authority = Authority::new();
    let ((engine, door), client) = (authority.dockerd("engine", "2"), authority.client());
    let container = run(&engine, "tls", RunOptions::default());
    for scheme in ["tcp", "https"] {
        let at = at(&format!("{scheme}://127.0.0.1:{}", door.port()), client.path())
            .policy(ReachPolicy::Helper)
            .binary(AgentBinary::File(pepo_testkit::pepo()));
        let platforms = at.platforms();
        let listing = platforms.list_all().await;
        assert!(listing.failed.is_empty(), "{:?}", listing.failed);
        assert!(listing.listed.iter().any(|one| one.container_id == container.id()));
        let found = platforms.locate(&at.name(container.name())).await.unwrap();
        let reached = found.reach().await.unwrap();
        assert!(matches!(reached.how, How::Helper { .. }));
        let agent = Agent::connect(reached.io).await.unwrap();
        let processes = agent.list(Some(reached.target)).await.unwrap();
        assert_eq!(processes[0].container_id, container.id());
        drop(agent);
        reached.leave.leave().await.unwrap();
        assert_eq!(helpers(&container).await, [""; 0]);
    }
    container.assert_goes_on();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_told_and_nothing_is_sent() {
    let authority = Authority::new();
    let ((_engine, door), client) = (authority.dockerd("engine", "2"), authority.client());
    let (host, port) = (format!("tcp://127.0.0.1:{}", door.port()), door.port());

    says(&format!("tcp://localhost:{port}"), client.path(), "not valid for name", "by a name that is in its")
        .await;
    let stranger = Authority::new().client();
    says(&host, stranger.path(), "invalid peer certificate", "of whoever signed").await;

    let key = client.path().join("key.pem");
    let good = fs::read(&key).unwrap();
    fs::write(&key, "no key").unwrap();
    says(&host, client.path(), "key.pem cannot be used: it holds no private key", "mend the file").await;
    fs::remove_file(&key).unwrap();
    says(&host, client.path(), "key.pem cannot be used: No such file", "mend the file").await;
    // Known by nothing, then by what another authority has signed.
    fs::remove_file(client.path().join("cert.pem")).unwrap();
    says(&host, client.path(), "alert", "wants to know its clients").await;
    for name in ["cert.pem", "key.pem"] {
        fs::copy(stranger.path().join(name), client.path().join(name)).unwrap();
    }
    says(&host, client.path(), "alert", "wants to know its clients").await;
    fs::write(client.path().join("ca.pem"), "nobody").unwrap();
    fs::write(&key, good).unwrap();
    says(&host, client.path(), "ca.pem cannot be used: it holds no certificate", "mend the file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_told_as_such() {
    let authority = Authority::new();
    let ((_engine, door), client) = (authority.dockerd("expired", "-1"), authority.client());
    says(&format!("tcp://127.0.0.1:{}", door.port()), client.path(), "Expired", "renew").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    says(&address, Authority::new().client().path(), "corrupt message", "usually 2376").await;
}
