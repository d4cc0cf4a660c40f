//! The environment, read in one place: every variable is declared once, with what it does.

use std::path::PathBuf;

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $field:ident = $name:literal;)+) => {
        /// The variables as they were when the command started; an empty one counts as not set.
        #[derive(Clone, Debug, Default)]
        #[allow(dead_code, reason = "some are read by the room they belong to and are declared here for the reference")]
        pub(crate) struct Environment { $($(#[doc = $doc])+ pub(crate) $field: Option<String>,)+ }

        impl Environment {
            /// Reads them all.
            pub(crate) fn read() -> Environment {
                let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
                Environment { $($field: value($name),)+ }
            }
        }

        /// Name and meaning of every variable, for the reference.
        pub(crate) const VARIABLES: &[(&str, &str)] = &[$(($name, concat!($($doc),+)),)+];
    };
}

impl Environment {
    /// `$XDG_STATE_HOME/pepo`, else `~/.local/state/pepo`.
    pub(crate) fn state_folder(&self) -> Option<PathBuf> {
        let state = self.state_home.as_ref().map(PathBuf::from);
        let state = state.or_else(|| Some(PathBuf::from(self.home.as_ref()?).join(".local/state")))?;
        Some(state.join("pepo"))
    }

    /// Where elfutils and gdb keep debug files of servers too.
    pub(crate) fn debuginfod_cache(&self) -> Option<PathBuf> {
        let named = self.debuginfod_cache_path.as_ref().map(PathBuf::from);
        let home = self.home.as_ref().map(PathBuf::from);
        let old = home.as_ref().map(|home| home.join(".debuginfod_client_cache")).filter(|old| old.is_dir());
        let below = |cache: PathBuf| cache.join("debuginfod_client");
        named
            .or(old)
            .or_else(|| self.cache_home.as_ref().map(PathBuf::from).map(below))
            .or_else(|| home.map(|home| below(home.join(".cache"))))
    }
}

variables! {
    /// Folder with debuggers, searched before `$XDG_DATA_HOME/pepo/tools` and `PATH`; a program is at `NAME/bin/PROGRAM`.
    tools = "PEPO_TOOLS";
    /// Folder for what agents keep while they run; else `$XDG_RUNTIME_DIR/pepo`, `/run/pepo` for root, `/tmp/pepo-UID`. What a killed one left in it, the next removes.
    run = "PEPO_RUN";
    /// Image of the helpers that are put into pods; `--image` goes first.
    image = "PEPO_IMAGE";
    /// What proves to a server who calls: the whole token, as `pepo serve` told it.
    token = "PEPO_TOKEN";
    /// File of settings of `pepo serve`; these and the next are on their own page (configuration.md).
    serve_config = "PEPO_SERVE_CONFIG";
    /// Where `pepo serve` listens.
    serve_listen = "PEPO_SERVE_LISTEN";
    /// Folder of what `pepo serve` keeps.
    serve_state = "PEPO_SERVE_STATE";
    /// Further names of `pepo serve`, separated by commas.
    serve_name = "PEPO_SERVE_NAME";
    /// Where `pepo serve` answers proxies.
    serve_proxies = "PEPO_SERVE_PROXIES";
    /// How long certificates of nodes are good at `pepo serve`.
    serve_certificates_last = "PEPO_SERVE_CERTIFICATES_LAST";
    /// How long sessions go on when `pepo serve` is asked to end.
    serve_drain = "PEPO_SERVE_DRAIN";
    /// Shape of the log of `pepo serve`.
    serve_log_format = "PEPO_SERVE_LOG_FORMAT";
    /// The pod that `pepo install` is run in, as Kubernetes tells it (the downward API).
    pod_name = "POD_NAME";
    /// Its namespace.
    pod_namespace = "POD_NAMESPACE";
    /// What to log on stderr, as in `info` or `pepo_debug=debug`; goes before `-v`.
    log = "PEPO_LOG";
    /// Folder of this login's sockets: rootless engines, and Pepo's own state.
    runtime_dir = "XDG_RUNTIME_DIR";
    /// Folder of the debuggers that `pepo tools install` brings; else `~/.local/share`.
    data_home = "XDG_DATA_HOME";
    /// Folder of the history of `pepo attach`; else `~/.local/state`.
    state_home = "XDG_STATE_HOME";
    /// Folder of what can be had again; else `~/.cache`.
    cache_home = "XDG_CACHE_HOME";
    /// Servers of debuginfod, separated by spaces, that debug files of `stack`, `top` and `record` are fetched from; without it, none is asked.
    debuginfod_urls = "DEBUGINFOD_URLS";
    /// Folder for what those servers gave; else `$XDG_CACHE_HOME/debuginfod_client`, as elfutils and gdb have it.
    debuginfod_cache_path = "DEBUGINFOD_CACHE_PATH";
    /// Seconds that an answer of theirs may take to begin, and each 100 KiB of it; else 90.
    debuginfod_timeout = "DEBUGINFOD_TIMEOUT";
    /// Seconds that a file of theirs may take; else 600.
    debuginfod_max_time = "DEBUGINFOD_MAXTIME";
    /// Bytes that a file of theirs may have; else 512 MiB.
    debuginfod_max_size = "DEBUGINFOD_MAXSIZE";
    /// The user's folder.
    home = "HOME";
    /// Name of this user, for `pepo sessions`, where the system knows none.
    user = "USER";
    /// Who this user was before sudo, for `pepo sessions`.
    sudo_user = "SUDO_USER";
    /// The user's name on Windows.
    username = "USERNAME";
    /// Where programs are looked for last.
    path = "PATH";
    /// Set to anything: no colours, unless `--color always` (no-color.org).
    no_color = "NO_COLOR";
    /// `dumb`: no colours, and no line editor in `pepo attach`.
    term = "TERM";
}
