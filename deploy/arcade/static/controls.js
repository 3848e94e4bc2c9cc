// What is clicked and typed, as orders.

const $ = (id) => document.getElementById(id);
const KEYS = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "left", ArrowRight: "right", " ": "space" };
const CLICKS = { p: "pause", n: "step", r: "restart", h: "heal", c: "record", "?": "keys" };
const SHORT_MS = 60; // a slider moves faster than chips can be made

export class Controls {
  constructor(onWave) {
    Object.assign(this, { send: () => {}, scene: null, facts: null, held: new Set(), drawn: null });
    this.buttons();
    this.joystick();
    $("wave").addEventListener("change", () => onWave($("wave").value));
    $("games").addEventListener("change", () => this.send({ do: "game", name: $("games").value }));
    this.slider("lost", (value) => ({ do: "lose", share: value / 100 }));
    this.slider("at", (value) => ({ do: "seek", at: value }));
    $("replays").addEventListener("change", () => this.rewind($("replays").value));
    document.addEventListener("keydown", (event) => this.down(event));
    document.addEventListener("keyup", (event) => { if (KEYS[event.key]) this.hold(KEYS[event.key], false); });
    try { $("letters").checked = localStorage.getItem("letters") !== "off"; } catch { /* no storage: they work */ }
    $("letters").addEventListener("change", () => {
      try { localStorage.setItem("letters", $("letters").checked ? "on" : "off"); } catch { /* for this visit then */ }
    });
  }

  buttons() {
    $("pause").addEventListener("click", () => this.send({ do: "pause", on: !this.facts?.paused }));
    $("record").addEventListener("click", () => this.send({ do: "record", on: !this.facts?.recording }));
    for (const name of ["step", "restart", "heal"]) $(name).addEventListener("click", () => this.send({ do: name }));
    $("keys").addEventListener("click", () => $("help").showModal());
  }

  /** Keys on the screen, for fingers; and whoever leaves the page lets go of all. */
  joystick() {
    for (const button of $("pad").children) {
      button.addEventListener("pointerdown", (event) => { event.preventDefault(); this.hold(button.dataset.key, true); });
      for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
        button.addEventListener(end, () => this.hold(button.dataset.key, false));
      }
    }
    const letGo = () => { if (this.held.size) { this.held.clear(); this.send({ do: "keys", keys: [] }); } };
    addEventListener("blur", letGo);
    document.addEventListener("visibilitychange", letGo);
  }

  slider(name, order) {
    let waiting = 0;
    $(name).addEventListener("input", () => {
      clearTimeout(waiting);
      const value = Number($(name).value); // now: what the server tells meanwhile is shown in the slider too
      waiting = setTimeout(() => this.send(order(value)), SHORT_MS);
    });
    $(name).addEventListener("pointerdown", () => { this.drawn = name; });
    addEventListener("pointerup", () => { this.drawn = null; });
  }

  rewind(name) { this.send(name ? { do: "replay", name } : { do: "player", name: this.scene.players[0] }); }

  setScene(scene) {
    this.scene = scene;
    this.choices("players", scene.players, (name, i) => (
      { text: name === "human" ? "you" : name, key: `${i + 1}`, order: { do: "player", name } }));
    this.choices("speeds", scene.speeds, (times) => (
      { text: `${times === 0.5 ? "½" : times}×`, name: `${times} times the speed`, order: { do: "speed", times } }));
    $("games").replaceChildren(...scene.games.map((name) => new Option(name, name, false, name === scene.game)));
    const names = scene.replays.map((name) => new Option(name, name, false, name === scene.replay?.name));
    $("replays").replaceChildren(new Option("none", ""), ...names);
    $("replays").value = scene.replay?.name ?? "";
    $("tape").hidden = !names.length;
    $("reel").hidden = !scene.replay;
    $("at").max = (scene.replay?.length ?? 1) - 1;
  }

  choices(box, values, make) {
    $(box).replaceChildren(...values.map((value, i) => {
      const button = document.createElement("button"), { text, key, name, order } = make(value, i);
      button.textContent = text;
      if (key) { const hint = document.createElement("kbd"); hint.textContent = key; button.append(" ", hint); }
      if (name) button.setAttribute("aria-label", name);
      button.dataset.value = value;
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => { this.send(order); if (value === "human") $("game").focus(); });
      return button;
    }));
  }

  show(facts) {
    this.facts = facts;
    press("players", facts.player, facts.asked);
    press("speeds", facts.speed);
    $("pause").setAttribute("aria-pressed", `${facts.paused}`);
    $("record").setAttribute("aria-pressed", `${facts.recording}`);
    if (this.scene.replay) {
      if (this.drawn !== "at") $("at").value = facts.at;
      $("at-is").textContent = `${facts.at + 1} of ${this.scene.replay.length}`;
    }
    const clip = facts.clips.at(-1);
    $("clip").hidden = !clip;
    if (clip && $("clip").title !== clip) Object.assign($("clip"), { title: clip, href: `clips/${clip.split("/").at(-1)}` });
  }

  hold(key, down) {
    const size = this.held.size;
    if (down) this.held.add(key); else this.held.delete(key);
    if (this.held.size !== size) this.send({ do: "keys", keys: [...this.held] });
  }

  down(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
    if (event.target.closest("select, input:not([type=range])")) return;
    if (event.target.closest("input") && KEYS[event.key]) return; // a slider's own
    const own = KEYS[event.key], presses = event.key === " " && event.target.closest("button, a");
    if (this.facts?.asked === "human" && own && !presses) { event.preventDefault(); this.hold(own, true); return; }
    if ($("letters").checked && !event.repeat) this.letter(event);
  }

  letter(event) {
    const { key } = event, player = this.scene?.players[Number(key) - 1];
    if (player) this.send({ do: "player", name: player });
    else if (CLICKS[key]) $(CLICKS[key]).click();
    else if (key === "-" || key === "+" || key === "=") this.faster(key === "-" ? -1 : 1);
    else if (key === "w") this.nextWave();
    else if (key === "g" || key === "m") { event.preventDefault(); $(key === "g" ? "games" : "mesh").focus(); }
  }

  faster(by) {
    const { speeds } = this.scene, times = speeds[speeds.indexOf(this.facts.speed) + by];
    if (times) this.send({ do: "speed", times });
  }

  nextWave() {
    $("wave").selectedIndex = ($("wave").selectedIndex + 1) % $("wave").options.length;
    $("wave").dispatchEvent(new Event("change"));
  }
}

function press(box, value, pending) {
  for (const button of $(box).children) {
    const own = button.dataset.value;
    const pressed = own === String(value) ? "true" : own === String(pending) ? "mixed" : "false";
    if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
  }
}
