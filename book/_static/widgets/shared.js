// What the widgets of the pages share: seeded numbers, drawing, controls, the address.
"use strict";

const GenLab = {
  palette: [
    "#1f5f9e",
    "#c75507",
    "#03925c",
    "#bd7fac",
    "#e7a000",
    "#4cb8f0",
    "#7d5fd0",
    "#b3205c",
    "#8d9032",
    "#6f666c",
  ],
  widgets: {},
};
globalThis.GenLab = GenLab;

// Uniform numbers in [0, 1) from a seed: the generator mulberry32, in the public domain.
GenLab.uniform = (seed) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
};

// Standard normal numbers from uniform ones (Box and Muller, 1958).
GenLab.normal = (uniform) => () =>
  Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());

GenLab.text = (number) =>
  Math.abs(number) >= 100 ? number.toFixed(0) : number.toPrecision(3);

GenLab.element = (tag, parent, properties = {}) => {
  const made = Object.assign(document.createElement(tag), properties);
  parent.append(made);
  return made;
};

// A canvas of the given proportions that is sharp on every screen. draw(pen, width,
// height, ink) is called by show() and when size or theme change.
GenLab.canvas = (parent, label, ratio, draw) => {
  const canvas = GenLab.element("canvas", parent);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const show = () => {
    const width = canvas.clientWidth || 320;
    const height = Math.round(width * ratio);
    canvas.width = width * devicePixelRatio;
    canvas.height = height * devicePixelRatio;
    const pen = canvas.getContext("2d");
    pen.scale(devicePixelRatio, devicePixelRatio);
    pen.font = "13px system-ui, sans-serif";
    draw(pen, width, height, getComputedStyle(canvas).color);
  };
  new ResizeObserver(show).observe(canvas);
  new MutationObserver(show).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
  });
  return { canvas, show };
};

// Fill the canvas with n x n tiles; paint(x, y) sets the colour of the tile whose middle
// is there, as shares of width and height from the lower left.
GenLab.tiles = (pen, n, width, height, paint) => {
  const [across, down] = [width, height].map(
    (size) => (i) => Math.round((i * size) / n),
  );
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      paint((i + 0.5) / n, 1 - (j + 0.5) / n);
      const [x, y] = [across(i), down(j)];
      pen.fillRect(x, y, across(i + 1) - x, down(j + 1) - y);
    }
  }
};

// Let pointer and keyboard choose places on a canvas, as shares of its width and height
// from the lower left. act(x, y, kind): "move", "press", "drag", or of keys "press" and
// "remove". The cursor of the keyboard is drawn by the caller, from the place returned.
GenLab.pointing = (canvas, act) => {
  const place = { x: 0.5, y: 0.5, shown: false };
  canvas.tabIndex = 0;
  canvas.style.touchAction = "none"; // a finger draws here, and scrolls beside it
  canvas.setAttribute("role", "application");
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    place.x = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    place.y = Math.min(1, Math.max(0, 1 - (event.clientY - box.top) / box.height));
  };
  canvas.addEventListener("pointerdown", (event) => {
    at(event);
    canvas.setPointerCapture(event.pointerId);
    place.shown = false;
    act(place.x, place.y, "press");
  });
  canvas.addEventListener("pointermove", (event) => {
    at(event);
    act(place.x, place.y, event.buttons ? "drag" : "move");
  });
  const steps = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, 1],
    ArrowDown: [0, -1],
  };
  const kinds = {
    Enter: "press",
    " ": "press",
    Delete: "remove",
    Backspace: "remove",
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in steps) && !(event.key in kinds)) return;
    event.preventDefault();
    const [dx, dy] = steps[event.key] ?? [0, 0];
    const size = event.shiftKey ? 0.1 : 0.02;
    place.x = Math.min(1, Math.max(0, place.x + dx * size));
    place.y = Math.min(1, Math.max(0, place.y + dy * size));
    place.shown = true;
    act(place.x, place.y, kinds[event.key] ?? "move");
  });
  return place;
};

// Selects and sliders with labels. choices: name -> {label, value, options} or {label,
// value, min, max, step}; changed(name) is called when the reader changes one.
GenLab.controls = (parent, choices, changed) => {
  const row = GenLab.element("div", parent, { className: "controls" });
  for (const [name, choice] of Object.entries(choices)) {
    const label = GenLab.element("label", row, { textContent: choice.label });
    if (choice.options) {
      choice.field = GenLab.element("select", label);
      for (const option of choice.options) {
        GenLab.element("option", choice.field, {
          textContent: option,
          value: option,
        });
      }
    } else {
      const { min, max, step } = choice;
      choice.field = GenLab.element("input", label, {
        type: "number",
        min,
        max,
        step,
      });
    }
    choice.field.setAttribute("aria-label", choice.label);
    choice.field.value = choice.value;
    choice.field.addEventListener("change", () => {
      const { value, min, max } = choice.field;
      const number = Math.min(+max, Math.max(+min, Number(value) || 0));
      choice.value = choice.options ? value : number;
      choice.field.value = choice.value;
      changed(name);
    });
  }
  return row;
};

// Buttons in a row: label -> action.
GenLab.buttons = (parent, actions) => {
  const row = GenLab.element("div", parent, { className: "buttons" });
  return Object.entries(actions).map(([label, action]) => {
    const button = GenLab.element("button", row, {
      textContent: label,
      type: "button",
    });
    button.addEventListener("click", action);
    return button;
  });
};

// Call step(slow) again and again until it returns false: at a reader's pace if the box
// beside the button says so, or if the reader asks the system for less motion.
GenLab.player = (parent, button, step) => {
  const label = GenLab.element("label", parent, { textContent: "slow " });
  const box = GenLab.element("input", label, { type: "checkbox" });
  let timer = null;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const stop = () => {
    clearTimeout(timer);
    timer = null;
    button.textContent = "Run";
  };
  const go = () => {
    const slow = box.checked || calm.matches;
    timer = setTimeout(go, slow ? 900 : 60);
    if (!step(slow)) stop();
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Pause";
    go();
  });
  return stop;
};

// What is read out: at most once in a second and a half, the last message always.
GenLab.readout = (parent) => {
  const line = GenLab.element("p", parent, { className: "readout" });
  const spoken = GenLab.element("p", parent, { className: "spoken" });
  spoken.setAttribute("aria-live", "polite");
  let timer = null;
  return (message) => {
    line.textContent = message;
    timer ??= setTimeout(() => {
      timer = null;
      spoken.textContent = line.textContent;
    }, 1500);
  };
};

// The state of a widget in the address: #name?key=value&key=value
GenLab.fromAddress = (name) => {
  const [where, query] = location.hash.slice(1).split("?");
  return where === name ? Object.fromEntries(new URLSearchParams(query)) : {};
};
GenLab.toAddress = (name, state) => {
  history.replaceState(null, "", `#${name}?${new URLSearchParams(state)}`);
};
GenLab.restore = (choices, state) => {
  for (const [name, choice] of Object.entries(choices)) {
    const { options, min, max } = choice;
    const value = options ? state[name] : Number(state[name] ?? NaN);
    if (options ? options.includes(value) : value >= min && value <= max) {
      choice.value = value;
    }
  }
};

// A script of the site, once: resolves when it has run. Scripts load from file://, too.
GenLab.script = (source) =>
  new Promise((resolve, reject) => {
    const tag = GenLab.element("script", document.head, { src: source });
    tag.onload = resolve;
    tag.onerror = () => reject(new Error(`${source} could not be loaded`));
  });

// Numbers of an export: little-endian float16, row by row, in base64.
GenLab.unpack = ({ shape, float16 }) => {
  const bytes = Uint8Array.from(atob(float16), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const numbers = new Float64Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) {
    const bits = view.getUint16(2 * i, true);
    const [power, part] = [(bits >> 10) & 31, bits & 1023];
    const size = power ? (1 + part / 1024) * 2 ** (power - 15) : part * 2 ** -24;
    numbers[i] = bits >> 15 ? -size : size;
  }
  return { shape, numbers };
};

// Build each widget when it comes near the view, and again when a link sets its state.
if (globalThis.document) {
  const stops = new Map(); // what ends the widget that stands in a host now
  const build = (host) => {
    stops.get(host)?.();
    host.replaceChildren();
    stops.set(host, GenLab.widgets[host.dataset.widget](host));
  };
  const asked = () => {
    const host = document.getElementById(location.hash.slice(1).split("?")[0]);
    return host?.dataset.widget && location.hash.includes("?") ? host : null;
  };
  document.addEventListener("DOMContentLoaded", () => {
    const watch = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          watch.unobserve(target);
          if (!stops.has(target)) build(target);
        }
      },
      { rootMargin: "400px" },
    );
    document.querySelectorAll("[data-widget]").forEach((it) => watch.observe(it));
    asked()?.scrollIntoView();
    for (const link of document.querySelectorAll("a[data-state]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        location.hash = `${link.getAttribute("href")}?${link.dataset.state}`;
      });
    }
    addEventListener("hashchange", () => {
      const host = asked();
      if (!host) return;
      build(host);
      host.scrollIntoView();
    });
  });
}
