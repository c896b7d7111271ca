// The waveform of the audio, with segments and the playback position.
export class Waveform {
  constructor(canvas) {
    this.canvas = canvas;
    this.peaks = [];
    this.duration = 1;
  }

  load(samples, duration) {
    this.duration = duration;
    const width = this.canvas.width;
    const step = Math.max(1, Math.floor(samples.length / width));
    this.peaks = Array.from({ length: width }, (_, x) => {
      let most = 0;
      for (let index = x * step; index < Math.min((x + 1) * step, samples.length); index++) most = Math.max(most, Math.abs(samples[index]));
      return most;
    });
    this.loudest = Math.max(...this.peaks, 0.01);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.duration;
  }

  draw(segments, current, now) {
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const { width, height } = this.canvas;
    const x = (seconds) => (seconds / this.duration) * width;
    context.clearRect(0, 0, width, height);
    segments.forEach((segment, index) => {
      context.globalAlpha = index === current ? 0.3 : 0.12;
      context.fillStyle = style.getPropertyValue(segment.kind === "speech" ? "--mark" : "--none");
      context.fillRect(x(segment.start), 0, Math.max(2, x(segment.end) - x(segment.start)), height);
    });
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue("--muted");
    this.peaks.forEach((peak, column) => {
      const tall = Math.max(1, (peak / this.loudest) * (height - 8));
      context.fillRect(column, (height - tall) / 2, 1, tall);
    });
    context.fillStyle = style.getPropertyValue("--bad");
    context.fillRect(x(now) - 1, 0, 2, height);
  }
}
