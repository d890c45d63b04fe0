"""The real servers that tests and the bench talk to, a real browser and a compiler, from Debian's packages.

``python3 tools/servers.py`` makes sure that each of them exists and writes where to ``build/servers.json``.
What the machine has is used. What it lacks is installed with apt, as root or by ``sudo -n``; without either
it is unpacked into ``build/``, used from there as long as it is there, and nothing outside the checkout
changes. No daemon is left running: tests start their own.

Tests import :func:`locate`.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

BUILD = Path(__file__).resolve().parent.parent / "build"

PACKAGES: Mapping[str, str] = {
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "faketime": "faketime",
    "gcc": "build-essential",  # with the headers of the C library, which Debian's gcc only recommends
    "mosquitto": "mosquitto",
    "strace": "strace",
    "victoria-metrics": "victoria-metrics",
}
"""Command → the Debian package that brings it. One line adds a server."""

# Packages whose files a program looks for beside itself: unpacked with it even where they are installed.
_PARTS: Mapping[str, tuple[str, ...]] = {"chromium": ("chromium-common",), "faketime": ("libfaketime",)}

# A dozen packages that depend on one another: unpacked only where they are missing.
_MANY = frozenset({"gcc"})

# Debian keeps daemons where an ordinary user's PATH does not look.
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

# Package scripts must not start what they install: the first is for init scripts, the second for systemctl.
_APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "SYSTEMD_OFFLINE": "1"}


class ServerMissingError(Exception):
    """A server is not here and could not be brought; the message names the command that does it."""


def locate(name: str, build: Path = BUILD) -> Path:
    """Where the command ``name`` is: as recorded by the last run, else on this machine.

    Raises:
        ServerMissingError: it is not there.
    """
    record = build / "servers.json"
    recorded = json.loads(record.read_text()).get(name, "") if record.exists() else ""
    found = Path(recorded) if recorded and os.access(recorded, os.X_OK) else _find(name, build)
    if found is None:
        raise ServerMissingError(f"{name} is missing: run `make servers`, or {_remedy([name])}")
    return found


def ensure(build: Path = BUILD, *, unpack: bool = False) -> dict[str, Path]:
    """Bring every server that is missing and record where each is.

    With ``unpack`` all of them are unpacked below ``build``, also those that the machine has.

    Raises:
        ServerMissingError: one could not be brought.
    """
    missing = [
        name for name in sorted(PACKAGES) if (unpack and name not in _MANY) or _find(name, build) is None
    ]
    if "chromedriver" in missing and "chromium" not in missing:
        missing.append("chromium")  # a driver drives the version that it came with
    if missing:
        if shutil.which("apt-get") is None:
            raise ServerMissingError(f"no apt-get here: install {', '.join(missing)} by hand")
        if unpack or not _install([PACKAGES[name] for name in missing]):
            _unpack(missing, build)
    found = {name: _find(name, build) for name in sorted(PACKAGES)}
    if absent := [name for name, path in found.items() if path is None]:
        raise ServerMissingError(f"{', '.join(absent)} missing: {_remedy(absent)}")
    servers = {name: path for name, path in found.items() if path is not None}
    build.mkdir(parents=True, exist_ok=True)
    record = build / "servers.json"
    record.write_text(json.dumps({name: str(path) for name, path in servers.items()}, indent=2) + "\n")
    return servers


def _find(name: str, build: Path) -> Path | None:
    wrapper = _wrapper(name, build)
    if wrapper.exists():  # what was unpacked goes first, for it was unpacked as a set
        return wrapper
    on_machine = shutil.which(name, path=_SEARCH)
    return Path(on_machine).absolute() if on_machine else None


def _wrapper(name: str, build: Path) -> Path:
    return build / "bin" / name


def _remedy(names: list[str]) -> str:
    packages = " ".join(PACKAGES.get(name, name) for name in names)
    return f"sudo apt-get install --no-install-recommends {packages}"


# --- installing -------------------------------------------------------------------------------------------


def _install(packages: list[str]) -> bool:
    """Install with apt where that needs no password; False where it is not possible."""
    if os.geteuid() == 0:
        root: list[str] = []
    elif shutil.which("sudo") and _run(["sudo", "-n", "true"]).returncode == 0:
        root = ["sudo", "-n"]
    else:
        return False
    print("installing", *packages, flush=True)
    as_root = [*root, "env", *(f"{key}={value}" for key, value in _APT_ENVIRONMENT.items())]
    _run([*as_root, "apt-get", "update"])  # one broken source is no reason to stop; the install tells
    done = _run([*as_root, "apt-get", "install", "--yes", "--no-install-recommends", *packages])
    if done.returncode != 0:
        print(f"apt-get install failed, unpacking instead: {_last_line(done)}", file=sys.stderr)
        return False
    if Path("/run/systemd/system").is_dir():  # nor at the next boot
        for package in packages:
            _run([*root, "systemctl", "disable", "--now", package])
    return True


# --- unpacking --------------------------------------------------------------------------------------------


def _unpack(names: list[str], build: Path) -> None:
    """Download the packages and the libraries that the machine lacks, unpack them, and wrap each command."""
    archives, root = build / "debian" / "archives", build / "debian" / "root"
    for folder in (archives, root, build / "debian" / "lists", build / "bin"):
        folder.mkdir(parents=True, exist_ok=True)
    apt = [
        "apt-get",
        *("-o", f"Dir::State::Lists={build}/debian/lists"),  # the system's may be old or absent
        *("-o", f"Dir::Cache={build}/debian"),
        *("-o", "APT::Sandbox::User="),  # another user cannot write into a checkout
        *("-o", "Debug::NoLocking=true"),
    ]
    packages = [package for name in names for package in (PACKAGES[name], *_PARTS.get(name, ()))]
    print("unpacking", *packages, "into", build, flush=True)
    _must([*apt, "update"], names)
    # apt itself says what would be installed: the packages and exactly those dependencies that are not there.
    plan = _must([*apt, "install", "--simulate", "--reinstall", "--no-install-recommends", *packages], names)
    wanted = sorted(set(re.findall(r"^Inst (\S+)", plan, flags=re.MULTILINE)))
    _must([*apt, "download", *wanted], names, cwd=archives)
    for archive in archives.glob("*.deb"):
        _must(["dpkg", "-x", str(archive), str(root)], names)
        archive.unlink()
    for name in names:
        _wrap(name, root, build)


def _wrap(name: str, root: Path, build: Path) -> None:
    # usr/lib/chromium goes first: the chromium in usr/bin is a script that starts the installed one.
    programs = [root / folder / name for folder in (f"usr/lib/{name}", "usr/bin", "usr/sbin", "bin", "sbin")]
    program = next((path for path in programs if path.exists()), None)
    if program is None:
        raise ServerMissingError(f"the package {PACKAGES[name]} brings no command {name}: {_remedy([name])}")
    # libpulse knows only an absolute path to the part of itself in pulseaudio/.
    patterns = (
        "usr/lib",
        "lib",
        "usr/lib/*-linux-gnu*",
        "lib/*-linux-gnu*",
        "usr/lib/*-linux-gnu*/pulseaudio",
    )
    libraries = os.pathsep.join(str(folder) for pattern in patterns for folder in root.glob(pattern))
    linked = _run(["ldd", str(program)], environment={"LD_LIBRARY_PATH": libraries})
    if "not found" in linked.stdout:
        raise ServerMissingError(f"{name} was unpacked but lacks libraries: {_remedy([name])}")
    wrapper = _wrapper(name, build)
    wrapper.write_text(
        "#!/bin/sh\n"
        f"{_fonts(root)}"
        f"LD_LIBRARY_PATH={shlex.quote(libraries)}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} "
        f'exec {shlex.quote(str(program))} "$@"\n'
    )
    wrapper.chmod(0o755)


def _fonts(root: Path) -> str:
    """The line that lets a program see the fonts; empty where fontconfig was not unpacked: the machine has it."""
    unpacked = root / "etc/fonts/fonts.conf"  # it names /usr/share/fonts, and so finds no unpacked font
    if not unpacked.exists():
        return ""
    config = root.parent / "fonts.conf"
    config.write_text(
        "<fontconfig>\n"
        f"<dir>{escape(str(root / 'usr/share/fonts'))}</dir>\n"
        f"<include>{escape(str(unpacked))}</include>\n"
        "</fontconfig>\n"
    )
    return f"export FONTCONFIG_FILE={shlex.quote(str(config))}\n"


# --- commands ---------------------------------------------------------------------------------------------


def _run(
    command: list[str], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {}), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _must(command: list[str], names: list[str], *, cwd: Path | None = None) -> str:
    done = _run(command, cwd=cwd)
    if done.returncode != 0:
        raise ServerMissingError(f"{', '.join(names)} missing ({_last_line(done)}): {_remedy(names)}")
    return done.stdout


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def main() -> int:
    """Bring the servers; 0 when all are there, else 1 with one line that says what to do."""
    parser = argparse.ArgumentParser(description="Make sure that the real servers for tests exist.")
    parser.add_argument("--unpack", action="store_true", help="unpack all, also what is installed")
    parser.add_argument("--build", type=Path, default=BUILD, help="build folder (default: %(default)s)")
    arguments = parser.parse_args()
    try:
        ensure(arguments.build.resolve(), unpack=arguments.unpack)
    except ServerMissingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
