// The page: one connection, and what it tells drawn at the screen's own pace.

import { connect, summed, bit } from "./wire.js";
import { Mesh, layerColours, WAVES } from "./mesh.js";
import { drawEnergy, drawFrame, drawScores, drawSees, drawVotes, makeVotes, say, Strip } from "./panels.js";
import { Controls } from "./controls.js";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)"), touch = matchMedia("(pointer: coarse)");
const HINT = "Click a core to kill it, drag to kill a region.";
const strip = new Strip($("strip"));
let scene = null, now = null;

const mesh = new Mesh($("mesh"), {
  onKill: (region) => controls.send({ do: "kill", ...region }),
  onCell: (text) => say("cell", text ?? HINT),
});
const controls = new Controls((name) => { mesh.lasts = WAVES[name]; });

let hush = 0;
function notice(text) {
  say("notice", text);
  $("notice").hidden = !text;
  clearTimeout(hush);
  if (text) hush = setTimeout(() => { $("notice").hidden = true; }, 6000);
}

function showScene(facts, arrays) {
  scene = facts;
  now = null;
  const board = facts.mesh && facts.mesh.chips[0] * facts.mesh.chips[1] > 1;
  say("title", facts.game + (facts.mesh ? `, on ${board ? "a board of chips" : "one chip"} (${facts.mesh.chip})` : ""));
  document.title = `${facts.game} · Spikecade`;
  makeVotes(facts.actions);
  controls.setScene(facts);
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
  const you = facts.player === "human";
  drawFrame($("game"), arrays.frame, arrays.palette);
  say("score", `${facts.score}`);
  say("episode", `${facts.episode}`);
  say("dps", facts.paused ? "paused" : facts.decisions_per_s.toFixed(1));
  say("who", you ? "you play" : scene.replay ? `replay ${scene.replay.name}` : `${facts.player ?? "nobody"} plays`);
  drawVotes(facts.votes, facts.action, facts.player);
  if (arrays.stack) drawSees(arrays.stack, arrays.bits, arrays.bits_shape);
  if (arrays.wave) mesh.setWave(summed(arrays.wave), facts.paused ? 900 : 2 * facts.period_ms);
  else if (arrays.stack) mesh.rest();
  $("no-chip").hidden = facts.thinks || !scene.mesh;
  showDamage(facts, arrays.dead);
  strip.add(facts.pictures, facts.works);
  const [work] = facts.works.at(-1) ?? [0];
  say("pace-facts", `${work.toFixed(1)} of ${facts.period_ms.toFixed(1)} ms, ${facts.late} late, ${facts.pictures_per_s.toFixed(0)}/s`);
  drawEnergy(facts.thinks ? facts.energy : null);
  drawScores(facts.scores);
  controls.show(facts);
  $("pad").hidden = !(you && touch.matches);
  if (!last || last.facts.notice !== facts.notice) notice(facts.notice);
  if (last) tell(last.facts, facts);
}

function showDamage(facts, dead) {
  mesh.dead = dead.data;
  mesh.retell();
  const cores = mesh.scene?.cores ?? 0;
  let count = 0;
  for (let c = 0; c < cores; c++) count += bit(dead.data, c);
  say("dead-is", count === 0 ? "no core is dead" : `${count.toLocaleString("en")} ${count > 1 ? "cores are" : "core is"} dead`);
  if (document.activeElement !== $("lost")) $("lost").value = Math.round(100 * facts.lost);
  say("lost-is", `${Math.round(100 * facts.lost)} %`);
}

/** For those who hear the page. */
function tell(before, after) {
  if (before.player !== after.player) say("say", `${after.player} plays now`);
  else if (before.paused !== after.paused) say("say", after.paused ? "paused" : "goes on");
  else if (before.episode < after.episode) say("say", `episode ended with ${before.score}`);
  else if (before.clips.length < after.clips.length) say("say", `clip saved: ${after.clips.at(-1)}`);
}

function frame(time) {
  mesh.draw(time, calm.matches && mesh.lasts === 0);
  say("tick", mesh.wave && scene?.mesh ? `tick ${mesh.tick(time) + 1} of ${scene.mesh.ticks}` : "");
  if (now) strip.draw(now.facts.period_ms);
  requestAnimationFrame(frame);
}

controls.send = connect(({ facts, arrays }) => {
  if (facts.kind === "scene") showScene(facts, arrays);
  else if (facts.kind === "picture") { if (scene?.round === facts.round) showPicture(facts, arrays); }
  else notice(facts.error);
}, (on) => { say("link", on ? "live" : "connecting again"); $("link").classList.toggle("on", on); });
requestAnimationFrame(frame);
