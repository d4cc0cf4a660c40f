//! A helper of an image that is not ours but has `sh`: its main process waits, says nothing, and becomes the agent once the binary has come
//! in over an exec.
//!
//! So there is one agent, the container's main process, as with our own image: it is nobody's orphan, and a child of the target's main
//! process it could only become by the death of its runtime. The binary lies in the first folder of the helper's own file system that
//! can be written to and run from; it goes with the container.

use std::time::Duration;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::IDLE;
use crate::{AgentBinary, PlatformError};

/// Where the binary may lie, in the order they are tried.
const FOLDERS: &str = "/tmp /var/tmp /run /dev/shm /";
/// So many looks are taken in the time that a helper waits for somebody to use it, ten in a second.
const LOOKS: u64 = IDLE.as_secs() * 10;
/// What the script says first, if the binary is there.
const HERE: &str = "here";
/// And if it is not, before the machine's name.
const SEND: &str = "send ";
/// So long the script may take to say it.
const FIRST_LINE: Duration = Duration::from_secs(15);
/// So long the binary may be under way.
const SENDING: Duration = Duration::from_secs(180);

/// What the container runs. Nothing of it may be in the container's log.
pub(super) fn main(helper: &str) -> Vec<String> {
    let idle = IDLE.as_secs();
    let script = format!(
        "exec >/dev/null 2>&1\n\
         n=0\n\
         while [ $n -lt {LOOKS} ]; do\n\
         for d in {FOLDERS}; do f=${{d%/}}/{helper}\n\
         if [ -x $f/pepo ]; then export PEPO_RUN=$f/run; exec $f/pepo agent --wait {idle}; fi\n\
         done\n\
         n=$((n+1)); sleep 0.1 || sleep 1 || exit 1\n\
         done"
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

/// What each exec runs: it takes the binary in if it is not there, then carries bytes to the agent. A binary that is cut off is none.
pub(super) fn join(helper: &str) -> Vec<String> {
    let script = format!(
        "umask 077\n\
         join() {{ export PEPO_RUN=$f/run; exec $f/pepo agent --join; }}\n\
         for d in {FOLDERS}; do f=${{d%/}}/{helper}; if [ -x $f/pepo ]; then echo {HERE}; join; fi; done\n\
         for d in {FOLDERS}; do f=${{d%/}}/{helper}\n\
         if mkdir -p $f && : >$f/x && chmod 700 $f/x && [ -x $f/x ]; then break; fi; f=\n\
         done 2>/dev/null\n\
         if [ -z \"$f\" ]; then echo 'no folder of {FOLDERS} can be written to and run from' >&2; exit 1; fi\n\
         echo {SEND}$(uname -m)\n\
         read -r size && head -c $size >$f/$$ && [ $(wc -c <$f/$$) -eq $size ] && chmod 700 $f/$$ && mv $f/$$ $f/pepo || exit 1\n\
         join"
    );
    ["sh", "-c", &script].map(str::to_owned).into()
}

/// What runs the binary that was taken in, with other arguments.
pub(super) fn run(helper: &str, arguments: &[String]) -> Vec<String> {
    let script = format!(
        "for d in {FOLDERS}; do f=${{d%/}}/{helper}; if [ -x $f/pepo ]; then exec $f/pepo \"$@\"; fi; done\n\
         echo 'the binary is gone from {FOLDERS}' >&2; exit 127"
    );
    let words = ["sh", "-c", &script, "sh"].map(str::to_owned);
    words.into_iter().chain(arguments.iter().cloned()).collect()
}

/// Hears the script of [`join`] and sends the binary that it lacks. What follows on the stream is the agent's. `None` where the
/// script ended without a word.
pub(super) async fn bring(
    binary: &AgentBinary,
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<Option<()>, PlatformError> {
    let mut line = String::new();
    let slow = |what: &str, limit| PlatformError::Slow { what: what.to_owned(), limit };
    match timeout(FIRST_LINE, from.read_line(&mut line)).await {
        Err(_) => return Err(slow("the shell in the helper", FIRST_LINE)),
        Ok(Err(_) | Ok(0)) => return Ok(None),
        Ok(Ok(_)) => {}
    }
    let line = line.trim();
    if line == HERE {
        return Ok(Some(()));
    }
    let Some(machine) = line.strip_prefix(SEND) else {
        return Err(PlatformError::Silent { words: line.to_owned() });
    };
    let chosen = binary.for_machine(machine)?;
    match timeout(SENDING, send(&chosen, to)).await {
        Err(_) => Err(slow("the helper, which was sent the agent,", SENDING)),
        Ok(Err(source)) => Err(PlatformError::File { path: chosen, source }),
        Ok(Ok(())) => Ok(Some(())),
    }
}

/// Its length on a line, then its bytes: an end of file may never arrive.
async fn send(binary: &std::path::Path, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(binary).await?;
    let size = file.metadata().await?.len();
    to.write_all(format!("{size}\n").as_bytes()).await?;
    tokio::io::copy(&mut file, to).await?;
    to.flush().await
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::Stdio;

    use tokio::io::BufReader;

    use super::*;

    fn shell(line: &[String]) -> tokio::process::Child {
        #[expect(clippy::disallowed_methods, reason = "a script of ours, in a test")]
        let mut command = tokio::process::Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// A stand-in for the folders, since the scripts name those of a container.
    fn within(folder: &std::path::Path, line: Vec<String>) -> Vec<String> {
        let folders = format!("/proc {}", folder.display());
        line.into_iter().map(|word| word.replace(FOLDERS, &folders)).collect()
    }

    #[tokio::test]
    async fn a_binary_is_taken_in_once_and_one_that_is_cut_off_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        std::fs::write(&binary, "#!/bin/sh\necho \"$PEPO_RUN $*\"\n").unwrap();
        let line = within(folder.path(), join("pepo-1"));
        let mut cut = shell(&line);
        let mut out = BufReader::new(cut.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).await.unwrap();
        assert!(said.starts_with(SEND), "{said}");
        let mut input = cut.stdin.take().unwrap();
        input.write_all(b"100\n#!/bin/sh").await.unwrap();
        drop(input);
        assert!(!cut.wait().await.unwrap().success());
        assert!(!folder.path().join("pepo-1/pepo").exists());
        for expected in [true, false] {
            let mut child = shell(&line);
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut said = String::new();
            out.read_line(&mut said).await.unwrap();
            assert_eq!(said.starts_with(SEND), expected, "{said}");
            let mut input = child.stdin.take().unwrap();
            if expected {
                send(&binary, &mut input).await.unwrap();
            }
            said.clear();
            out.read_line(&mut said).await.unwrap();
            assert_eq!(said.trim(), format!("{}/pepo-1/run agent --join", folder.path().display()));
            assert!(child.wait().await.unwrap().success());
        }
        let became = shell(&within(folder.path(), main("pepo-1"))).wait_with_output().await.unwrap();
        assert!(became.status.success() && became.stdout.is_empty(), "its output goes nowhere");
    }

    /// The head of a static program for a machine, by its number in ELF files.
    fn program(machine: u8) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        bytes[18] = machine;
        bytes
    }

    #[tokio::test]
    async fn the_nodes_machine_chooses_the_binary_and_one_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |arch: &str| folder.path().join(format!("pepo-{arch}-unknown-linux-musl"));
        std::fs::write(file("x86_64"), program(62)).unwrap();
        std::fs::write(file("aarch64"), program(183)).unwrap();
        let binary = AgentBinary::Folder(folder.path().to_owned());
        let asked = |machine: &'static str| {
            let binary = binary.clone();
            async move {
                let mut sent = Vec::new();
                let said = format!("{SEND}{machine}\n");
                let result = bring(&binary, &mut said.as_bytes(), &mut sent).await;
                (result, sent)
            }
        };
        for (machine, number) in [("x86_64", 62), ("aarch64", 183)] {
            let (result, sent) = asked(machine).await;
            assert!(result.unwrap().is_some());
            assert_eq!(sent, [b"64\n".to_vec(), program(number)].concat(), "{machine}");
        }
        std::fs::remove_file(file("aarch64")).unwrap();
        for (machine, looked) in [("aarch64", file("aarch64")), ("riscv64", file("riscv64"))] {
            let (result, sent) = asked(machine).await;
            let failure = pepo_wire::Failure::from(result.unwrap_err());
            assert_eq!(failure.code(), pepo_wire::Code::AgentNotStarted);
            assert!(failure.what.contains(&format!("no Pepo binary for {machine} Linux")), "{failure:?}");
            assert!(failure.what.contains(&looked.display().to_string()), "{failure:?}");
            assert!(format!("{failure:?}").contains("put it beside the command"), "{failure:?}");
            assert!(sent.is_empty());
        }
    }
}
