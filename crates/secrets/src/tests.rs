use super::*;

const AGENT: Hiding = Hiding { mark: "[hidden]", random: false };
const ENTRY: Hiding = Hiding { mark: "***", random: true };

#[test]
fn secrets_in_command_lines_are_hidden() {
    for (line, shown) in [
        ("app --password hunter2 -v", "app --password *** -v"),
        ("app --api-key=abc --port=80", "app --api-key=*** --port=80"),
        ("app --apiToken abc", "app --apiToken ***"),
        ("app --token-file /run/secrets/t", "app --token-file /run/secrets/t"),
        ("nginx --key /etc/tls/server.key", "nginx --key /etc/tls/server.key"),
        ("app --password --verbose", "app --password --verbose"),
        ("/usr/bin/mysqldump -psecret -uroot db", "/usr/bin/mysqldump -p*** -uroot db"),
        ("sshpass -p secret ssh host", "sshpass -p *** ssh host"),
        ("redis-cli -a secret ping", "redis-cli -a *** ping"),
        ("curl -u ada:lovelace https://x", "curl -u ada:*** https://x"),
        ("curl -u wholetoken https://x", "curl -u *** https://x"),
        ("java -Ddb.password=x -Dport=1 -jar a.jar", "java -Ddb.password=*** -Dport=1 -jar a.jar"),
        ("env DB_PASSWORD=x sh", "env DB_PASSWORD=*** sh"),
        ("containerd-shim -namespace moby -id 3f2a", "containerd-shim -namespace moby -id 3f2a"),
        ("python -m http.server 8000", "python -m http.server 8000"),
        ("app -H X-Api-Key:abc -H Accept:a", "app -H X-Api-Key:*** -H Accept:a"),
        ("app -pHunter2 -uuser:pw --user=me:pw", "app -p*** -uuser:*** --user=me:***"),
        ("app -p 8080:80 -p22 -port 80 -u 1000:1000", "app -p 8080:80 -p22 -port 80 -u 1000:1000"),
        ("app -privateKey x --auth-token y", "app -privateKey *** --auth-token ***"),
    ] {
        for hiding in [AGENT, ENTRY] {
            let mut words = line.split(' ');
            let program = words.next().unwrap_or_default();
            let told = [vec![program.to_owned()], hiding.arguments(program, words)].concat().join(" ");
            assert_eq!(told, shown.replace("***", hiding.mark));
        }
    }
}

#[test]
fn values_that_look_secret_are_hidden_whatever_their_name() {
    for (plain, shown) in [
        ("postgres://shop:pw@db:5432/shop", "postgres://shop:***@db:5432/shop"),
        ("amqp://user:p%40ss@mq", "amqp://user:***@mq"),
        ("https://ghp_0123456789abcdefghij0123456789abcdef@github.com/x", "https://***@github.com/x"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: ***"),
        ("x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc y", "x *** y"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        (r#"{"user":"ada","password":"x y","port":1}"#, r#"{"user":"ada","password":"***","port":1}"#),
        (r#"{"key": 5, "b": 2}"#, r#"{"key": ***, "b": 2}"#),
        ("https://x/cb?code=1&access_token=abc&z=2", "https://x/cb?code=1&access_token=***&z=2"),
        ("host:8080 key=value", "host:8080 key=***"),
        ("http://example.org/a@b", "http://example.org/a@b"),
        ("nothing to hide here: 1", "nothing to hide here: 1"),
        ("a hvs.0123456789abcdefghijkl.", "a ***."),
        ("https://h/a?password=pw&x=1", "https://h/a?password=***&x=1"),
        ("https://h/a?x=1&token=abc#top", "https://h/a?x=1&token=***#top"),
        ("Server=db;User Id=sa;Password=p w1;Timeout=3", "Server=db;User Id=sa;Password=***;Timeout=3"),
        ("host=h password='a b' user=u", "host=h password='***' user=u"),
        ("bearer xyz", "bearer ***"),
        ("https://hooks.slack.com/services/T0/B0/x", "https://hooks.slack.com/services/***"),
        ("use ghp_0123456789abcdef0 there", "use *** there"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY----- b", "a *** b"),
        ("/x/auth:/srv/token:/y", "/x/auth:/srv/token:/y"),
        ("--cert-key=/etc/tls/key", "--cert-key=/etc/tls/key"),
        ("é=token=x", "é=token=***"),
    ] {
        for hiding in [AGENT, ENTRY] {
            assert_eq!(hiding.text(plain), shown.replace("***", hiding.mark));
        }
    }
}

#[test]
fn variables_are_judged_by_name_and_value() {
    let long = "5f4dcc3b5aa765d61d8327deb882cf99";
    for (name, value, shown) in [
        ("PWD", "/srv", "/srv"),
        ("DB_PASSWORD", "x", "***"),
        ("GITHUB_TOKEN", "abc", "***"),
        ("mySecretThing", "abc", "***"),
        ("s3Key", "abc", "***"),
        ("AWS_SECRET_ACCESS_KEY", "abc", "***"),
        ("PASSWORD_FILE", "/run/x", "/run/x"),
        ("KEYBOARD", "us", "us"),
        ("AUTHOR", "ada", "ada"),
        ("PGPASSWORD", "x", "***"),
        ("TOKENIZER", "bpe", "bpe"),
        ("DATABASE_URL", "mysql://a:b@c/d", "mysql://a:***@c/d"),
        ("SECRET", "", ""),
        ("X", "ghp_0123456789abcdef", "***"),
        ("X", "-----BEGIN RSA PRIVATE KEY-----\nabc", "***"),
        ("HASH", long, long),
    ] {
        for hiding in [AGENT, ENTRY] {
            assert_eq!(hiding.variable(name, value), shown.replace("***", hiding.mark), "{name}");
        }
    }
    assert_eq!((ENTRY.variable("X", long), AGENT.variable("X", long)), ("***".to_owned(), long.to_owned()));
}

#[test]
fn hostile_text_is_neither_a_panic_nor_slow() {
    let start = std::time::Instant::now();
    for long in ["a:/".repeat(100_000), "token=".repeat(50_000), "eyJ.".repeat(100_000), PEM_BEGIN.repeat(20_000)] {
        assert!(!ENTRY.text(&long).is_empty());
    }
    assert!(start.elapsed().as_secs() < 10, "took {:?}", start.elapsed());
    for odd in ["://@", "=:=", "\u{0}\u{1f383}=\u{1f383}", "--", "-", ""] {
        let _ = AGENT.arguments(odd, [odd, odd]);
    }
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE";
