// The page: the list of recordings, uploads, recording with live text, settings; editor.js has the rest.

import { ask, getJson, upload } from "./api.js";
import { closeEditor, openEditor } from "./editor.js";
import { Microphone } from "./microphone.js";
import { LANGUAGES, clock, preferredLanguage, say, t, useLanguage } from "./strings.js";

const $ = (id) => document.getElementById(id);
const LIST_S = 3;
const MOST_NAMES = 50;

let facts = null;
let microphone = null;
let sending = Promise.resolve();

async function start() {
  for (const [code, name] of Object.entries(LANGUAGES)) $("language").add(new Option(name, code));
  await useLanguage(preferredLanguage());
  $("language").value = document.documentElement.lang;
  $("language").onchange = async () => {
    await useLanguage($("language").value);
    window.dispatchEvent(new Event("hashchange")); // what is written by scripts is written again
  };
  $("who").value = localStorage.getItem("who") ?? "";
  $("who").onchange = () => localStorage.setItem("who", $("who").value.trim());
  $("theme").onclick = switchTheme;
  facts = await getJson("/v1/page");
  if (facts.who && !$("who").value) $("who").value = facts.who;
  for (const name of facts.models) $("model").add(new Option(name, name));
  $("model-label").hidden = facts.models.length < 2;
  for (const format of facts.formats) $("format").add(new Option(FORMATS[format] ?? format, format));
  $("choose-files").onclick = () => $("files").click();
  $("choose-folder").onclick = () => $("folder").click();
  for (const input of [$("files"), $("folder")]) {
    input.onchange = async () => {
      const files = [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
      await send(files, input === $("folder"));
      input.value = "";
    };
  }
  listenForDrops();
  $("record").onclick = record;
  $("stop").onclick = stopRecording;
  $("corrections").onclick = showCorrections;
  await show();
  window.addEventListener("hashchange", show);
  document.body.dataset.ready = "true";
  setInterval(() => $("list-view").hidden || listRecordings().catch(() => say(t("no-server"), true)), LIST_S * 1000);
}

const FORMATS = { text: "Text", srt: "SRT", vtt: "WebVTT", textgrid: "Praat TextGrid", eaf: "ELAN", json: "JSON" };

async function show() {
  const id = decodeURIComponent(location.hash.slice(1));
  $("list-view").hidden = Boolean(id);
  $("editor-view").hidden = !id;
  closeEditor();
  if (id) await openEditor(id);
  else await listRecordings();
}

async function listRecordings() {
  const found = await getJson("/v1/recordings");
  if ($("status").textContent === t("no-server")) say("");
  const rows = found.map((one) => {
    const row = document.createElement("li");
    const name = document.createElement("span");
    name.className = "name";
    name.dir = "auto";
    if (one.state === "done") {
      const link = document.createElement("a");
      link.href = `#${encodeURIComponent(one.id)}`;
      link.textContent = one.name;
      name.append(link);
    } else name.textContent = one.name;
    const about = document.createElement("span");
    about.className = "about";
    if (one.state === "done") {
      about.textContent = `${clock(one.duration)} · ${t("confirmed-of", { n: one.n_confirmed, all: one.n_segments })}`;
    } else about.textContent = one.state === "waiting" ? t("being-recognised") : one.error;
    row.append(name, about);
    if (one.state === "failed") {
      about.classList.add("bad");
      const again = document.createElement("button");
      again.type = "button";
      again.textContent = t("try-again");
      again.onclick = async () => {
        await ask(`/v1/recordings/${one.id}/recognize`, { method: "POST" });
        await listRecordings();
      };
      row.append(again);
    }
    return row;
  });
  const text = (elements) => elements.map((element) => element.outerHTML).join("");
  if (text(rows) !== text([...$("recordings").children])) $("recordings").replaceChildren(...rows); // keeps the focus
}

// Files {file, path} one after the other, also those of a second drop; of a folder only those whose names are those of sound.
function send(files, isFolder = false, unreadable = []) {
  sending = sending.then(() => sendNow(files, isFolder, unreadable));
  return sending;
}

async function sendNow(files, isFolder, unreadable) {
  const sound = /\.(wav|flac|ogg|oga|opus|mp3|aiff?|au|caf|w64|m4a|mp4|aac|webm|mk[va]|mov|3g[p2]|amr|wm[av]|avi|mpe?g|m4v|mts|flv|ra)$/i;
  const chosen = isFolder ? files.filter((one) => sound.test(one.path)) : files;
  const skipped = files.filter((one) => !chosen.includes(one)).map((one) => one.path);
  const failures = unreadable.map((path) => `${path}: ${t("unreadable")}`);
  if (skipped.length) failures.push(t("no-sound-files", { n: skipped.length, names: listed(skipped) }));
  let n = 0;
  for (const [i, { file }] of chosen.entries()) {
    if (file.size > facts.max_bytes) {
      failures.push(`${file.name}: ${t("too-large", { n: Math.round(facts.max_bytes / 2 ** 20) })}`);
      continue;
    }
    try {
      await getJson("/v1/page"); // asks for a key if one is needed
      await upload(file, $("model").value, (part) => {
        say(t("sending", { name: file.name, percent: Math.round(100 * part), n: i + 1, all: chosen.length }));
      });
      n += 1;
    } catch (error) {
      failures.push(`${file.name}: ${error instanceof TypeError ? t("no-server") : error.message}`);
    }
  }
  const sent = n || !failures.length ? [t("sent", { n })] : [];
  say([...sent, ...failures].join("; "), failures.length > 0);
  await listRecordings().catch(() => say(t("no-server"), true));
}

function listed(names) {
  return names.slice(0, MOST_NAMES).join(", ") + (names.length > MOST_NAMES ? ", …" : "");
}

function listenForDrops() {
  const drop = $("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    window.addEventListener(kind, (event) => event.preventDefault()); // a file beside the field must not replace the page
  }
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    drop.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const hasFolder = entries.some((entry) => entry.isDirectory);
    const unreadable = [];
    const files = hasFolder
      ? (await Promise.all(entries.map((entry) => filesOf(entry, unreadable)))).flat()
      : [...event.dataTransfer.files].map((file) => ({ file, path: file.name }));
    await send(files, hasFolder, unreadable);
  });
}

// The files of a folder and of those in it; the paths of what cannot be read go to `unreadable`.
async function filesOf(entry, unreadable) {
  const path = entry.fullPath.replace(/^\//, "");
  try {
    if (entry.isFile) return [{ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path }];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
      if (!some.length) break;
      found.push(...some);
    }
    return (await Promise.all(found.map((one) => filesOf(one, unreadable)))).flat();
  } catch {
    unreadable.push(path);
    return [];
  }
}

async function record() {
  if (!navigator.mediaDevices?.getUserMedia) {
    say(t("microphone-needs-https"), true);
    return;
  }
  $("live-text").replaceChildren();
  try {
    await getJson("/v1/page");
    microphone = new Microphone($("model").value, showLive, (seconds) => ($("live-time").textContent = clock(seconds)), () => say(t("no-live"), true));
    await microphone.start();
  } catch (error) {
    microphone = null;
    say(error.name === "NotAllowedError" ? t("microphone-refused") : `${t("no-microphone")} (${error.message})`, true);
    return;
  }
  $("live").hidden = false;
  $("record").hidden = true;
  $("stop").focus();
  say(t("recording"));
}

function showLive(result) {
  const text = $("live-text");
  text.querySelector(".partial")?.remove();
  if (!result.text) return;
  const part = document.createElement("span");
  part.textContent = `${result.text} `;
  if (result.type === "partial") part.className = "partial";
  text.append(part);
}

async function stopRecording() {
  const file = await microphone.stop(t("recording-name"));
  microphone = null;
  $("live").hidden = true;
  $("record").hidden = false;
  $("record").focus();
  await send([{ file, path: file.name }]);
}

async function showCorrections() {
  try {
    const found = await getJson("/v1/corrections");
    const minutes = (found.seconds / 60).toFixed(1);
    $("corrections-text").textContent = t("corrections-text", { minutes, n: found.n_segments });
    $("corrections-commands").textContent = found.commands.join("\n");
    $("corrections-dialog").showModal();
  } catch (error) {
    say(error instanceof TypeError ? t("no-server") : error.message, true);
  }
}

function switchTheme() {
  const isDark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
}

window.addEventListener("beforeunload", (event) => microphone && event.preventDefault());
start().catch((error) => say(error instanceof TypeError ? t("no-server") : error.message, true));
