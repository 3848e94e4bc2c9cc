// The panels beside the mesh: picture, votes, what the chip sees, pace, energy, scores.

import { bit, numbers } from "./wire.js";

const $ = (id) => document.getElementById(id);
const STRIP = 300; // pictures

export function say(id, text) { const node = $(id); if (node.textContent !== text) node.textContent = text; }

const small = document.createElement("canvas");

/** The frame in equal, sharp pixels: enlarged by whole numbers to what the screen has or more; CSS takes up the rest. */
export function drawFrame(canvas, frame, palette) {
  const [height, width] = frame.shape, scale = devicePixelRatio || 1;
  Object.assign(small, { width, height });
  const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  const colours = new Uint32Array(256);
  for (let i = 0; i < palette.data.length / 3; i++) {
    colours[i] = 0xff000000 | (palette.data[3 * i + 2] << 16) | (palette.data[3 * i + 1] << 8) | palette.data[3 * i];
  }
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[frame.data[i]];
  small.getContext("2d").putImageData(image, 0, 0);
  const across = width * Math.max(1, Math.ceil((canvas.clientWidth * scale) / width));
  const down = height * Math.max(1, Math.ceil((canvas.clientHeight * scale) / height));
  if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, across, down);
}

export function makeVotes(actions) {
  $("votes").replaceChildren(...actions.map((name) => {
    const row = document.createElement("li");
    row.innerHTML = '<span class="name"></span><span class="track"><span class="bar"></span></span><span class="n"></span>';
    row.firstChild.textContent = name.toLowerCase().replace(/(.)(fire)$/, "$1 + $2").replace(/^(up|down)(left|right)/, "$1 $2");
    return row;
  }));
}

export function drawVotes(votes, action, player) {
  const low = votes ? Math.min(0, ...votes) : 0, span = votes ? Math.max(1, Math.max(...votes) - low) : 1;
  [...$("votes").children].forEach((row, i) => {
    row.classList.toggle("chosen", i === action);
    if (i === action) row.setAttribute("aria-current", "true"); else row.removeAttribute("aria-current");
    row.querySelector(".bar").style.transform = `scaleX(${votes ? (votes[i] - low) / span : 0})`;
    row.lastChild.textContent = votes ? votes[i] : "";
  });
  say("votes-of", !votes ? `the ${player} casts none` : player === "teacher" ? "lead over the worst, 1/100 point" : "spikes for each action");
}

export function drawSees(stack, bits, bitsShape) {
  const [count, height, width] = stack.shape, canvas = $("stack");
  Object.assign(canvas, { width: count * (width + 2) - 2, height });
  const image = new ImageData(canvas.width, height);
  for (let k = 0; k < count; k++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const v = stack.data[(k * height + y) * width + x], o = 4 * (y * canvas.width + k * (width + 2) + x);
    image.data[o] = image.data[o + 1] = image.data[o + 2] = v; image.data[o + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  $("bits").hidden = !bits;
  say("h-sees", `What the ${bits ? "chip" : "player"} sees`);
  if (!bits) return say("sees-facts", "four pictures, newest last");
  drawBits(bits.data, numbers(bitsShape));
}

function drawBits(packed, [maps, height, width]) {
  const columns = Math.ceil(Math.sqrt(maps * 2)), rows = Math.ceil(maps / columns), canvas = $("bits");
  Object.assign(canvas, { width: columns * (width + 1) - 1, height: rows * (height + 1) - 1 });
  canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  const image = new ImageData(canvas.width, canvas.height);
  let set = 0;
  for (let i = 0; i < maps * height * width; i++) {
    const m = Math.floor(i / (height * width)), y = Math.floor(i / width) % height, x = i % width, on = bit(packed, i);
    const o = 4 * ((Math.floor(m / columns) * (height + 1) + y) * canvas.width + (m % columns) * (width + 1) + x);
    set += on;
    image.data.set(on ? [92, 200, 255, 255] : [24, 32, 46, 255], o);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  say("sees-facts", `${set.toLocaleString("en")} of ${(maps * height * width).toLocaleString("en")} bits set`);
}

/** Work of the newest pictures, merged by number: a slow page learns of those it missed. */
export class Strip {
  constructor(canvas) { Object.assign(this, { canvas, works: [], last: -1 }); }

  add(count, works) { // pictures whose work is known, and the newest of them
    if (count < this.last) this.works = [];
    const fresh = Math.min(works.length, count < this.last ? count : count - Math.max(0, this.last));
    if (fresh > 0) this.works.push(...works.slice(-fresh));
    this.works.splice(0, this.works.length - STRIP);
    this.last = count;
  }

  draw(period) {
    const scale = devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    const width = Math.round(box.width * scale), height = Math.round(box.height * scale);
    if (!width) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d"), top = 1.25 * period, step = width / STRIP;
    context.fillStyle = "#0b0e14";
    context.fillRect(0, 0, width, height);
    this.works.forEach(([work, late], i) => {
      const tall = Math.max(scale, Math.min(1, work / top) * height);
      context.fillStyle = late ? "#ff5d6c" : "#43b7ff";
      const x = width - (this.works.length - i) * step;
      context.fillRect(x, height - tall, Math.max(1, step - (step > 3 ? 1 : 0)), tall);
      if (late) context.fillRect(x - scale, 0, step + 2 * scale, 3 * scale);
    });
    context.strokeStyle = "#ffd166";
    context.setLineDash([4 * scale, 4 * scale]);
    context.lineWidth = scale;
    const y = height - (period / top) * height;
    context.beginPath(); context.moveTo(0, y); context.lineTo(width, y); context.stroke();
  }
}

export function drawEnergy(energy) {
  say("spikes", energy ? short(energy.spikes) : "–");
  say("energy", energy ? `${energy.power_mw.toFixed(1)} mJ` : "–");
  say("active", energy ? `${(energy.power_mw - energy.static_mw).toFixed(1)} mJ` : "–");
}

function short(n) {
  return n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : n >= 1e3 ? `${(n / 1e3).toFixed(0)} k` : `${n}`;
}

export function drawScores(scores) {
  const key = JSON.stringify(scores);
  if ($("scores").dataset.key === key) return;
  $("scores").dataset.key = key;
  const rows = scores.map((s) => cells(s.who === "human" ? "you" : s.who, s.episodes, s.mean.toFixed(1), s.last.slice().reverse().join(", ")));
  $("scores").replaceChildren(...(rows.length ? rows : [cells("none finished yet", "", "", "")]));
}

function cells(...texts) {
  const row = document.createElement("tr");
  for (const text of texts) row.insertCell().textContent = text;
  return row;
}
