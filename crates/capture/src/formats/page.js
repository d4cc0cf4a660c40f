"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const state = { view: "flame", thread: -1, span: null, pattern: null, zoom: null };
  const height = 18, views = { flame: "Flame graph", icicle: "Icicle", callers: "Callers", table: "Table" };
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const percent = (part, whole) => (whole ? part * 100 / whole : 0).toFixed(2) + " %";
  const told = (weight) => data.nanos ? (weight / 1e6).toFixed(1) + " ms" : data.bytes ? (weight / (1 << 20)).toFixed(2) + " MiB" : weight + " samples";
  // Functions, not lines, are one frame in the pictures.
  const names = [], byName = new Map();
  const { frames, modules, locations } = data.capture;
  const nameOf = frames.map(({ file, line, module: at, kind }, frame) => {
    const label = data.labels[frame], module = at === null ? "" : modules[at].path.split("/").pop();
    const place = line > 0 ? `${file}:${line}` : file, key = label + "\0" + module;
    if (!byName.has(key)) { byName.set(key, names.length); names.push({ label, module, place, kind }); }
    return byName.get(key);
  });
  // As they are kept the innermost comes first; here the outermost.
  const stacks = data.capture.stacks.map((stack) => stack.flatMap((at) => locations[at].frames.map((frame) => nameOf[frame])).reverse());
  const samples = data.samples.map(([stack, thread, nanos, weight]) => [stack, thread, nanos / 1000, weight]);
  const chosen = () => samples.filter(([, thread, at]) =>
    (state.thread < 0 || thread === state.thread) && (!state.span || (at >= state.span[0] && at < state.span[1])));

  const grow = (samples, turned) => {
    const root = { name: -1, total: 0, own: 0, children: new Map(), parent: null };
    for (const [stack, , , weight] of samples) {
      let node = root;
      root.total += weight;
      const frames = stacks[stack];
      for (let i = 0; i < frames.length; i++) {
        const name = frames[turned ? frames.length - 1 - i : i];
        let child = node.children.get(name);
        if (!child) { child = { name, total: 0, own: 0, children: new Map(), parent: node }; node.children.set(name, child); }
        child.total += weight;
        node = child;
      }
      node.own += weight;
    }
    return root;
  };
  const label = (node) => node.name < 0 ? "all" : names[node.name].label;
  const hit = (node) => state.pattern && node.name >= 0 && state.pattern.test(names[node.name].label);
  const fill = (node) => {
    if (hit(node)) return color("--hit");
    if (node.name < 0) return "#bbb";
    const { label, module, kind } = names[node.name];
    let hash = 7;
    for (const c of module + label) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
    const hue = { kernel: 205, managed: 110, remark: 0 }[kind] ?? 20;
    return kind === "remark" ? "#bbb" : `hsl(${hue + hash % 36} 80% ${60 + (hash >> 8) % 10}%)`;
  };

  let root, boxes = [];
  const canvas = (id, pixels) => {
    const c = $(id), ratio = devicePixelRatio || 1, width = c.clientWidth || 1200;
    c.style.height = pixels + "px"; c.width = width * ratio; c.height = pixels * ratio;
    const g = c.getContext("2d");
    g.scale(ratio, ratio); g.font = "12px ui-monospace, Menlo, monospace"; g.textBaseline = "middle";
    return [g, width];
  };
  const layout = (width) => {
    const out = [], top = state.zoom ?? root;
    const above = [];
    for (let node = top.parent; node; node = node.parent) above.unshift(node);
    above.forEach((node, level) => out.push({ node, x: 0, w: width, level, faded: true }));
    const waiting = [{ node: top, x: 0, w: width, level: above.length }];
    while (waiting.length) {
      const box = waiting.pop();
      if (box.w < 0.5 || box.level > 1500) continue;
      out.push(box);
      let x = box.x;
      const children = [...box.node.children.values()].sort((a, b) => label(a) < label(b) ? -1 : 1);
      for (const child of children) {
        const w = box.node.total ? box.w * child.total / box.node.total : 0;
        waiting.push({ node: child, x, w, level: box.level + 1 });
        x += w;
      }
    }
    return out;
  };
  const drawGraph = () => {
    const width = $("graph").clientWidth || 1200;
    boxes = layout(width);
    const levels = boxes.reduce((most, box) => Math.max(most, box.level + 1), 1), pixels = Math.min(levels * height + 4, 30000);
    const [g] = canvas("graph", pixels), room = g.measureText("m").width;
    for (const box of boxes) {
      box.y = state.view === "flame" ? pixels - (box.level + 1) * height : box.level * height;
      g.globalAlpha = box.faded ? 0.5 : 1;
      g.fillStyle = fill(box.node);
      g.fillRect(box.x, box.y, Math.max(box.w - 0.5, 0.5), height - 1);
      const fits = Math.floor((box.w - 6) / room), text = label(box.node);
      if (fits >= 3) { g.fillStyle = "#111"; g.fillText(text.length <= fits ? text : text.slice(0, fits - 1) + "…", box.x + 3, box.y + height / 2); }
    }
    g.globalAlpha = 1;
  };
  const drawTable = (samples) => {
    const rows = new Map();
    for (const [stack, , , weight] of samples) {
      const frames = stacks[stack];
      frames.forEach((name, index) => {
        const row = rows.get(name) ?? { name, own: 0, total: 0 };
        rows.set(name, row);
        if (index === frames.length - 1) row.own += weight;
        if (frames.indexOf(name) === index) row.total += weight;
      });
    }
    const table = $("table"), cell = (row, text, kind, tag = "td") => { const td = row.appendChild(document.createElement(tag)); td.textContent = text; td.className = kind; };
    table.replaceChildren();
    const head = table.insertRow();
    for (const [text, kind] of [["SELF", "n"], ["TOTAL", "n"], ["FUNCTION", ""], ["MODULE", ""], ["SEEN AT", ""]]) cell(head, text, kind, "th");
    const sorted = [...rows.values()].sort((a, b) => b.own - a.own || b.total - a.total);
    for (const row of sorted.filter((row) => !state.pattern || state.pattern.test(names[row.name].label)).slice(0, 1000)) {
      const tr = table.insertRow(), name = names[row.name];
      cell(tr, percent(row.own, root.total), "n"); cell(tr, percent(row.total, root.total), "n");
      cell(tr, name.label, ""); cell(tr, name.module, ""); cell(tr, name.place, "");
    }
  };
  const lanes = data.threads.map((name, thread) => ({ name, thread, samples: samples.filter((one) => one[1] === thread) }))
    .filter((lane) => lane.samples.length).sort((a, b) => b.samples.length - a.samples.length).slice(0, 20);
  const last = samples.reduce((most, one) => Math.max(most, one[2]), 0), micros = Math.max(data.capture.meta.duration_nanos / 1000, last + 1);
  const left = 160;
  const drawTimeline = () => {
    $("timeline").hidden = !data.timed;
    if (!data.timed) return;
    const [g, width] = canvas("timeline", lanes.length * 16 + 16), wide = width - left - 8, bins = Math.max(1, Math.min(Math.floor(wide / 3), 300));
    lanes.forEach((lane, row) => {
      const counts = new Array(bins).fill(0), y = row * 16;
      for (const [, , at, weight] of lane.samples) counts[Math.min(bins - 1, Math.floor(at / micros * bins))] += weight;
      const most = data.nanos ? micros * 1000 / bins : Math.max(...counts, 1);
      g.fillStyle = state.thread === lane.thread ? "#e80" : color("--ink");
      g.fillText(lane.name.length > 21 ? lane.name.slice(0, 20) + "…" : lane.name, 6, y + 8);
      g.fillStyle = "#e8842a";
      counts.forEach((count, bin) => { const h = Math.min(count / most, 1) * 14; g.fillRect(left + bin * wide / bins, y + 15 - h, Math.max(wide / bins - 0.5, 0.5), h); });
    });
    const bottom = lanes.length * 16 + 8;
    g.fillStyle = color("--faint");
    for (let tick = 0; tick <= 4; tick++) g.fillText((micros * tick / 4e6).toFixed(2) + " s", left + (wide - 40) * tick / 4, bottom);
    if (state.span) { g.fillStyle = "rgb(80 140 255 / 30%)"; const [from, to] = state.span; g.fillRect(left + from / micros * wide, 0, (to - from) / micros * wide, bottom - 8); }
  };
  const share = () => {
    if (!state.pattern) return "";
    const sum = chosen().reduce((sum, [stack, , , weight]) => sum + (stacks[stack].some((name) => state.pattern.test(names[name].label)) ? weight : 0), 0);
    return percent(sum, root.total) + " pass what fits";
  };
  const draw = () => {
    const seen = chosen(), table = state.view === "table";
    root = grow(seen, state.view === "callers");
    if (state.zoom) state.zoom = follow(state.zoom);
    $("graph").hidden = table; $("table").hidden = !table;
    if (table) drawTable(seen); else drawGraph();
    drawTimeline();
    $("share").textContent = share();
    for (const button of $("views").children) button.setAttribute("aria-pressed", button.dataset.view === state.view);
  };
  // The same node in a tree that was made anew.
  const follow = (old) => {
    const path = [];
    for (let node = old; node.parent; node = node.parent) path.unshift(node.name);
    let node = root;
    for (const name of path) { node = node.children.get(name); if (!node) return null; }
    return node;
  };
  const at = (event) => boxes.findLast((box) => event.offsetX >= box.x && event.offsetX < box.x + box.w && event.offsetY >= box.y && event.offsetY < box.y + height);
  $("graph").addEventListener("click", (event) => { const box = at(event); if (box) { state.zoom = box.node === root ? null : box.node; draw(); } });
  $("graph").addEventListener("mousemove", (event) => {
    const box = at(event), name = box && box.node.name >= 0 ? names[box.node.name] : null;
    $("told").textContent = box ? `${label(box.node)}${name?.module ? " in " + name.module : ""}: ${told(box.node.total)}, ${percent(box.node.total, root.total)}, of its own ${percent(box.node.own, root.total)} ${name?.place ?? ""}` : "";
  });
  let from = null;
  const time = (event) => Math.max(0, (event.offsetX - left) / ($("timeline").clientWidth - left - 8) * micros);
  $("timeline").addEventListener("mousedown", (event) => { from = event.offsetX < left ? null : time(event); });
  $("timeline").addEventListener("mouseup", (event) => {
    if (from === null) {
      const lane = lanes[Math.floor(event.offsetY / 16)];
      if (lane) choose(state.thread === lane.thread ? -1 : lane.thread);
      return;
    }
    const to = time(event);
    state.span = Math.abs(to - from) < micros / 200 ? null : [Math.min(from, to), Math.max(from, to)];
    from = null;
    draw();
  });
  const choose = (thread) => { state.thread = thread; $("thread").value = thread; draw(); };
  for (const [view, words] of Object.entries(views)) {
    const button = $("views").appendChild(document.createElement("button"));
    button.textContent = words; button.dataset.view = view;
    button.addEventListener("click", () => { state.view = view; state.zoom = null; draw(); });
  }
  const option = (value, text) => { const one = $("thread").appendChild(document.createElement("option")); one.value = value; one.textContent = text; };
  option(-1, data.threads.length === 1 ? "one thread" : `all ${data.threads.length} threads`);
  for (const lane of lanes) option(lane.thread, lane.name);
  $("thread").addEventListener("change", (event) => choose(+event.target.value));
  $("search").addEventListener("input", (event) => {
    const words = event.target.value;
    try { state.pattern = words ? new RegExp(words, "i") : null; } catch { state.pattern = { test: (name) => name.includes(words) }; }
    draw();
  });
  $("reset").addEventListener("click", () => { Object.assign(state, { thread: -1, span: null, pattern: null, zoom: null }); $("search").value = ""; $("thread").value = -1; draw(); });
  addEventListener("resize", draw);
  draw();
})();
