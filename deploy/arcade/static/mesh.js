// The mesh: every core a cell in the colour of its layer, bright as it fires, white where the picture arrives.

import { bit, numbers } from "./wire.js";

const GROUND = [11, 14, 20], FREE = [20, 24, 33], DEAD = [150, 28, 40];
// How long a wave is shown; 0: as long as its decision lasts. Fifteen bright flashes a second harm some people, three do
// not, so the live wave is dimmer than the slower ones.
export const WAVES = { live: 0, half: 500, slow: 2500 };

/** As many colours as layers: from blue by green and yellow to pink, in the order in which a picture travels. */
export function layerColours(count) {
  return Array.from({ length: count }, (_, i) => hsl((212 - (count < 2 ? 0 : (i / (count - 1)) * 250) + 360) % 360, 0.78, 0.58));
}

function hsl(hue, saturation, light) {
  const a = saturation * Math.min(light, 1 - light);
  const part = (n) => { const k = (n + hue / 30) % 12; return Math.round(255 * (light - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)))); };
  return [part(0), part(8), part(4)];
}

export class Mesh {
  constructor(canvas, { onKill, onCell }) {
    Object.assign(this, { canvas, onKill, onCell, scene: null, wave: null, dead: null, drag: null, cursor: null, over: null });
    this.small = document.createElement("canvas");
    this.lasts = WAVES.half;
    this.next = null;
    this.drawn = 0;
    canvas.addEventListener("pointerdown", (e) => this.press(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.release(e));
    canvas.addEventListener("pointercancel", () => { this.drag = null; this.draw(); });
    canvas.addEventListener("pointerleave", () => { this.over = null; if (!this.drag) this.onCell(null); });
    canvas.addEventListener("keydown", (e) => this.key(e));
    canvas.addEventListener("blur", () => { this.cursor = null; this.draw(); });
    new ResizeObserver(() => this.fit()).observe(canvas);
  }

  /** A new scene: where the cores lie. */
  setScene(mesh, arrays) {
    this.scene = this.wave = this.dead = this.next = null;
    if (!mesh) return this.draw();
    const [chipsX, chipsY] = mesh.chips, [width, height] = mesh.size;
    const place = numbers(arrays.place), cores = place.length / 2;
    const columns = chipsX * width, rows = chipsY * height;
    const at = new Int32Array(columns * rows).fill(-1);
    for (let c = 0; c < cores; c++) at[place[2 * c + 1] * columns + place[2 * c]] = c;
    this.colours = layerColours(mesh.layers.length);
    const layer = numbers(arrays.layer), level = numbers(arrays.level);
    this.scene = { ...mesh, cores, place, at, columns, rows, width, height, layer, level };
    this.glow = new Float32Array(cores);
    this.small.width = columns; this.small.height = rows;
    this.image = new ImageData(columns, rows);
    this.canvas.style.aspectRatio = `${columns} / ${rows}`;
    this.fit();
  }

  /** A decision: spikes of every core in every tick, and the milliseconds until the next one. */
  setWave(wave, untilNext) {
    const made = { ...wave, lasts: Math.max(this.lasts, untilNext), bright: this.lasts > 0 };
    if (this.wave && this.lasts && this.tick(performance.now()) < this.wave.ticks - 1) this.next = made;
    else this.start(made);
  }

  /** Nobody thinks on the chip now. */
  rest() { this.wave = this.next = null; }

  start(wave) {
    this.wave = wave;
    this.next = null;
    this.begun = performance.now();
  }

  fit() {
    const scale = devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    if (!this.scene || !box.width) return;
    // Whole pixels a core, so that all cells are of one size; CSS takes up the rest.
    this.cell = Math.max(1, Math.round((box.width * scale) / this.scene.columns));
    this.canvas.width = this.cell * this.scene.columns;
    this.canvas.height = this.cell * this.scene.rows;
    this.draw();
  }

  /** The tick that is shown now. */
  tick(now) {
    const gone = Math.max(0, now - this.begun); // a frame's time may lie before the message that it shows
    return Math.min(this.wave.ticks - 1, Math.floor((gone / this.wave.lasts) * this.wave.ticks));
  }

  draw(now = performance.now(), steady = false) {
    const { canvas, scene } = this, context = canvas.getContext("2d");
    if (!scene || !this.image) { context.fillStyle = `rgb(${GROUND})`; context.fillRect(0, 0, canvas.width, canvas.height); return; }
    if (this.next && now - this.begun >= this.wave.lasts) this.start(this.next);
    const tick = !this.wave ? -1 : steady ? this.wave.ticks - 1 : this.tick(now);
    this.paint(tick, steady, Math.min(100, now - this.drawn));
    this.drawn = now;
    this.small.getContext("2d").putImageData(this.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.small, 0, 0, canvas.width, canvas.height);
    this.grid(context);
    this.marks(context);
  }

  /** Cells in their layer's colour, bright by their spikes; white where the picture arrives, dim where it has not yet. */
  paint(tick, steady, passed) {
    const { scene, wave, glow, colours, dead } = this, pixels = this.image.data;
    const bright = wave?.bright && !steady, fades = Math.exp(-passed / (bright ? wave.lasts / 10 : 60));
    for (let i = 0; i < scene.at.length; i++) {
      const core = scene.at[i], o = 4 * i;
      let red = FREE[0], green = FREE[1], blue = FREE[2];
      if (core >= 0 && dead && bit(dead, core)) [red, green, blue] = DEAD;
      else if (core >= 0) {
        const spikes = tick < 0 ? 0 : wave.wave[tick * wave.cores + core], level = scene.level[core];
        glow[core] = steady || tick < 0 ? 0 : level === tick ? 1 : glow[core] * fades;
        const own = colours[scene.layer[core]], coming = bright && level > tick ? 0.45 : 1;
        const share = coming * (0.2 + 0.7 * Math.min(1, spikes / 160)), light = (bright ? 0.75 : 0.15) * glow[core];
        red = own[0] * share; green = own[1] * share; blue = own[2] * share;
        red += (255 - red) * light; green += (255 - green) * light; blue += (255 - blue) * light;
      }
      pixels[o] = red; pixels[o + 1] = green; pixels[o + 2] = blue; pixels[o + 3] = 255;
    }
  }

  grid(context) {
    const { canvas, cell, scene } = this;
    if (cell >= 4) {
      context.fillStyle = `rgb(${GROUND})`;
      const line = Math.max(1, Math.round(cell / 9));
      for (let x = 0; x <= scene.columns; x++) context.fillRect(x * cell, 0, line, canvas.height);
      for (let y = 0; y <= scene.rows; y++) context.fillRect(0, y * cell, canvas.width, line);
    }
    if (scene.chips[0] * scene.chips[1] < 2) return;
    context.fillStyle = "#8b96ad";
    for (let x = 1; x < scene.chips[0]; x++) context.fillRect(x * scene.width * cell - 1, 0, 2, canvas.height);
    for (let y = 1; y < scene.chips[1]; y++) context.fillRect(0, y * scene.height * cell - 1, canvas.width, 2);
  }

  marks(context) {
    const box = this.drag ?? this.cursor;
    if (!box) return;
    const { left, top, right, bottom } = sorted(box), cell = this.cell;
    context.strokeStyle = "#ffffff";
    context.lineWidth = Math.max(2, cell / 6);
    context.strokeRect(left * cell, top * cell, (right - left + 1) * cell, (bottom - top + 1) * cell);
  }

  cellOf(event) {
    const box = this.canvas.getBoundingClientRect(), { columns, rows } = this.scene;
    const x = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const y = Math.floor(((event.clientY - box.top) / box.height) * rows);
    return [Math.max(0, Math.min(columns - 1, x)), Math.max(0, Math.min(rows - 1, y))];
  }

  press(event) {
    if (!this.scene || event.button) return;
    const [x, y] = this.cellOf(event);
    this.drag = { x0: x, y0: y, x1: x, y1: y };
    this.cursor = null;
    this.canvas.setPointerCapture(event.pointerId);
    this.draw();
  }

  move(event) {
    if (!this.scene) return;
    const [x, y] = this.cellOf(event);
    if (this.drag) { this.drag.x1 = x; this.drag.y1 = y; this.draw(); }
    this.over = [x, y];
    this.retell();
  }

  /** Say again what is under the pointer or the mark, which may have changed. */
  retell() {
    const at = this.cursor ? [this.cursor.x1, this.cursor.y1] : this.over;
    if (at && this.scene) this.onCell(this.describe(...at));
  }

  release() {
    if (!this.drag) return;
    this.onKill(sorted(this.drag));
    this.drag = null;
    this.draw();
  }

  key(event) {
    if (!this.scene) return;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key], { columns, rows } = this.scene;
    if (!way && event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") this.cursor = null;
    else if (event.key === "Enter") { if (this.cursor) this.onKill(sorted(this.cursor)); }
    else {
      const [x, y] = this.scene.place; // of the first core: free ones are of no interest
      const c = this.cursor ?? { x0: x, y0: y, x1: x, y1: y };
      c.x1 = Math.max(0, Math.min(columns - 1, c.x1 + way[0]));
      c.y1 = Math.max(0, Math.min(rows - 1, c.y1 + way[1]));
      if (!event.shiftKey) { c.x0 = c.x1; c.y0 = c.y1; }
      this.cursor = c;
      this.onCell(this.describe(c.x1, c.y1));
    }
    this.draw();
  }

  describe(x, y) {
    const { scene } = this, core = scene.at[y * scene.columns + x];
    const where = scene.chips[0] * scene.chips[1] > 1
      ? `chip ${Math.floor(y / scene.height) * scene.chips[0] + Math.floor(x / scene.width)}, core (${x % scene.width}, ${y % scene.height})`
      : `core (${x}, ${y})`;
    if (core < 0) return `${where}: free`;
    const state = this.dead && bit(this.dead, core) ? "dead"
      : this.wave ? `${this.wave.wave[(this.wave.ticks - 1) * this.wave.cores + core]} spikes a tick` : "at rest";
    return `${where}: ${scene.layers[scene.layer[core]]}, tick ${scene.level[core]}, ${state}`;
  }
}

function sorted({ x0, y0, x1, y1 }) {
  return { left: Math.min(x0, x1), top: Math.min(y0, y1), right: Math.max(x0, x1), bottom: Math.max(y0, y1) };
}
