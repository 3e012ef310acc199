// The map of a two-number code: a place on it, and the digit decoded there (chapter 2).
"use strict";

(() => {
  const { unpack } = GenLab;

  const layer = (x, weight, bias) => {
    const [rows, columns] = weight.shape;
    return Float64Array.from({ length: rows }, (_, i) => {
      let sum = bias.numbers[i];
      for (let j = 0; j < columns; j++) sum += weight.numbers[i * columns + j] * x[j];
      return sum;
    });
  };

  // The image, 784 numbers in [0, 1], of a code of two numbers.
  const decode = (net, code) => {
    const first = layer(code, net.first_weight, net.first_bias).map((v) =>
      Math.max(v, 0),
    );
    const second = layer(first, net.second_weight, net.second_bias);
    const last = layer(
      second.map((v) => Math.max(v, 0)),
      net.last_weight,
      net.last_bias,
    );
    return last.map((v) => 1 / (1 + Math.exp(-v)));
  };

  // The number at a share of a sorted list, between neighbours in proportion.
  const quantile = (sorted, share) => {
    const place = share * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
  };

  const load = (packed) => {
    const net = {};
    for (const [name, value] of Object.entries(packed)) {
      if (value.float16) net[name] = unpack(value);
    }
    const [n] = net.codes.shape;
    net.sorted = [0, 1].map((axis) =>
      Float64Array.from(
        { length: n },
        (_, i) => net.codes.numbers[2 * i + axis],
      ).sort(),
    );
    // Ranks of the codes, from 0 to 1 on each axis.
    net.ranks = Array.from({ length: n }, () => [0, 0]);
    for (const axis of [0, 1]) {
      const order = [...Array(n).keys()];
      order.sort(
        (a, b) => net.codes.numbers[2 * a + axis] - net.codes.numbers[2 * b + axis],
      );
      order.forEach((i, rank) => (net.ranks[i][axis] = rank / (n - 1)));
    }
    return net;
  };

  const fill = async (host) => {
    const say = GenLab.readout(host);
    try {
      await GenLab.script(host.dataset.source);
    } catch (error) {
      return say(`${error.message}: the map needs it.`);
    }
    const packed = genlabData["02_autoencoders/code_map"];
    const net = load(packed);
    const sheet = Object.assign(new Image(), {
      src: `data:image/png;base64,${packed.digits.png}`,
      onload: () => digit.show(),
    });
    const state = GenLab.fromAddress("codemap");
    const start = ["x", "y"].map((name) => Number(state[name] ?? 0.5));
    let [x, y] = start.every((v) => v >= 0 && v <= 1) ? start : [0.5, 0.5];
    let near = 0;

    const move = (newX, newY) => {
      [x, y] = [newX, newY];
      const gaps = net.ranks.map((rank) => (rank[0] - x) ** 2 + (rank[1] - y) ** 2);
      near = gaps.indexOf(Math.min(...gaps));
      say(
        `Place ${x.toFixed(2)} across, ${y.toFixed(2)} up. The nearest test digit is` +
          ` a ${net.labels.numbers[near]}.`,
      );
      map.show();
      digit.show();
    };
    const drawMap = (pen, width, height, ink) => {
      net.ranks.forEach((rank, i) => {
        pen.beginPath();
        pen.arc(rank[0] * width, (1 - rank[1]) * height, 2.5, 0, 7);
        pen.fillStyle = GenLab.palette[net.labels.numbers[i]];
        pen.fill();
      });
      pen.beginPath();
      pen.arc(x * width, (1 - y) * height, 10, 0, 7);
      pen.lineWidth = 3;
      pen.strokeStyle = ink;
      pen.stroke();
    };
    const drawDigit = (pen, width, height, ink) => {
      const side = Math.min(width / 2 - 8, height - 24);
      const code = [quantile(net.sorted[0], x), quantile(net.sorted[1], y)];
      const small = new ImageData(28, 28);
      decode(net, code).forEach((value, i) => {
        small.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i);
      });
      const tile = new OffscreenCanvas(28, 28);
      tile.getContext("2d").putImageData(small, 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(tile, 0, 22, side, side);
      const from = [28 * (near % 50), 28 * Math.floor(near / 50)];
      if (sheet.complete) {
        pen.drawImage(sheet, ...from, 28, 28, width / 2 + 8, 22, side, side);
      }
      pen.fillStyle = ink;
      pen.fillText("decoded here", 0, 15);
      pen.fillText(
        `nearest test digit: ${net.labels.numbers[near]}`,
        width / 2 + 8,
        15,
      );
    };

    const map = GenLab.canvas(
      host,
      "The codes of 2,000 test digits. Drag, or use the arrow keys, to choose a place.",
      0.75,
      drawMap,
    );
    const digit = GenLab.canvas(
      host,
      "The decoded digit, and the nearest test digit",
      0.5,
      drawDigit,
    );
    const legend = GenLab.element("p", host, { className: "legend" });
    for (let i = 0; i < 10; i++) {
      const entry = GenLab.element("span", legend, { textContent: i });
      entry.style.borderColor = GenLab.palette[i];
    }
    GenLab.pointing(map.canvas, (newX, newY, kind) => {
      if (kind === "remove") return;
      move(newX, newY);
      if (kind !== "move" || document.activeElement === map.canvas) {
        GenLab.toAddress("codemap", { x: x.toFixed(3), y: y.toFixed(3) });
      }
    });
    GenLab.buttons(host, { Reset: () => move(0.5, 0.5) });
    move(x, y);
  };

  Object.assign(GenLab, { codemap: { unpack, decode, quantile, load } });
  GenLab.widgets.codemap = (host) => void fill(host);
})();
