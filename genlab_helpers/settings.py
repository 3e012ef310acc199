"""Which profile is active, and the base class of a chapter's settings.

Nothing here imports torch before it has to, so that tools can read the
environment in an instant.
"""

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PROFILES = ("smoke", "laptop", "full")

VARIABLES = {
    "GENLAB_PROFILE": "how much to compute: smoke, laptop or full "
    "(default: full with CUDA, else laptop)",
    "GENLAB_DATA": "the folder that holds the datasets, torchvision's layout "
    "(default: a cache folder of your user account)",
    "GENLAB_DEVICE": "where to compute: cpu, cuda, cuda:N (N = 0, 1, ...) or mps "
    "(default: the first of cuda, mps, cpu that is there)",
    "GENLAB_EXPORTS": "a folder for the arrays that pages show "
    "(set by the tool that runs a chapter; nobody else needs it)",
}

DEVICE_PATTERN = re.compile(r"cpu|mps|cuda(:(0|[1-9][0-9]{0,2}))?")


class SettingsError(ValueError):
    """A setting that cannot be honoured; the message says what is allowed."""


def variable(name: str) -> str:
    """Return the value of a GENLAB_* variable, "" if it is unset or empty.

    Spaces around the value do not count: ``set NAME=value && command`` on
    Windows leaves one behind.
    """
    return os.environ.get(name, "").strip()


def check_environment() -> None:
    """Check every GENLAB_* variable: its name and its value.

    Raises:
        SettingsError: for an unknown name or a bad value; the message lists
            what is allowed.
    """
    for name in sorted(os.environ):
        if name.startswith("GENLAB_") and name not in VARIABLES and variable(name):
            raise _refusal(f"{name} is not a variable that GenLab knows.")
    profile_name, device = variable("GENLAB_PROFILE"), variable("GENLAB_DEVICE")
    if profile_name and profile_name not in PROFILES:
        raise _refusal(f"GENLAB_PROFILE={profile_name!r} is not a profile.")
    if device and not DEVICE_PATTERN.fullmatch(device):
        raise _refusal(f"GENLAB_DEVICE={device!r} is not a device.")
    _check_data_path()


def data_path() -> Path | None:
    """Return the folder named by GENLAB_DATA as an absolute path, or None.

    ``~`` is expanded; a relative path starts at the current directory.
    """
    value = variable("GENLAB_DATA")
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise _refusal(f"GENLAB_DATA={value!r} is not a folder: {error}") from error


def profile() -> str:
    """Return the active profile: "smoke", "laptop" or "full".

    GENLAB_PROFILE decides. Without it the profile is "full" where the work will
    be done with CUDA and "laptop" everywhere else.

    Raises:
        SettingsError: if the environment is not in order.
    """
    check_environment()
    chosen, device = variable("GENLAB_PROFILE"), variable("GENLAB_DEVICE")
    if chosen:
        return chosen
    if device:
        return "full" if device.startswith("cuda") else "laptop"
    import torch  # slow to import, and needed in this one case only

    return "full" if torch.cuda.is_available() else "laptop"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of a chapter's settings: one frozen dataclass a chapter.

    A field's default is its value in the ``laptop`` profile.
    """

    profile: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            allowed = ", ".join(PROFILES)
            raise SettingsError(f"no profile {self.profile!r}; there are {allowed}")

    @classmethod
    def for_profile(
        cls, *, smoke: dict[str, Any], full: dict[str, Any] | None = None
    ) -> Self:
        """Build the settings of the active profile.

        Args:
            smoke: the fields that differ from the defaults in ``smoke``.
            full: the fields that differ from the defaults in ``full``.

        Raises:
            SettingsError: if either dict names an unknown field, whichever
                profile is active, or if the environment is not in order.
        """
        changes = {"smoke": smoke, "laptop": {}, "full": full or {}}
        known = [f.name for f in dataclasses.fields(cls) if f.name != "profile"]
        for where, values in changes.items():
            for name in values:
                if name not in known:
                    raise SettingsError(
                        f"{cls.__name__} has no field {name!r} (in {where}=...). "
                        f"Known fields: {', '.join(known)}."
                    )
        active = profile()
        return cls(profile=active, **changes[active])

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as a plain dict, in the order of their definition."""
        return dataclasses.asdict(self)


def _check_data_path() -> None:
    folder = data_path()
    if folder is not None and folder.exists() and not folder.is_dir():
        raise _refusal(
            f"GENLAB_DATA={variable('GENLAB_DATA')!r} is a file, not a folder; "
            "name the folder that holds (or shall hold) MNIST/raw."
        )


def _refusal(problem: str) -> SettingsError:
    allowed = "\n".join(f"  {name}: {text}" for name, text in VARIABLES.items())
    return SettingsError(f"{problem}\nThese variables are allowed:\n{allowed}")
