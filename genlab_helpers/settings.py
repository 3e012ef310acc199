"""Which profile is active, where data lies, and the base of a chapter's settings."""

import dataclasses
import os
import re
import tempfile
from pathlib import Path

import platformdirs

VARIABLES = {
    "GENLAB_PROFILE": "smoke, laptop or full (default: full with CUDA, else laptop)",
    "GENLAB_DATA": "the folder of the datasets (default: your account's cache folder)",
    "GENLAB_RUNS": "the folder of checkpoints, such as a mounted disk (default: runs/)",
    "GENLAB_DEVICE": "cpu, cuda, cuda:N or mps (default: cuda if it is there, or cpu)",
    "GENLAB_EXPORTS": "a folder for what pages show (the tool that runs it sets this)",
}
ALLOWED = "\n".join(f"  {name}: {text}" for name, text in VARIABLES.items())
PROFILES = ("smoke", "laptop", "full")


class SettingsError(ValueError):
    """An unknown GENLAB_* variable, a bad value, or a field that settings lack."""


def variable(name: str) -> str:
    """Return a GENLAB_* variable, without the spaces that Windows' `set` may add."""
    return os.environ.get(name, "").strip()


def check_environment() -> None:
    """Raise SettingsError for an unknown GENLAB_* variable or a bad value of one."""
    problem = ""
    for name in sorted(os.environ):
        if name.startswith("GENLAB_") and name not in VARIABLES and variable(name):
            problem = f"{name} is not a variable that GenLab knows."
    if (value := variable("GENLAB_PROFILE")) and value not in PROFILES:
        problem = f"GENLAB_PROFILE={value!r} is not a profile."
    value = variable("GENLAB_DEVICE")
    if value and not re.fullmatch(r"cpu|mps|cuda(:(0|[1-9]\d?\d?))?", value, re.ASCII):
        problem = f"GENLAB_DEVICE={value!r} is not a device."
    for name in ("GENLAB_DATA", "GENLAB_RUNS"):
        value = os.path.expanduser(variable(name))
        if value.startswith("~") or os.path.isfile(value):
            problem = f"{name}={value!r} is a file, or nobody's home, not a folder."
    if problem:
        raise SettingsError(f"{problem}\nThese variables are allowed:\n{ALLOWED}")


def data_folder() -> Path:
    """Return the absolute path that GENLAB_DATA names, or the cache folder."""
    check_environment()
    value = variable("GENLAB_DATA")
    return Path(value).expanduser().absolute() if value else cache_folder()


def cache_folder() -> Path:
    """Return GenLab's folder in the place that this system has for caches."""
    if not os.path.isabs(os.path.expanduser("~")):  # a container's user has no home
        return Path(tempfile.gettempdir(), "genlab")
    return platformdirs.user_cache_path("genlab", appauthor=False)


def profile() -> str:
    """Return "smoke", "laptop" or "full": GENLAB_PROFILE, or what the device suits."""
    check_environment()
    if chosen := variable("GENLAB_PROFILE"):
        return chosen
    import torch  # slow to import, and needed in this one case only

    device = variable("GENLAB_DEVICE") or ("cuda" * torch.cuda.is_available())
    return "full" if device.startswith("cuda") else "laptop"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Base class of a chapter's settings; defaults are the values in ``laptop``."""

    profile: str
    seed: int = 0

    @classmethod
    def for_profile(cls, *, smoke: dict, full: dict | None = None) -> "Settings":
        """Return the active profile's settings; the dicts say what differs in it."""
        changes = {"smoke": smoke, "laptop": {}, "full": full or {}}
        known = [field.name for field in dataclasses.fields(cls)][1:]  # but for profile
        for name in {**smoke, **changes["full"]}.keys() - known:  # in any profile
            raise SettingsError(f"{cls.__name__} has no field {name!r}, only {known}")
        return cls(profile=profile(), **changes[profile()])
