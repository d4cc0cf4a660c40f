//! The command line: flags that all verbs share, and the list of verbs. Parsing alone; nothing is looked at or opened here.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{EnumValueParser, PossibleValue, TypedValueParser},
    error::ErrorKind,
};
use pepo_wire::{
    Code, Failure,
    agent::Selector,
    name::{Kind, TargetName},
};

use crate::{called, logging::LogFormat, verbs};

const EXAMPLES: &str = "\
Examples:
  pepo ps                            what can be debugged on this machine
  pepo check docker/shop             would it work, and if not, what is missing
  pepo stack docker/shop             where every thread is now
  pepo record docker/shop -d 10 -o flame.svg
                                     what it spends its time on
  pepo attach docker/shop            a debugger in this terminal
  pepo help attach                   more about one verb

Targets are named as `pepo ps` prints them: docker/NAME, podman/NAME, cri/NAME, host/ID,
pid/NUMBER; a bare NAME means this machine's engines. In a cluster they are pod/NAME[/CONTAINER],
deploy/NAME, sts/NAME, ds/NAME, rs/NAME, job/NAME and svc/NAME, of which `stack`, `top` and `record`
look at all pods that are ready, and the other verbs take one.";

/// See into, and step through, any process in any container. Looking does not stop the target: where nothing gentler will do,
/// running threads are held for moments, which is told. A debugger may stop it, for a bounded time; nothing is left behind.
#[derive(Debug, Parser)]
#[command(name = "pepo", version, after_help = EXAMPLES, max_term_width = 110)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
pub(crate) struct CommandLine {
    /// Flags of every verb.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Flags of every verb")]
pub(crate) struct Global {
    /// Only this platform, or a server (https://HOST[:PORT], with PEPO_TOKEN); without it, all platforms that are found
    #[arg(long, global = true, value_parser = PlaceParser, value_name = "PLATFORM")]
    pub(crate) on: Option<Place>,
    /// Shape of what is printed: for people, with more columns, for programs
    #[arg(
        id = "output",
        short = 'o',
        long = "output",
        global = true,
        default_value = "text",
        value_name = "SHAPE"
    )]
    #[arg(value_parser = EnumValueParser::<Output>::new().map(To::Shape))]
    pub(crate) to: To,
    /// Socket of the CRI runtime; without it, the usual places are tried
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) cri_socket: Option<PathBuf>,
    /// Namespace of pods; without it, the context's
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig; without it, the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Kubeconfig; without it, $KUBECONFIG, else ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// When to use colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Tell more of what is being done, on stderr; up to three times
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Ask nothing, go on
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

impl Global {
    /// The platform that was asked for.
    pub(crate) fn platform(&self) -> Option<On> {
        match self.on {
            Some(Place::Platform(on)) => Some(on),
            Some(Place::Server(_)) | None => None,
        }
    }

    /// The server that was asked for.
    pub(crate) fn server(&self) -> Option<&str> {
        match &self.on {
            Some(Place::Server(address)) => Some(address),
            Some(Place::Platform(_)) | None => None,
        }
    }
}

/// What `--on` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A platform that this machine reaches by itself.
    Platform(On),
    /// A server, by its address.
    Server(String),
}

/// Reads a [`Place`]; what begins like an address of the web is one.
#[derive(Clone, Debug)]
struct PlaceParser;

impl TypedValueParser for PlaceParser {
    type Value = Place;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Place, clap::Error> {
        match value.to_str().filter(|text| text.contains("://")) {
            Some(address) => Ok(Place::Server(address.to_owned())),
            None => EnumValueParser::<On>::new().parse_ref(command, argument, value).map(Place::Platform),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(On::value_variants().iter().filter_map(ValueEnum::to_possible_value)))
    }
}

/// Where targets are looked for by this machine itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    // This machine's processes, by procfs alone.
    Host,
    // Docker.
    Docker,
    // Podman.
    Podman,
    // A CRI runtime (containerd, CRI-O).
    Cri,
    // Pods of a Kubernetes cluster.
    Kubernetes,
}

/// Shape of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    // For people.
    Text,
    // For people, with more columns.
    Wide,
    // For programs.
    Json,
}

/// Where the answer goes: most verbs print it in some shape, a few write files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// To stdout.
    Shape(Output),
    /// To a file; `-` is stdout, in a file's format.
    File(PathBuf),
}

impl To {
    /// The shape of what is printed.
    pub(crate) fn shape(&self) -> Output {
        match self {
            To::Shape(shape) => *shape,
            To::File(_) => Output::Text,
        }
    }
}

/// Reads what stands after `-o` where files are written: what is no shape is a file.
pub(crate) fn to_file(text: &str) -> Result<To, String> {
    match Output::from_str(text, false) {
        Ok(shape) => Ok(To::Shape(shape)),
        Err(_) if text.is_empty() => Err("a file's name is missing".to_owned()),
        Err(_) => Ok(To::File(PathBuf::from(text))),
    }
}

/// What rows of a profile stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rows {
    // Functions.
    Function,
    // Lines of source.
    Line,
    // Threads.
    Thread,
    // Processes.
    Process,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    // On a terminal, unless NO_COLOR is set.
    Auto,
    // Always.
    Always,
    // Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What can be debugged
    Ps(verbs::ps::Ps),
    /// Can I, and if not, why (without a target: this machine)
    Check(verbs::check::Check),
    /// Where every thread is now, without stopping the target
    Stack(verbs::stack::Stack),
    /// What it is busy with now, without stopping the target
    Top(verbs::top::Top),
    /// A profile: what it spends its time on, without stopping the target
    Record(verbs::record::Record),
    /// Two profiles compared
    Diff(verbs::diff::Diff),
    /// A core file: its memory and threads, for gdb; it stands still while it is read
    Core(verbs::core::Core),
    /// A debugger in this terminal
    Attach(verbs::attach::Attach),
    /// A debugger for an editor: the debug adapter protocol
    Dap(verbs::dap::Dap),
    /// The next start of a container, held at its first instruction
    Catch(verbs::catch::Catch),
    /// Sessions through a server, as it has written them down: list, show, wait for, end
    Attachments(verbs::attachments::Attachments),
    /// The next container of an image or a service, at a server: make a request, list, show, wait for, remove
    Requests(verbs::requests::Requests),
    /// Who is attached to what on this machine
    Sessions(verbs::sessions::Sessions),
    /// A look around inside a container, also where its image has no shell
    Shell(verbs::shell::Shell),
    /// Files out of a container and into it, also where its image has neither shell nor tar
    Cp(verbs::cp::Cp),
    /// A container with the entry before its program: traced, patched, kept after a fault, held at its start
    Run(verbs::run::Run),
    /// The same for Kubernetes: what makes pods, or a manifest, with the entry before its containers' programs
    Inject(verbs::inject::Inject),
    /// What was injected, taken back
    Eject(verbs::eject::Eject),
    /// The start of a container: an init like tini, and words that make any image debuggable
    Entry(verbs::entry::Entry),
    /// Let go of a target now, whoever holds it, and repair what a dead debugger left
    Release(verbs::release::Release),
    /// The debuggers on this machine: list and install
    Tools(verbs::tools::Tools),
    /// Completions for a shell
    Completions(verbs::completions::Completions),
    /// A server, by which a team reaches the containers of many nodes
    Serve(verbs::serve::Serve),
    /// The configuration by which a proxy, Envoy or nginx, holds calls until the debugger is there
    Install(verbs::install::Install),
    /// The agent of a node, which joins a server
    #[command(hide = true)]
    Node(verbs::node::Node),
    /// The agent beside a target, on stdin and stdout
    #[command(hide = true)]
    Agent(verbs::agent::Agent),
    /// Write the generated pages of docs
    #[command(hide = true)]
    Generate(verbs::generate::Generate),
}

impl Verb {
    /// Shape of the verb's log; none for the one that decides it later.
    pub(crate) fn log_format(&self) -> Option<LogFormat> {
        match self {
            Verb::Serve(_) => None,
            Verb::Node(node) => Some(node.log_format),
            _ => Some(LogFormat::Text),
        }
    }
}

/// A target and the process in it.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// What to look at, named as `pepo ps` prints it
    #[arg(value_name = "TARGET", required_unless_present_any = ["host_pid", "labels"])]
    pub(crate) target: Option<String>,
    /// The process inside
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// Which process of a target.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ProcessArgs {
    /// The process whose name or command line fits this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["pid", "host_pid"])]
    pub(crate) process: Option<String>,
    /// The process with this number, as seen in the container
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)), conflicts_with = "host_pid")]
    pub(crate) pid: Option<u32>,
    /// The process with this number, as seen on this machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)), conflicts_with = "labels")]
    pub(crate) host_pid: Option<u32>,
    /// In a pod.
    #[command(flatten)]
    pub(crate) pod: PodArgs,
}

/// Stands above the flags of [`PodArgs`] in a help text.
const IN_A_POD: &str = "In a pod";

/// Which container of which pod, and the helper beside it.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodArgs {
    /// The container; without it, the one that kubectl would take
    #[arg(short, long, value_name = "NAME", help_heading = IN_A_POD)]
    pub(crate) container: Option<String>,
    /// Instead of a name: pods with these labels, as in app=shop, taken as those of a workload are
    #[arg(id = "labels", short = 'l', long = "selector", value_name = "LABELS", help_heading = IN_A_POD)]
    pub(crate) labels: Option<String>,
    /// Image of the helper beside the target: with a static pepo at /pepo, or any that has sh; without it, $PEPO_IMAGE, else Pepo's own
    #[arg(long, value_name = "IMAGE", help_heading = IN_A_POD)]
    pub(crate) image: Option<String>,
    /// When the node pulls that image
    #[arg(long, value_name = "WHEN", value_parser = ["Always", "IfNotPresent", "Never"], help_heading = IN_A_POD)]
    pub(crate) image_pull_policy: Option<String>,
    /// Rights of that helper; without it, the least that the verb needs and the cluster admits
    #[arg(long, value_enum, value_name = "RIGHTS", help_heading = IN_A_POD)]
    pub(crate) profile: Option<Profile>,
    /// A file with a part of a container (YAML, JSON), laid over that helper's, as kubectl debug takes it
    #[arg(long, value_name = "FILE", help_heading = IN_A_POD)]
    pub(crate) custom: Option<PathBuf>,
}

/// Whose rights a helper in a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    // Those of the target's own user.
    User,
    // Root's, with the capability to trace.
    Ptrace,
}

/// A target as it was chosen, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The name.
    pub(crate) name: TargetName,
    /// Only this platform; else as `--on` says.
    pub(crate) on: Option<Kind>,
    /// `--process` as given; its syntax is good.
    pub(crate) process: Option<String>,
    /// `--pid`.
    pub(crate) container_pid: Option<u32>,
    /// `--host-pid`, beside a named target.
    pub(crate) host_pid: Option<u32>,
    /// In a pod.
    pub(crate) pod: PodArgs,
}

impl Chosen {
    /// The selector as the wire has it; `--host-pid` is translated by whoever reached the target.
    pub(crate) fn selector(&self) -> Option<Selector> {
        (self.process.is_some() || self.container_pid.is_some()).then(|| Selector {
            process: self.process.clone().unwrap_or_default(),
            container_pid: self.container_pid.unwrap_or_default(),
        })
    }
}

impl TargetArgs {
    /// Reads the name and the selector.
    ///
    /// # Errors
    /// [`Code::BadName`], or [`Code::Usage`] for a regular expression that is none.
    pub(crate) fn chosen(&self) -> Result<Chosen, Failure> {
        choose(self.target.as_deref(), &self.process)
    }
}

/// See [`TargetArgs::chosen`]; also for verbs whose target may be absent.
pub(crate) fn choose(target: Option<&str>, process: &ProcessArgs) -> Result<Chosen, Failure> {
    if let Some(pattern) = &process.process {
        regular_expression(pattern)?;
    }
    let (name, host_pid) = match (target, process.host_pid, &process.pod.labels) {
        (Some(text), _, Some(_)) => {
            return Err(Failure::new(Code::Usage, format!("both `{text}` and labels (-l) name a target")));
        }
        (Some(text), host_pid, None) => (text.parse::<TargetName>()?, host_pid),
        (None, Some(pid), _) => (TargetName { kind: Some(Kind::Pid), name: pid.to_string() }, None),
        (None, None, Some(labels)) => (TargetName { kind: Some(Kind::Pod), name: labels.clone() }, None),
        (None, None, None) => return Err(Failure::new(Code::Usage, "a target is missing")),
    };
    let pod = process.pod.clone();
    Ok(Chosen { name, on: None, process: process.process.clone(), container_pid: process.pid, host_pid, pod })
}

/// Compiles a user's pattern.
pub(crate) fn regular_expression(pattern: &str) -> Result<regex::Regex, Failure> {
    regex::Regex::new(pattern).map_err(|error| {
        Failure::new(Code::Usage, format!("`{pattern}` is not a regular expression")).because(error)
    })
}

/// The command as clap knows it, for help, completions and the reference.
pub(crate) fn command() -> clap::Command {
    CommandLine::command()
}

/// What parsing came to.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A verb to run.
    Run(Box<CommandLine>),
    /// Help or the version was asked for: data.
    Show(String),
}

/// Parses the arguments, the program's name first.
///
/// # Errors
/// [`Code::Usage`] with what clap found, and where to read on.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, Failure> {
    let mut arguments: Vec<_> = as_gdb_spells_it(arguments.into_iter().collect());
    // Whatever its file is called: what is told to be typed is spelled later on.
    if let Some(program) = arguments.first_mut().filter(|_| called::by_kubectl()) {
        *program = "pepo".into();
    }
    match CommandLine::try_parse_from(&arguments) {
        Ok(line) => Ok(Parsed::Run(Box::new(line))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Parsed::Show(error.render().to_string().trim_end().to_owned()))
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Failure::new(Code::Usage, "a verb is missing")
                    .try_command("see the verbs", ["pepo", "help"]))
            }
            _ => Err(usage(&error, &arguments)),
        },
    }
}

/// `-ex CMD` and `-ex=CMD` as gdb has them, made into the long flag that clap knows; not after `--`.
pub(crate) fn as_gdb_spells_it(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut over = false;
    let spelled = |argument: OsString| {
        over |= argument == "--";
        match argument.to_str() {
            Some("-ex") if !over => "--ex".into(),
            Some(text) if !over && text.starts_with("-ex=") => format!("-{text}").into(),
            _ => argument,
        }
    };
    arguments.into_iter().map(spelled).collect()
}

/// Clap's words as a failure: its first paragraph says what, its tips are hints.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (first, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = first.lines();
    let mut failure = Failure::new(Code::Usage, lines.next().unwrap_or("the command line is not understood"));
    for line in lines {
        failure = failure.because(line.trim());
    }
    for tip in rest.lines().filter_map(|line| line.trim().strip_prefix("tip: ")) {
        failure = failure.hint(tip);
    }
    let verb = command()
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .find(|name| arguments.iter().skip(1).any(|argument| argument.to_str() == Some(name)));
    match verb {
        Some(verb) => failure.try_command("see its flags and examples", ["pepo", "help", &verb]),
        None => failure.try_command("see the verbs", ["pepo", "help"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Parsed, Failure> {
        parse(std::iter::once("pepo").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn commands_of_a_script_may_be_spelled_as_gdb_does() {
        let line = ["attach", "shop", "-ex", "break main.go:42", "-ex=continue", "--ex", "-x"];
        let Ok(Parsed::Run(line)) = parsed(&line) else { panic!("not parsed") };
        let Verb::Attach(attach) = line.verb else { panic!("another verb") };
        assert_eq!(attach.talk.commands, ["break main.go:42", "continue", "-x"]);
    }

    #[test]
    fn a_process_may_be_named_by_its_number_on_this_machine_alone() {
        let process = ProcessArgs { host_pid: Some(7), ..ProcessArgs::default() };
        assert_eq!(choose(None, &process).unwrap().name.to_string(), "pid/7");
        let labels = PodArgs { labels: Some("app=shop".into()), ..PodArgs::default() };
        let labelled = ProcessArgs { pod: labels, ..ProcessArgs::default() };
        assert_eq!(choose(None, &labelled).unwrap().name.kind, Some(Kind::Pod));
        assert_eq!(choose(Some("shop"), &labelled).unwrap_err().code(), Code::Usage);
        let chosen = choose(Some("shop"), &process).unwrap();
        assert_eq!((chosen.name.to_string().as_str(), chosen.host_pid), ("shop", Some(7)));
    }

    #[test]
    fn bad_patterns_and_numbers_are_refused_before_anything_is_opened() {
        let process = ProcessArgs { process: Some("(".into()), ..ProcessArgs::default() };
        assert_eq!(choose(Some("shop"), &process).unwrap_err().code(), Code::Usage);
        for line in [
            &["stack", "x", "--pid", "0"][..],
            &["stack", "x", "--pid", "-1"],
            &["stack"],
            &["stack", "x", "--pid", "1", "--process", "a"],
        ] {
            assert_eq!(parsed(line).unwrap_err().code(), Code::Usage, "{line:?}");
        }
    }
}
