// Run in the program's main thread while it is looked at, and again each second: whoever looks may be killed, and then this ends what
// they began. The profilers of worker threads would otherwise go on, for Node forgets to end their sessions; they are asked by the
// inspector, which reaches a thread that never comes back to its events. It begins on top of whatever the program does, which may be
// Node's own care for its timers: so they are touched only when the program has come to the end of that. Nothing in here may throw: it
// would end the program.
(key, millis, workers, closes) => {
  // It is known only as long as this is evaluated.
  const load = typeof require === "function" ? require : null;
  const close = () => { if (closes) process._debugEnd(); };
  const expression = "console.profileEnd('pepo 0'); console.profileEnd('pepo 1')";
  const end = () => {
    delete globalThis[key];
    if (!workers || !load) return close();
    const reached = [];
    let session = null;
    try {
      session = new (load("inspector").Session)();
      session.connect();
      session.on("NodeWorker.attachedToWorker", ({ params: { sessionId } }) => {
        reached.push(sessionId);
        const message = JSON.stringify({ id: 1, method: "Runtime.evaluate", params: { expression } });
        try { session.post("NodeWorker.sendMessageToWorker", { sessionId, message }); } catch {}
      });
      session.post("NodeWorker.enable", { waitForDebuggerOnStart: false });
    } catch {}
    setTimeout(() => {
      try {
        for (const sessionId of reached) session.post("NodeWorker.detach", { sessionId });
        session.disconnect();
      } catch {}
      close();
    }, 1000).unref();
  };
  Promise.resolve().then(() => {
    try {
      clearTimeout(globalThis[key]);
      globalThis[key] = setTimeout(end, millis).unref();
    } catch {}
  });
}
