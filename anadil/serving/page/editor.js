// One recording: waveform, segments, their correction with the keyboard alone.
//
// What is typed is in localStorage at once, on the server as a draft after a second, and confirmed by Enter. A change names the
// revision that it was made from; if somebody else changed the segment meanwhile, the server answers 409, and both texts are shown.

import { ask, getJson, reason } from "./api.js";
import { Letters } from "./letters.js";
import { clock, say, t } from "./strings.js";
import { Waveform } from "./waveform.js";

const $ = (id) => document.getElementById(id);
const DRAFT_MS = 1000;
const POLL_MS = 4000;
const RETRY_MS = 3000;
const STEP_S = 2;
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5];

let open = null; // the Editor on the page

export function closeEditor() {
  open?.close();
  open = null;
}

export async function openEditor(id) {
  try {
    open = new Editor(await getJson(`/v1/recordings/${encodeURIComponent(id)}`));
  } catch (error) {
    say(error instanceof TypeError ? t("no-server") : error.message, true);
  }
}

class Editor {
  constructor(recording) {
    this.recording = recording;
    this.rows = new Map(); // segment id to Row
    this.active = null;
    this.url = `/v1/recordings/${encodeURIComponent(recording.id)}`;
    document.title = `${recording.name} – Anadil`;
    $("editor-title").textContent = recording.name;
    $("notes").textContent = recording.notes.join("; ");
    $("segments").replaceChildren();
    this.wave = new Waveform($("wave"), `${this.url}/audio`, recording, {
      onTime: (seconds) => this.showTime(seconds),
      onPlaying: (isPlaying) => ($("play").textContent = t(isPlaying ? "pause" : "play")),
      onMoved: (start, end) => this.active?.move(start, end),
      onNew: (start, end) => this.addSegment(start, end),
      onSeek: (seconds) => this.activateAt(seconds),
    });
    this.letters = new Letters($("letters"), $("letters-button"), recording.model);
    for (const segment of recording.segments) this.addRow(segment);
    this.restoreDrafts();
    this.showProgress();
    $("play").onclick = () => this.wave.toggle();
    $("speed").onchange = () => this.wave.setSpeed(Number($("speed").value));
    $("speed").value = "1";
    $("delete-recording").onclick = () => this.deleteRecording();
    $("format").onchange = () => this.showDownload();
    this.showDownload();
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
    this.polling = setInterval(() => this.poll(), POLL_MS);
    if (!recording.segments.length) say(t("no-speech"));
  }

  close() {
    clearInterval(this.polling);
    document.removeEventListener("keydown", this.onKey);
    for (const row of this.rows.values()) row.saveNow();
    this.wave.close();
    document.title = "Anadil";
  }

  addRow(segment) {
    const row = new Row(this, segment);
    this.rows.set(segment.id, row);
    const next = this.ordered().find((other) => other !== row && other.segment.start > segment.start);
    $("segments").insertBefore(row.element, next?.element ?? null);
    return row;
  }

  ordered() {
    return [...this.rows.values()].sort((a, b) => a.segment.start - b.segment.start);
  }

  activate(row) {
    if (this.active === row) return;
    this.active?.element.classList.remove("active");
    this.active = row;
    row.element.classList.add("active");
    this.wave.mark(row.segment.start, row.segment.end);
  }

  activateAt(seconds) {
    const row = this.ordered().find((one) => one.segment.start <= seconds && seconds < one.segment.end);
    if (row) {
      this.activate(row);
      row.element.scrollIntoView({ block: "center" });
    }
  }

  neighbour(row, step) {
    const rows = this.ordered();
    return rows[rows.indexOf(row) + step];
  }

  // The next segment that nobody has confirmed, else the next one.
  go(row, step) {
    const rows = this.ordered();
    const after = rows.slice(rows.indexOf(row) + 1);
    const next = step === "open" ? (after.find((one) => one.segment.state !== "confirmed") ?? after[0]) : this.neighbour(row, step);
    if (!next) return;
    next.field.focus();
    this.wave.play(next.segment.start, next.segment.end);
  }

  // ELAN's and oTranscribe's keys; those of a field are in Row.
  key(event) {
    const speed = SPEEDS.indexOf(Number($("speed").value));
    const actions = {
      F1: () => this.wave.skip(-STEP_S),
      F2: () => this.wave.skip(STEP_S),
      F3: () => this.setSpeed(SPEEDS[Math.max(0, speed - 1)]),
      F4: () => this.setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, speed + 1)]),
    };
    if (event.ctrlKey && event.code === "Space") this.wave.toggle();
    else if (actions[event.key] && !event.altKey && !event.ctrlKey) actions[event.key]();
    else return;
    event.preventDefault();
  }

  setSpeed(speed) {
    $("speed").value = String(speed);
    this.wave.setSpeed(speed);
  }

  showTime(seconds) {
    $("time").textContent = `${clock(seconds)} / ${clock(this.recording.duration)}`;
    const isIn = (row) => row && row.segment.start <= seconds && seconds < row.segment.end;
    const row = isIn(this.sounding) ? this.sounding : [...this.rows.values()].find(isIn);
    if (this.sounding && this.sounding !== row) this.sounding.showPlaying(-1);
    this.sounding = row;
    row?.showPlaying(seconds);
  }

  showProgress() {
    const rows = [...this.rows.values()];
    const n = rows.filter((row) => row.segment.state === "confirmed").length;
    $("progress").textContent = t("confirmed-of", { n, all: rows.length });
  }

  showDownload() {
    $("download").href = `${this.url}/download?format=${$("format").value}`;
  }

  async addSegment(start, end) {
    const id = `n-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
    const row = this.addRow({ id, start, end, text: "", state: "draft", revision: 0, who: "", when: "", heard: "", words: [] });
    row.field.focus();
    await row.save("draft");
    this.showProgress();
  }

  async deleteRecording() {
    if (!confirm(t("delete-recording-sure"))) return;
    const answer = await ask(this.url, { method: "DELETE" });
    if (answer.ok) location.hash = "";
    else say(await reason(answer), true);
  }

  // What others changed meanwhile. A segment that is being changed here is left alone; its next save will tell.
  async poll() {
    let answer;
    try {
      answer = await ask(`${this.url}?after=${this.recording.version}`);
    } catch {
      return; // a save will say so
    }
    if (answer.status !== 200 || open !== this) return;
    const fresh = await answer.json();
    this.recording.version = fresh.version;
    const there = new Set(fresh.segments.map((segment) => segment.id));
    for (const segment of fresh.segments) {
      const row = this.rows.get(segment.id);
      if (!row) this.addRow(segment);
      else if (!row.isChanged && segment.revision > row.segment.revision) row.take(segment);
    }
    for (const [id, row] of this.rows) if (!there.has(id) && !row.isChanged && row.segment.revision) row.remove();
    this.showProgress();
  }

  // What was typed here and did not reach the server: the browser or the server died.
  restoreDrafts() {
    for (const [id, draft] of Object.entries(drafts(this.recording.id))) {
      const row = this.rows.get(id) ?? (draft.base === 0 ? this.addRow({ ...draft, id, revision: 0, state: "draft", who: "", when: "", heard: "", words: [] }) : null);
      if (!row) continue;
      row.base = draft.base;
      row.field.value = draft.text;
      Object.assign(row.segment, { start: draft.start, end: draft.end });
      row.save(draft.state ?? "draft");
    }
  }
}

class Row {
  constructor(editor, segment) {
    Object.assign(this, { editor, segment, base: segment.revision, isChanged: false, isSaving: false, wanted: null, timer: 0 });
    this.element = document.createElement("li");
    this.element.onclick = () => editor.activate(this);
    this.from = button("from", "", () => editor.wave.play(this.segment.start, this.segment.end));
    this.words = document.createElement("p");
    this.words.className = "words";
    this.words.dir = "auto";
    this.field = document.createElement("textarea");
    this.field.dir = "auto";
    this.field.rows = 1;
    this.field.spellcheck = false;
    if (editor.recording.language) this.field.lang = editor.recording.language;
    this.field.onfocus = () => editor.activate(this);
    this.field.oninput = () => this.typed();
    this.field.onblur = () => this.saveNow();
    this.field.onkeydown = (event) => this.key(event);
    const actions = document.createElement("span");
    actions.className = "actions";
    this.confirmButton = button("main", t("confirm"), () => this.save("confirmed"));
    this.deleteButton = button("", t("delete"), () => this.save("deleted"));
    actions.append(this.confirmButton, this.deleteButton);
    this.about = document.createElement("p");
    this.about.className = "about";
    this.element.append(this.from, this.words, this.field, actions, this.about);
    this.field.value = segment.text;
    this.show();
  }

  show() {
    const { start, end, state, who, when, words } = this.segment;
    this.from.textContent = `▶ ${clock(start)}`;
    this.from.setAttribute("aria-label", t("play-from", { time: clock(start) }));
    this.field.setAttribute("aria-label", t("text-of", { from: clock(start), to: clock(end) }));
    this.element.className = state + (this.editor.active === this ? " active" : "");
    this.about.textContent = state === "confirmed" ? `✓ ${t("confirmed-by", { who: who || "?", when: when.slice(0, 16).replace("T", " ") })}` : "";
    this.words.hidden = state === "confirmed" || !words.length;
    if (!this.words.hidden && !this.words.childElementCount) {
      const nodes = words.flatMap(([text, from, to, sure], i) => {
        const kind = sure >= 0.9 ? "sure" : sure >= 0.7 ? "unsure" : "doubtful";
        const one = button(kind, text, () => this.editor.wave.play(from, this.segment.end));
        one.title = `${Math.round(100 * sure)} %`;
        one.dataset.from = from;
        one.dataset.to = to;
        one.tabIndex = -1; // the field comes next; a word is played from there with Alt+Left and Alt+Right
        return i ? [this.editor.recording.joiner, one] : [one];
      });
      this.words.replaceChildren(...nodes);
    }
  }

  showPlaying(seconds) {
    for (const word of this.words.hidden ? [] : this.words.querySelectorAll("button")) {
      word.classList.toggle("playing", Number(word.dataset.from) <= seconds && seconds < Number(word.dataset.to));
    }
  }

  key(event) {
    const { wave } = this.editor;
    const plain = !event.ctrlKey && !event.altKey && !event.metaKey && !event.isComposing;
    if (event.key === "Tab" && plain && !event.shiftKey) wave.toggle(this.segment.start, this.segment.end);
    else if (event.key === "Enter" && plain && !event.shiftKey) this.save("confirmed").then((isSaved) => isSaved && this.editor.go(this, "open"));
    else if (event.key === "Escape") this.leave();
    else if (event.altKey && event.key === "ArrowUp") this.editor.go(this, -1);
    else if (event.altKey && event.key === "ArrowDown") this.editor.go(this, 1);
    else if (event.altKey && event.key === "ArrowLeft") this.playWord(-1);
    else if (event.altKey && event.key === "ArrowRight") this.playWord(1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // So that Tab moves on as everywhere else: the focus goes to the row's first button.
  leave() {
    this.editor.wave.pause();
    this.confirmButton.focus();
  }

  // The word before or after the place that was played last.
  playWord(step) {
    const { wave } = this.editor;
    const words = this.segment.words;
    const now = wave.lastStart ?? this.segment.start;
    const at = words.findIndex(([, from]) => from > now + 0.01);
    const index = step > 0 ? at : (at < 0 ? words.length : at) - 2;
    const word = words[Math.max(0, Math.min(words.length - 1, index < 0 && step > 0 ? words.length - 1 : index))];
    if (word) wave.play(word[1], word[2]);
  }

  typed() {
    this.isChanged = true;
    this.keep("draft");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save("draft"), DRAFT_MS);
  }

  move(start, end) {
    Object.assign(this.segment, { start, end });
    this.show();
    this.typed();
  }

  saveNow() {
    if (this.isChanged && this.timer) this.save("draft");
  }

  keep(state) {
    const all = drafts(this.editor.recording.id);
    all[this.segment.id] = { ...this.body(state) };
    store(this.editor.recording.id, all);
  }

  body(state) {
    const { start, end } = this.segment;
    return { start, end, text: this.field.value, state, base: this.base, who: $("who").value.trim() };
  }

  // Save as a draft, confirmed or deleted; true if the server has it.
  async save(state) {
    clearTimeout(this.timer);
    this.timer = 0;
    this.isChanged = true;
    this.keep(state);
    if (this.isSaving) {
      this.wanted = state;
      return false;
    }
    this.isSaving = true;
    const sent = this.body(state);
    let answer;
    try {
      const options = { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
      answer = await ask(`${this.editor.url}/segments/${this.segment.id}`, options);
    } catch {
      this.isSaving = false;
      say(t("not-saved-yet"), true);
      this.timer = setTimeout(() => this.save(this.wanted ?? state), RETRY_MS);
      return false;
    }
    this.isSaving = false;
    const after = answer.ok || answer.status === 409 ? await answer.json() : null;
    if (answer.status === 409 && !isSameChange(after, sent)) {
      this.showConflict(after, state);
      return false;
    }
    if (!after) {
      say(await reason(answer), true);
      if (answer.status >= 500 || answer.status === 429) this.timer = setTimeout(() => this.save(this.wanted ?? state), RETRY_MS);
      return false;
    }
    const wanted = this.wanted;
    this.wanted = null;
    const isSame = this.field.value === sent.text && !wanted;
    this.segment = after;
    this.base = this.segment.revision;
    if (!isSame) {
      if (wanted) return this.save(wanted);
      this.typed();
      return false;
    }
    this.isChanged = false;
    const all = drafts(this.editor.recording.id);
    delete all[this.segment.id];
    store(this.editor.recording.id, all);
    if (state === "deleted") this.remove();
    else this.show();
    this.editor.showProgress();
    say(t(state === "draft" ? "draft-saved" : "saved"));
    return true;
  }

  // Take what somebody else wrote.
  take(segment) {
    this.segment = segment;
    this.base = segment.revision;
    this.isChanged = false;
    this.field.value = segment.text;
    this.element.querySelector(".conflict")?.remove();
    this.show();
  }

  remove() {
    if (this.element.contains(document.activeElement)) this.editor.neighbour(this, 1)?.field.focus();
    this.element.remove();
    this.editor.rows.delete(this.segment.id);
  }

  showConflict(theirs, state) {
    this.element.querySelector(".conflict")?.remove();
    const box = document.createElement("div");
    box.className = "conflict";
    box.setAttribute("role", "alert");
    const line = document.createElement("p");
    line.dir = "auto";
    line.textContent = t(theirs.state === "deleted" ? "conflict-deleted" : "conflict", { who: theirs.who || "?", text: theirs.text });
    const mine = button("", t("keep-mine"), () => {
      this.base = theirs.revision;
      box.remove();
      this.save(state);
    });
    const other = button("", t("take-theirs"), () => {
      const all = drafts(this.editor.recording.id);
      delete all[this.segment.id];
      store(this.editor.recording.id, all);
      if (theirs.state === "deleted") this.remove();
      else this.take({ ...this.segment, ...theirs });
    });
    box.append(line, mine, " ", other);
    this.element.append(box);
  }
}

// Whether the server has a change already: its answer was lost, because the page was left or the server was killed.
function isSameChange(theirs, sent) {
  return ["text", "state", "start", "end"].every((key) => theirs[key] === sent[key]);
}

function button(kind, text, action) {
  const one = document.createElement("button");
  one.type = "button";
  one.className = kind;
  one.textContent = text;
  one.onclick = action;
  return one;
}

function drafts(recording) {
  try {
    return JSON.parse(localStorage.getItem(`drafts-${recording}`)) ?? {};
  } catch {
    return {};
  }
}

function store(recording, all) {
  if (Object.keys(all).length) localStorage.setItem(`drafts-${recording}`, JSON.stringify(all));
  else localStorage.removeItem(`drafts-${recording}`);
}
