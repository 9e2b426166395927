// The language of the page: one file of strings for each. Elements with data-t get a text, those with data-l a label.

export const LANGUAGES = { en: "English", tr: "Türkçe", fr: "Français", es: "Español", sw: "Kiswahili" };

let strings = {};
let english = {};
export let language = "en";

export function t(key, values = {}) {
  const text = strings[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export async function useLanguage(code) {
  language = code in LANGUAGES ? code : "en";
  const load = async (one) => (await fetch(`/page/strings/${one}.json`)).json();
  if (!Object.keys(english).length) english = await load("en");
  strings = language === "en" ? english : await load(language);
  document.documentElement.lang = language;
  localStorage.setItem("language", language);
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-l]")) element.setAttribute("aria-label", t(element.dataset.l));
}

export function preferredLanguage() {
  const stored = localStorage.getItem("language");
  if (stored) return stored;
  const wanted = navigator.languages.map((one) => one.slice(0, 2));
  return wanted.find((one) => one in LANGUAGES) ?? "en";
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
}

// The line at the top of the page that tells what happened.
export function say(text, isBad = false) {
  const line = document.getElementById("status");
  line.textContent = text;
  line.classList.toggle("bad", isBad);
}
