// What chapters 6, 7 and 8 have made, to look at closely: a walk, two pictures, a map.
"use strict";

(() => {
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // A canvas of width x height pixels whose colours come from at(place): three in [0, 1].
  const picture = (width, height, at) => {
    const made = new OffscreenCanvas(width, height);
    const data = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      data.data.set([...at(i).map((value) => 255 * value), 255], 4 * i);
    }
    made.getContext("2d").putImageData(data, 0, 0);
    return made;
  };

  // Load an export, then call build(data, say); say so if it cannot be had.
  const withData = async (host, name, build) => {
    const say = GenLab.readout(host);
    try {
      if (!globalThis.genlabData?.[name]) await GenLab.script(host.dataset.source);
    } catch (error) {
      return say(`${error.message}: there is nothing to show without it.`);
    }
    await build(genlabData[name], say);
  };

  const whole = (text, low, high, otherwise) => {
    const number = Math.round(Number(text ?? NaN));
    return number >= low && number <= high ? number : otherwise;
  };

  const frameOf = ({ shape, numbers }, k) => {
    const size = shape[2] * shape[3];
    return picture(shape[3], shape[2], (i) =>
      [0, 1, 2].map((c) => clamp(numbers[(3 * k + c) * size + i], 0, 1)),
    );
  };

  const placeOnWalk = (frame, count) => {
    const face = Math.floor(frame / 4) + 1;
    const next = (face % (count / 4)) + 1;
    const where = frame % 4 ? `between face ${face} and face ${next}` : `face ${face}`;
    return `Frame ${frame + 1} of ${count}: ${where}.`;
  };

  const facewalk = (host) =>
    withData(host, "06_gan_faces/walk", (packed, say) => {
      const frames = GenLab.unpack(packed.frames);
      const count = frames.shape[0];
      let now = whole(GenLab.fromAddress("facewalk").frame, 0, count - 1, 0);
      const show = GenLab.canvas(
        host,
        "A generated face",
        0.5,
        (pen, width, height) => {
          pen.imageSmoothingEnabled = false;
          const side = height - 4;
          pen.drawImage(frameOf(frames, now), (width - side) / 2, 2, side, side);
        },
      ).show;
      const go = (frame, link = true) => {
        now = (frame + count) % count;
        say(placeOnWalk(now, count));
        show();
        if (link) GenLab.toAddress("facewalk", { frame: now });
      };
      const [, run] = GenLab.buttons(host, {
        "Step back": () => go(now - 1),
        Run: () => {},
        Step: () => go(now + 1),
        "Next face": () => go(4 * Math.floor(now / 4) + 4),
      });
      const step = () => {
        go(now + 1);
        return host.isConnected;
      };
      host.stop = GenLab.player(run.parentElement, run, step);
      host.querySelector("input[type=checkbox]").checked = true; // slow, at first
      go(now, false);
    });

  const loaded = (jpeg) =>
    new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("a picture is damaged"));
      image.src = `data:image/jpeg;base64,${jpeg}`;
    });

  const STAGES = [1, 3, 5, 8, 12, 20, 35, 60, 100];
  const stageName = (k) =>
    k === 0
      ? "the photograph"
      : k > STAGES.length
        ? "the finished picture"
        : `after ${STAGES[k - 1]} evaluations`;

  const compare = (host) =>
    withData(host, "07_style_transfer/frames", async (packed, say) => {
      const pictures = await Promise.all(
        Object.keys(packed)
          .sort()
          .map((name) => loaded(packed[name].jpeg)),
      );
      const names = pictures.map((_, k) => stageName(k));
      const state = GenLab.fromAddress("compare");
      let cut = clamp(Number(state.cut ?? 0.5) || 0, 0, 1);
      const last = names[names.length - 1];
      const choices = {
        left: { label: "Left", value: names[0], options: names },
        right: { label: "Right", value: last, options: names },
      };
      GenLab.restore(choices, state);
      const { width: across, height: down } = pictures[0];
      const draw = (pen, width, height, ink) => {
        pen.drawImage(
          pictures[names.indexOf(choices.right.value)],
          0,
          0,
          width,
          height,
        );
        const left = pictures[names.indexOf(choices.left.value)];
        if (cut > 0) {
          const part = [0, 0, cut * across, down, 0, 0, cut * width, height];
          pen.drawImage(left, ...part);
        }
        pen.fillStyle = ink;
        pen.fillRect(cut * width - 1.5, 0, 3, height);
      };
      const { canvas, show } = GenLab.canvas(
        host,
        "Two pictures, one on each side of a line. Drag, or use the arrow keys.",
        down / across,
        draw,
      );
      const move = (x, link = true) => {
        cut = clamp(x, 0, 1);
        const share = Math.round(100 * cut);
        say(
          `${share} % of the width shows ${choices.left.value}, the rest` +
            ` ${choices.right.value}.`,
        );
        show();
        const chosen = { left: choices.left.value, right: choices.right.value };
        if (link) GenLab.toAddress("compare", { cut: cut.toFixed(2), ...chosen });
      };
      const place = GenLab.pointing(canvas, (x, _, kind) => {
        if (kind !== "move" || document.activeElement === canvas) move(x);
      });
      place.x = cut;
      GenLab.controls(host, choices, () => move(cut));
      GenLab.buttons(host, {
        Reset: () => {
          for (const [name, value] of [
            ["left", names[0]],
            ["right", last],
          ]) {
            choices[name].value = choices[name].field.value = value;
          }
          move(0.5);
        },
      });
      move(cut, false);
    });

  // The most frequent label of each cluster, and which points have another.
  const named = (labels, clusters) => {
    const counts = new Map();
    labels.forEach((label, i) => {
      const own = counts.get(clusters[i]) ?? new Float64Array(10);
      own[label] += 1;
      counts.set(clusters[i], own);
    });
    const names = new Map(
      [...counts].map(([cluster, own]) => [cluster, own.indexOf(Math.max(...own))]),
    );
    const wrong = Array.from(labels, (label, i) => names.get(clusters[i]) !== label);
    return { names, wrong };
  };

  const explorer = (host) =>
    withData(host, "08_deep_kmeans/map", (packed, say) => {
      const data = Object.fromEntries(
        Object.entries(packed).map(([name, value]) => [name, GenLab.unpack(value)]),
      );
      const [labels, clusters] = [data.labels.numbers, data.clusters.numbers];
      const { names, wrong } = named(labels, clusters);
      const size = data.thumbnails.shape[1];
      const choices = {
        map: { label: "Map", value: "after", options: ["before", "after"] },
        colour: { label: "Colour", value: "label", options: ["label", "cluster"] },
        points: { label: "Points", value: "all", options: ["all", "mistakes"] },
      };
      GenLab.restore(choices, GenLab.fromAddress("explorer"));
      let near = 0;
      const places = () => {
        const { numbers } = data[choices.map.value];
        const ends = [0, 1].map((axis) => {
          const own = numbers.filter((_, i) => i % 2 === axis);
          return [Math.min(...own), Math.max(...own)];
        });
        return (i) =>
          [0, 1].map((axis) => {
            const [low, high] = ends[axis];
            return 0.02 + (0.96 * (numbers[2 * i + axis] - low)) / (high - low);
          });
      };
      const shown = (i) => choices.points.value === "all" || wrong[i];
      const draw = (pen, width, height, ink) => {
        const at = places();
        labels.forEach((label, i) => {
          if (!shown(i)) return;
          const [x, y] = at(i);
          const kind =
            choices.colour.value === "label" ? label : names.get(clusters[i]);
          pen.fillStyle = GenLab.palette[kind];
          pen.fillRect(x * width - 1.5, (1 - y) * height - 1.5, 3, 3);
        });
        const [x, y] = at(near);
        const side = 64;
        const thumb = picture(size, size, (i) => {
          const value = data.thumbnails.numbers[near * size * size + i];
          return [value, value, value];
        });
        const left = clamp(x * width + 12, 0, width - side);
        const top = clamp((1 - y) * height - side - 12, 0, height - side);
        pen.imageSmoothingEnabled = false;
        pen.drawImage(thumb, left, top, side, side);
        pen.strokeStyle = ink;
        pen.strokeRect(left, top, side, side);
        pen.beginPath();
        pen.arc(x * width, (1 - y) * height, 7, 0, 7);
        pen.stroke();
      };
      const { canvas, show } = GenLab.canvas(
        host,
        "Test digits on a map. Point at one, or use the arrow keys.",
        0.75,
        draw,
      );
      const tell = () => {
        const count = wrong.filter(Boolean).length;
        say(
          `A ${labels[near]}, in the cluster of the ${names.get(clusters[near])}s.` +
            ` ${count} of ${labels.length} digits lie in the cluster of another digit.`,
        );
        show();
      };
      GenLab.pointing(canvas, (x, y, kind) => {
        if (kind === "remove") return;
        const at = places();
        let least = Infinity;
        labels.forEach((_, i) => {
          const [across, up] = at(i);
          const gap = (across - x) ** 2 + (up - y) ** 2;
          if (shown(i) && gap < least) [least, near] = [gap, i];
        });
        tell();
      });
      GenLab.controls(host, choices, () => {
        const state = Object.entries(choices).map(([name, { value }]) => [name, value]);
        GenLab.toAddress("explorer", Object.fromEntries(state));
        tell();
      });
      tell();
    });

  GenLab.viewers = { frameOf, placeOnWalk, named, stageName };
  GenLab.widgets.facewalk = (host) => {
    void facewalk(host);
    return () => host.stop?.();
  };
  GenLab.widgets.compare = (host) => void compare(host);
  GenLab.widgets.explorer = (host) => void explorer(host);
})();
