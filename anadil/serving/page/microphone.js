// The microphone: live text through a WebSocket, and the whole recording as a WAV file.

export class Microphone {
  constructor(model, onResult, onTime, onLost) {
    Object.assign(this, { model, onResult, onTime, onLost, blocks: [], nSamples: 0 });
  }

  async start() {
    const wanted = { audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true } };
    this.source = await navigator.mediaDevices.getUserMedia(wanted);
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/microphone-worklet.js");
    this.rate = this.context.sampleRate;
    this.openSocket();
    const node = new AudioWorkletNode(this.context, "samples", { numberOfOutputs: 0 });
    node.port.onmessage = (event) => this.take(event.data);
    this.context.createMediaStreamSource(this.source).connect(node);
  }

  openSocket() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const query = new URLSearchParams({ model: this.model, sample_rate: this.rate, encoding: "float32" });
    this.socket = new WebSocket(`${scheme}://${location.host}/v1/stream?${query}`);
    this.socket.onopen = () => this.blocks.forEach((block) => this.socket.send(block)); // what was said meanwhile
    this.socket.onmessage = (event) => {
      const result = JSON.parse(event.data);
      if (result.type === "partial" || result.type === "final") this.onResult(result);
    };
    this.socket.onclose = () => this.context.state !== "closed" && this.onLost(); // the recording goes on without live text
  }

  take(block) {
    this.blocks.push(block);
    this.nSamples += block.length;
    this.onTime(this.nSamples / this.rate);
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(block);
  }

  async stop(name) {
    this.source.getTracks().forEach((track) => track.stop());
    await this.context.close();
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "finish" }));
    const when = new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", "-");
    return new File([wav(this.blocks, this.nSamples, this.rate)], `${name} ${when}.wav`, { type: "audio/wav" });
  }
}

// The bytes of a mono 16-bit WAV file.
function wav(blocks, nSamples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * nSamples));
  const write = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * nSamples, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * nSamples, true);
  let at = 44;
  for (const block of blocks) {
    for (const sample of block) {
      view.setInt16(at, Math.max(-1, Math.min(1, sample)) * 32767, true);
      at += 2;
    }
  }
  return view.buffer;
}
