"use strict";
// All texts reach the page through textContent, never as HTML: manifests and models come from strangers.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { systems, rows } = data;
  const STEP = 100; // utterances shown at a time
  const list = document.getElementById("list"), more = document.getElementById("more"), count = document.getElementById("count");
  const form = document.getElementById("controls");
  const segmenter = window.Intl && Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: "grapheme" }) : null;
  const split = (text) => (segmenter ? Array.from(segmenter.segment(text), (one) => one.segment) : Array.from(text));
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const percent = (rate) => `${(100 * rate).toFixed(0)} %`;

  // Which grapheme clusters of `b` are not in a longest common subsequence with `a`: [text, differs] runs
  function runs(a, b) {
    const x = split(a), y = split(b), n = x.length, m = y.length;
    if (n * m > 4000) return [[b, false]];
    const table = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
    for (let i = n - 1; i >= 0; i--)
      for (let j = m - 1; j >= 0; j--)
        table[i][j] = x[i] === y[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    const found = [];
    const add = (text, differs) => {
      if (found.length && found[found.length - 1][1] === differs) found[found.length - 1][0] += text;
      else found.push([text, differs]);
    };
    let i = 0, j = 0;
    while (j < m) {
      if (i < n && x[i] === y[j]) { add(y[j], false); i++; j++; }
      else if (i < n && table[i + 1][j] >= table[i][j + 1]) i++;
      else { add(y[j], true); j++; }
    }
    return found;
  }

  function cell(reference, hypothesis, alone) {
    if (!hypothesis) return make("span", reference ? (alone ? "" : "e") : "", reference ? "∅" : "\u00a0");
    if (!reference) return make("span", alone ? "" : "a", hypothesis);
    if (reference === hypothesis) return make("span", "", hypothesis);
    const found = make("span", alone ? "" : "s");
    for (const [text, differs] of runs(reference, hypothesis)) found.append(differs ? make("u", "", text) : text);
    return found;
  }

  function grid(row) {
    const found = make("div", "grid");
    found.dir = row.r ? "rtl" : "ltr";
    const side = make("span", "col side");
    side.append(make("span", "", "ref"));
    systems.forEach((_, k) => side.append(make("span", "", systems.length > 1 ? `hyp ${k + 1}` : "hyp")));
    found.append(side);
    const alone = systems.length === 1;
    for (const [reference, ...hypotheses] of row.x) {
      let kind = "";
      if (alone) kind = !reference ? "ins" : !hypotheses[0] ? "del" : reference === hypotheses[0] ? "" : "sub";
      const column = make("span", `col ${kind}`);
      column.append(make("span", "", reference || (alone ? "∅" : "\u00a0")));
      for (const one of hypotheses) column.append(cell(reference, one, alone));
      found.append(column);
    }
    return found;
  }

  function item(row) {
    const found = make("li"), meta = make("div", "meta");
    const link = make("a", "", `${row.i + 1}`);
    link.href = `#u=${row.i}`;
    meta.append(link, make("bdi", "", row.f));
    if (row.s) meta.append(make("bdi", "", row.s));
    if (row.d) meta.append(make("span", "", `${row.d.toFixed(1)} s`));
    const rates = (own) => own.map(percent).join(" / ");
    meta.append(make("span", "", `WER ${rates(row.w)}`), make("span", "", `CER ${rates(row.c)}`));
    if (row.q !== undefined) meta.append(make("span", "", `SNR ${row.q.toFixed(0)} dB`));
    if (row.k !== undefined) meta.append(make("span", "", `doubt ${row.k.toFixed(2)}`));
    if (row.a) {
      const player = make("audio");
      player.controls = true;
      player.preload = "none";
      player.src = row.a;
      meta.append(player);
    }
    found.append(meta, grid(row));
    return found;
  }

  const last = systems.length - 1;
  const orders = {
    i: (a, b) => a.i - b.i, w: (a, b) => b.w[last] - a.w[last], c: (a, b) => b.c[last] - a.c[last],
    d: (a, b) => (b.d || 0) - (a.d || 0), q: (a, b) => (a.q ?? 1e9) - (b.q ?? 1e9), k: (a, b) => (b.k ?? -1) - (a.k ?? -1),
    s: (a, b) => (a.s || "").localeCompare(b.s || ""), x: (a, b) => Math.abs(b.w[0] - b.w[last]) - Math.abs(a.w[0] - a.w[last]),
  };
  for (const row of rows) row.t = [row.f, row.s || "", ...row.x.flat()].join(" ").toLowerCase();

  let shown = [], n = 0;
  function showMore() {
    const part = document.createDocumentFragment();
    for (const row of shown.slice(n, n + STEP)) part.append(item(row));
    n = Math.min(n + STEP, shown.length);
    list.append(part);
    more.hidden = n >= shown.length;
    count.textContent = `${n} of ${shown.length} shown`;
  }
  function update() {
    const words = form.elements.search.value.toLowerCase().normalize("NFC").split(/\s+/).filter(Boolean);
    const one = form.dataset.only, manifest = form.elements.m ? form.elements.m.value : "";
    shown = one !== undefined ? rows.filter((row) => `${row.i}` === one)
      : rows.filter((row) => words.every((word) => row.t.includes(word)) && (!form.elements.wrong.checked || row.w[last] > 0)
        && (!manifest || row.m.includes(Number(manifest))));
    shown.sort(orders[form.elements.sort.value] || orders.i);
    list.replaceChildren();
    n = 0;
    showMore();
  }
  // The state is in the address, so that a view can be linked: #sort=w&search=mama&wrong=1, #u=12
  function read() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.has("theme")) document.documentElement.dataset.theme = wanted.get("theme");
    delete form.dataset.only;
    if (wanted.has("u")) form.dataset.only = wanted.get("u");
    if (wanted.has("sort") && wanted.get("sort") in orders) form.elements.sort.value = wanted.get("sort");
    if (wanted.has("search")) form.elements.search.value = wanted.get("search");
    if (wanted.has("wrong")) form.elements.wrong.checked = wanted.get("wrong") === "1";
    if (wanted.has("m") && form.elements.m) form.elements.m.value = wanted.get("m");
    update();
    if (wanted.has("u") || wanted.has("m")) document.getElementById("utterances").scrollIntoView();
  }
  form.addEventListener("input", () => { delete form.dataset.only; update(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", showMore);
  window.addEventListener("hashchange", read);
  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  for (const own of document.querySelectorAll("ol[data-rows]"))
    for (const number of own.dataset.rows.split(" ")) own.append(item(rows[number]));
  read();
  document.documentElement.dataset.ready = performance.now().toFixed(0); // milliseconds until the page could be used
})();
