// The generator and the judge of chapter 5 in plain JavaScript, and what scores digits.
"use strict";

(() => {
  const SIDE = 28;
  const EPSILON = 1e-5; // of batch normalisation

  const load = (packed) =>
    Object.fromEntries(
      Object.entries(packed).map(([name, value]) => [name, GenLab.unpack(value)]),
    );

  const linear = (x, weight, bias) =>
    Float64Array.from({ length: bias.numbers.length }, (_, i) => {
      let sum = bias.numbers[i];
      for (let j = 0; j < x.length; j++) sum += weight.numbers[i * x.length + j] * x[j];
      return sum;
    });

  // A 3 x 3 convolution with padding 1 of x, channels of side x side numbers.
  const convolve = (x, side, { shape, numbers }, bias, stride = 1) => {
    const [outs, ins] = shape;
    const size = Math.ceil(side / stride);
    const y = new Float64Array(outs * size * size);
    for (let o = 0; o < outs; o++) {
      const own = y.subarray(o * size * size, (o + 1) * size * size);
      own.fill(bias ? bias.numbers[o] : 0);
      for (let k = 0; k < ins * 9; k++) {
        const [from, down, across] = [Math.floor(k / 9), Math.floor(k / 3) % 3, k % 3];
        const weight = numbers[o * ins * 9 + k];
        const first = across === 0 ? 1 : 0;
        const last = Math.min(size, Math.floor((side - across) / stride) + 1);
        for (let row = 0; row < size; row++) {
          const above = row * stride + down - 1;
          if (above < 0 || above >= side) continue;
          const start = (from * side + above) * side + across - 1;
          for (let column = first; column < last; column++) {
            own[row * size + column] += weight * x[start + column * stride];
          }
        }
      }
    }
    return y;
  };

  // Batch normalisation in eval mode, then zero or a slope below zero.
  const normed = (x, net, name, slope) => {
    const [scale, shift, mean, variance] = [
      "weight",
      "bias",
      "running_mean",
      "running_var",
    ].map((part) => net[`${name}.${part}`].numbers);
    const size = x.length / scale.length;
    return x.map((value, i) => {
      const c = Math.floor(i / size);
      const factor = scale[c] / Math.sqrt(variance[c] + EPSILON);
      const made = (value - mean[c]) * factor + shift[c];
      return made < 0 ? slope * made : made;
    });
  };

  const doubled = (x, side) => {
    const channels = x.length / side ** 2;
    return Float64Array.from({ length: 4 * x.length }, (_, i) => {
      const [row, column] = [Math.floor(i / (2 * side)) % (2 * side), i % (2 * side)];
      const channel = Math.floor(i / (4 * side * side)) % channels;
      return x[(channel * side + (row >> 1)) * side + (column >> 1)];
    });
  };

  // The image, 784 numbers in [0, 1], of noise followed by a one-hot label.
  const generate = (net, input) => {
    let x = linear(input, net["0.weight"], net["0.bias"]);
    x = doubled(normed(x, net, "2", 0.2), 7);
    x = normed(convolve(x, 14, net["5.weight"], net["5.bias"]), net, "6", 0.2);
    x = doubled(x, 14);
    x = normed(convolve(x, SIDE, net["9.weight"], net["9.bias"]), net, "10", 0.2);
    x = convolve(x, SIDE, net["12.weight"], net["12.bias"]);
    return x.map((value) => 1 / (1 + Math.exp(-value)));
  };

  // The judge's 64 features and ten scores of an image.
  const judged = (net, image) => {
    let [x, side] = [image, SIDE];
    for (const [place, stride] of [
      [0, 1],
      [3, 2],
      [6, 1],
      [9, 2],
    ]) {
      x = convolve(x, side, net[`body.${place}.weight`], null, stride);
      x = normed(x, net, `body.${place + 1}`, 0);
      side /= stride;
    }
    const features = linear(x, net["body.14.weight"], net["body.14.bias"]);
    for (let i = 0; i < features.length; i++) features[i] = Math.tanh(features[i]);
    return { features, scores: linear(features, net["head.weight"], net["head.bias"]) };
  };

  // The class with the highest score, and its probability.
  const verdict = (scores) => {
    const most = Math.max(...scores);
    const sum = scores.reduce((total, score) => total + Math.exp(score - most), 0);
    return { digit: scores.indexOf(most), share: 1 / sum };
  };

  // Eigenvalues, and vectors as columns, of a symmetric matrix of rows (Jacobi's method).
  const eigen = (matrix) => {
    const n = matrix.length;
    const a = matrix.map((row) => Float64Array.from(row));
    const v = a.map((_, i) => Float64Array.from({ length: n }, (_, j) => +(i === j)));
    for (let sweep = 0; sweep < 30; sweep++) {
      let off = 0;
      for (let p = 0; p < n; p++) {
        for (let q = p + 1; q < n; q++) {
          off += a[p][q] ** 2;
          if (Math.abs(a[p][q]) < 1e-300) continue;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1);
          const s = t * c;
          for (let k = 0; k < n; k++) {
            [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
          }
          for (let k = 0; k < n; k++) {
            [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
            [v[k][p], v[k][q]] = [c * v[k][p] - s * v[k][q], s * v[k][p] + c * v[k][q]];
          }
        }
      }
      if (off < 1e-24) break;
    }
    return { values: a.map((row, i) => row[i]), vectors: v };
  };

  const product = (a, b) =>
    a.map((row) =>
      Float64Array.from({ length: b[0].length }, (_, j) => {
        let sum = 0;
        for (let k = 0; k < row.length; k++) sum += row[k] * b[k][j];
        return sum;
      }),
    );

  // Mean and covariance of features, a list of numbers each.
  const momentsOf = (features) => {
    const [n, d] = [features.length, features[0].length];
    const mean = new Float64Array(d);
    for (const x of features) x.forEach((value, i) => (mean[i] += value / n));
    const covariance = Array.from({ length: d }, () => new Float64Array(d));
    for (const x of features) {
      for (let i = 0; i < d; i++) {
        const own = (x[i] - mean[i]) / n;
        for (let j = 0; j < d; j++) covariance[i][j] += own * (x[j] - mean[j]);
      }
    }
    return { mean, covariance };
  };

  // The squared Fréchet distance of two normal distributions.
  const frechet = (a, b) => {
    const { values, vectors } = eigen(a.covariance);
    const scaled = vectors.map((row) =>
      row.map((value, j) => value * Math.sqrt(Math.max(values[j], 0))),
    );
    const turned = vectors.map((_, j) => vectors.map((row) => row[j]));
    const root = product(scaled, turned);
    const middle = product(product(root, b.covariance), root);
    const common = eigen(middle).values.reduce(
      (t, v) => t + Math.sqrt(Math.max(v, 0)),
      0,
    );
    const trace = (matrix) => matrix.reduce((total, row, i) => total + row[i], 0);
    const shift = a.mean.reduce((total, v, i) => total + (v - b.mean[i]) ** 2, 0);
    return shift + trace(a.covariance) + trace(b.covariance) - 2 * common;
  };

  // The moments of the test images, exported in two halves of 16 bits.
  const momentsFrom = (packed) => {
    const whole = (name) => {
      const [first, rest] = [packed[name], packed[`${name}_rest`]].map(GenLab.unpack);
      return first.numbers.map((value, i) => value + rest.numbers[i]);
    };
    const [mean, flat] = [whole("mean"), whole("covariance")];
    const covariance = [...mean.keys()].map((i) =>
      flat.subarray(i * mean.length, (i + 1) * mean.length),
    );
    return { mean, covariance };
  };

  const noise = (size, seed) => {
    const normal = GenLab.normal(GenLab.uniform(seed));
    return Float64Array.from({ length: size }, normal);
  };

  // A place on the arc from one noise to another (chapter 4).
  const arc = (a, b, t) => {
    const dot = (x, y) => x.reduce((total, value, i) => total + value * y[i], 0);
    const angle = Math.acos(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
    const [from, to] = [Math.sin((1 - t) * angle), Math.sin(t * angle)];
    return a.map((value, i) => (from * value + to * b[i]) / Math.sin(angle));
  };

  const asked = (z, digit) =>
    Float64Array.from([...z, ...Array.from({ length: 10 }, (_, i) => +(i === digit))]);

  const NEEDED = ["generator", "judge", "moments"];
  const fetchAll = async (folder, names = NEEDED) => {
    for (const name of names) {
      if (!globalThis.genlabData?.[`05_cgan/${name}`]) {
        await GenLab.script(`${folder}/${name}.js`);
      }
    }
    return names.map((name) => genlabData[`05_cgan/${name}`]);
  };

  GenLab.digits = {
    ...{ load, generate, judged, verdict, eigen, momentsOf, momentsFrom, frechet },
    ...{ noise, arc, asked, fetchAll },
  };
})();
