"""What a run did and measured: written down as it happens, JSON in and out.

The run card that ends a chapter carries the record as data beside its HTML, so
that tests and the results page read the numbers from the published notebook.
"""

import json
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from genlab_helpers import exports, runtime
from genlab_helpers.card import RunCard
from genlab_helpers.metrics import to_numpy
from genlab_helpers.settings import variable

SCHEMA = 1
# What the run's end writes; everything else is known at its start or added on the way.
ENDING = ("seconds", "peak_memory_bytes", "peak_device_memory_bytes", "versions")
FIELDS = {
    *("schema", "chapter", "profile", "seed", "settings", "data", "machine", "date"),
    *("measurements", "series", "exports", "resumed_seconds"),
    *ENDING,
}


class RunRecord:
    """The facts of one run of one chapter; its clock starts at construction.

    chapter: name of the notebook, such as "01_kmeans". cfg: the chapter's settings.
    device: the torch.device of the run. Raises ValueError if a setting cannot be
    written as JSON (an infinite number, an object).
    """

    def __init__(self, chapter: str, cfg, device):
        self._started: float | None = time.perf_counter()
        self._device = device
        self._facts: dict[str, Any] = {
            "schema": SCHEMA,
            "chapter": chapter,
            "profile": cfg.profile,
            "seed": cfg.seed,
            "settings": _plain("The settings", cfg.as_dict()),
            "data": [],
            "machine": runtime.machine(device),
            "date": datetime.now(UTC).date().isoformat(),
            "measurements": [],
            "series": {},
            "exports": [],
            "resumed_seconds": 0.0,
        }

    def use(self, image_set) -> None:
        """Note where an `ImageSet` came from; noting it again changes nothing."""
        origin = _plain("The provenance of the data", image_set.provenance())
        if origin not in self._facts["data"]:
            self._facts["data"].append(origin)

    def resume(self, seconds: float) -> None:
        """Count the seconds of an earlier run that this one goes on from.

        They are added to the run's time, and the card says so. Raises ValueError, and
        changes nothing, for a number that is negative or not finite.
        """
        seconds = _number("The time of the earlier run", seconds)
        if seconds < 0:
            raise ValueError(f"The time of the earlier run must be >= 0, got {seconds}")
        self._facts["resumed_seconds"] += seconds

    def measure(
        self,
        name: str,
        value: float,
        *,
        unit: str = "",
        seeds: int | None = None,
        spread: float | None = None,
        floor: float | None = None,
        ceiling: float | None = None,
        note: str = "",
    ) -> None:
        """Write down one result, and what to compare it with.

        value: a finite number. seeds: how many seeds it is the mean of; spread: the
        standard deviation over them. floor and ceiling: the two ends of what can be
        expected (chance level, the score of real data). spread, floor and ceiling
        are in the unit of the value. Raises ValueError, and changes nothing, for a
        name used before, a number that is not finite, seeds < 1, spread < 0 or a
        spread without seeds.
        """
        for text in (name, unit, note):
            if not isinstance(text, str) or not name:
                raise ValueError(
                    "The name, unit and note of a measurement must be text, and the"
                    f" name not empty; got {name!r}, {unit!r}, {note!r}"
                )
        self._refuse_used(
            name, (entry["name"] for entry in self._facts["measurements"])
        )
        entry = {
            "name": name,
            "value": _number(f"The value of {name!r}", value),
            "unit": unit,
            "seeds": _optional(f"The seeds of {name!r}", seeds),
            "spread": _optional(f"The spread of {name!r}", spread),
            "floor": _optional(f"The floor of {name!r}", floor),
            "ceiling": _optional(f"The ceiling of {name!r}", ceiling),
            "note": note,
        }
        _check_spread(name, entry["seeds"], entry["spread"])
        self._facts["measurements"].append(entry)

    def measure_seeds(self, name: str, values, **options) -> None:
        """Write down the mean of one result a seed, and their standard deviation.

        values: (S,) finite numbers, S >= 1; one alone has no spread. options: those
        of `measure` but for seeds and spread.
        """
        numbers = [_number(f"A value of {name!r}", value) for value in values]
        if not numbers:
            raise ValueError(f"{name!r} has no value: give one for every seed")
        spread = statistics.stdev(numbers) if len(numbers) > 1 else None
        self.measure(
            name,
            statistics.fmean(numbers),
            seeds=len(numbers),
            spread=spread,
            **options,
        )

    def series(self, name: str, values) -> None:
        """Write down a number over time, such as a loss: (T,) finite numbers.

        Raises ValueError, and changes nothing, for a name used before or a number
        that is not finite.
        """
        self._refuse_used(name, self._facts["series"])
        self._facts["series"][name] = [
            _number(f"Number {step} of the series {name!r}", value)
            for step, value in enumerate(values)
        ]

    def export(self, name: str, arrays: dict[str, Any]) -> None:
        """Keep arrays for the page that shows this chapter, and note their digest.

        name: such as "code_map". arrays: label -> tensor or array of numbers, which
        are rounded to float16. A file is written only where the maintainer's tool
        runs the chapter outside ``smoke``; see `genlab_helpers.exports` for its form.
        Raises ValueError, and changes nothing, for a name used before or what
        `exports.script` refuses.
        """
        file_name = f"{name}.js"
        self._refuse_used(file_name, (e["file"] for e in self._facts["exports"]))
        content = exports.script(
            self._facts["chapter"],
            name,
            {label: to_numpy(values) for label, values in arrays.items()},
        )
        if (place := variable("GENLAB_EXPORTS")) and self._facts["profile"] != "smoke":
            (Path(place) / file_name).write_bytes(content)
        self._facts["exports"].append(
            {"file": file_name, "sha256": exports.digest(content)}
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a copy in plain types; while the run goes on, its time so far."""
        return json.loads(json.dumps(self._facts | self._ending()))

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Self:
        """Rebuild a finished record; ValueError if `facts` has another layout."""
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            raise ValueError(f"This is not a run record of schema {SCHEMA}")
        if odd := FIELDS ^ set(facts):
            raise ValueError(
                f"The run record lacks or does not know: {', '.join(sorted(odd))}"
            )
        record = cls.__new__(cls)
        record._started = record._device = None
        record._facts = _plain("The run record", facts)
        return record

    def to_json(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a record from `to_json` text; ValueError if it is not one."""
        return cls.from_dict(json.loads(text))

    def card(self) -> RunCard:
        """Stop the clock and return the run card, to be the last line of a cell."""
        self._facts |= self._ending()
        self._started = None
        return RunCard(self.to_dict())

    def _ending(self) -> dict[str, Any]:
        if self._started is None:
            return {}
        ending = (
            round(
                time.perf_counter() - self._started + self._facts["resumed_seconds"], 3
            ),
            runtime.peak_memory(),
            runtime.peak_device_memory(self._device),
            runtime.versions(),
        )
        return dict(zip(ENDING, ending, strict=True))

    @staticmethod
    def _refuse_used(name: str, used) -> None:
        if name in used:
            raise ValueError(
                f"{name!r} is already in the record; choose another name, or go back"
                " to the cell that makes the record and run on from there"
            )


def _plain(what: str, value):
    """Return value as JSON gives it back (tuples become lists); else ValueError."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written as JSON: {error}") from None


def _number(what: str, value) -> int | float:
    """Return a number, NumPy scalar or one-number tensor as a finite int or float."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be one int or float, got {value!r}")
    if not abs(value) <= sys.float_info.max:  # so that NaN is refused too
        raise ValueError(
            f"{what} is not a finite number ({value}); find out where it came from"
            " before writing it down"
        )
    return value


def _optional(what: str, value) -> int | float | None:
    return None if value is None else _number(what, value)


def _check_spread(name: str, seeds, spread) -> None:
    if seeds is not None and (not isinstance(seeds, int) or seeds < 1):
        raise ValueError(f"The seeds of {name!r} must be a count >= 1, got {seeds}")
    if spread is not None and (spread < 0 or seeds is None):
        raise ValueError(
            f"The spread of {name!r} must be >= 0 and come with its number of seeds;"
            f" got spread={spread}, seeds={seeds}"
        )
