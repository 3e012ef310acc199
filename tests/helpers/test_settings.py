"""The variables and the settings: what is allowed, and that nothing else is."""

import os
from dataclasses import dataclass

import platformdirs
import pytest
import torch

from genlab_helpers import settings
from genlab_helpers.settings import PROFILES, VARIABLES, Settings, profile

BAD = ["GENLAB_PROFIL=smoke", "GENLAB_PROFILE=Smoke", "GENLAB_PROFILE=smoke,full"]
BAD += ["GENLAB_DEVICE=gpu", "GENLAB_DEVICE=cuda:-1", "GENLAB_DEVICE=cuda:01"]
BAD += [f"GENLAB_{name}={__file__}" for name in ("DATA", "RUNS")]
BAD += ["GENLAB_DATA=~no-such-user-here/sets"]


@dataclass(frozen=True, kw_only=True)
class Chapter(Settings):
    epochs: int = 10
    restarts: int = 5


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_allowed_is_refused_with_the_list(monkeypatch, bad):
    name, value = bad.split("=")
    monkeypatch.setenv(name, value)
    for check in (settings.check_environment, profile, settings.data_folder):
        with pytest.raises(settings.SettingsError) as caught:
            check()
        assert all(w in str(caught.value) for w in (name, *VARIABLES, *PROFILES))
        assert name == "GENLAB_PROFIL" or repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["GENLAB_PROFIL", *VARIABLES])
def test_blank_counts_as_unset(monkeypatch, name):
    monkeypatch.setenv(name, "  ")
    assert profile() in ("laptop", "full")
    assert settings.data_folder() == settings.cache_folder()


CHOICES = [
    *(("smoke ", "", True, "smoke"), ("laptop", "cuda", True, "laptop")),
    *(("full", "", False, "full"), ("", "", True, "full")),
    *(("", "", False, "laptop"), ("", "cpu", True, "laptop")),
    *(("", "mps", True, "laptop"), ("", "cuda:12 ", True, "full")),
]


@pytest.mark.parametrize(("chosen", "device", "cuda", "expected"), CHOICES)
def test_what_decides_on_the_profile(monkeypatch, chosen, device, cuda, expected):
    monkeypatch.setenv("GENLAB_PROFILE", chosen)
    monkeypatch.setenv("GENLAB_DEVICE", device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert profile() == expected


def test_the_data_folder_is_absolute_and_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for value, expected in (("sets", "sets"), ("~/sets ", "home/sets")):
        monkeypatch.setenv("GENLAB_DATA", value)
        assert settings.data_folder() == tmp_path / expected
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_is_the_systems_and_needs_no_home(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # on Linux
    assert settings.cache_folder() == platformdirs.user_cache_path("genlab", False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no home at all
    assert settings.cache_folder().is_absolute()


ACTIVE = [("smoke", (1, 5)), ("laptop", (10, 5)), ("full", (10, 20))]


@pytest.mark.parametrize(("active", "expected"), ACTIVE)
def test_a_profile_changes_only_what_it_lists(monkeypatch, active, expected):
    monkeypatch.setenv("GENLAB_PROFILE", active)
    cfg = Chapter.for_profile(smoke={"epochs": 1}, full={"restarts": 20})
    assert (cfg.profile, cfg.seed, cfg.epochs, cfg.restarts) == (active, 0, *expected)
    with pytest.raises(AttributeError):
        cfg.epochs = 3
    for where in ("smoke", "full"):  # an unknown field, in every profile
        with pytest.raises(settings.SettingsError, match=r"'x', only \['seed', 'ep"):
            Chapter.for_profile(**({"smoke": {}} | {where: {"x": 1}}))
