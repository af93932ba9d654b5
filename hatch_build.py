"""Compiles the data path with mypyc: the build hook of wheels and of editable installs, and a command of its own.

    python hatch_build.py        compiles what is not up to date

Three extensions with all modules, beside small ones that only look theirs up in them, in gateway/_compiled, from where
gateway/native.py has them imported. The sources stay what they are: Python that also runs as it is. Where there is no
C compiler, or TIDEGATE_PURE=1 is set, nothing is compiled. With TIDEGATE_PGO=1 gcc compiles twice: in between,
`tidegate demo` shows it which code requests take, and that code is put together.
"""

import contextlib
import copy
import fcntl
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
PACKAGE = ROOT / "gateway"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
FOLDER = PACKAGE / "_compiled"
RECORD = f"sources{SUFFIX}.sha256"
WORK = ROOT / "out" / "compile" / str(sysconfig.get_config_var("SOABI"))

_TOLD_EVERY = 20.0
_BEGAN = time.monotonic()

GROUPS = {
    "tidegate_policy": ("policy", "shared", "exchange.py", "clock.py", "lateness.py", "claim.py"),
    "tidegate_wire": ("wire",),
    "tidegate_proxy": ("proxy", "backends", "telemetry", "observers.py", "control/evidence.py"),
}
"""One extension each, so that several cores compile; an extension needs only those above it."""
COMPILED = tuple(package for packages in GROUPS.values() for package in packages)
INTERPRETED = {
    "policy/capacity": "at work every two seconds, and large: compiling it would take a tenth of the time",
    "backends/reading.py": "a compiled coroutine that awaits in a `finally` leaves its exception behind in the thread",
    "wire/tls.py": "a subclass of asyncio.Protocol, and at work only until TLS is spoken",
    "telemetry/output.py": "C knows its attribute as a keyword, and it is at work in a thread of its own",
    "telemetry/line_writer.py": "at work in a thread of its own, once for each batch",
    "telemetry/exposition.py": "a subclass of a collector of prometheus_client",
    "telemetry/slo_exposition.py": "a subclass of a collector of prometheus_client",
    "telemetry/routing_exposition.py": "a subclass of a collector of prometheus_client",
    "telemetry/rollout_exposition.py": "a subclass of a collector of prometheus_client",
    "telemetry/admission_exposition.py": "a subclass of a collector of prometheus_client",
    "telemetry/waking_exposition.py": "at work once for each scrape",
    "telemetry/tenant_exposition.py": "at work once for each scrape",
    "telemetry/logs.py": "a subclass of a formatter of logging",
    "telemetry/lag.py": "at work ten times a second",
    "telemetry/traces.py": "at work once for each deployment",
    "telemetry/otlp_settings.py": "at work once, as the process starts",
    "telemetry/otlp_client.py": "at work in a thread of its own, once for each batch",
    "telemetry/metric_exporter.py": "at work once a minute",
    "telemetry/otlp_metrics.py": "at work once a minute",
    "telemetry/span_sender.py": "at work in a thread of its own, once for each batch",
}
"""What of these packages stays interpreted, and why. `errors.py` does too: class attributes of exceptions get lost."""
DEPENDED_ON = ("config", "errors.py", "marks.py", "signals.py", "__init__.py", "native.py")
"""What the compiled modules import beside each other: its types are compiled into them."""
FLAGS = ("-fvisibility=hidden", "-fno-plt") if sys.platform == "linux" else ()
"""Only the function that Python asks for is visible from outside, and calls out take no detour: a smaller extension."""
TRAINING = ("demo", "--quiet", "--seconds", "20", "--rate", "60", "--plain")
"""What a profile is taken of."""
USE = ("-fprofile-correction", "-fprofile-partial-training", "-Wno-missing-profile")
"""Code that the profile does not hold is compiled as if there were none, instead of for size."""
SLICES = "bytes_ops.c"
REPAIRED = ("endn = Clamp(endn, 0, len);", "endn = Clamp(endn, startn, len);")
"""A line of mypyc's runtime in the file SLICES, and what takes its place; `_repair_runtime` says why."""


def sources(names: tuple[str, ...]) -> list[str]:
    """Return the modules of packages and files, as paths below the package."""
    found = [
        path
        for name in names
        for path in ([PACKAGE / name] if name.endswith(".py") else (PACKAGE / name).rglob("*.py"))
    ]
    return sorted(str(path.relative_to(PACKAGE)) for path in found)


def modules(packages: tuple[str, ...] = COMPILED) -> list[str]:
    """Return what is compiled, as paths below the package."""
    kept = [name for name in sources(packages) if not name.endswith("__init__.py")]
    return [name for name in kept if name not in INTERPRETED and os.path.dirname(name) not in INTERPRETED]


def record(*, pgo: bool) -> str:
    """Return what is noted beside what these sources compile to, with these tools, with a profile or without."""
    build = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    how = f"-O{_level(pgo=pgo)}{', PGO' if pgo else ''}"
    tools = f"# mypy {version('mypy')}, {how}, {len(modules())} modules, hatch_build.py {build}\n"
    names = sources(COMPILED + DEPENDED_ON)
    digests = (f"{hashlib.sha256((PACKAGE / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    return tools + "".join(digests)


def missing() -> str:
    """Return why nothing can be compiled here, "" where it can."""
    if os.environ.get("TIDEGATE_PURE", "0") not in {"", "0"}:
        return "TIDEGATE_PURE is set"
    if compiler() is None:
        return "there is no C compiler"
    if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        return "there is no Python.h (Debian and Ubuntu: python3-dev)"
    if _runtime().read_text().count(REPAIRED[0]) != 1:
        return f"mypy {version('mypy')} is not one whose runtime can be repaired (REPAIRED in hatch_build.py)"
    return ""


def compiler() -> str | None:
    """Return the C compiler to use: the one that is asked for, the one that made this Python, or another."""
    if "CC" in os.environ:
        return os.environ["CC"] if shutil.which(os.environ["CC"].split()[0]) else None
    made_with = str(sysconfig.get_config_var("CC") or "cc")
    return next((each for each in (made_with, "cc", "gcc", "clang") if shutil.which(each.split()[0])), None)


def compile_all(folder: Path, work: Path) -> None:
    """Compile into a folder, if anything has changed since; `work` is where what lies between is put."""
    if is_current(folder):
        return
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        _wait_for(lock)  # who compiles at the same time waits, and finds it done
        if is_current(folder):
            return
        with_profile = wants_profile() and folder == FOLDER  # elsewhere, nothing that was compiled would be imported
        recorded = record(pgo=with_profile)
        with _telling():
            extensions = _translated(work, _level(pgo=with_profile))
        flags: tuple[str, ...] = ()
        if with_profile:
            profile = work / "profile"
            shutil.rmtree(profile, ignore_errors=True)
            counting = (f"-fprofile-generate={profile}", "-fprofile-update=single")
            with _telling():
                _install(_compiled(extensions, work, counting), folder, recorded)
            try:
                _train(profile)
            finally:
                (folder / RECORD).unlink()
            flags = (f"-fprofile-use={profile}", *USE)
        with _telling():
            _install(_compiled(extensions, work, flags), folder, recorded)


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Tell now and then that the compiler is still at work: it says nothing itself."""
    is_over = threading.Event()

    def tell() -> None:
        while not is_over.wait(_TOLD_EVERY):
            print(f"  still compiling, for {time.monotonic() - _BEGAN:.0f} s by now", flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()


def _install(built: Path, folder: Path, recorded: str) -> None:
    folder.mkdir(exist_ok=True)
    # Without a record nothing is compiled, and a process goes on with files that were removed.
    at = folder / RECORD
    at.unlink(missing_ok=True)
    for each in compiled_files(folder):
        each.unlink()
    shutil.copytree(built, folder, dirs_exist_ok=True)
    new = at.with_suffix(".new")
    new.write_text(recorded)
    new.replace(at)


def _train(profile: Path) -> None:
    """Serve requests with extensions that count; raises SystemExit where that leaves no counts."""
    print("Serving requests for a profile", flush=True)
    with tempfile.TemporaryDirectory(prefix="tidegate-") as folder:
        # Counts are written when a process ends by itself, which the gateway does not wait for.
        Path(folder, "sitecustomize.py").write_text("import os, sys\nos._exit = sys.exit\n")
        done = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-m", "gateway", *TRAINING],
            env=os.environ | {"PYTHONPATH": folder},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{done.stdout}`tidegate {' '.join(TRAINING)}` failed, so there is no profile")
    if not any(profile.rglob("*.gcda")):
        raise SystemExit(
            f"{compiler()} left no profile: TIDEGATE_PGO=1 needs gcc, and sources that stay as they are meanwhile"
        )


def _wait_for(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Waiting for another compile in this checkout", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def is_current(folder: Path) -> bool:
    """Whether what was compiled into a folder is what these sources compile to, with a profile if one is wanted."""
    at = folder / RECORD
    if not at.is_file():
        return False
    noted = at.read_text()
    return noted == record(pgo=True) or (noted == record(pgo=False) and not wants_profile())


def compiled_files(folder: Path) -> list[Path]:
    """Return what was compiled for this very Python; others may share the folder."""
    return sorted(folder.rglob(f"*{SUFFIX}"))


def _translated(work: Path, level: str) -> list[Any]:
    """Translate the sources to C; return the extensions to compile."""
    from mypyc.build import mypycify

    os.chdir(ROOT)
    os.environ["CC"] = str(compiler())
    shutil.rmtree(work / "c", ignore_errors=True)
    groups = [([f"gateway/{each}" for each in modules(packages)], name) for name, packages in GROUPS.items()]
    files = [each for group, _ in groups for each in group]
    print(f"Compiling {len(files)} modules of the data path: about three minutes on two free cores", flush=True)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            extensions = mypycify(
                ["--config-file=pyproject.toml", "--cache-dir=/dev/null", *files],
                only_compile_paths=files,
                opt_level=level,
                debug_level="0",
                target_dir=str(work / "c"),
                separate=groups,
            )
    except SystemExit:
        raise SystemExit(
            f"{said.getvalue()}These sources do not compile; TIDEGATE_PURE=1 runs them as they are"
        ) from None
    _repair_runtime(work / "c")
    for extension in extensions:
        extension.include_dirs.insert(0, str(work / "c"))
        # The next compiler warns of something else.
        kept = [each for each in extension.extra_compile_args if each != "-Werror"]
        extension.extra_compile_args = [*kept, *FLAGS]
    return list(extensions)


def _compiled(extensions: list[Any], work: Path, flags: tuple[str, ...]) -> Path:
    """Compile with flags beside those of each extension; return a folder with all modules."""
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    for each in ("lib", "objects"):
        shutil.rmtree(work / each, ignore_errors=True)
    every = [copy.copy(each) for each in extensions]
    for extension in every:
        extension.extra_compile_args = [*extension.extra_compile_args, *flags]
        extension.extra_link_args = [*extension.extra_link_args, *flags]
    command = build_ext(Distribution({"name": "tidegate", "ext_modules": every}))
    command.build_lib, command.build_temp = str(work / "lib"), str(work / "objects")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
    return work / "lib"


def _repair_runtime(folder: Path) -> None:
    """Let slices of bytes that end before they begin be empty: mypyc's runtime raises SystemError for `b"x"[1:-1]`.

    The part of it that does this is put where the compiler looks first.
    """
    (folder / SLICES).write_text(_runtime().read_text().replace(*REPAIRED))


def _runtime() -> Path:
    """Return the file to be repaired, without importing mypyc, which takes a second."""
    found = importlib.util.find_spec("mypyc")
    return Path(str(found and found.origin)).parent / "lib-rt" / SLICES


def wants_profile() -> bool:
    """Whether to compile with a profile."""
    return os.environ.get("TIDEGATE_PGO", "0") not in {"", "0"}


def _level(*, pgo: bool) -> str:
    return os.environ.get("MYPYC_OPT_LEVEL", "2" if pgo else "1")


class Compile(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles before a wheel is put together; an editable install finds the result in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add what was compiled to the wheel, if it can be compiled here."""
        why = missing()
        if why:
            print(f"Not compiled, so requests will cost twice as much: {why}")
            return
        folder, work = FOLDER, WORK
        if version != "editable" and not (is_current(folder) or os.access(PACKAGE, os.W_OK)):
            self._scratch = tempfile.TemporaryDirectory(prefix="tidegate-")  # goes with the process
            work = Path(self._scratch.name)
            folder = work / "compiled"
        compile_all(folder, work)
        if version == "editable":
            return
        for each in (*compiled_files(folder), folder / RECORD):
            build_data["force_include"][str(each)] = f"gateway/_compiled/{each.relative_to(folder)}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


if __name__ == "__main__":
    why = missing()
    if not (why or is_current(FOLDER) or os.access(PACKAGE, os.W_OK)):
        why = f"{PACKAGE} is read-only"
    if why:
        print(f"The data path is not compiled, so requests cost twice as much: {why}")
    else:
        compile_all(FOLDER, WORK)
