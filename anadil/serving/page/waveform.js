// The waveform and the sound: wavesurfer.js with its regions, on the peaks that the server computed.

import { t } from "./strings.js";
import WaveSurfer from "./vendor/wavesurfer.esm.js";
import Regions from "./vendor/wavesurfer.regions.esm.js";

const SHORT_S = 600;

export class Waveform {
  constructor(container, url, recording, { onTime, onPlaying, onMoved, onNew, onSeek }) {
    this.onTime = onTime;
    this.audio = new Audio(url);
    this.audio.preload = "auto";
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    this.regions = Regions.create();
    this.surfer = WaveSurfer.create({
      container,
      media: this.audio,
      peaks: [recording.peaks],
      duration: recording.duration,
      height: 80,
      normalize: true,
      minPxPerSec: recording.duration > SHORT_S ? 20 : 60,
      waveColor: colour("--wave"),
      progressColor: colour("--played"),
      cursorColor: colour("--front"),
      plugins: [this.regions],
    });
    this.surfer.on("interaction", (seconds) => {
      this.end = null;
      onSeek(seconds);
    });
    const scroll = container.lastElementChild?.shadowRoot?.querySelector(".scroll");
    scroll?.setAttribute("tabindex", "0"); // so that the arrow keys scroll it
    scroll?.setAttribute("role", "group");
    scroll?.setAttribute("aria-label", t("waveform"));
    this.regions.enableDragSelection({ color: "rgba(90, 150, 160, 0.35)" });
    this.regions.on("region-created", (region) => {
      if (region === this.region || this.isMarking) return;
      const { start, end } = region;
      region.remove();
      if (end - start >= 0.1) onNew(round(start), round(end));
    });
    this.regions.on("region-updated", (region) => {
      if (region === this.region) onMoved(round(region.start), round(region.end));
    });
    this.audio.addEventListener("play", () => onPlaying(true));
    this.audio.addEventListener("pause", () => onPlaying(false));
    this.audio.addEventListener("seeked", () => onTime(this.audio.currentTime));
    this.watch = () => {
      if (!this.audio.paused) {
        if (this.end !== null && this.audio.currentTime >= this.end) this.audio.pause();
        onTime(this.audio.currentTime);
      }
      this.frame = requestAnimationFrame(this.watch);
    };
    this.end = null;
    this.watch();
    onTime(0);
  }

  play(start, end = null) {
    this.end = end;
    this.lastStart = start;
    this.audio.currentTime = start;
    this.audio.play().catch(() => {}); // a pause that comes before it has begun
  }

  pause() {
    this.audio.pause();
  }

  // Pause, or go on; within a stretch if the sound is not in it, from its start.
  toggle(start = null, end = null) {
    if (!this.audio.paused) {
      this.audio.pause();
      return;
    }
    const now = this.audio.currentTime;
    if (start !== null && !(start <= now && now < end - 0.05)) this.play(start, end);
    else {
      this.end = end;
      this.audio.play().catch(() => {});
    }
  }

  skip(seconds) {
    this.end = null;
    this.audio.currentTime = Math.max(0, this.audio.currentTime + seconds);
  }

  setSpeed(speed) {
    this.audio.playbackRate = speed; // browsers keep the pitch
  }

  mark(start, end) {
    this.isMarking = true;
    this.region?.remove();
    this.region = this.regions.addRegion({ start, end, color: "rgba(90, 150, 160, 0.25)", drag: false, resize: true });
    this.isMarking = false;
    if (this.audio.paused) this.surfer.setScrollTime?.(Math.max(0, start - 1));
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.audio.pause();
    this.surfer.destroy();
    this.audio.removeAttribute("src");
  }
}

function round(seconds) {
  return Math.round(seconds * 1000) / 1000;
}
