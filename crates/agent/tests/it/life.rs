//! How client and agent meet and part.

use pepo_agent::{serve, serve_in_process};
use pepo_client::Agent;
use pepo_wire::Code;

use crate::{agent, config};

#[tokio::test]
async fn an_agent_ends_with_its_stream() {
    let run = tempfile::tempdir().unwrap();
    let (agent, served) = agent(run.path()).await;
    assert!(agent.can("session") && !agent.can("something of tomorrow"));
    drop(agent);
    tokio::time::timeout(std::time::Duration::from_secs(10), served)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn neighbouring_versions_understand_each_other_and_others_say_who_is_older() {
    let run = tempfile::tempdir().unwrap();
    for (client, agent, works) in
        [((2, 1), (1, 1), true), ((1, 1), (2, 1), true), ((3, 2), (1, 1), false), ((1, 1), (3, 2), false)]
    {
        let mut config = config(run.path());
        config.speaks = agent;
        let (stream, _served) = serve_in_process(config);
        let met = Agent::connect_speaking(stream, client).await;
        assert_eq!(met.is_ok(), works, "client {client:?}, agent {agent:?}: {met:?}");
        if let Err(failure) = met {
            assert_eq!(failure.code(), Code::VersionMismatch);
            assert!(failure.hints[0].text.contains("renew"), "{failure:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_speaks_no_http2_ends_the_agent_with_an_error() {
    let run = tempfile::tempdir().unwrap();
    let (ours, theirs) = tokio::io::duplex(1024);
    let served = tokio::spawn(serve(theirs, config(run.path())));
    tokio::io::AsyncWriteExt::write_all(&mut { ours }, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(10), served).await.expect("it ends").unwrap().ok();
}

#[tokio::test]
async fn many_clients_share_one_connection_and_several_agents_one_journal() {
    let run = tempfile::tempdir().unwrap();
    let (first, _a) = agent(run.path()).await;
    let (second, _b) = agent(run.path()).await;
    let calls = (0..20).map(|round| {
        let agent = if round % 2 == 0 { first.clone() } else { second.clone() };
        tokio::spawn(async move { agent.list(None).await.map(|all| all.len()) })
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap().unwrap() > 0);
    }
}
