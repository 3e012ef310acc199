// The smallest game: a GAN on one or two numbers, trained in the page (chapter 3).
"use strict";

(() => {
  const SLOPE = 0.2; // of the leaky ReLU
  const softplus = (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
  const sigmoid = (v) => 1 / (1 + Math.exp(-v));

  // Linear layers with leaky ReLUs between them; weights as PyTorch starts them.
  const network = (sizes, uniform) =>
    sizes.slice(1).map((out, i) => {
      const bound = 1 / Math.sqrt(sizes[i]);
      const draw = () => bound * (2 * uniform() - 1);
      const weights = Float64Array.from({ length: out * sizes[i] }, draw);
      return {
        in: sizes[i],
        out,
        weights,
        biases: Float64Array.from({ length: out }, draw),
      };
    });

  // What goes into each layer, and the result, for rows of numbers.
  const forward = (net, rows) => {
    const inputs = [rows];
    net.forEach((layer, depth) => {
      const result = inputs[depth].map((row) => {
        const made = new Float64Array(layer.out);
        for (let o = 0; o < layer.out; o++) {
          let sum = layer.biases[o];
          for (let i = 0; i < layer.in; i++)
            sum += layer.weights[o * layer.in + i] * row[i];
          made[o] = depth < net.length - 1 && sum < 0 ? SLOPE * sum : sum;
        }
        return made;
      });
      inputs.push(result);
    });
    return inputs;
  };

  // Gradients of a loss, from its gradient in the result: those of all weights are added
  // to `sums`, those of the rows that went in are returned.
  const backward = (net, inputs, slopes, sums) => {
    for (let depth = net.length - 1; depth >= 0; depth--) {
      const layer = net[depth];
      slopes = slopes.map((slope, n) => {
        const row = inputs[depth][n];
        const back = new Float64Array(layer.in);
        for (let o = 0; o < layer.out; o++) {
          const leaky = depth < net.length - 1 && inputs[depth + 1][n][o] < 0;
          const g = leaky ? SLOPE * slope[o] : slope[o];
          sums[depth].biases[o] += g;
          for (let i = 0; i < layer.in; i++) {
            sums[depth].weights[o * layer.in + i] += g * row[i];
            back[i] += g * layer.weights[o * layer.in + i];
          }
        }
        return back;
      });
    }
    return slopes;
  };

  const zeros = (net) =>
    net.map(({ weights, biases }) => ({
      weights: new Float64Array(weights.length),
      biases: new Float64Array(biases.length),
    }));

  // A network with what Adam (Kingma and Ba, 2015) remembers.
  const player = (net) => ({
    net,
    first: zeros(net),
    second: zeros(net),
    steps: 0,
  });
  const adam = (who, sums, rate, beta1 = 0.5, beta2 = 0.999) => {
    who.steps += 1;
    const [c1, c2] = [1 - beta1 ** who.steps, 1 - beta2 ** who.steps];
    who.net.forEach((layer, depth) => {
      for (const name of ["weights", "biases"]) {
        const [m, v, g] = [
          who.first[depth][name],
          who.second[depth][name],
          sums[depth][name],
        ];
        for (let i = 0; i < g.length; i++) {
          m[i] = beta1 * m[i] + (1 - beta1) * g[i];
          v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
          layer[name][i] -= (rate * (m[i] / c1)) / (Math.sqrt(v[i] / c2) + 1e-8);
        }
      }
    });
  };

  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

  // D learns that real rows are 1 and generated ones 0; returns its mean loss.
  const stepD = (game, real, z, rate) => {
    const sums = zeros(game.d.net);
    const fake = forward(game.g.net, z).at(-1);
    const losses = [
      [real, 1],
      [fake, 0],
    ].map(([rows, wanted]) => {
      const inputs = forward(game.d.net, rows);
      const logits = inputs.at(-1).map((row) => row[0]);
      const slopes = logits.map((v) => [(sigmoid(v) - wanted) / (2 * rows.length)]);
      backward(game.d.net, inputs, slopes, sums);
      return mean(logits.map((v) => softplus(wanted ? -v : v)));
    });
    adam(game.d, sums, rate);
    return mean(losses);
  };

  // G learns what makes D say 1; returns its loss, the non-saturating one.
  const stepG = (game, z, rate) => {
    const made = forward(game.g.net, z);
    const judged = forward(game.d.net, made.at(-1));
    const logits = judged.at(-1).map((row) => row[0]);
    const slopes = logits.map((v) => [(sigmoid(v) - 1) / z.length]);
    const sums = zeros(game.g.net);
    const through = backward(game.d.net, judged, slopes, zeros(game.d.net));
    backward(game.g.net, made, through, sums);
    adam(game.g, sums, rate);
    return mean(logits.map((v) => softplus(-v)));
  };

  // Data between -2 and 2: a sampler, and for one number its density.
  const gauss = (x, m, s) =>
    Math.exp(-(((x - m) / s) ** 2) / 2) / (s * Math.sqrt(2 * Math.PI));
  const eight = Array.from({ length: 8 }, (_, i) =>
    [Math.cos((i * Math.PI) / 4), Math.sin((i * Math.PI) / 4)].map((v) => 1.4 * v),
  );
  const pick = (list, uniform) => list[Math.floor(uniform() * list.length)];
  const DATA = {
    "two heaps on a line": {
      sample: (uniform, normal) => [(uniform() < 0.5 ? -1 : 1) + 0.25 * normal()],
      density: (x) => 0.5 * gauss(x, -1, 0.25) + 0.5 * gauss(x, 1, 0.25),
    },
    "one heap on a line": {
      sample: (uniform, normal) => [0.7 + 0.4 * normal()],
      density: (x) => gauss(x, 0.7, 0.4),
    },
    "eight islands": {
      sample: (uniform, normal) => pick(eight, uniform).map((v) => v + 0.08 * normal()),
      modes: eight,
    },
    "a curve": {
      sample: (uniform, normal) => {
        const t = 4 * uniform() - 2;
        return [0.85 * t, Math.sin(2 * t) + 0.08 * normal()];
      },
    },
    "my own": {},
  };
  const BATCH = 64;

  const create = (host) => {
    const state = GenLab.fromAddress("game");
    const rates = { min: 0, max: 1, step: 0.001 };
    const choices = {
      data: {
        label: "Data",
        value: "two heaps on a line",
        options: Object.keys(DATA),
      },
      noise: { label: "Noise numbers", value: 2, min: 1, max: 16, step: 1 },
      rateD: { label: "Rate of D", value: 0.005, ...rates },
      rateG: { label: "Rate of G", value: 0.005, ...rates },
      dSteps: { label: "D steps a round", value: 1, min: 1, max: 20, step: 1 },
      seed: { label: "Seed", value: 0, min: 0, max: 999, step: 1 },
    };
    GenLab.restore(choices, state);
    let own = [];
    let game, uniform, normal, rounds, history, shown, real;

    const kind = () => DATA[choices.data.value];
    const flat = () => Boolean(kind().density); // one number a point
    const sampleReal = (n) =>
      Array.from({ length: n }, () =>
        kind().sample ? kind().sample(uniform, normal) : [...pick(own, uniform)],
      );
    const sampleNoise = (n) =>
      Array.from({ length: n }, () =>
        Float64Array.from({ length: choices.noise.value }, normal),
      );

    const reset = () => {
      stop();
      uniform = GenLab.uniform(choices.seed.value);
      normal = GenLab.normal(uniform);
      const size = flat() ? 1 : 2;
      game = {
        g: player(network([choices.noise.value, 24, 24, size], uniform)),
        d: player(network([size, 24, 24, 1], uniform)),
      };
      [rounds, history, shown] = [0, [], sampleNoise(400)];
      real = kind().sample || own.length ? sampleReal(300) : [];
      report();
    };

    const step = (who) => {
      if (!real.length) {
        report("Draw some points first.");
        return false;
      }
      const last = history.at(-1) ?? [null, null];
      const now = [...last];
      for (
        let i = 0;
        who !== "G" && i < (who === "D" ? 1 : choices.dSteps.value);
        i++
      ) {
        now[0] = stepD(
          game,
          sampleReal(BATCH),
          sampleNoise(BATCH),
          choices.rateD.value,
        );
      }
      if (who !== "D") now[1] = stepG(game, sampleNoise(BATCH), choices.rateG.value);
      history.push(now);
      rounds += 1;
      return now.every((loss) => loss === null || Number.isFinite(loss));
    };
    const advance = (who, times) => {
      let fine = true;
      for (let i = 0; fine && i < times; i++) fine = step(who);
      const broken = real.length && !fine;
      if (real.length)
        report(
          broken ? "A loss is no number any more. Take lower rates, and reset." : "",
        );
      return fine;
    };

    const report = (note = "") => {
      const [d, g] = history.at(-1) ?? [null, null];
      const losses = [
        ["D", d],
        ["G", g],
      ].filter(([, loss]) => loss !== null);
      const said = losses
        .map(([who, loss]) => `loss of ${who} ${GenLab.text(loss)}`)
        .join(", ");
      const fakes = forward(game.g.net, shown).at(-1);
      const reached = kind().modes?.filter(
        (m) =>
          fakes.filter((p) => Math.hypot(p[0] - m[0], p[1] - m[1]) < 0.3).length >= 8,
      ).length;
      const modes = kind().modes
        ? `. ${reached} of ${kind().modes.length} islands reached`
        : "";
      say(note || `Step ${rounds}. ${said}${said ? ` (ln 2 is 0.693)` : ""}${modes}.`);
      plane.show();
      curve.show();
      const address = {};
      for (const [name, choice] of Object.entries(choices))
        address[name] = choice.value;
      if (own.length)
        address.points = own
          .flat()
          .map((v) => Math.round(v * 100))
          .join(" ");
      if (built) GenLab.toAddress("game", address);
    };

    const [BLUE, ORANGE, GREEN] = GenLab.palette;
    const dot = (pen, x, y, colour, size) => {
      pen.beginPath();
      pen.arc(x, y, size, 0, 7);
      pen.fillStyle = colour;
      pen.fill();
    };
    const legend = (pen, ink, entries) => {
      let x = 8;
      for (const [text, colour] of entries) {
        dot(pen, x + 5, 12, colour, 5);
        pen.fillStyle = ink;
        pen.fillText(text, x + 14, 16);
        x += pen.measureText(text).width + 30;
      }
    };
    const curveOf = (pen, width, height, values, colour) => {
      pen.beginPath();
      values.forEach((v, i) =>
        pen.lineTo((i * width) / (values.length - 1), height * (1 - v)),
      );
      pen.strokeStyle = colour;
      pen.lineWidth = 2;
      pen.stroke();
    };
    const drawFlat = (pen, width, height, ink) => {
      const xs = Array.from({ length: 101 }, (_, i) => -2 + i / 25);
      const fakes = forward(game.g.net, shown).at(-1);
      const p = xs.map(kind().density);
      const q = xs.map((x) => mean(fakes.map(([f]) => gauss(x, f, 0.08))));
      const d = forward(
        game.d.net,
        xs.map((x) => [x]),
      )
        .at(-1)
        .map(([v]) => sigmoid(v));
      const tall = Math.max(...p) * 1.6;
      curveOf(
        pen,
        width,
        height,
        p.map((v) => v / tall),
        BLUE,
      );
      curveOf(
        pen,
        width,
        height,
        q.map((v) => v / tall),
        ORANGE,
      );
      curveOf(pen, width, height, d, GREEN);
      pen.setLineDash([4, 4]);
      // Where there are no data of either kind, any answer is as good: none is drawn.
      const best = p.map((v, i) => (v + q[i] > 0.02 ? v / (v + q[i]) : NaN));
      curveOf(pen, width, height, best, ink);
      pen.setLineDash([]);
      legend(pen, ink, [
        ["real", BLUE],
        ["generated", ORANGE],
        ["D", GREEN],
        ["best D", ink],
      ]);
    };
    const drawPlane = (pen, width, height, ink) => {
      const X = (x) => ((x + 2) / 4) * width;
      const Y = (y) => ((2 - y) / 4) * height;
      GenLab.tiles(pen, 36, width, height, (x, y) => {
        const [[v]] = forward(game.d.net, [[4 * x - 2, 4 * y - 2]]).at(-1);
        const sure = sigmoid(v) - 0.5;
        pen.globalAlpha = Math.min(0.75, Math.abs(sure) * 1.2);
        pen.fillStyle = sure > 0 ? BLUE : ORANGE;
      });
      pen.globalAlpha = 1;
      for (const point of own.length && !kind().sample ? own : real) {
        dot(pen, X(point[0]), Y(point[1]), BLUE, 3);
      }
      for (const [x, y] of forward(game.g.net, shown).at(-1))
        dot(pen, X(x), Y(y), ORANGE, 3);
      if (cursor.shown) {
        pen.strokeStyle = ink;
        pen.strokeRect(cursor.x * width - 7, (1 - cursor.y) * height - 7, 14, 14);
      }
      legend(pen, ink, [
        ["real, and where D says so", BLUE],
        ["generated", ORANGE],
      ]);
    };
    const drawLosses = (pen, width, height, ink) => {
      const recent = history.slice(-600);
      const most = 3;
      const line = (which, colour) => {
        const values = recent.map(
          (row) => Math.min(row[which] ?? Math.LN2, most) / most,
        );
        if (values.length > 1) curveOf(pen, width, height, values, colour);
      };
      line(0, GREEN);
      line(1, ORANGE);
      pen.setLineDash([4, 4]);
      curveOf(pen, width, height, [Math.LN2 / most, Math.LN2 / most], ink);
      pen.setLineDash([]);
      legend(pen, ink, [
        ["loss of D", GREEN],
        ["loss of G", ORANGE],
        ["ln 2", ink],
      ]);
    };

    let built = false;
    GenLab.controls(host, choices, (name) => {
      if (name.startsWith("rate") || name === "dSteps") report();
      else reset();
    });
    const [, , , run] = GenLab.buttons(host, {
      "Step D": () => advance("D", 1),
      "Step G": () => advance("G", 1),
      "Step both": () => advance("both", 1),
      Run: () => {},
      Reset: reset,
      "Clear my points": () => {
        own = [];
        reset();
      },
    });
    const stop = GenLab.player(host, run, (slow) => advance("both", slow ? 1 : 8));
    const plane = GenLab.canvas(
      host,
      "Real and generated data, and what D says of each place. Draw points of your own with" +
        " the pointer, or with arrow keys and Enter.",
      0.75,
      (...where) => (flat() ? drawFlat : drawPlane)(...where),
    );
    const cursor = GenLab.pointing(plane.canvas, (x, y, how) => {
      if (how === "move" || how === "remove") return plane.show();
      own.push([4 * x - 2, 4 * y - 2]);
      if (choices.data.value === "my own") {
        real = own;
        return report();
      }
      choices.data.value = choices.data.field.value = "my own";
      reset();
    });
    const curve = GenLab.canvas(host, "The losses of both players", 0.3, drawLosses);
    const say = GenLab.readout(host);
    if (/^[-\d ]+$/.test(state.points ?? "")) {
      const numbers = state.points.split(" ").map((v) => Number(v) / 100);
      for (let i = 0; i + 1 < numbers.length; i += 2) own.push(numbers.slice(i, i + 2));
    }
    reset();
    built = true;
    return stop;
  };

  Object.assign(GenLab, {
    game: { network, forward, player, stepD, stepG, DATA },
  });
  GenLab.widgets.game = create;
})();
