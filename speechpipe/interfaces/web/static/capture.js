// AudioWorklet: sends the microphone's audio as 16-bit PCM in blocks of 100 ms, with the level of each block.
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.power = 0;
  }

  process([channels]) {
    const samples = channels[0];
    if (!samples) return true;
    for (const sample of samples) {
      this.power += sample * sample;
      this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === this.block.length) {
        const level = 10 * Math.log10(Math.max(this.power / this.filled, 1e-10));
        this.port.postMessage({ pcm: this.block.buffer, level }, [this.block.buffer]);
        this.block = new Int16Array(Math.round(sampleRate / 10));
        this.filled = 0;
        this.power = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
