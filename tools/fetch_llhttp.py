#!/usr/bin/env python3
"""Puts the C sources of llhttp into subprojects/, for distributions that have no llhttp >= 9.2.1 (Debian 12).

They come out of the source package of `llhttp` for Python, which carries them unchanged, by way of pip.
pip compares the package with the checksum below before it unpacks or runs any of it; nothing is installed.
Does nothing, and needs no network, where the sources are already in place.

    tools/fetch_llhttp.py [--force]
"""

import hashlib
import importlib.util
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

VERSION = "9.3.0"
PACKAGE = "llhttp==9.3.0.0"
SHA256 = "0d989363e7fb6f270b9d49956e7a3945c26778f8c70a166815264309ac6a8295"

# Name in the package → name in subprojects/llhttp-VERSION, which is the layout of llhttp's own release.
FILES = {
    "lib/api.c": "src/api.c",
    "lib/http.c": "src/http.c",
    "lib/llhttp.c": "src/llhttp.c",
    "lib/llhttp.h": "include/llhttp.h",
    "LICENSE": "LICENSE-python-package",
}

SUBPROJECTS = pathlib.Path(__file__).resolve().parent.parent / "subprojects"


def python_with_pip():
    """Debian's python3 has Debian's pip; a python3 found earlier on the PATH may have none."""
    for python in ("/usr/bin/python3", sys.executable, "python3"):
        found = shutil.which(python)
        if (
            found
            and subprocess.run(
                [found, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        ):
            return found
    sys.exit("fetch_llhttp: no python3 with pip (Debian: apt-get install python3-pip)")


def download(into):
    """The package as bytes, its checksum verified."""
    requirements = into / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    command = [
        python_with_pip(),
        "-m",
        "pip",
        "download",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--no-build-isolation",
        "--dest",
        str(into),
        "-r",
        str(requirements),
    ]
    result = subprocess.run(
        command,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    archives = list(into.glob("*.tar.gz"))
    if result.returncode != 0 or len(archives) != 1:
        sys.exit(f"fetch_llhttp: pip could not download {PACKAGE}:\n{result.stdout}")
    data = archives[0].read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"fetch_llhttp: {archives[0].name} has not the expected checksum; nothing was unpacked")
    return data


def unpack(archive, target):
    """Only the files of the list, so no path inside the archive decides where anything is written."""
    prefix = PACKAGE.replace("==", "-") + "/"
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for inside, outside in FILES.items():
            destination = target / outside
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_bytes(tar.extractfile(prefix + inside).read())


def main():
    target = SUBPROJECTS / f"llhttp-{VERSION}"
    packagefiles = SUBPROJECTS / "packagefiles" / "llhttp"
    if "--force" in sys.argv[1:] or not (target / "src" / "llhttp.c").exists():
        with tempfile.TemporaryDirectory(dir=SUBPROJECTS, prefix=".llhttp-") as temporary:
            download_dir = pathlib.Path(temporary)
            complete = download_dir / "complete"
            unpack(download(download_dir), complete)
            shutil.rmtree(target, ignore_errors=True)
            complete.rename(target)  # whole or not at all, even when interrupted
    # Always: an old checkout may hold the sources with an older build file.
    for source in packagefiles.iterdir():
        wanted, copy = source.read_bytes(), target / source.name
        if not copy.exists() or copy.read_bytes() != wanted:
            copy.write_bytes(wanted)


if __name__ == "__main__":
    main()
