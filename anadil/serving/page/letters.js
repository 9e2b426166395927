// Keys on the screen for the letters of the model's alphabet: a press writes into the field that had the focus last.

import { getJson } from "./api.js";

export class Letters {
  constructor(panel, toggle, model) {
    this.field = null;
    panel.hidden = localStorage.getItem("letters") !== "shown";
    const show = () => toggle.setAttribute("aria-expanded", String(!panel.hidden));
    show();
    toggle.onclick = () => {
      panel.hidden = !panel.hidden;
      localStorage.setItem("letters", panel.hidden ? "hidden" : "shown");
      show();
      if (this.field?.isConnected) this.field.focus();
    };
    document.getElementById("segments").addEventListener("focusin", (event) => {
      if (event.target instanceof HTMLTextAreaElement) this.field = event.target;
    });
    getJson(`/v1/page/letters?model=${encodeURIComponent(model)}`).then(
      ({ letters }) => panel.replaceChildren(...letters.map((letter) => this.key(letter))),
      () => (toggle.hidden = true), // the model of this recording is not served any more
    );
  }

  key(letter) {
    const key = document.createElement("button");
    key.type = "button";
    key.textContent = /^\p{M}/u.test(letter) ? `\u25cc${letter}` : letter; // a combining mark needs something to stand on
    key.onmousedown = (event) => event.preventDefault(); // the field keeps the focus
    key.onclick = () => {
      if (!this.field?.isConnected) return;
      this.field.setRangeText(letter, this.field.selectionStart, this.field.selectionEnd, "end");
      this.field.dispatchEvent(new Event("input"));
      this.field.focus();
    };
    return key;
  }
}
