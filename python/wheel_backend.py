"""Builds the wheel: maturin's build backend, with the library beside the package.

maturin puts either a library or programs into a wheel (its `bindings`). This wheel has the program `xbm-fast` by `bindings = "bin"`; the C
library, which cargo builds in the same run, is copied into the package first. Both are free of Python's ABI, so the wheel is
py3-none-<platform>.

XBM_FAST_CARGO_PROFILE names another profile of cargo than release: `dev` is what tests use.
"""

import json
import os
import pathlib
import shutil
import subprocess

import maturin
from maturin import build_sdist, get_requires_for_build_editable, get_requires_for_build_sdist, get_requires_for_build_wheel
from maturin import prepare_metadata_for_build_wheel

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "xbm_fast"
ENDINGS = (".so", ".dylib", ".dll")


def profile():
    return os.environ.get("XBM_FAST_CARGO_PROFILE", "release")


def stage_library():
    """Builds library and program as maturin will, which then finds them built, and copies the library into the package."""
    command = f"cargo build --locked --profile {profile()} --lib --bin xbm-fast --message-format json-render-diagnostics".split()
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    of_library = [
        message for message in messages if "cdylib" in message.get("target", {}).get("crate_types", []) and "filenames" in message
    ]
    libraries = [pathlib.Path(name) for message in of_library for name in message["filenames"] if name.endswith(ENDINGS)]
    if len(libraries) != 1:
        raise RuntimeError(f"expected cargo to build one library that ends in {' or '.join(ENDINGS)}, found {libraries}")
    for old in PACKAGE.iterdir():
        if old.suffix in ENDINGS:
            old.unlink()
    shutil.copy2(libraries[0], PACKAGE / libraries[0].name)


def with_profile(settings):
    """What pip passes on to maturin, with the profile."""
    return {"maturin.build-args": [*maturin.get_maturin_pep517_args(settings), "--profile", profile()]}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    stage_library()
    return maturin.build_wheel(wheel_directory, with_profile(config_settings), metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    stage_library()
    return maturin.build_editable(wheel_directory, with_profile(config_settings), metadata_directory)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
