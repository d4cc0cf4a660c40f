//! Looking at programs of C, Ruby and Java: Pepo beside perf, rbspy and async-profiler, which people would take for them.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context as _, Result, ensure};
use pepo_testkit::{
    Language, Life as _, Running, Variant, command, fixtures, javas, pepo, rubies, spawn_command, tools,
};
use pepo_trials::measure::middle;

use super::{Row, Run, SECONDS, in_turns, legal::Seen, line, on_processor, rows, start_and_watch};

/// The rates that are measured.
const RATES: [u32; 2] = [99, 999];

/// A profiler, and how its samples are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Pepo,
    /// By frame pointers.
    Perf,
    /// By copies of the stack, unwound afterwards.
    PerfDwarf,
    Rbspy,
    RbspyNonblocking,
    /// Loaded into the JVM, where it works.
    AsyncProfiler,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::Pepo => "Pepo",
            Tool::Perf => "perf `-g`",
            Tool::PerfDwarf => "perf `--call-graph dwarf`",
            Tool::Rbspy => "rbspy",
            Tool::RbspyNonblocking => "rbspy `--nonblocking`",
            Tool::AsyncProfiler => "async-profiler, by jcmd",
        }
    }

    /// The command that samples for [`SECONDS`].
    fn record(self, pid: u32, rate: u32, file: &Path) -> Result<Command> {
        let (number, rate, seconds) = (pid.to_string(), rate.to_string(), SECONDS.to_string());
        let program = match self {
            Tool::Pepo => pepo(),
            Tool::Perf | Tool::PerfDwarf => PathBuf::from("perf"),
            Tool::Rbspy | Tool::RbspyNonblocking => tools().join("rbspy/bin/rbspy"),
            Tool::AsyncProfiler => PathBuf::from("sh"),
        };
        let mut command = on_processor(1, &program);
        match self {
            Tool::Pepo => {
                let target = format!("pid/{pid}");
                command.args(["record", &target, "--format", "folded", "-d", &seconds, "-r", &rate, "-o"]);
                command.arg(file);
            }
            Tool::Perf | Tool::PerfDwarf => {
                command.args(["record", "-q", "-e", "cpu-clock", "-F", &rate, "-p", &number, "-o"]).arg(file);
                let unwound = if self == Tool::Perf { "fp" } else { "dwarf" };
                command.args(["--call-graph", unwound, "--", "sleep", &seconds]);
            }
            Tool::Rbspy | Tool::RbspyNonblocking => {
                command.args([
                    "record",
                    "--silent",
                    "--pid",
                    &number,
                    "--rate",
                    &rate,
                    "--duration",
                    &seconds,
                ]);
                command.args(["--format", "collapsed", "--file"]).arg(file);
                command.arg("--raw-file").arg(file.with_extension("raw"));
                command.args((self == Tool::RbspyNonblocking).then_some("--nonblocking"));
            }
            Tool::AsyncProfiler => {
                let library = library(&file.with_file_name("libasyncProfiler.so"))?.display().to_string();
                let interval = 1_000_000_000 / rate.parse::<u64>()?;
                // In quotes, for jcmd takes a sign of equality for one of its own.
                let start = format!("\"start,event=cpu,interval={interval}\"");
                let stop = format!("\"stop,collapsed,file={}\"", file.display());
                let script = "jcmd $0 JVMTI.agent_load $1 $2 && sleep $3 && jcmd $0 JVMTI.agent_load $1 $4";
                command.args(["-c", script, &number, &library, &start, &seconds, &stop]);
            }
        }
        Ok(command)
    }

    /// What it saw, as collapsed stacks.
    fn collapsed(self, file: &Path) -> Result<String> {
        if !matches!(self, Tool::Perf | Tool::PerfDwarf) {
            return fs::read_to_string(file).with_context(|| format!("no profile by {}", self.name()));
        }
        let mut told = command("perf");
        told.args(["script", "-F", "ip,sym", "-i"]).arg(file);
        let output = told.output()?;
        ensure!(output.status.success(), "{told:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(collapse(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// One stack a paragraph, an address and a name a line, the innermost first.
fn collapse(script: &str) -> String {
    let stacks = script.split("\n\n").map(|stack| {
        let names = stack.lines().filter_map(|line| line.trim().split_once(' ').map(|(_, name)| name));
        let mut names: Vec<_> = names.collect();
        names.reverse();
        names.join(";")
    });
    stacks.filter(|stack| !stack.is_empty()).map(|stack| format!("{stack} 1\n")).collect()
}

/// The library of async-profiler, out of the jar that is packed into Pepo, at this place.
fn library(path: &Path) -> Result<&Path> {
    if !path.exists() {
        let jars = tools().parent().context("the toolkit has a folder")?.join("jars");
        let mut jars = fs::read_dir(&jars)?.flatten().map(|entry| entry.path());
        let jar = jars.find(|path| path.extension().is_some_and(|ending| ending == "jar"));
        let jar = jar.context("no async-profiler; `cargo xtask setup` fetches it")?;
        let unpack = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); \
                      n = next(n for n in z.namelist() if n.endswith(sys.argv[3] + '/libasyncProfiler.so')); \
                      open(sys.argv[2], 'wb').write(z.read(n))";
        let processor = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
        let status = command("python3").args(["-c", unpack]).arg(&jar).arg(path).arg(processor).status()?;
        ensure!(status.success(), "{} has no library: {status}", jar.display());
    }
    Ok(path)
}

/// What is seen of a program that calls `hot`, `warm` and `cool` from `work` alone. A stack in which another calls one of them, or none
/// does, is impossible.
fn judge(collapsed: &str) -> Seen {
    let mut seen = Seen::default();
    for line in collapsed.lines().filter(|line| !line.starts_with('#')) {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let count: u64 = count.parse().unwrap_or(0);
        let names: Vec<&str> = stack.split(';').map(base).collect();
        let Some(at) = names.iter().position(|name| ["hot", "warm", "cool"].contains(name)) else { continue };
        seen.samples += count;
        if at == 0 || names[at - 1] != "work" {
            seen.impossible += count;
        }
    }
    seen
}

/// `Hot.work`, `work - /x/hot.rb:31`, `Object#work`, `burn (inlined)`: the function's own name.
fn base(frame: &str) -> &str {
    let frame = frame.split([' ', '(', '+']).next().unwrap_or(frame);
    let frame = frame.split("_[").next().unwrap_or(frame);
    frame.rsplit(['.', '#', ':', '/']).next().unwrap_or(frame)
}

/// A table for each language.
pub(super) fn run(rounds: usize) -> Result<String> {
    let mut out = String::from(
        "\nThe same for programs of which `work` alone calls `hot`, `warm` and `cool`; impossible are stacks in which it does not.\n",
    );
    let c = fixtures::build(Language::C, "hot", Variant::release());
    let words = c.command();
    let mut line_of_c = on_processor(0, Path::new(words.first().context("a program")?));
    out +=
        &of("C, without frame pointers", &mut line_of_c, &[Tool::Pepo, Tool::Perf, Tool::PerfDwarf], rounds)?;
    let ruby = rubies().into_iter().next().context("no Ruby; `cargo xtask setup` installs it")?;
    let script = pepo_testkit::node::program().with_file_name("hot.rb");
    let mut line_of_ruby = on_processor(0, &ruby.path);
    line_of_ruby.arg("--disable=gems").arg(script);
    let (major, minor) = ruby.version;
    let tools = [Tool::Pepo, Tool::Rbspy, Tool::RbspyNonblocking];
    out += &of(&format!("Ruby {major}.{minor}"), &mut line_of_ruby, &tools, rounds)?;
    let java = javas()
        .into_iter()
        .find(|java| java.version >= 17)
        .context("no JVM; `cargo xtask setup` installs it")?;
    let mut line_of_java = on_processor(0, &java.home.join("bin/java"));
    // Else calls that were compiled into their callers before a profiler came count for the callers.
    line_of_java
        .args(["-Xmx64m", "-XX:+UnlockDiagnosticVMOptions", "-XX:+DebugNonSafepoints", "-cp"])
        .arg(pepo_testkit::hot_classes())
        .arg("Hot");
    let tools = [Tool::Pepo, Tool::AsyncProfiler];
    out += &of(&format!("Java {}", java.version), &mut line_of_java, &tools, rounds)?;
    out += "\nBoth ways to Java's frames work in the JVM itself: what the profiler uses there is within the loss.\n";
    Ok(out)
}

fn of(language: &str, program: &mut Command, tools: &[Tool], rounds: usize) -> Result<String> {
    let target = spawn_command(program);
    target.wait_started();
    let folder = tempfile::tempdir()?;
    let mut rows = rows(RATES, tools);
    let one = |row: &Row<Tool>| measure(&target, row, folder.path());
    let mut alone = in_turns(&target, &mut rows, rounds, one)?;
    let mut out = format!(
        "\n| {language} (two runs alone differ by {:.2} %) | | loss of work | impossible | seen | CPU of the profiler | its memory |\n\
         |---|---|---|---|---|---|---|\n",
        middle(&mut alone)
    );
    for row in &mut rows {
        out += &line(row.profiler.name(), row);
    }
    Ok(out)
}

fn measure(target: &Running, row: &Row<Tool>, folder: &Path) -> Result<Run> {
    let file = folder.join("profile");
    let _ = fs::remove_file(&file);
    let mut command = row.profiler.record(target.pid(), row.rate, &file)?;
    let said = folder.join("said");
    command.stdout(fs::File::create(&said)?).stderr(fs::File::options().append(true).open(&said)?);
    let mut child: Child = command.spawn()?;
    let (work, cpu, memory, status) = start_and_watch(target, &mut child)?;
    let mut words = String::new();
    fs::File::open(&said)?.take(4096).read_to_string(&mut words)?;
    ensure!(status.success(), "{command:?}: {status}: {words}");
    Ok(Run { work, cpu, memory, seen: judge(&row.profiler.collapsed(&file)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_of_every_tool_are_judged_alike() {
        let script = "    55d0 burn (inlined)\n    55d0 hot\n    55e0 work\n    55f0 main\n\n    55d0 hot\n    7f00 [unknown]\n\n";
        assert_eq!(collapse(script), "main;work;hot;burn (inlined) 1\n[unknown];hot 1\n");
        let all = collapse(script)
            + "# a comment\nHot.main;Hot.work;Hot.warm_[j] 5\n<main> - /x/hot.rb:70;work - /x/hot.rb:31;cool - /x/hot.rb:25 7\nbeat 9\n";
        assert_eq!(judge(&all), Seen { samples: 14, impossible: 1 });
    }
}
