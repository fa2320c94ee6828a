# SPDX-License-Identifier: Apache-2.0
"""Builds the native half with CMake and packs the Python half around it.

The environment variables `SSDOPS_WITH_TENSORFLOW`, `SSDOPS_WITH_NUMPY`,
`SSDOPS_WITH_CUDA` and `SSDOPS_WITH_XLA` (AUTO, ON or OFF), `SSDOPS_SANITIZE`,
`SSDOPS_WERROR`, `CMAKE_BUILD_TYPE` and `CMAKE_ARGS` reach CMake.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# The one pin. The op library is bound to this minor version of TensorFlow, so the
# same requirement holds for the build and for the installed package.
TENSORFLOW = "tensorflow>=2.21,<2.22"

SWITCHES = ("TENSORFLOW", "NUMPY", "CUDA", "XLA")
ROOT = Path(__file__).resolve().parent


def switch(name: str) -> str:
    """Value of a tri-state build switch from the environment."""
    value = os.environ.get(f"SSDOPS_WITH_{name}", "AUTO").upper()
    if value not in ("AUTO", "ON", "OFF"):
        raise SystemExit(f"SSDOPS_WITH_{name} must be AUTO, ON or OFF, got {value}")
    return value


class CMakeBuild(build_ext):
    """Configures, builds and installs the CMake project into the package."""

    def run(self) -> None:
        """Build into a persistent folder, so that a second build is incremental."""
        if self.inplace or getattr(self, "editable_mode", False):
            package = ROOT / "ssdops"
            build = ROOT / "build" / "editable"
        else:
            package = Path(self.build_lib).resolve() / "ssdops"
            build = Path(self.build_temp).resolve() / "cmake"
        package.mkdir(parents=True, exist_ok=True)
        # Nothing of an earlier build with other switches may be packed.
        for stale in [*package.glob("*.so"), package / "_build_facts.json"]:
            stale.unlink(missing_ok=True)
        cmake = find_cmake()
        if cmake is None:
            self.give_up(package, "CMake was not found")
            return
        # CMake remembers these, whatever the environment says later.
        names = ("CC", "CXX", "CXXFLAGS", "CUDACXX", "CUDAARCHS", "CMAKE_ARGS")
        remembered = [os.environ.get(name, "") for name in names]
        discard_foreign_cache(build, " ".join([sys.executable, cmake, *remembered]))
        configure = [cmake, "-S", str(ROOT), "-B", str(build)]
        if importlib.util.find_spec("ninja") or shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        configure += [f"-DSSDOPS_WITH_{name}={switch(name)}" for name in SWITCHES]
        for name in ("SSDOPS_SANITIZE", "SSDOPS_WERROR"):
            configure.append(f"-D{name}={os.environ.get(name, 'OFF')}")
        build_type = os.environ.get("CMAKE_BUILD_TYPE", "Release")
        configure += [
            f"-DCMAKE_BUILD_TYPE={build_type}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DSSDOPS_VERSION={self.distribution.get_version()}",
            f"-DCMAKE_INSTALL_PREFIX={package}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        for command in (
            configure,
            [cmake, "--build", str(build), "--parallel", jobs],
            [cmake, "--install", str(build)],
        ):
            print("+", shlex.join(command), flush=True)
            subprocess.run(command, check=True)

    def give_up(self, package: Path, reason: str) -> None:
        """Install the pure-Python package, with the reason in its build facts."""
        demanded = [f"SSDOPS_WITH_{name}" for name in SWITCHES if switch(name) == "ON"]
        if demanded:
            raise SystemExit(f"{', '.join(demanded)} is ON, but {reason}")
        components = {
            name.lower(): {
                "status": "off" if switch(name) == "OFF" else "skipped",
                "reason": "switched off" if switch(name) == "OFF" else reason,
            }
            for name in SWITCHES
        }
        facts = {"components": components, "libraries": {}}
        path = package / "_build_facts.json"
        path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        print(f"ssdops: no native ops: {reason}", flush=True)

    def get_outputs(self) -> list[str]:
        """Files that CMake installed (known only after the build)."""
        package = Path(self.build_lib).resolve() / "ssdops"
        built = [*package.glob("*.so"), *package.glob("_build_facts.json")]
        return [str(path) for path in built]

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing for setuptools to copy in an editable install."""
        return {}


def discard_foreign_cache(build: Path, tools: str) -> None:
    """Start over if the build folder was made with other tools.

    The cache of an isolated build names tools in an environment that pip has
    deleted since.
    """
    stamp = build / "tools.txt"
    if build.exists() and (not stamp.exists() or stamp.read_text() != tools):
        shutil.rmtree(build)
    build.mkdir(parents=True, exist_ok=True)
    stamp.write_text(tools)


def find_cmake() -> str | None:
    """The CMake of this Python environment, else the one on the path."""
    if importlib.util.find_spec("cmake"):
        import cmake  # noqa: PLC0415

        candidate = Path(cmake.CMAKE_BIN_DIR) / "cmake"
        if candidate.exists():
            return str(candidate)
    return shutil.which("cmake")


setup(
    # Only the names matter to setuptools: a platform wheel, built by CMake.
    ext_modules=[Extension("ssdops._native", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    # Honoured by pip in the isolated build environment.
    setup_requires=[] if switch("TENSORFLOW") == "OFF" else [TENSORFLOW],
    install_requires=[
        TENSORFLOW,
        "defusedxml>=0.7.1",
        "h5py>=3.11",
        "matplotlib>=3.9",
        "numpy>=1.26",
        "pillow>=11",
        "pycocotools>=2.0.8",
        "rich>=13",
        "safetensors>=0.5",
        "scikit-learn>=1.5",
        "tomli>=2.0; python_version < '3.11'",
        "typer>=0.15",
    ],
    extras_require={
        "tensorboard": ["tensorboard>=2.20"],
        # Frames of video files.
        "video": ["av>=12"],
        "test": [
            "hypothesis>=6.100",
            "pytest>=8.3",
            "pytest-benchmark>=5.1",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "tensorboard>=2.20",
        ],
        "dev": [
            "clang-format==23.1.5",
            "clang-tidy==23.1.4",
            "codespell>=2.4",
            "mypy==2.4.1",
            "ruff==0.17.6",
        ],
        # What `ssdops bench` compares with if it is there; nothing else needs it.
        "peers": [
            "lsnms>=0.5",
            "ncnn>=1.0.20250101",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "opencv-python-headless>=4.10,<5",
            "openvino>=2025.0",
            "powerboxes>=0.3",
            "torch>=2.6",
            "torchvision>=0.21",
        ],
    },
)
