//! An HTTP server on the loopback that does as a test says, with TLS or without.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use pepo_testkit::command;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// What was asked: the first line, then the headers.
#[derive(Clone, Debug)]
pub(crate) struct Request(pub(crate) Vec<String>);

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.0[0].split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let name = format!("{name}: ").to_ascii_lowercase();
        let found = self.0.iter().skip(1).find(|line| line.to_ascii_lowercase().starts_with(&name));
        found.map(|line| &line[name.len()..])
    }
}

/// A server until the test process ends.
pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// All that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// Serves what `answer` writes; the connection ends after it.
pub(crate) fn serve(answer: impl Fn(&Request, &mut dyn Write) + Send + Sync + 'static) -> Server {
    listen(None, answer)
}

/// The same with TLS.
pub(crate) fn serve_tls(
    certificate: &Certificate,
    answer: impl Fn(&Request, &mut dyn Write) + Send + Sync + 'static,
) -> Server {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_file(&certificate.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&certificate.key).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    listen(Some(Arc::new(config)), answer)
}

fn listen(
    tls: Option<Arc<ServerConfig>>,
    answer: impl Fn(&Request, &mut dyn Write) + Send + Sync + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (notes, answer) = (Arc::clone(&asked), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (notes, answer, tls) = (Arc::clone(&notes), Arc::clone(&answer), tls.clone());
            thread::spawn(move || match tls {
                None => talk(stream, &notes, &*answer),
                Some(tls) => {
                    talk(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &notes, &*answer);
                }
            });
        }
    });
    Server { port, asked }
}

fn talk<S: Read + Write + Ends>(
    stream: S,
    notes: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request, &mut dyn Write) + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(1..) if line.trim_end().is_empty() => break,
            Ok(1..) => lines.push(line.trim_end().to_owned()),
            _ => return,
        }
    }
    let request = Request(lines);
    notes.lock().unwrap().push(request.clone());
    answer(&request, stream.get_mut());
    stream.get_mut().end();
}

/// A stream that says that it ends.
trait Ends {
    fn end(&mut self);
}

impl Ends for TcpStream {
    fn end(&mut self) {}
}

impl Ends for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

/// A whole answer of status 200.
pub(crate) fn ok(to: &mut dyn Write, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"one\"\r\n\r\n", body.len());
    let _ = to.write_all(head.as_bytes()).and_then(|()| to.write_all(body));
}

/// Any answer.
pub(crate) fn raw(to: &mut dyn Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

/// A certificate for `name`, and the authority that signed it.
pub(crate) struct Certificate {
    pub(crate) authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one in `folder`; `name` as in `IP:127.0.0.1`.
    pub(crate) fn new(folder: &Path, name: &str) -> Certificate {
        let at = |file: &str| folder.join(file).display().to_string();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"].map(str::to_owned);
        let openssl = |words: Vec<String>| {
            let output = command("openssl").args(words).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        fs::write(at("ext"), format!("subjectAltName={name}\n")).unwrap();
        let authority = words("req -x509 -days 2 -subj /CN=authority");
        openssl(
            [authority, key.to_vec(), vec!["-keyout".into(), at("ca.key"), "-out".into(), at("ca.pem")]]
                .concat(),
        );
        let request = words("req -new -subj /CN=server");
        openssl(
            [request, key.to_vec(), vec!["-keyout".into(), at("key.pem"), "-out".into(), at("csr")]].concat(),
        );
        let sign = format!(
            "x509 -req -days 2 -CAcreateserial -in {} -CA {} -CAkey {} -extfile {} -out {}",
            at("csr"),
            at("ca.pem"),
            at("ca.key"),
            at("ext"),
            at("cert.pem")
        );
        openssl(words(&sign));
        Certificate {
            authority: at("ca.pem").into(),
            certificate: at("cert.pem").into(),
            key: at("key.pem").into(),
        }
    }
}
