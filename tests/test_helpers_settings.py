import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genlab_helpers import settings
from genlab_helpers.settings import (
    PROFILES,
    VARIABLES,
    Settings,
    SettingsError,
    check_environment,
    data_path,
    profile,
)


@dataclass(frozen=True, kw_only=True)
class Chapter(Settings):
    epochs: int = 10
    restarts: int = 5


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("GENLAB_"):
            monkeypatch.delenv(name)


def refused(*words):
    with pytest.raises(SettingsError) as caught:
        check_environment()
    for word in (*words, *VARIABLES, *PROFILES):
        assert word in str(caught.value)


def test_the_variables_are_exactly_these():
    assert set(VARIABLES) == {
        *("GENLAB_PROFILE", "GENLAB_DATA", "GENLAB_DEVICE", "GENLAB_EXPORTS")
    }
    assert PROFILES == ("smoke", "laptop", "full")


def test_unknown_variable_is_refused_with_the_list(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFIL", "smoke")
    refused("GENLAB_PROFIL ")


@pytest.mark.parametrize("name", ["GENLAB_PROFIL", *VARIABLES])
@pytest.mark.parametrize("value", ["", "  "])
def test_empty_counts_as_unset(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    check_environment()
    assert data_path() is None
    assert profile() in ("laptop", "full")


@pytest.mark.parametrize("value", ["Smoke", "fast", "smoke,full"])
def test_bad_profile_is_refused(monkeypatch, value):
    monkeypatch.setenv("GENLAB_PROFILE", value)
    refused(repr(value))
    with pytest.raises(SettingsError):
        profile()


@pytest.mark.parametrize(
    "value", ["gpu", "CPU", "cuda:", "cuda:-1", "cuda:01", "mps:0"]
)
def test_bad_device_is_refused(monkeypatch, value):
    monkeypatch.setenv("GENLAB_DEVICE", value)
    refused(repr(value))


@pytest.mark.parametrize("value", ["cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_good_device_passes(monkeypatch, value):
    monkeypatch.setenv("GENLAB_DEVICE", value)
    check_environment()


@pytest.mark.parametrize("value", PROFILES)
def test_profile_variable_decides(monkeypatch, value):
    monkeypatch.setenv("GENLAB_PROFILE", f"{value} ")  # as `set X=y && z` leaves it
    monkeypatch.setattr(torch.cuda, "is_available", lambda: value != "full")
    assert profile() == value


@pytest.mark.parametrize(
    ("device", "cuda", "expected"),
    [
        ("", True, "full"),
        ("", False, "laptop"),
        ("cpu", True, "laptop"),
        ("mps", True, "laptop"),
        ("cuda:1", True, "full"),
    ],
)
def test_default_profile_follows_the_device(monkeypatch, device, cuda, expected):
    monkeypatch.setenv("GENLAB_DEVICE", device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert profile() == expected


def test_a_set_profile_does_not_import_torch():
    code = (
        "import sys; from genlab_helpers import settings; settings.profile(); "
        "sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"GENLAB_PROFILE": "laptop"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_relative_data_folder_starts_at_the_current_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("GENLAB_DATA", "sets")
    monkeypatch.chdir(tmp_path)
    assert data_path() == tmp_path / "sets"
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir("deeper")
    assert data_path() == tmp_path / "deeper" / "sets"


def test_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GENLAB_DATA", "~/sets")
    assert data_path() == tmp_path / "sets"


def test_unknown_user_in_the_data_folder_is_refused(monkeypatch):
    monkeypatch.setenv("GENLAB_DATA", "~no-such-user-here/sets")
    refused("~no-such-user-here")


def test_data_folder_that_is_a_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "sets").write_text("not a folder")
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "sets"))
    refused("is a file", "MNIST/raw")


def test_data_folder_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "not yet"))
    check_environment()
    assert not Path(tmp_path / "not yet").exists()


@pytest.mark.parametrize(
    ("active", "expected"), [("smoke", (1, 5)), ("laptop", (10, 5)), ("full", (10, 20))]
)
def test_a_profile_changes_only_what_it_lists(monkeypatch, active, expected):
    monkeypatch.setenv("GENLAB_PROFILE", active)
    cfg = Chapter.for_profile(smoke={"epochs": 1}, full={"restarts": 20})
    assert (cfg.epochs, cfg.restarts) == expected
    assert cfg.as_dict() == {
        "profile": active,
        "seed": 0,
        "epochs": expected[0],
        "restarts": expected[1],
    }


def test_full_defaults_to_the_laptop_values(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "full")
    assert Chapter.for_profile(smoke={}) == Chapter(profile="full")


@given(
    name=st.text(max_size=12).filter(lambda s: s not in ("seed", "epochs", "restarts")),
    where=st.sampled_from(["smoke", "full"]),
    active=st.sampled_from(PROFILES),
)
def test_unknown_field_is_refused_in_every_profile(name, where, active):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLAB_PROFILE", active)
        changes = {"smoke": {}, "full": {}} | {where: {name: 1}}
        with pytest.raises(SettingsError) as caught:
            Chapter.for_profile(**changes)
    for word in (repr(name), where, "seed, epochs, restarts"):
        assert word in str(caught.value)


def test_settings_are_frozen_and_their_profile_is_checked():
    cfg = Chapter(profile="smoke")
    with pytest.raises(AttributeError):
        cfg.epochs = 3
    with pytest.raises(SettingsError, match="smoke, laptop, full"):
        Chapter(profile="lptop")


@given(st.text(alphabet="cpudamsx:0123456789", max_size=8))
def test_a_device_that_passes_is_one_torch_can_read(text):
    if settings.DEVICE_PATTERN.fullmatch(text):
        assert torch.device(text.partition(":")[0]).type == text.partition(":")[0]
    elif text in ("cpu", "cuda", "mps"):
        raise AssertionError(f"{text} must pass")
