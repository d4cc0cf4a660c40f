"use strict";
(() => {
  const $ = (id) => document.getElementById(id), width = 1200, character = 7.25;
  const frames = [...document.querySelectorAll("#frames > .f")].map((g) => {
    const rect = g.querySelector("rect"), text = g.querySelector("text"), number = (name) => +rect.getAttribute(name);
    return { g, rect, text, name: g.dataset.n, x: number("x"), w: number("width"), y: number("y") };
  });
  const root = frames[0];
  const told = $("told"), said = told.textContent;
  const fit = (f, x, w) => {
    f.rect.setAttribute("x", x);
    f.rect.setAttribute("width", Math.max(w, 0));
    f.text.setAttribute("x", Math.max(x, 0) + 3);
    const room = Math.floor((w - 6) / character);
    f.text.textContent = room < 3 ? "" : f.name.length <= room ? f.name : f.name.slice(0, room - 1) + "…";
  };
  const zoom = (to) => {
    const scale = (width - 20) / to.w, edge = 0.01;
    for (const f of frames) {
      const inside = f.x >= to.x - edge && f.x + f.w <= to.x + to.w + edge, below = f.y > to.y;
      const around = below && f.x <= to.x + edge && f.x + f.w >= to.x + to.w - edge;
      const shown = around || (inside && !below);
      f.g.style.display = shown ? "" : "none";
      f.g.classList.toggle("faded", around);
      if (around) fit(f, 10, width - 20);
      else if (shown) fit(f, 10 + (f.x - to.x) * scale, f.w * scale);
    }
    $("reset").setAttribute("visibility", to === root ? "hidden" : "visible");
  };
  const search = (words) => {
    let pattern = null;
    if (words) {
      try { pattern = new RegExp(words, "i"); } catch { pattern = { test: (name) => name.includes(words) }; }
    }
    const hits = frames.filter((f) => { const hit = !!pattern && pattern.test(f.name); f.g.classList.toggle("hit", hit); return hit; });
    // The share is that of the outermost hits: what lies above one is counted with it.
    let end = -1, sum = 0;
    for (const f of [...hits].sort((a, b) => a.x - b.x || b.w - a.w)) {
      if (f.x + f.w > end + 0.01) { sum += f.x + f.w - Math.max(end, f.x); end = f.x + f.w; }
    }
    told.textContent = pattern ? `${words}: ${(sum / root.w * 100).toFixed(2)} %` : said;
    $("search").textContent = pattern ? "Clear" : "Search";
  };
  let searching = false;
  const ask = () => {
    const words = searching ? null : prompt("Functions whose names fit this regular expression:");
    searching = !!words;
    search(words);
  };
  $("search").addEventListener("click", ask);
  $("reset").addEventListener("click", () => zoom(root));
  $("frames").addEventListener("click", (event) => {
    const g = event.target.closest(".f"), f = frames.find((one) => one.g === g);
    if (f) zoom(f);
  });
  $("frames").addEventListener("mouseover", (event) => {
    const g = event.target.closest(".f");
    if (g && !searching) told.textContent = g.querySelector("title").textContent;
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "f") { event.preventDefault(); searching = false; ask(); }
    if (event.key === "Escape") { zoom(root); searching = false; search(null); }
  });
})();
