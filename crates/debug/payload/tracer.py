# The trace functions of the process's threads, up to 3.11. A part of bootstrap.py.

class Tracer:
    """The trace functions of threads, up to 3.11, by the machine code of trace.rs: what pydevd has for it is a C++ library, which
    not every image can load, and starts a thread at each call."""

    EVENTS = ("call", "exception", "line", "return", "c_call", "c_exception", "c_return", "opcode")
    FUNCTIONS = (
        "PyObject_CallFunctionObjArgs", "PyObject_GetAttr", "PyObject_SetAttr", "Py_IncRef", "Py_DecRef",
        "PyTraceBack_Here", "PyEval_SetTrace", "PyThreadState_Get", "PyInterpreterState_ThreadHead", "PyThreadState_Next",
    )
    ENTRY = 256

    def __init__(self, fd):
        import ctypes

        api = ctypes.PyDLL(None)  # an instance of our own, since `ctypes.pythonapi` belongs to everybody
        api.PyThreadState_Get.restype = api.PyInterpreterState_Main.restype = ctypes.c_void_p
        self.over = self.clean = False
        self.names = [sys.intern(name) for name in self.EVENTS + ("f_trace",)]
        self.busy = ctypes.c_size_t(0)
        table = [id(one) for one in [None] + self.names]
        table += [ctypes.cast(getattr(api, name), ctypes.c_void_p).value for name in self.FUNCTIONS]
        table += [api.PyInterpreterState_Main(), *self.places(ctypes, api.PyThreadState_Get())]
        table += [sys.version_info[1], ctypes.addressof(self.busy)]
        os.pwrite(fd, (ctypes.c_uint64 * len(table))(*table), 0)
        self.length = os.fstat(fd).st_size
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        self.address = libc.mmap(None, ctypes.c_size_t(self.length), 5, 2, fd, ctypes.c_long(0))
        if self.address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "code cannot be mapped")
        self.munmap = libc.munmap
        entry = ctypes.PYFUNCTYPE(ctypes.c_ssize_t, ctypes.c_size_t, ctypes.c_void_p)
        self.entry = entry(self.address + self.ENTRY)

    @staticmethod
    def places(ctypes, state):
        """Where `thread_id` and `c_traceobj` lie in a thread's state is seen in the calling thread's own."""

        def marker(frame, event, arg):
            return None

        words = (ctypes.c_uint64 * 40).from_address(state)
        sys.settrace(marker)
        objects = [index for index in range(6, 40) if words[index] == id(marker)]
        sys.settrace(None)
        me = sys.modules["_thread"].get_ident()
        return [index for index in range(6, 40) if words[index] == me][0], objects[0]

    def set_trace_to_threads(self, function, thread_idents=None, create_dummy_thread=True):
        """In place of pydevd's: 0 when it was done."""
        active = sys.modules["threading"]._active
        if self.over:
            return 0
        if thread_idents is None:
            known = dict(active)
            thread_idents = [
                ident for ident in set(known) | set(sys._current_frames())
                if not getattr(known.get(ident), "pydev_do_not_trace", False)
            ]
        result = 0
        for ident in thread_idents:
            if create_dummy_thread and ident not in active:
                self.make_known(ident)
            try:
                result = min(result, self.entry(ident, id(function)))
            except Exception:  # an audit hook's
                result = -1
        return result

    @staticmethod
    def make_known(ident):
        """To the debugger, a thread that is not in `threading` does not exist."""
        threading = sys.modules["threading"]

        class Known(threading._DummyThread):
            def _set_ident(self):
                self._ident = ident

        Known().__class__ = threading._DummyThread

    def hook(self, function):
        """For threads that will start: one that was just starting when all was over frees itself."""

        def hook(frame, event, arg):
            if self.over:
                sys.settrace(None)
                return None
            return function(frame, event, arg)

        return hook

    def clear(self):
        for frame in sys._current_frames().values():
            while frame is not None:
                if frame.f_trace is not None and ours_or_wraps(frame.f_trace):
                    frame.f_trace = None
                frame = frame.f_back
        if self.entry(0, None) < 0:
            return "trace functions of threads"
        self.clean = True

    def unmap(self):
        """When no thread is inside."""
        import ctypes

        deadline = time.monotonic() + 5
        while self.busy.value or not self.clean:
            if not self.clean or time.monotonic() > deadline:
                return "the code of the trace function"
            time.sleep(0.005)
        self.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length))
