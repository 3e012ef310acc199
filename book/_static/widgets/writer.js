// Write a number with chapter 5's generator, and check the chapter's own figures.
"use strict";

(() => {
  const { digits } = GenLab;
  const NOISE = 100;
  const COUNT = 2000; // a Fréchet distance depends on how many images are scored

  const tile = (image) => {
    const small = new ImageData(28, 28);
    image.forEach((value, i) => {
      small.data.set([255 * value, 255 * value, 255 * value, 255], 4 * i);
    });
    const made = new OffscreenCanvas(28, 28);
    made.getContext("2d").putImageData(small, 0, 0);
    return made;
  };

  const field = (parent, label, properties) => {
    const box = GenLab.element("label", parent, { textContent: `${label} ` });
    const made = GenLab.element("input", box, properties);
    made.setAttribute("aria-label", label);
    return made;
  };

  const writer = async (host) => {
    const row = GenLab.element("div", host, { className: "controls" });
    const say = GenLab.readout(host);
    let nets = null;
    try {
      nets = await digits.fetchAll(host.dataset.source, ["generator", "judge"]);
    } catch (error) {
      return say(`${error.message}: writing needs it.`);
    }
    const [generator, judge] = nets.map(digits.load);
    const state = {
      number: "20261",
      seed: 0,
      style: 0,
      ...GenLab.fromAddress("writer"),
    };
    if (!/^\d{1,8}$/.test(state.number)) state.number = "20261";
    state.seed = Math.floor(Math.abs(Number(state.seed))) || 0;
    state.style = Math.min(1, Math.max(0, Number(state.style) || 0));
    let written = [];

    const text = field(row, "Number", {
      value: state.number,
      inputMode: "numeric",
      maxLength: 8,
      size: 8,
    });
    const slider = field(row, "From this hand to the next", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.05,
      value: state.style,
    });
    const draw = (pen, width, height, ink) => {
      const side = Math.min(width / Math.max(written.length, 5), height - 22);
      pen.imageSmoothingEnabled = false;
      pen.fillStyle = ink;
      pen.textAlign = "center";
      written.forEach(({ image, seen }, i) => {
        pen.drawImage(tile(image), i * side, 0, side - 2, side - 2);
        const share = Math.round(100 * seen.share);
        pen.fillText(`${seen.digit}: ${share} %`, (i + 0.5) * side, side + 15);
      });
    };
    const canvas = GenLab.canvas(host, "The number in generated digits", 0.26, draw);

    const write = (link = true) => {
      if (!/^\d{1,8}$/.test(text.value)) {
        return say("Type one to eight digits, nothing else: 20261, for instance.");
      }
      Object.assign(state, { number: text.value, style: Number(slider.value) });
      const ends = [0, 1].map((next) => digits.noise(NOISE, state.seed + next));
      const hand = digits.arc(...ends, state.style);
      written = [...state.number].map((digit) => {
        const image = digits.generate(generator, digits.asked(hand, Number(digit)));
        return { image, seen: digits.verdict(digits.judged(judge, image).scores) };
      });
      const read = written.map(({ seen }) => seen.digit).join("");
      say(
        `Asked for ${state.number}, hand ${state.seed}; the judge reads ${read}.` +
          " Below each digit: what it sees, and how sure it is.",
      );
      canvas.show();
      if (link) GenLab.toAddress("writer", state);
    };
    text.addEventListener("input", () => write());
    slider.addEventListener("input", () => write());
    GenLab.buttons(host, {
      "Another hand": () => {
        state.seed += 1;
        slider.value = 0;
        write();
      },
      Reset: () => {
        state.seed = 0;
        [text.value, slider.value] = ["20261", 0];
        write();
      },
    });
    write(false);
  };

  // The run's own mean and range for exactly COUNT digits: name -> [mean, least, most].
  const published = (results) =>
    Object.fromEntries(
      ["conditional accuracy", "Fréchet distance"].map((name) => [
        name,
        ["", "least ", "largest "].map((end) => {
          const full = `2,000 digits: ${end}${name}`;
          return results["05_cgan"].measurements.find((it) => it.name === full).value;
        }),
      ]),
    );

  const audit = (host) => {
    const say = GenLab.readout(host);
    let running = false;
    const stop = () => {
      running = false;
      button.textContent = "Draw 2,000 digits and score them";
    };
    const run = async () => {
      if (running) {
        stop();
        return say("Stopped before all 2,000 were drawn: there is nothing to compare.");
      }
      running = true;
      button.textContent = "Stop";
      say("Loading the generator, the judge and the run's figures.");
      try {
        if (!globalThis.genlabResults) await GenLab.script(host.dataset.results);
        const found = await digits.fetchAll(host.dataset.source);
        const nets = found.slice(0, 2).map(digits.load);
        await score(nets, digits.momentsFrom(found[2]));
      } catch (error) {
        say(`${error.message}: the check needs it.`);
      }
      stop();
    };
    const score = async ([generator, judge], wanted) => {
      const normal = GenLab.normal(GenLab.uniform(Date.now()));
      const features = [];
      let right = 0;
      for (let i = 0; i < COUNT; i++) {
        const z = Float64Array.from({ length: NOISE }, normal);
        const image = digits.generate(generator, digits.asked(z, i % 10));
        const seen = digits.judged(judge, image);
        features.push(seen.features);
        right += digits.verdict(seen.scores).digit === i % 10;
        if (i % 10 === 9) {
          say(`${i + 1} of 2,000 digits drawn and judged.`);
          await new Promise((resolve) => setTimeout(resolve));
          if (!running || !host.isConnected) return;
        }
      }
      const distance = digits.frechet(wanted, digits.momentsOf(features));
      const own = {
        "conditional accuracy": right / COUNT,
        "Fréchet distance": distance,
      };
      const lines = Object.entries(published(genlabResults)).map(([name, ends]) => {
        const [mean, least, most] = ends.map(GenLab.text);
        const mine = GenLab.text(own[name]);
        return `${name}: ${mine} here; ${mean} in the run, from ${least} to ${most}`;
      });
      say(`2,000 digits drawn in this page. ${lines.join(". ")} over its 20 draws.`);
    };
    const [button] = GenLab.buttons(host, { "Draw 2,000 digits and score them": run });
    say("It takes about a minute. Nothing leaves this page.");
    return stop;
  };

  GenLab.writer = { published };
  GenLab.widgets.writer = (host) => void writer(host);
  GenLab.widgets.audit = audit;
})();
