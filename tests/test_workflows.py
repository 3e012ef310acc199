"""The workflows are valid, least-privileged and pinned."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sysconfig.get_path("scripts"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def lint(tool: str, *arguments: str) -> None:
    """Run a linter of this environment; its report is the failure message."""
    done = subprocess.run(
        [SCRIPTS / tool, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def jobs(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def test_the_three_workflows_are_there():
    assert [path.stem for path in WORKFLOWS] == ["ci", "nightly", "publish"]


def test_workflows_fit_their_schema():
    names = [str(path) for path in WORKFLOWS]
    lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *names)


def test_dependabot_fits_its_schema():
    path = ".github/dependabot.yml"
    lint("check-jsonschema", "--builtin-schema", "vendor.dependabot", path)


def test_zizmor_finds_nothing():
    lint("zizmor", "--offline", "--min-severity", "medium", ".github")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_hash_with_its_version(path):
    uses = re.findall(r"uses:\s*(.+)", path.read_text(encoding="utf-8"))
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_rights_are_given_per_job_and_every_job_ends(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        assert "permissions" in job, name


def test_only_two_jobs_may_write():
    writing = {
        (path.stem, name): {
            right for right, level in job["permissions"].items() if level == "write"
        }
        for path in WORKFLOWS
        for name, job in jobs(path).items()
    }
    assert {key: rights for key, rights in writing.items() if rights} == {
        ("publish", "deploy"): {"pages", "id-token"},
        ("nightly", "report"): {"issues"},
    }


def test_publishing_goes_through_the_gate():
    publish = jobs(ROOT / ".github" / "workflows" / "publish.yml")
    commands = [step["run"] for step in publish["build"]["steps"] if "run" in step]
    assert commands == ["make book"]
    assert publish["deploy"]["needs"] == "build"


def test_ci_runs_the_readmes_test_command():
    test = jobs(ROOT / ".github" / "workflows" / "ci.yml")["test"]
    assert [step["run"] for step in test["steps"] if "run" in step] == [".ci/run"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().endswith("\nmake test")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
