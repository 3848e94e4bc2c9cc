// The page: one connection, what it tells drawn at the screen's own pace, and what is clicked or typed sent back.

import { connect, summed, bit } from "./wire.js";
import { Mesh, layerColours } from "./mesh.js";
import { drawEnergy, drawFrame, drawScores, drawSees, drawVotes, makeVotes, say, Strip } from "./panels.js";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const KEYS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right", " ": "space" };
const strip = new Strip($("strip"));
const held = new Set();
let scene = null, now = null, send = () => {};

const mesh = new Mesh($("mesh"), {
  onKill: (region) => send({ do: "kill", ...region }),
  onCell: (text) => say("cell", text ?? "Click a core to kill it, drag to kill a region."),
});

function announce(text) { say("say", text); }

let hush = 0;
function notice(text) {
  say("notice", text);
  $("notice").hidden = !text;
  clearTimeout(hush);
  if (text) hush = setTimeout(() => { $("notice").hidden = true; }, 6000);
}

function buttons(box, values, make) {
  $(box).replaceChildren(...values.map((value, i) => {
    const button = document.createElement("button");
    const { text, key, order } = make(value, i);
    button.textContent = text;
    if (key) { const hint = document.createElement("kbd"); hint.textContent = key; button.append(" ", hint); }
    button.dataset.value = value;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => { send(order); if (value === "human") $("game").focus(); });
    return button;
  }));
}

function press(box, value, pending) {
  for (const button of $(box).children) {
    const own = button.dataset.value;
    const pressed = own === String(value) ? "true" : own === String(pending) ? "mixed" : "false";
    if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
  }
}

function showScene(facts, arrays) {
  scene = facts;
  now = null;
  say("title", `${facts.game}${facts.mesh ? `, on ${facts.mesh.chips[0] * facts.mesh.chips[1] > 1 ? "a board" : "one chip"} (${facts.mesh.chip})` : ""}`);
  document.title = `${facts.game} · Spikecade`;
  makeVotes(facts.actions);
  buttons("players", facts.players, (name, i) => ({ text: name === "human" ? "you" : name, key: `${i + 1}`, order: { do: "player", name } }));
  buttons("speeds", facts.speeds, (times) => ({ text: `${times === 0.5 ? "½" : times}×`, order: { do: "speed", times } }));
  $("games").replaceChildren(...facts.games.map((name) => new Option(name, name, false, name === facts.game)));
  mesh.setScene(facts.mesh, arrays);
  const cores = facts.mesh ? arrays.place.shape[0] : 0;
  say("chip-facts", facts.mesh ? `${cores.toLocaleString("en")} cores, ${facts.mesh.ticks} ticks to the votes` : "this game has none");
  const colours = facts.mesh ? layerColours(facts.mesh.layers.length) : [];
  $("layers").replaceChildren(...colours.map((colour, i) => {
    const item = document.createElement("li");
    item.style.setProperty("--c", `rgb(${colour})`);
    item.textContent = facts.mesh.layers[i];
    return item;
  }));
}

function showPicture(facts, arrays) {
  const last = now;
  now = { facts, arrays };
  drawFrame($("game"), arrays.frame, arrays.palette);
  say("score", `${facts.score}`);
  say("episode", `${facts.episode}`);
  say("dps", facts.paused ? "paused" : facts.decisions_per_s.toFixed(1));
  say("who", facts.player === "human" ? "you" : facts.player ?? "");
  $("who").nextSibling.textContent = facts.player === "human" ? " play" : " plays";
  drawVotes(facts.votes, facts.action, facts.player);
  if (arrays.stack) drawSees(arrays.stack, arrays.bits, arrays.bits_shape);
  if (arrays.wave) mesh.setWave(summed(arrays.wave), facts.paused ? 900 : 2 * facts.period_ms);
  else if (arrays.stack) mesh.wave = null;
  $("no-chip").hidden = facts.player === "chip" || !scene?.mesh;
  showDamage(facts, arrays.dead);
  strip.add(facts.pictures, facts.works);
  const [work] = facts.works.at(-1) ?? [0];
  say("pace-facts", `${work.toFixed(1)} of ${facts.period_ms.toFixed(1)} ms, ${facts.late} late, ${facts.pictures_per_s.toFixed(0)}/s`);
  drawEnergy(facts.player === "chip" ? facts.energy : null);
  drawScores(facts.scores);
  press("players", facts.player, facts.asked);
  press("speeds", facts.speed);
  $("pause").setAttribute("aria-pressed", `${facts.paused}`);
  $("pad").hidden = facts.player !== "human" || !matchMedia("(pointer: coarse)").matches;
  if (!last || last.facts.notice !== facts.notice) notice(facts.notice);
  if (last) tell(last.facts, facts);
}

function showDamage(facts, dead) {
  mesh.dead = dead.data;
  const cores = mesh.scene?.cores ?? 0;
  let count = 0;
  for (let c = 0; c < cores; c++) count += bit(dead.data, c);
  say("dead-is", count === 0 ? "no core is dead" : `${count.toLocaleString("en")} ${count > 1 ? "cores are" : "core is"} dead`);
  if (document.activeElement !== $("lost")) $("lost").value = Math.round(100 * facts.lost);
  say("lost-is", `${Math.round(100 * facts.lost)} %`);
}

function tell(before, after) {
  if (before.player !== after.player) announce(`${after.player} plays now`);
  else if (before.paused !== after.paused) announce(after.paused ? "paused" : "goes on");
  else if (before.episode < after.episode) announce(`episode ended with ${before.score}`);
}

function frame(time) {
  if (!now?.facts.paused || mesh.wave) mesh.draw(time, calm.matches && !mesh.slow);
  if (now) strip.draw(now.facts.period_ms);
  requestAnimationFrame(frame);
}

function hold(key, down) {
  const size = held.size;
  if (down) held.add(key); else held.delete(key);
  if (held.size !== size) send({ do: "keys", keys: [...held] });
}

function letGo() { if (held.size) { held.clear(); send({ do: "keys", keys: [] }); } }

function typing(target) { return target.closest("select, input, [role=application]"); }

const SHORT = { p: "pause", n: "step", r: "restart", h: "heal" };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const human = now?.facts.asked === "human", onButton = event.target.closest("button, a");
  if (human && KEYS[event.key] && !(event.key === " " && onButton)) { event.preventDefault(); hold(KEYS[event.key], true); return; }
  const player = scene?.players[Number(event.key) - 1];
  if (player && !event.repeat) { send({ do: "player", name: player }); return; }
  if (SHORT[event.key] && !event.repeat) $(SHORT[event.key]).click();
});
document.addEventListener("keyup", (event) => { if (KEYS[event.key]) hold(KEYS[event.key], false); });
addEventListener("blur", letGo);
document.addEventListener("visibilitychange", letGo);
for (const button of $("pad").children) {
  button.addEventListener("pointerdown", (event) => { event.preventDefault(); hold(button.dataset.key, true); });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) button.addEventListener(end, () => hold(button.dataset.key, false));
}
$("pause").addEventListener("click", () => send({ do: "pause", on: !now?.facts.paused }));
$("step").addEventListener("click", () => send({ do: "step" }));
$("restart").addEventListener("click", () => send({ do: "restart" }));
$("heal").addEventListener("click", () => send({ do: "heal" }));
$("games").addEventListener("change", () => send({ do: "game", name: $("games").value }));
$("slow").addEventListener("change", () => { mesh.slow = $("slow").checked; });
let dropping = 0; // the slider moves faster than chips can be made
$("lost").addEventListener("input", () => {
  clearTimeout(dropping);
  dropping = setTimeout(() => send({ do: "lose", share: Number($("lost").value) / 100 }), 60);
});

send = connect(({ facts, arrays }) => {
  if (facts.kind === "scene") showScene(facts, arrays);
  else if (facts.kind === "picture") { if (scene?.round === facts.round) showPicture(facts, arrays); }
  else notice(facts.error);
}, (on) => { say("link", on ? "live" : "connecting again"); $("link").classList.toggle("on", on); });
requestAnimationFrame(frame);
