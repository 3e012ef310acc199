"""What a run did and measured, written down as it happens; its card ends a chapter.

The card carries the record as data beside what it shows, so that tests, the results
page and numbers in sentences are read from the published notebook.
"""

import base64
import hashlib
import io
import json
import re
import statistics
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image
from torch.cuda import max_memory_allocated

from genlab_helpers import runtime
from genlab_helpers.metrics import checked, to_numpy
from genlab_helpers.settings import variable
from genlab_helpers.tables import number_text, table

MIME = "application/vnd.genlab.record+json"
LARGEST = 2_000_000  # bytes of an export


class RunRecord:
    """The facts of one run of one chapter; its clock starts at construction.

    chapter: name of the notebook, such as "01_kmeans". cfg: the chapter's settings.
    device: the torch.device of the run. What is not one finite number, and a name used
    before, raises ValueError and changes nothing.
    """

    def __init__(self, chapter: str, cfg, device):
        self._started, self._device = time.perf_counter(), device
        settings = json.loads(json.dumps(asdict(cfg), allow_nan=False))
        facts = {"schema": 1, "chapter": chapter, "profile": cfg.profile}
        facts |= {"seed": cfg.seed, "settings": settings, "data": []}
        facts |= {"machine": runtime.machine(device), "measurements": []}
        facts |= {"date": datetime.now(UTC).date().isoformat(), "series": {}}
        self._facts = facts | {"exports": [], "resumed_seconds": 0.0}

    def use(self, origin) -> None:
        """Note the `Origin` of data or weights; noting it again changes nothing."""
        if (facts := origin.facts()) not in self._facts["data"]:
            self._facts["data"].append(facts)

    def resume(self, seconds: float) -> None:
        """Add the seconds of an earlier run that this one goes on from."""
        self._facts["resumed_seconds"] += _number("The earlier run's time", seconds)

    def measure(
        self, name, value, *, unit="", note="", seeds=None, spread=None, **ends
    ) -> None:
        """Write down one result, and what to compare it with.

        seeds: how many seeds the value is the mean of; spread: the standard deviation
        over them. ends: floor and ceiling, the two ends of what can be expected
        (chance level, the score of real data). All but seeds in the unit of the value.
        """
        _refuse_used(name, [entry["name"] for entry in self._facts["measurements"]])
        numbers = {"value": value, "seeds": seeds, "spread": spread}
        numbers |= {"floor": None, "ceiling": None} | ends
        if len(numbers) > 5:
            raise TypeError(f"measure knows the ends floor and ceiling, not {[*ends]}")
        for key, number in numbers.items():
            if number is not None or key == "value":
                numbers[key] = _number(f"The {key} of {name!r}", number)
        if (seeds or 1) < 1 or (spread is not None and (not seeds or spread < 0)):
            raise ValueError(f"{name!r} needs seeds >= 1 for a spread, which is >= 0")
        texts = {"name": name, "unit": str(unit), "note": str(note)}
        self._facts["measurements"].append(texts | numbers)

    def measure_seeds(self, name: str, values, **options) -> None:
        """Write down the mean and the standard deviation of (S,) results, one a seed.

        One alone has no deviation. options: those of `measure`.
        """
        numbers = [_number(f"A value of {name!r}", value) for value in values]
        options["spread"] = statistics.stdev(numbers) if len(numbers) > 1 else None
        self.measure(name, statistics.fmean(numbers), seeds=len(numbers), **options)

    def series(self, name: str, values) -> None:
        """Write down a number over time, such as a loss: (T,) finite numbers."""
        _refuse_used(name, self._facts["series"])
        numbers = [_number(f"Number {i} of {name!r}", v) for i, v in enumerate(values)]
        self._facts["series"][name] = numbers

    def export(self, name: str, arrays: dict) -> None:
        """Keep arrays for the page that shows this chapter, and note their digest.

        arrays: label -> tensor or array, rounded to float16, or a Pillow image. A
        script, name.js, sets ``genlabData["<chapter>/<name>"]`` to the arrays' shapes
        and numbers, little-endian, row by row, and to the images, as JPEG if they are
        RGB, else as PNG, all in base64; at most 2 MB, and not in ``smoke``.
        """
        file = f"{name}.js"
        _refuse_used(file, [old["file"] for old in self._facts["exports"]])
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not arrays:
            raise ValueError(f"An export has arrays and a lower-case name: {name!r}?")
        packed = {}
        for label, values in arrays.items():
            if isinstance(values, Image.Image):
                form = "jpeg" if values.mode == "RGB" else "png"
                values.save(encoded := io.BytesIO(), form, optimize=True, quality=85)
                packed[label] = {form: base64.b64encode(encoded.getvalue()).decode()}
                continue
            array = to_numpy(values)
            if not array.size or not (abs(array) <= 65_504).all():  # nor NaN
                raise ValueError(f"{label} is empty or holds what float16 cannot hold")
            text = base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")
            packed[label] = {"shape": list(array.shape), "float16": text}
        place = json.dumps(f"{self._facts['chapter']}/{name}")
        content = json.dumps(packed, separators=(",", ":"))
        script = f"(globalThis.genlabData ??= {{}})[{place}] = {content};\n".encode()
        if len(script) > LARGEST:
            raise ValueError(f"The export {name!r} has over {LARGEST} bytes")
        if (folder := variable("GENLAB_EXPORTS")) and self._facts["profile"] != "smoke":
            Path(folder, file).write_bytes(script)
        sha256 = hashlib.sha256(script).hexdigest()
        self._facts["exports"].append({"file": file, "sha256": sha256})

    def to_dict(self) -> dict:
        """Return a copy in plain types; while the run goes on, its time so far."""
        if self._started is not None:
            seconds = time.perf_counter() - self._started
            on_gpu = self._device.type == "cuda"
            device_memory = max_memory_allocated(self._device) if on_gpu else None
            self._facts |= {
                "seconds": round(seconds + self._facts["resumed_seconds"], 3),
                "peak_memory_bytes": runtime.peak_memory(),
                "peak_device_memory_bytes": device_memory,
                "versions": runtime.versions(),
            }
        return json.loads(json.dumps(self._facts))

    def card(self):
        """Stop the clock; as the last line of a cell this shows the run card."""
        self.to_dict()
        self._started = None
        return self

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        facts = self.to_dict()
        tables = [_plain(("Run card", facts["chapter"]), *_how(facts))]
        if results := [_result(entry) for entry in facts["measurements"]]:
            headings = ("Measurement", "Value", "Unit", "Floor", "Ceiling", "Note")
            tables.append(_plain(headings, *results))
        text = "\n\n".join(table(head, rows).data for head, *rows in tables)
        return {"text/markdown": text, "text/plain": "Run card", MIME: facts}


def _plain(*rows) -> list[list[str]]:
    """Return rows with what Markdown would take for markup escaped."""
    return [[re.sub(r"([\\`*_\[\]<>|$~&{}])", r"\\\1", x) for x in row] for row in rows]


def _refuse_used(name: str, used) -> None:
    if not isinstance(name, str) or not name or name in used:
        remedy = "choose another, or run on from the cell that makes the record"
        raise ValueError(f"{name!r} is no name or already in the record; {remedy}")


def _number(what: str, value) -> int | float:
    """Return a number, NumPy scalar or one-number tensor as a finite int or float."""
    value = value.item() if getattr(value, "ndim", None) == 0 else value
    checked(what, value, kinds="iuf")
    return value


def _how(facts: dict) -> list[tuple[str, str]]:
    """Return the rows that say how the chapter was run, and on what."""
    keys = ("seconds", "resumed_seconds")
    seconds, earlier = (timedelta(seconds=round(facts[key])) for key in keys)
    again = f", {earlier} of it before a restart" if earlier else ""
    memory = f"{facts['peak_memory_bytes'] / 1e9:.2f} GB"
    if on_gpu := facts["peak_device_memory_bytes"]:
        memory += f", and {on_gpu / 1e9:.2f} GB on the GPU"
    use = "{name}, {split}, {count:,}, sha256 {sha256:.12}"
    on = "{device}, {system}, Python {python}; {threads} threads, {instructions}"
    return [
        ("Ran on", f"{on}, autocast in {{precision}}".format(**facts["machine"])),
        *(("Data", use.format(**entry)) for entry in facts["data"]),
        ("Profile, seed, date", "{profile}, {seed}, {date}".format(**facts)),
        ("Time, h:m:s", f"{seconds}{again}"),
        ("Peak memory", memory),
        ("Versions", ", ".join(map(" ".join, facts["versions"].items()))),
    ]


def _result(entry: dict) -> tuple[str, ...]:
    value, seeds = number_text(entry["value"], entry["spread"]), entry["seeds"]
    value += f" ({seeds} seed{'s' * (seeds > 1)})" if seeds else ""
    ends = [number_text(entry[key]) for key in ("floor", "ceiling")]
    return (entry["name"], value, entry["unit"], *ends, entry["note"])
