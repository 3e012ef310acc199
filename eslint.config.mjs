// How the site's scripts are checked; `make lint` runs it.
const names = `GenLab genlabData genlabResults addEventListener document window location history matchMedia atob
  devicePixelRatio ResizeObserver MutationObserver IntersectionObserver OffscreenCanvas
  Image ImageData getComputedStyle setTimeout clearTimeout URLSearchParams`;

export default [
  {
    files: ["book/_static/*.js", "book/_static/widgets/*.js"],
    languageOptions: {
      sourceType: "script",
      globals: Object.fromEntries(names.split(/\s+/).map((name) => [name, "readonly"])),
    },
    rules: { eqeqeq: "error", "no-undef": "error", "no-unused-vars": "error" },
  },
];
