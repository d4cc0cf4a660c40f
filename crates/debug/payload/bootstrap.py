# Runs inside the debugged process, in a thread of its own, from CPython 3.8 to 3.14. It opens a channel to the agent, loads
# pydevd from memory, and takes everything away again when the channel ends, whoever ended it.
#
# The globals hold CONFIG: {"nonce", "main", "pipes", "unmap", "close", "wait"}, and "gate" where the main thread waits for us. Nothing here may write to the process's own
# output, leave a name in its modules, or raise.

import _signal
import os
import sys
import time


def memfd(name):
    try:
        return os.memfd_create(name, 1)  # MFD_CLOEXEC
    except AttributeError:  # built against an old C library
        import ctypes

        number = {"x86_64": 319, "aarch64": 279}[os.uname().machine]
        return ctypes.CDLL(None).syscall(number, name.encode(), 1)


class Channel:
    """Both ends are made here; the agent takes its end out of this process, and the copies here are closed."""

    def __init__(self, config):
        self.ended = None
        self.fds = []
        self.nonce = config["nonce"]
        if config["pipes"]:
            self.read_fd, to_us = os.pipe()
            from_us, self.write_fd = os.pipe()
            self.theirs = [to_us, from_us]
            self.sock = None
        else:
            import socket

            ours, theirs = socket.socketpair()
            self.sock = ours
            self.theirs = [theirs.detach()]
        self.zip = self.keep(memfd("pepo-zip-" + self.nonce))
        self.lib = self.keep(memfd("pepo-lib-" + self.nonce))
        self.control = self.keep(memfd("pepo-" + self.nonce))

    def keep(self, fd):
        self.fds.append(fd)
        return fd

    def say(self, kind, **words):
        import json

        words["kind"] = kind
        os.write(self.control, (json.dumps(words) + "\n").encode())

    def wait(self, seconds):
        """True when the agent has taken its end and put the files in place."""
        import select

        source = self.sock if self.sock is not None else self.read_fd
        poll = select.poll()
        poll.register(source, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
        first = self.sock.recv(1) if self.sock is not None else os.read(self.read_fd, 1)
        for fd in self.theirs:
            os.close(fd)
        self.theirs = []
        return first == b"+"

    def as_socket(self, ended):
        """What pydevd reads and writes: never a SIGPIPE, and `ended` is released at the end of the stream."""
        import socket

        channel = self

        class Stream(socket.socket):
            def recv(self, *args):
                try:
                    data = socket.socket.recv(self, *args)
                except OSError:
                    data = b""
                if not data:
                    ended()
                return data

            def send(self, data, flags=0):
                return socket.socket.send(self, data, flags | socket.MSG_NOSIGNAL)

            def sendall(self, data, flags=0):
                return socket.socket.sendall(self, data, flags | socket.MSG_NOSIGNAL)

        class Pipes:
            def recv(self, size, *args):
                try:
                    data = os.read(channel.read_fd, size)
                except OSError:
                    data = b""
                if not data:
                    ended()
                return data

            def send(self, data, flags=0):
                return os.write(channel.write_fd, data)

            def sendall(self, data, flags=0):
                view = memoryview(data)
                while view:
                    view = view[os.write(channel.write_fd, view):]

            def shutdown(self, how):
                pass

            def settimeout(self, seconds):
                pass

            def getsockname(self):
                return ("", 0)

            def close(self):
                pass

        if self.sock is None:
            return Pipes()
        self.sock = Stream(fileno=self.sock.detach())
        return self.sock

    def close(self):
        if self.sock is not None:
            try:
                self.sock.shutdown(2)
            except OSError:
                pass
            self.sock.close()
        else:
            self.fds += [self.read_fd, self.write_fd]
        for fd in self.fds + self.theirs:
            try:
                os.close(fd)
            except OSError:
                pass


HOOKS = ("excepthook", "breakpointhook", "displayhook", "settrace", "stdin", "stdout", "stderr")


class Before:
    """The parts of the process that pydevd changes."""

    def __init__(self):
        import atexit
        import builtins
        import threading

        self.builtins = dict(vars(builtins))
        self.hooks = {name: getattr(sys, name, None) for name in HOOKS}
        self.threading = dict(vars(threading))
        # pydevd changes the code of functions there, to hide its threads.
        self.codes = [(one, one.__code__) for one in vars(threading).values() if hasattr(one, "__code__")]
        self.active = set(threading._active)
        self.environ = set(os.environ)
        self.atexit = atexit
        self.warning = None
        if sys.version_info >= (3, 12) and len(self.active) == 1:
            self.mute_fork()

    def mute_fork(self):
        """A program with one thread would be warned of the debugger's threads when it forks, on its own standard error."""
        import warnings

        before = list(warnings.filters)
        warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
        added = [one for one in warnings.filters if one not in before]
        self.warning = added[0] if added else None

    def unmute_fork(self):
        import warnings

        if self.warning in warnings.filters:
            warnings.filters.remove(self.warning)
            warnings._filters_mutated()

    def restore(self):
        import builtins
        import threading

        if self.warning is not None:
            self.unmute_fork()
        for name, value in self.hooks.items():
            now = getattr(sys, name, None)
            if value is not None and now is not value and ours(now):
                setattr(sys, name, value)
        for module, before in ((builtins, self.builtins), (threading, self.threading)):
            now = vars(module)
            for name in list(now):
                if name not in before:
                    if ours(now[name]):
                        del now[name]
                elif now[name] is not before[name] and ours(now[name]):
                    now[name] = before[name]
        for function, code in self.codes:
            if function.__code__ is not code:
                function.__code__ = code
        threading._trace_hook = self.threading.get("_trace_hook")
        for name in list(os.environ):
            if name not in self.environ and name.startswith(("PYDEV", "DEBUGPY")):
                del os.environ[name]
        for ident, thread in list(threading._active.items()):
            if ident not in self.active and isinstance(thread, threading._DummyThread):
                threading._active.pop(ident, None)
        for thread in list(threading.enumerate()):
            for name in list(vars(thread)):
                if "pydev" in name or name in ("additional_info", "stop_reason") or ours(vars(thread)[name]):
                    delattr(thread, name)


def ours(value):
    """Was it made by the code that we brought?"""
    code = getattr(value, "__code__", None) or getattr(getattr(value, "__func__", None), "__code__", None)
    name = getattr(code, "co_filename", None)
    if name is None:
        module = getattr(value, "__module__", None) or getattr(type(value), "__module__", None)
        return isinstance(module, str) and module.split(".")[0].startswith(("pydevd", "_pydev", "pydev_"))
    return isinstance(name, str) and name.startswith(PATH[0])


def ours_or_wraps(value):
    return ours(value) or ours(getattr(value, "func", None))  # functools.partial


def drop_locals(holder):
    """What a thread-local holds hangs on the threads themselves, out of the collector's sight."""
    import threading

    for name, value in list(vars(holder).items()):
        if isinstance(value, threading.local):
            setattr(holder, name, None)


def thread_states(ctypes):
    """The first words of each thread's state. Only with the GIL held and no switch between."""
    api = ctypes.pythonapi
    for name in ("PyInterpreterState_Head", "PyInterpreterState_ThreadHead", "PyThreadState_Next"):
        getattr(api, name).restype = ctypes.c_void_p
    state = api.PyInterpreterState_ThreadHead(ctypes.c_void_p(api.PyInterpreterState_Head()))
    while state:
        yield (ctypes.c_uint64 * 40).from_address(state)
        state = api.PyThreadState_Next(ctypes.c_void_p(state))


PATH = ["/proc/self/fd/none/"]


class Watch:
    """Loading pydevd takes seconds in a busy program: an agent that dies meanwhile ends it at the next import."""

    def __init__(self, channel):
        import select

        self.thread = sys.modules["_thread"].get_ident()
        self.due = 0
        self.poll = select.poll()
        self.poll.register(channel.sock if channel.sock is not None else channel.read_fd, 0)  # its end alone

    def look(self):
        if self.poll.poll(0):
            raise EOFError("the stream ended while pydevd was loaded")
        self.due = time.monotonic() + 0.2  # a look gives up the GIL

    def find_spec(self, name, path=None, target=None):
        if sys.modules["_thread"].get_ident() == self.thread and time.monotonic() >= self.due:
            self.look()


class Debugger:
    def __init__(self, channel):
        import threading

        self.channel = channel
        self.before = Before()
        self.path = "/proc/self/fd/%d" % channel.zip
        PATH[0] = self.path + "/"
        self.pydevd = None
        self.db = None
        self.ended = threading.Event()
        self.threads = []

    def start(self):
        if "pydevd" in sys.modules:
            raise RuntimeError("pydevd is already loaded in this process")
        threading = sys.modules["threading"]
        me = threading.current_thread()
        me.pydev_do_not_trace = True
        me.is_pydev_daemon_thread = True
        sys.path.insert(0, self.path)
        watch = Watch(self.channel)
        sys.meta_path.insert(0, watch)
        try:
            from _pydevd_bundle import pydevd_constants, pydevd_defaults
            from _pydev_bundle import pydev_log

            pydevd_constants.DISABLE_FILE_VALIDATION = True
            self.quiet(pydev_log)
            import pydevd
            import pydevd_tracing
        finally:
            sys.meta_path.remove(watch)
            sys.path.remove(self.path)
        watch.look()
        self.pydevd = pydevd
        pydevd_tracing.TracingFunctionHolder._warn = False
        pydevd_tracing.get_python_helper_lib_filename = self.helper
        pydevd_defaults.PydevdCustomization.DEFAULT_PROTOCOL = pydevd_constants.HTTP_JSON_PROTOCOL
        pydevd_defaults.PydevdCustomization.DEBUG_MODE = "debugpy-dap"
        stream = self.channel.as_socket(self.ended.set)
        pydevd.start_client = lambda host, port: stream
        connect = pydevd.PyDB.connect

        def noted(db, host, port):
            self.db = db  # also when the stream ends before settrace returns, and pydevd has forgotten it
            return connect(db, host, port)

        pydevd.PyDB.connect = noted
        if "gate" in CONFIG:
            self.wait_for_client()
        # The zip must be found for what pydevd imports later.
        sys.path.append(self.path)
        pydevd.settrace(
            host="127.0.0.1",
            port=0,
            suspend=False,
            wait_for_ready_to_run=False,
            block_until_connected=True,
            patch_multiprocessing=False,
            trace_only_current_thread=False,
            notify_stdin=False,
        )
        self.spare_children(self.db)

    def wait_for_client(self):
        """The main thread stands before the program's first line until the client has said all."""
        import pydevd_tracing
        from _pydevd_bundle.pydevd_process_net_command_json import PyDevJsonCommandProcessor as Processor

        configured = Processor.on_configurationdone_request

        def on_configurationdone_request(processor, db, request):
            answer = configured(processor, db, request)
            if processor._options.stop_on_entry:
                processor.api.stop_on_entry()
            lib = getattr(pydevd_tracing._load_python_helper_lib, "__lib__", None)
            if sys.version_info < (3, 12) and lib is None:  # only the thread itself can set its trace function
                CONFIG["trace"] = lambda: self.ended.is_set() or db.enable_tracing()
            go()
            return answer

        Processor.on_configurationdone_request = on_configurationdone_request

    def helper(self):
        fd = self.channel.lib
        return "/proc/self/fd/%d" % fd if os.fstat(fd).st_size else None

    @staticmethod
    def quiet(pydev_log):
        class Nowhere:
            def write(self, text):
                pass

            def flush(self):
                pass

        for name in ("_LoggingGlobals", "LoggingGlobals"):
            state = getattr(pydev_log, name, None)
            if state is not None:
                state._debug_stream = Nowhere()
                state._debug_stream_initialized = True

    @staticmethod
    def spare_children(db):
        """A forked child has the trace function but no debugger: it must never wait there."""
        mine, wait = os.getpid(), db.do_wait_suspend

        def do_wait_suspend(*args, **kwargs):
            if os.getpid() == mine:
                return wait(*args, **kwargs)
            db.pydb_disposed = True
            return None

        db.do_wait_suspend = do_wait_suspend

    def stop(self):
        """Everything away. Each step stands alone, so that one that fails does not keep the next from being made."""
        left = []
        for step in (
            self.resume,
            self.untrace,
            self.dispose,
            self.wait_outside,
            self.clear_traces,
            self.before.restore,
            self.unload,
            self.forget,
        ):
            try:
                trouble = step()
            except Exception as error:
                trouble = "%s: %s: %s" % (step.__name__, type(error).__name__, error)
            if trouble:
                left.append(trouble)
        return left

    def resume(self):
        if self.db is not None:
            from _pydevd_bundle.pydevd_api import PyDevdAPI

            PyDevdAPI().request_disconnect(self.db, resume_threads=True)

    def untrace(self):
        if self.pydevd is None:
            return
        self.before.atexit.unregister(self.pydevd.stoptrace)
        import pydevd_tracing
        from _pydev_bundle import pydev_monkey
        from _pydevd_bundle import pydevd_constants

        pydevd_tracing.restore_sys_set_trace_func()
        if pydevd_constants.PYDEVD_USE_SYS_MONITORING:
            from _pydevd_sys_monitoring import pydevd_sys_monitoring

            monitoring = sys.monitoring
            if monitoring.get_tool(monitoring.DEBUGGER_ID) == "pydevd":
                for event in vars(monitoring.events).values():
                    if isinstance(event, int) and event and event & (event - 1) == 0:
                        try:
                            monitoring.register_callback(monitoring.DEBUGGER_ID, event, None)
                        except ValueError:  # not an event of its own
                            pass
            pydevd_sys_monitoring.stop_monitoring(all_threads=True)
        pydev_monkey.undo_patch_thread_modules()

    def dispose(self):
        if self.db is None:
            return
        self.threads = list(self.db.created_pydb_daemon_threads)
        self.db.dispose_and_kill_all_pydevd_threads(wait=True, timeout=2)
        for thread in self.threads:  # those that were started after pydevd had disposed of itself
            thread.do_kill_pydev_thread()
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            if not any(thread.is_alive() for thread in self.threads):
                return
            time.sleep(0.01)
        return "threads of pydevd: " + ", ".join(t.name for t in self.threads if t.is_alive())

    def wait_outside(self):
        """Until no thread is inside pydevd: one that was stopped is on its way out."""
        deadline = time.monotonic() + 5
        while True:
            inside = self.inside()
            if not inside:
                return
            if time.monotonic() > deadline:
                return "threads inside pydevd: %d" % inside
            time.sleep(0.005)

    def inside(self):
        me = sys.modules["_thread"].get_ident()
        count = 0
        for ident, frame in sys._current_frames().items():
            while ident != me and frame is not None:
                if frame.f_code.co_filename.startswith(PATH[0]):
                    count += 1
                    break
                frame = frame.f_back
        return count

    def clear_traces(self):
        """Before 3.12 each thread has a trace function of its own; sys.settrace reaches only the calling thread."""
        if sys.version_info >= (3, 12) or self.pydevd is None:
            return
        import ctypes

        sys.settrace(None)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(10)  # no other thread runs between reading and writing
        try:
            for frame in sys._current_frames().values():
                while frame is not None:
                    if frame.f_trace is not None:
                        frame.f_trace = None
                    frame = frame.f_back
            self.clear_thread_states(ctypes)
        finally:
            sys.setswitchinterval(interval)

    def clear_thread_states(self, ctypes):
        """Where `c_traceobj` lies is seen in the calling thread's own state; `c_tracefunc` lies two words before it
        (Include/cpython/pystate.h, 3.8 to 3.11)."""

        def marker(frame, event, arg):
            return None

        states = list(thread_states(ctypes))
        sys.settrace(marker)
        places = [index for words in states for index in range(4, len(words)) if words[index] == id(marker)]
        sys.settrace(None)
        index = places[0]
        for words in states:
            if words[index] and ours_or_wraps(ctypes.cast(words[index], ctypes.py_object).value):
                function = words[index]
                words[index - 2] = 0  # c_tracefunc
                words[index] = 0  # c_traceobj
                ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(function))
                if words[index - 3] == 0:  # no profile function either
                    self.clear_use_tracing(ctypes, words, index)

    @staticmethod
    def clear_use_tracing(ctypes, words, index):
        if sys.version_info < (3, 10):  # int tracing; int use_tracing; c_profilefunc
            ctypes.c_int.from_address(ctypes.addressof(words) + (index - 3) * 8 - 4).value = 0
        elif sys.version_info < (3, 11):  # cframe; c_profilefunc; and cframe begins with int use_tracing
            ctypes.c_int.from_address(words[index - 4]).value = 0
        else:  # as 3.10, with one byte
            ctypes.c_uint8.from_address(words[index - 4]).value = 0

    def unload(self):
        """The helper library, when no thread is inside it."""
        tracing = sys.modules.get("pydevd_tracing")
        lib = getattr(getattr(tracing, "_load_python_helper_lib", None), "__lib__", None)
        if lib is None:
            return
        if self.inside():
            return "the helper library stays mapped"
        import _ctypes

        del tracing._load_python_helper_lib.__lib__
        _ctypes.dlclose(lib._handle)

    def forget(self):
        import linecache
        import zipimport

        while self.path in sys.path:
            sys.path.remove(self.path)
        # Only what is ours: by the file it was read from.
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            path = getattr(module, "__path__", None) or ()
            if file.startswith(PATH[0]) or any(str(one).startswith(PATH[0]) for one in path):
                sys.modules.pop(name, None)
                drop_locals(module)
        if self.db is not None:
            drop_locals(self.db)
        for clear in getattr(sys.modules.get("typing"), "_cleanups", ()):
            clear()  # caches of `Optional[X]` and the like, which would keep classes of pydevd's alive
        for cache in (sys.path_importer_cache, zipimport._zip_directory_cache, linecache.cache):
            for name in list(cache):
                if isinstance(name, str) and (name + "/").startswith(PATH[0]):
                    cache.pop(name, None)


def clean_page(config):
    """The code that is running came in a page or a memfd of its own, of no more use."""
    if config["close"] is not None:
        os.close(config["close"])
    for name in os.listdir("/proc/self/fd"):  # one that was made for this, and whose maker died before it was used
        try:
            if os.readlink("/proc/self/fd/" + name).startswith("/memfd:pepo-run-"):
                os.close(int(name))
        except OSError:
            pass
    if config["unmap"] is not None:
        import ctypes

        address, length = config["unmap"]
        ctypes.CDLL(None).munmap(ctypes.c_void_p(address), ctypes.c_size_t(length))


def go():
    """Lets a main thread go that waits for us."""
    CONFIG.pop("gate", int)()


def run(config):
    # No signal of the process's is ever delivered to a thread of ours, or of pydevd's, which inherit the mask.
    _signal.pthread_sigmask(_signal.SIG_BLOCK, set(range(1, _signal.NSIG)) - {32, 33})
    time.sleep(0)
    clean_page(config)
    import threading

    channel = Channel(config)
    debugger = None
    try:
        channel.say("ready", zip=channel.zip, lib=channel.lib, theirs=channel.theirs,
                    thread=threading.get_native_id(), version=list(sys.version_info[:3]), took=TOOK[0])
        if channel.wait(config["wait"]):
            debugger = Debugger(channel)
            try:
                debugger.start()
                channel.say("started")
                debugger.ended.wait()
            except Exception as error:
                channel.say("failed", why="%s: %s" % (type(error).__name__, error))
            left = debugger.stop()
            tids = [getattr(t, "native_id", None) for t in debugger.threads]
            channel.say("stopped", left=left, threads=[tid for tid in tids if tid])
    finally:
        CONFIG.pop("trace", None)
        go()
        channel.close()
        threading._active.pop(threading.get_ident(), None)


TOOK = [CONFIG.get("took", 0)]
try:
    run(CONFIG)
except BaseException:
    pass
