"use strict";
// Draws the replication map of each run at any moment, and switches between light and dark. If dlt
// watch serves the page, the script asks it for news. It makes no other requests.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 1000;
  const MARGIN = 34;
  const HEIGHT = 250;
  const COLOURS = 6;
  const POLL_MS = 2000;
  const POLL_DONE_MS = 15000;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  const data = JSON.parse(document.getElementById("data").textContent);

  // ---- small tools ----

  function make(name, attributes = {}, parent = null) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (parent) parent.append(element);
    return element;
  }

  function tag(name, options = {}, children = []) {
    const element = Object.assign(document.createElement(name), options);
    element.append(...children);
    return element;
  }

  const count = (number, one, many = one + "s") =>
    `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

  function shown(number) {
    const size = Math.abs(number);
    if (size !== 0 && (size >= 1e6 || size < 1e-3)) {
      return number.toExponential(3).replace("-", "−");
    }

    const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    return number.toLocaleString("en", options).replace("-", "−");
  }

  // ---- what a decision did ----

  function events(before, after) {
    const list = [];
    after.forEach((owner, layer) => {
      if (owner === before[layer]) return;
      const from = before[layer];
      list.push(owner === layer ? { layer, from } : { layer, from, to: owner });
    });
    return list;
  }

  // "to 0: 3 4; to 2: 5"
  function byOwner(list, word) {
    const found = new Map();
    for (const event of list) {
      found.set(event[word], [...(found.get(event[word]) || []), event.layer]);
    }

    const rising = [...found.entries()].sort((a, b) => a[0] - b[0]);
    return rising.map(([owner, layers]) => `${word} ${owner}: ${layers.join(" ")}`).join("; ");
  }

  // The owners in rising order, each with its members. Frozen layers are in no group.
  function groups(moment) {
    const found = new Map();
    const frozen = new Set(moment.frozen);
    moment.state.forEach((owner, layer) => {
      if (frozen.has(layer)) return;
      if (!found.has(owner)) found.set(owner, []);
      found.get(owner).push(layer);
    });
    return [...found.entries()].sort((a, b) => a[0] - b[0]);
  }

  // A colour for each group of two or more. Usually it depends on the owner, so that it stays the
  // same over time. If two groups would look the same, one gets the next free colour.
  function colours(found) {
    const chosen = new Map();
    const used = new Set();

    for (const [owner, members] of found) {
      if (members.length < 2) {
        chosen.set(owner, "alone");
        continue;
      }

      // After the last colour they repeat.
      if (used.size === COLOURS) used.clear();
      let index = owner % COLOURS;
      while (used.has(index)) index = (index + 1) % COLOURS;
      used.add(index);
      chosen.set(owner, `g${index}`);
    }

    return chosen;
  }

  // ---- the map of one run ----

  class ReplicationMap {
    constructor(place, run) {
      this.place = place;
      this.run = run;
      this.at = run.moments.length - 1;
      this.playing = 0;
      this.frame = 0;
      this.build();
      this.show(this.at, false);
    }

    get last() { return this.run.moments.length - 1; }

    build() {
      const layers = this.run.layers;
      const pitch = layers > 1 ? (WIDTH - 2 * MARGIN) / (layers - 1) : 0;
      this.x = (layer) => (layers > 1 ? MARGIN + layer * pitch : WIDTH / 2);
      this.radius = Math.max(5, Math.min(15, pitch * 0.38));
      // The longest possible arc fills the height, so that arcs keep their scale over time.
      this.rise = Math.min(1, (HEIGHT - 12) / Math.max(1, ((layers - 1) * pitch) / 2));

      const base = HEIGHT + this.radius;
      const label = this.radius < 10 ? 16 : 0;
      this.base = base;
      this.drawing = make("svg", { class: "map-drawing", role: "img" });
      this.bottom = base + this.radius + 8 + label;

      const arcs = make("g", {}, this.drawing);
      this.layers = Array.from({ length: layers }, (_, layer) => {
        const arc = make("path", { class: "arc", "data-layer": layer }, arcs);
        const group = make("g", { "data-layer": layer }, this.drawing);
        const at = { cx: this.x(layer), cy: base };
        make("circle", { class: "halo", ...at, r: this.radius + (label ? 3 : 5) }, group);
        make("circle", { class: "dot", ...at, r: this.radius }, group);

        const below = label ? this.radius + 14 : 1;
        const text = make("text", { x: this.x(layer), y: base + below }, group);
        if (label) text.setAttribute("class", "below");
        text.textContent = label && layers > 24 && layer % 2 ? "" : layer;
        return { arc, group, anchor: layer };
      });

      this.step = tag("div", { className: "map-step" });
      this.facts = tag("dl", { className: "map-facts" });
      this.said = tag("div", { className: "map-said" });
      this.said.setAttribute("aria-live", "polite");
      // Room for the longest words, so that nothing below jumps while it plays.
      this.said.style.minHeight = layers > 24 ? "8em" : "";

      const timeline = { class: "timeline", preserveAspectRatio: "none", "aria-hidden": "true" };
      this.timeline = make("svg", timeline);
      this.slider = tag("input", { type: "range", min: 0, step: 1 });
      this.slider.setAttribute("aria-label", "Decision");
      this.slider.addEventListener("input", () => this.stopAt(Number(this.slider.value)));

      this.play = tag("button", { type: "button", className: "play", textContent: "▶ Play" });
      this.play.addEventListener("click", () => (this.playing ? this.stop() : this.start()));
      this.back = tag("button", { type: "button", className: "one", textContent: "‹" });
      this.back.setAttribute("aria-label", "One decision back");
      this.back.addEventListener("click", () => this.stopAt(this.at - 1));
      this.on = tag("button", { type: "button", className: "one", textContent: "›" });
      this.on.setAttribute("aria-label", "One decision forward");
      this.on.addEventListener("click", () => this.stopAt(this.at + 1));

      this.timeline.addEventListener("click", (event) => {
        const box = this.timeline.getBoundingClientRect();
        const share = (event.clientX - box.left - 8) / Math.max(1, box.width - 16);
        this.stopAt(Math.round(share * this.last));
      });

      this.key = tag("div", { className: "note legend" });
      const words = tag("div", { className: "map-words" }, [this.step, this.facts]);
      const scroll = tag("div", { className: "map-scroll" }, [this.drawing]);
      const track = tag("div", { className: "track" }, [this.timeline, this.slider]);
      const controls = [this.play, this.back, track, this.on];
      this.controls = tag("div", { className: "controls" }, controls);

      const pieces = [words, scroll, this.controls, this.said, this.key];
      this.frameElement = tag("div", { className: "map-frame" }, pieces);
      this.place.replaceChildren(this.frameElement);
      this.drawTimeline();
    }

    // Shows a moment that the reader chose.
    stopAt(index) {
      this.stop();
      this.show(index, true);
    }

    explain() {
      const box = { viewBox: "0 0 32 32", "aria-hidden": "true" };
      const mark = (kind) => {
        const svg = make("svg", { class: "map-drawing", ...box });
        const group = make("g", { class: `alone ${kind}` }, svg);
        make("circle", { class: "dot", cx: 16, cy: 16, r: 12 }, group);
        return svg;
      };

      const entries = [
        ["own", "trains its own weights"],
        ["", "uses the weights at the other end of its arc"],
      ];
      if (this.run.moments.some((moment) => moment.frozen)) {
        entries.push(["frozen", "frozen: its initial weights, untrained"]);
      }

      const children = entries.map(([kind, words]) => tag("span", {}, [mark(kind), words]));
      const square = (kind, words) => {
        const svg = make("svg", { class: "timeline-mark", ...box });
        const size = { x: 4, y: 8, width: 22, height: 18, rx: 4 };
        make("rect", { ...size, fill: `var(--series-${kind})` }, svg);
        return tag("span", {}, [svg, words]);
      };

      if (this.last > 0) children.push(square(1, "layers tied"), square(2, "layers untied"));
      this.key.replaceChildren(...children);
    }

    // Bars of tied and untied layers, one for each moment, at the positions of the slider.
    drawTimeline() {
      const n = Math.max(1, this.last);
      const bars = this.run.moments.map((moment, index) => {
        const before = moment.before || (index ? this.run.moments[index - 1].state : moment.state);
        const list = events(before, moment.state);
        const tied = list.filter((event) => "to" in event).length;
        return [tied, list.length - tied];
      });

      const most = Math.max(1, ...bars.map(([tied, untied]) => tied + untied));
      this.timeline.setAttribute("viewBox", `0 0 ${n} 1`);
      this.timeline.setAttribute("overflow", "visible");
      this.timeline.replaceChildren();
      this.nowWidth = Math.min(1, n * 0.02);
      const now = { class: "now", y: 0, width: this.nowWidth, height: 1 };
      this.now = make("rect", now, this.timeline);
      make("line", { class: "base", x1: 0, x2: n, y1: 1, y2: 1 }, this.timeline);

      bars.forEach(([tied, untied], index) => {
        const low = tied / most;
        const high = untied / most;
        const width = Math.min(0.62, n * 0.012);
        const x = index - width / 2;
        const bar = (kind, y, height) =>
          make("rect", { class: kind, x, width, y, height }, this.timeline);
        if (tied) bar("tied", 1 - low, low);
        if (untied) bar("untied", 1 - low - high, high);
      });

      this.slider.max = this.last;
      this.controls.hidden = this.last === 0;
      this.explain();

      // Without arcs there is no need for their room.
      const isAlone = ([, members]) => members.length === 1;
      const isPlain = this.last === 0 && groups(this.run.moments[0]).every(isAlone);
      const top = isPlain ? this.base - this.radius - 14 : 0;
      this.drawing.setAttribute("viewBox", `0 ${top} ${WIDTH} ${this.bottom - top}`);
    }

    show(index, moving) {
      this.at = Math.max(0, Math.min(this.last, index));
      const moment = this.run.moments[this.at];
      const earlier = this.at ? this.run.moments[this.at - 1] : moment;
      const list = events(moment.before || earlier.state, moment.state);
      const chosen = colours(groups(moment));
      const frozen = new Set(moment.frozen);
      const changed = new Set(list.map((event) => event.layer));

      this.layers.forEach(({ arc, group }, layer) => {
        const owner = moment.state[layer];
        const kind = frozen.has(layer) ? "alone frozen" : chosen.get(owner);
        const own = owner === layer && !frozen.has(layer) ? "own" : "";
        const below = this.radius < 10 ? "small" : "";
        const change = changed.has(layer) ? "changed" : "";
        group.setAttribute("class", `${kind} ${own} ${change} ${below}`);
        arc.setAttribute("class", `arc ${kind}`);
        arc.setAttribute("data-owner", frozen.has(layer) ? layer : owner);
      });

      this.drawing.setAttribute("data-decision", moment.decision);
      this.slider.value = this.at;
      this.now.setAttribute("x", this.at - this.nowWidth / 2);
      this.back.disabled = this.at === 0;
      this.on.disabled = this.at === this.last;
      this.say(moment, list);
      this.move(moving && !calm.matches);
    }

    say(moment, list) {
      const found = groups(moment);
      const chosen = colours(found);
      const number = (value) => value.toLocaleString("en");
      const of = `decision ${number(moment.decision)} of ${number(this.run.decisions)}`;
      const none = this.run.decisions ? "before the first decision" : "no decision has been made";
      const which = moment.decision ? of : none;
      const small = tag("small", { textContent: which });
      this.step.replaceChildren(`Step ${number(moment.step)}`, small);

      const independent = moment.state.filter((owner, layer) => owner === layer).length;
      const facts = [["independent", independent]];
      if (moment.distinct !== undefined) facts.push(["distinct", moment.distinct]);
      if (moment.layer !== undefined) facts.push(["visited layer", moment.layer]);
      if (moment.epsilon !== undefined) facts.push(["ε", shown(moment.epsilon)]);
      if (moment.explored !== undefined) {
        facts.push(["action", moment.explored ? "at random" : "by policy"]);
      }
      if (moment.undone) facts.push(["undone", "yes"]);
      if (moment.reward !== undefined) facts.push(["reward", shown(moment.reward)]);
      if (moment.q !== undefined) facts.push(["Q", shown(moment.q)]);
      this.facts.replaceChildren(...facts.map(([name, value]) =>
        tag("div", {}, [tag("dt", { textContent: name }), tag("dd", { textContent: value })])));

      const tied = list.filter((event) => "to" in event);
      const untied = list.filter((event) => !("to" in event));
      const swatch = (series) => tag("span", { className: `swatch g${series}` });
      const line = tag("p");
      const append = (series, name, words) =>
        line.append(tag("span", {}, [swatch(series), tag("b", { textContent: name }), words]));

      if (!moment.decision) {
        line.append("The layers at the start.");
      } else if (moment.undone) {
        line.append("This decision was undone: the loss rose by more than tying.gate allows.");
      } else if (!list.length) {
        line.append("This decision changed nothing.");
      }
      if (tied.length) append(0, "Tied ", byOwner(tied, "to"));
      if (untied.length) append(1, "Untied ", byOwner(untied, "from"));

      const shared = tag("p", { className: "groups" }, [`${count(found.length, "group")}: `]);
      for (const [owner, members] of found) {
        shared.append(tag("span", {}, [
          tag("span", { className: `swatch ${chosen.get(owner)}` }), members.join(" "),
        ]));
      }
      if (moment.frozen) shared.append(count(moment.frozen.length, "layer"), " frozen");
      this.said.replaceChildren(line, shared);

      const members = found.map(([, layers]) => layers.join(" ")).join("; ");
      const words = `step ${moment.step}, ${which}, ${count(found.length, "group")}: ${members}`;
      this.slider.setAttribute("aria-valuetext", words);
      this.drawing.setAttribute("aria-label", `Replication map: ${words}`);
    }

    // Moves the far end of each arc to its new owner.
    move(moving) {
      cancelAnimationFrame(this.frame);
      const moment = this.run.moments[this.at];
      const frozen = new Set(moment.frozen);
      const goal = moment.state.map((owner, layer) => (frozen.has(layer) ? layer : owner));
      const from = this.layers.map((layer) => layer.anchor);
      const begin = performance.now();
      const length = moving ? 420 : 0;

      const draw = (now) => {
        const share = length ? Math.min(1, Math.max(0, now - begin) / length) : 1;
        const eased = 1 - (1 - share) ** 3;
        this.layers.forEach((entry, layer) => {
          const between = from[layer] + (goal[layer] - from[layer]) * eased;
          entry.anchor = share === 1 ? goal[layer] : between;
          entry.arc.setAttribute("d", this.path(layer, entry.anchor));
        });
        if (share < 1) this.frame = requestAnimationFrame(draw);
      };

      if (moving) this.frame = requestAnimationFrame(draw);
      else draw(begin);
    }

    path(layer, anchor) {
      const left = this.x(anchor);
      const right = this.x(layer);
      const half = (right - left) / 2;
      if (half < 0.5) return "";
      const round = (number) => Math.round(number * 100) / 100;
      const arc = `A${round(half)} ${round(half * this.rise)} 0 0 1`;
      return `M${round(left)} ${this.base}${arc} ${round(right)} ${this.base}`;
    }

    start() {
      if (this.at === this.last) this.show(0, true);
      const pause = Math.max(60, Math.min(900, 30000 / Math.max(1, this.last)));
      this.playing = setInterval(() => {
        if (this.at >= this.last) this.stop();
        else this.show(this.at + 1, pause > 200);
      }, pause);
      this.said.setAttribute("aria-live", "off");
      this.play.textContent = "❚❚ Pause";
    }

    stop() {
      clearInterval(this.playing);
      this.playing = 0;
      this.said.setAttribute("aria-live", "polite");
      this.play.textContent = "▶ Play";
    }

    update(run) {
      const follows = this.at === this.last;
      const depth = this.run.layers;
      this.run = run;
      if (run.layers !== depth) {
        this.at = this.last;
        this.build();
      }
      this.drawTimeline();
      this.show(follows ? this.last : Math.min(this.at, this.last), true);
    }
  }

  // ---- light and dark ----

  function themes() {
    const button = document.getElementById("theme");
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");

    // A page that is opened as a file may have no storage.
    const stored = () => {
      try { return localStorage.getItem("dlt-theme"); } catch { return null; }
    };
    const store = (theme) => {
      try { localStorage.setItem("dlt-theme", theme); } catch { /* The choice is not kept. */ }
    };

    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const name = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
      button.setAttribute("aria-pressed", String(isDark()));
    };

    if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      store(root.dataset.theme);
      name();
    });
    system.addEventListener("change", name);
    button.hidden = false;
    name();
  }

  // ---- news of a run under way ----

  function follow(maps) {
    const connection = document.getElementById("connection");
    let version = null;
    const held = new Map();

    // The pieces are markup of dlt watch, which escapes all text in them. The policy of the page
    // allows no script in them. Open details, focus and scroll positions are kept.
    function replace(id, html) {
      const place = document.getElementById(id);
      if (!place || held.get(id) === html) return;
      const first = !held.has(id);
      held.set(id, html);
      if (first && place.innerHTML === html) return;

      const all = (selector) => [...place.querySelectorAll(selector)];
      const open = new Set(all("details[open]").map((details) => details.id));
      const focused = document.activeElement?.closest("details")?.id;
      const scrolled = all("details .scroll").map((box) => box.scrollTop);

      place.innerHTML = html;
      for (const details of all("details")) details.open = open.has(details.id);
      all("details .scroll").forEach((box, index) => { box.scrollTop = scrolled[index] || 0; });
      if (focused) {
        const summary = place.querySelector(`#${CSS.escape(focused)} > summary`);
        summary?.focus({ preventScroll: true });
      }
    }

    async function ask() {
      if (document.hidden) {
        document.addEventListener("visibilitychange", ask, { once: true });
        return;
      }

      let pause = POLL_MS;
      try {
        const headers = version ? { "If-None-Match": version } : {};
        const answer = await fetch("/data.json", { headers, cache: "no-store" });
        if (answer.status === 200) {
          const news = await answer.json();
          version = answer.headers.get("ETag");
          for (const [id, html] of Object.entries(news.parts)) replace(id, html);
          news.runs.forEach((run, index) => maps[index]?.update(run));
          document.documentElement.dataset.steps = news.steps;
          if (news.finished) pause = POLL_DONE_MS;
        } else if (answer.status !== 304) {
          throw new Error(String(answer.status));
        }
        connection.hidden = true;
      } catch {
        connection.textContent = "No answer from dlt watch. This is the last known state.";
        connection.hidden = false;
      }
      setTimeout(ask, pause);
    }
    ask();
  }

  themes();
  const maps = [...document.querySelectorAll(".map")].map(
    (place) => new ReplicationMap(place, data.runs[Number(place.dataset.run)]));
  if (data.live) follow(maps);
})();
