// k-means in the plane, half-step by half-step (chapter 1).
"use strict";

(() => {
  const squared = (p, c) => (p[0] - c[0]) ** 2 + (p[1] - c[1]) ** 2;

  // The nearest centre of each point; of equally near ones the first.
  const assign = (points, centers) =>
    points.map((p) => {
      let best = 0;
      for (let k = 1; k < centers.length; k++) {
        if (squared(p, centers[k]) < squared(p, centers[best])) best = k;
      }
      return best;
    });

  const sizes = (labels, k) => {
    const counts = new Array(k).fill(0);
    for (const label of labels) counts[label] += 1;
    return counts;
  };

  // The means; centres without points go to those farthest from their own centre.
  const update = (points, centers, labels) => {
    const counts = sizes(labels, centers.length);
    const means = centers.map(() => [0, 0]);
    points.forEach((p, i) => {
      means[labels[i]][0] += p[0] / counts[labels[i]];
      means[labels[i]][1] += p[1] / counts[labels[i]];
    });
    const gaps = points.map((p, i) => squared(p, centers[labels[i]]));
    const far = [...gaps.keys()].sort((a, b) => gaps[b] - gaps[a]);
    return means.map((mean, k) => (counts[k] ? mean : [...points[far.shift()]]));
  };

  const cost = (points, centers, labels) =>
    points.reduce((sum, p, i) => sum + squared(p, centers[labels[i]]), 0);

  const STARTS = {
    "random points": (points, k, uniform) => {
      const order = [...points.keys()];
      for (let i = 0; i < k; i++) {
        const j = i + Math.floor(uniform() * (order.length - i));
        [order[i], order[j]] = [order[j], order[i]];
      }
      return order.slice(0, k).map((i) => [...points[i]]);
    },
    "k-means++": (points, k, uniform) => {
      const centers = [[...points[Math.floor(uniform() * points.length)]]];
      while (centers.length < k) {
        const gaps = points.map((p) => Math.min(...centers.map((c) => squared(p, c))));
        let rest = uniform() * gaps.reduce((a, b) => a + b, 0);
        let next = gaps.findIndex((gap) => (rest -= gap) < 0);
        if (next < 0) next = points.length - 1;
        centers.push([...points[next]]);
      }
      return centers;
    },
    "one corner": (points, k) =>
      [...points]
        .sort((a, b) => a[0] + a[1] - b[0] - b[1])
        .slice(0, k)
        .map((p) => [...p]),
  };

  // Points in the unit square.
  const heaps = (places, widths) => (uniform, normal) =>
    Array.from({ length: 200 }, (_, i) => {
      const k = i % places.length;
      return places[k].map((middle) => middle + widths[k] * normal());
    });
  const arc = (x, y, radius, share, turn, uniform, normal) => {
    const angle = 2 * Math.PI * (turn + share * uniform());
    const length = radius + 0.02 * normal();
    return [x + length * Math.cos(angle), y + length * Math.sin(angle)];
  };
  const SETS = {
    blobs: heaps(
      [
        [0.2, 0.7],
        [0.5, 0.82],
        [0.82, 0.68],
        [0.3, 0.25],
        [0.72, 0.25],
      ],
      [0.05, 0.05, 0.05, 0.05, 0.05],
    ),
    rings: (uniform, normal) =>
      Array.from({ length: 200 }, (_, i) =>
        arc(0.5, 0.5, i % 2 ? 0.38 : 0.17, 1, 0, uniform, normal),
      ),
    moons: (uniform, normal) =>
      Array.from({ length: 200 }, (_, i) =>
        i % 2
          ? arc(0.38, 0.42, 0.26, 0.5, 0, uniform, normal)
          : arc(0.62, 0.56, 0.26, 0.5, 0.5, uniform, normal),
      ),
    "unequal widths": heaps(
      [
        [0.22, 0.5],
        [0.68, 0.5],
        [0.45, 0.85],
      ],
      [0.03, 0.13, 0.03],
    ),
    "no groups": (uniform) =>
      Array.from({ length: 200 }, () => [
        0.05 + 0.9 * uniform(),
        0.05 + 0.9 * uniform(),
      ]),
    "my own": () => [],
  };

  const create = (host) => {
    const state = GenLab.fromAddress("kmeans");
    const choices = {
      set: { label: "Points", value: "blobs", options: Object.keys(SETS) },
      k: { label: "Clusters K", value: 5, min: 1, max: 10, step: 1 },
      start: {
        label: "Start",
        value: "random points",
        options: Object.keys(STARTS),
      },
      seed: { label: "Seed", value: 0, min: 0, max: 999, step: 1 },
    };
    GenLab.restore(choices, state);
    let points, centers, labels, costs, moves, note;

    const begin = () => {
      stop();
      const k = Math.round(choices.k.value);
      const start = STARTS[choices.start.value];
      centers =
        points.length >= k ? start(points, k, GenLab.uniform(choices.seed.value)) : [];
      [labels, costs, moves] = [null, [], 0];
      note = centers.length ? "" : `Place at least ${k} points.`;
      report();
    };
    const load = () => {
      const uniform = GenLab.uniform(choices.seed.value + 1000);
      points = SETS[choices.set.value](uniform, GenLab.normal(uniform));
      begin();
    };

    // One half-step; false when nothing changes any more.
    const half = (kind = moves % 2 ? "update" : "assign") => {
      if (!centers.length || (kind === "update" && !labels)) return false;
      const before = JSON.stringify(kind === "assign" ? labels : centers);
      if (kind === "assign") labels = assign(points, centers);
      else centers = update(points, centers, labels);
      const after = JSON.stringify(kind === "assign" ? labels : centers);
      moves =
        kind === "assign" ? 2 * Math.floor(moves / 2) + 1 : 2 * Math.ceil(moves / 2);
      costs.push(cost(points, centers, labels));
      note = after === before ? "Nothing changed: this is the end. " : "";
      report();
      return after !== before;
    };

    const report = () => {
      const empty = labels ? sizes(labels, centers.length) : [];
      const lost = empty.flatMap((n, k) => (n ? [] : [k + 1]));
      const last = costs.length ? `cost ${costs.at(-1).toFixed(4)}. ` : "";
      const what = { 0: "Start. ", 1: "Assigned: " }[Math.min(moves, 1)];
      say(
        `${points.length} points. ${moves && moves % 2 === 0 ? "Updated: " : what}${last}` +
          `${note}${lost.length ? `Without points: centre ${lost.join(", ")}.` : ""}`,
      );
      plane.show();
      curve.show();
      const address = { moves: costs.length };
      for (const [name, choice] of Object.entries(choices))
        address[name] = choice.value;
      if (choices.set.value === "my own") {
        address.points = points
          .flat()
          .map((v) => Math.round(v * 1000))
          .join(" ");
      }
      if (built) GenLab.toAddress("kmeans", address);
    };

    const colour = (k) => GenLab.palette[k % GenLab.palette.length];
    const draw = (pen, width, height, ink) => {
      const X = (x) => x * width;
      const Y = (y) => (1 - y) * height;
      if (labels) {
        GenLab.tiles(pen, 50, width, height, (x, y) => {
          pen.fillStyle = colour(assign([[x, y]], centers)[0]);
          pen.globalAlpha = 0.18;
        });
        pen.globalAlpha = 1;
      }
      points.forEach((p, i) => {
        pen.beginPath();
        pen.arc(X(p[0]), Y(p[1]), 4, 0, 7);
        pen.fillStyle = labels ? colour(labels[i]) : "#8a8a8a";
        pen.fill();
      });
      const counts = labels ? sizes(labels, centers.length) : [];
      centers.forEach((c, k) => {
        const [x, y] = [X(c[0]), Y(c[1])];
        pen.beginPath();
        pen.arc(x, y, 11, 0, 7);
        pen.fillStyle = counts[k] === 0 ? "#fff" : colour(k);
        pen.fill();
        pen.lineWidth = 2;
        pen.strokeStyle = ink;
        pen.setLineDash(counts[k] === 0 ? [3, 3] : []);
        pen.stroke();
        pen.setLineDash([]);
        pen.fillStyle = counts[k] === 0 ? "#222" : "#fff";
        pen.textAlign = "center";
        pen.fillText(k + 1, x, y + 4.5);
      });
      if (cursor.shown) {
        pen.strokeStyle = ink;
        pen.strokeRect(X(cursor.x) - 7, Y(cursor.y) - 7, 14, 14);
      }
    };
    const drawCosts = (pen, width, height, ink) => {
      pen.fillStyle = ink;
      pen.textAlign = "left";
      pen.fillText("cost after each half-step", 8, 16);
      const most = Math.max(...costs, 1e-9);
      costs.forEach((value, i) => {
        const x = 14 + (i * (width - 28)) / Math.max(costs.length - 1, 7);
        const tall = ((height - 34) * value) / most;
        pen.fillStyle = GenLab.palette[i % 2];
        pen.fillRect(x - 4, height - 4 - tall, 8, tall);
      });
    };

    const place = (x, y, kind) => {
      if (kind === "press" || kind === "remove") {
        if (kind === "press") points.push([x, y]);
        else {
          const gaps = points.map((p) => squared(p, [x, y]));
          points.splice(gaps.indexOf(Math.min(...gaps)), 1);
        }
        choices.set.value = choices.set.field.value = "my own";
        begin();
      } else plane.show();
    };

    let built = false;
    GenLab.controls(host, choices, (name) => (name === "set" ? load() : begin()));
    const [, , , run] = GenLab.buttons(host, {
      Assign: () => half("assign"),
      Update: () => half("update"),
      "Half-step": () => half(),
      Run: () => {},
      Reset: load,
    });
    const stop = GenLab.player(host, run, () => half());
    const plane = GenLab.canvas(
      host,
      "The points and centres. Arrow keys move a cursor, Enter places a point, Delete removes one.",
      0.75,
      draw,
    );
    const cursor = GenLab.pointing(plane.canvas, place);
    const curve = GenLab.canvas(host, "Cost after each half-step", 0.22, drawCosts);
    const say = GenLab.readout(host);
    load();
    if (choices.set.value === "my own" && /^[\d ]+$/.test(state.points ?? "")) {
      const flat = state.points.split(" ").map((v) => Number(v) / 1000);
      for (let i = 0; i + 1 < flat.length; i += 2) points.push([flat[i], flat[i + 1]]);
      begin();
    }
    for (let i = 0; i < Math.min(Number(state.moves) || 0, 300); i++) half();
    built = true;
    return stop;
  };

  Object.assign(GenLab, { kmeans: { assign, update, cost, STARTS, SETS } });
  GenLab.widgets.kmeans = create;
})();
