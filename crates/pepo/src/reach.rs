//! The way to an agent beside a target: which platforms there are, which of them knows the name, and the byte stream.

use std::{
    io::{BufRead as _, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use pepo_client::Agent;
use pepo_platform::{
    Catch, ClusterOptions, Found, How, LocalAgent, Located, Need, Options, Platforms, PodCopy, Profile,
    ServerAddress, Workload,
};
use pepo_wire::{
    Code, Failure,
    agent::{CheckRequest, Finding, Level, Selector, Target},
    failure::Exit,
    name::{Kind, TargetName},
};

use crate::{
    arguments::{self, Chosen, On, PodArgs},
    called,
    config::Context,
};

/// How long the check that follows a failure may take.
const EXPLAINING: Duration = Duration::from_secs(5);

/// An agent beside a target. What was made for the way is ended after the verb, by [`crate::local::Local::finish`].
#[derive(Debug)]
pub(crate) struct Reached {
    /// The agent.
    pub(crate) agent: Agent,
    /// The target and the process in it, as the agent is told.
    pub(crate) target: Target,
    /// The target as `ps` names it.
    pub(crate) name: String,
    /// What the platform knows of it.
    pub(crate) located: Located,
    /// The way that was taken.
    pub(crate) how: How,
}

impl Reached {
    /// The agent's words with the target named as it is named here: in a helper `pid/7` is a number of the target's own.
    pub(crate) fn told_here(&self, mut failure: Failure) -> Failure {
        if self.how == How::InProcess {
            return failure;
        }
        for hint in &mut failure.hints {
            hint.command = std::mem::take(&mut hint.command)
                .into_iter()
                .flat_map(|word| match word.strip_prefix("pid/") {
                    Some("1") => vec![self.name.clone()],
                    Some(number) => vec![self.name.clone(), "--pid".to_owned(), number.to_owned()],
                    None => vec![word],
                })
                .collect();
        }
        failure
    }
}

/// The platforms that the arguments of every verb allow, and what is said of a pod.
pub(crate) fn platforms(context: &Context, on: Option<Kind>, need: Need, pod: &PodArgs) -> Platforms {
    Platforms::find(&options(context, on, need, pod))
}

/// What [`platforms`] are found by.
pub(crate) fn options(context: &Context, on: Option<Kind>, need: Need, pod: &PodArgs) -> Options {
    let local: Arc<dyn LocalAgent> = context.local.clone();
    let mut options = Options::usual(cfg!(target_os = "linux").then_some(local));
    options.on = on;
    let server = context.global.server();
    options.server =
        server.map(|address| ServerAddress::parse(address, context.environment.token.as_deref()));
    options.cri_socket = context.global.cri_socket.clone();
    options.need = need;
    options.cluster = cluster(context, pod);
    options
}

/// The cluster that the arguments mean. Whoever types one of its flags wants it to be asked.
fn cluster(context: &Context, pod: &PodArgs) -> ClusterOptions {
    let global = &context.global;
    let named = global.namespace.is_some() || global.context.is_some() || global.kubeconfig.is_some();
    ClusterOptions {
        listed: named || pod.labels.is_some(),
        kubeconfig: global.kubeconfig.clone(),
        context: global.context.clone(),
        namespace: global.namespace.clone(),
        container: pod.container.clone(),
        labels: pod.labels.clone(),
        image: pod.image.clone().or_else(|| context.environment.image.clone()),
        pull_policy: pod.image_pull_policy.clone(),
        custom: pod.custom.clone(),
        profile: pod.profile.map(|profile| match profile {
            arguments::Profile::User => Profile::User,
            arguments::Profile::Ptrace => Profile::Ptrace,
        }),
    }
}

/// `--on` as platforms are called.
pub(crate) fn on(context: &Context) -> Option<Kind> {
    context.global.platform().map(kind)
}

/// The platform of lists and of bare names, where one was asked for: kubectl's users mean pods.
pub(crate) fn usual(context: &Context) -> Option<Kind> {
    on(context).or(called::by_kubectl().then_some(Kind::Pod))
}

/// A platform as it is typed, as it is called.
pub(crate) fn kind(on: On) -> Kind {
    match on {
        On::Host => Kind::Host,
        On::Docker => Kind::Docker,
        On::Podman => Kind::Podman,
        On::Cri => Kind::Cri,
        On::Kubernetes => Kind::Pod,
    }
}

/// The agent of this machine.
///
/// # Errors
/// [`Code::NotReachable`] where there is none.
pub(crate) async fn local(context: &Context) -> Result<Agent, Failure> {
    if let Some(server) = context.global.server() {
        return Err(Failure::new(Code::NotReachable, format!("{server} has no agent of this machine"))
            .hint("name a target of the server, or leave `--on` out"));
    }
    Agent::connect(context.local.connect().await?).await
}

/// An agent beside the chosen target.
///
/// # Errors
/// Why there is no such target, or no way to it.
pub(crate) async fn reach(context: &Context, chosen: &Chosen, need: Need) -> Result<Reached, Failure> {
    to(context, chosen, &locate(context, chosen, need).await?).await
}

/// The one target that the chosen name means.
///
/// # Errors
/// Why there is no such target.
pub(crate) async fn locate(context: &Context, chosen: &Chosen, need: Need) -> Result<Found, Failure> {
    let found = platforms_of(context, chosen, need).locate(&chosen.name).await?;
    found.located.notes.iter().for_each(|note| context.printer.say(note));
    Ok(found)
}

/// As [`reach`], for a verb that stops, which asks first where a name says that this is production.
///
/// # Errors
/// As [`reach`]; and [`Code::Interrupted`] without a yes.
pub(crate) async fn reach_to_stop(
    context: &Context,
    chosen: &Chosen,
    asks: bool,
    verb: &[&str],
) -> Result<Reached, Failure> {
    let found = locate(context, chosen, Need::Debug).await?;
    let name = found.located.name.to_string();
    let line = [&["pepo"], verb, &[&name]].concat();
    let question =
        Question { name: &name, done: "stopped", doing: "stop it", needs: "a debugger needs", line: &line };
    agree(context, found.located.production.as_deref(), &question, asks).await?;
    to(context, chosen, &found).await
}

/// What is asked where a name says that this is production.
pub(crate) struct Question<'q> {
    /// The target.
    pub(crate) name: &'q str,
    /// What it was not without a yes: "stopped".
    pub(crate) done: &'q str,
    /// What is about to be done: "stop it".
    pub(crate) doing: &'q str,
    /// What needs a yes: "a debugger needs".
    pub(crate) needs: &'q str,
    /// The command.
    pub(crate) line: &'q [&'q str],
}

/// Goes on where no name says that this is production, or somebody says yes.
///
/// # Errors
/// [`Code::Interrupted`] without a yes.
pub(crate) async fn agree(
    context: &Context,
    production: Option<&str>,
    question: &Question<'_>,
    asks: bool,
) -> Result<(), Failure> {
    let Question { name, done, doing, needs, line } = *question;
    let Some(why) = production.filter(|_| !context.global.yes) else { return Ok(()) };
    if asks && std::io::stdin().is_terminal() {
        context.printer.say(&format!("{why} says that this is production: {doing} nevertheless? [y/N]"));
        // Only a yes means yes.
        if matches!(typed().await.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    let line = in_this_cluster(context, None, &[line, &["--yes"]].concat());
    Err(Failure::new(Code::Interrupted, format!("{name} was not {done}"))
        .because(format!("{why} says that this is production, where {needs} a yes"))
        .try_command(format!("{doing} nevertheless"), line))
}

/// The next line that is typed; empty if there is none. A signal ends the waiting, not the thread that reads.
async fn typed() -> String {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

/// What makes pods, in the cluster that the arguments mean.
///
/// # Errors
/// As [`Workload::new`].
pub(crate) fn workload(context: &Context, name: TargetName) -> Result<Workload, Failure> {
    let mut options = Options::usual(None);
    options.cluster = cluster(context, &PodArgs::default());
    Workload::new(&options, name)
}

/// A container whose next start is to be held, in the cluster that the arguments mean.
///
/// # Errors
/// As [`Catch::find`].
pub(crate) async fn catch(context: &Context, name: &TargetName, pod: &PodArgs) -> Result<Catch, Failure> {
    let mut options = Options::usual(None);
    options.cluster = cluster(context, pod);
    Catch::find(&options, name, pod.container.as_deref()).await
}

/// A pod to be copied, in the cluster that the arguments mean.
///
/// # Errors
/// As [`PodCopy::find`].
pub(crate) async fn copy(context: &Context, chosen: &Chosen) -> Result<PodCopy, Failure> {
    let mut options = Options::usual(None);
    options.cluster = cluster(context, &chosen.pod);
    PodCopy::find(&options, &chosen.name, chosen.pod.container.as_deref()).await
}

/// A command as it is typed for the cluster that this one means, and for this namespace, where it is known.
pub(crate) fn in_this_cluster(context: &Context, namespace: Option<&str>, words: &[&str]) -> Vec<String> {
    let global = &context.global;
    let namespace = namespace.map(str::to_owned).or_else(|| global.namespace.clone());
    let mut line: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let kubeconfig = global.kubeconfig.as_ref().map(|file| file.display().to_string());
    for (flag, value) in [("-n", &namespace), ("--context", &global.context), ("--kubeconfig", &kubeconfig)] {
        line.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    line
}

/// All that the chosen name means: of a workload every pod that is ready.
///
/// # Errors
/// Why there is no such target.
pub(crate) async fn locate_all(
    context: &Context,
    chosen: &Chosen,
    need: Need,
) -> Result<Vec<Found>, Failure> {
    platforms_of(context, chosen, need).locate_all(&chosen.name).await
}

fn platforms_of(context: &Context, chosen: &Chosen, need: Need) -> Platforms {
    let on = if chosen.name.kind.is_none() { usual(context) } else { on(context) };
    platforms(context, chosen.on.or(on), need, &chosen.pod)
}

/// An agent beside a target that was found.
///
/// # Errors
/// Why there is no way to it.
pub(crate) async fn to(context: &Context, chosen: &Chosen, found: &Found) -> Result<Reached, Failure> {
    let reached = found.reach().await?;
    reached.notes.iter().for_each(|note| tracing::info!("{note}"));
    context.local.hold(reached.leave).await;
    let agent = Agent::connect(reached.io).await?;
    let mut target = reached.target;
    target.selector = selector(&agent, &target, chosen).await?;
    let name = found.located.name.to_string();
    tracing::info!(%name, how = %reached.how, "reached the target");
    Ok(Reached { agent, target, name, located: found.located.clone(), how: reached.how })
}

/// `--host-pid` beside a target is translated here: the agent says which process of the container it is.
async fn selector(agent: &Agent, target: &Target, chosen: &Chosen) -> Result<Option<Selector>, Failure> {
    let Some(host_pid) = chosen.host_pid else { return Ok(chosen.selector()) };
    let processes = agent.list(Some(target.clone())).await?;
    let process = processes.iter().find(|process| process.agent_pid == host_pid).ok_or_else(|| {
        let there: Vec<_> = processes.iter().map(|one| format!("{} ({})", one.agent_pid, one.name)).collect();
        Failure::new(
            Code::ProcessNotFound,
            format!("process {host_pid} of this machine is not in {}", chosen.name),
        )
        .because(format!("its processes are {}", there.join(", ")))
        .try_command("name the process alone", ["pepo", "check", &format!("pid/{host_pid}")])
    })?;
    Ok(Some(Selector { process: String::new(), container_pid: process.container_pid }))
}

/// The failure with what `pepo check` has against the verb, when that tells more.
pub(crate) async fn explained(failure: Failure, reached: &Reached, verb: &str) -> Failure {
    reached.told_here(with_check(failure, reached, verb).await)
}

async fn with_check(failure: Failure, reached: &Reached, verb: &str) -> Failure {
    if !matches!(
        failure.code().exit(),
        Exit::Permission | Exit::Unsupported | Exit::Tool | Exit::Limit | Exit::Internal
    ) {
        return failure;
    }
    let request = CheckRequest {
        target: Some(reached.target.clone()),
        verbs: vec![verb.to_owned()],
        debugger: String::new(),
    };
    match tokio::time::timeout(EXPLAINING, reached.agent.check(request)).await {
        Ok(Ok(answer)) => with_findings(failure, &answer.findings),
        _ => failure,
    }
}

/// Adds every "no" that is not the failure itself.
fn with_findings(mut failure: Failure, findings: &[Finding]) -> Failure {
    for finding in findings.iter().filter(|finding| finding.level() == Level::No) {
        let Some(no) = &finding.failure else { continue };
        let what = if finding.what.is_empty() { &no.what } else { &finding.what };
        if no.code != failure.code || no.what != failure.what {
            failure = failure.because(format!("check: {} {what}", no.code()));
        }
        for hint in &no.hints {
            if !failure.hints.contains(hint) {
                failure.hints.push(hint.clone());
            }
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_what_the_check_has_against_it_and_nothing_twice() {
        let failure = || Failure::new(Code::NoDebugInfo, "no debug information").hint("build with -g");
        let no = |failure: Failure| Finding {
            level: Level::No.into(),
            failure: Some(failure),
            ..Finding::default()
        };
        let yes = Finding { level: Level::Ok.into(), what: "fine".into(), ..Finding::default() };
        let yama = Failure::new(Code::Yama, "ptrace_scope is 3").hint("sysctl");
        let told = with_findings(failure(), &[no(failure()), yes, no(yama)]);
        assert_eq!(told.why, ["check: P0202 ptrace_scope is 3"]);
        let hints: Vec<_> = told.hints.iter().map(|hint| hint.text.as_str()).collect();
        assert_eq!(hints, ["build with -g", "sysctl"]);
    }
}
