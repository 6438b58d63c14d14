"""Make the environment of the MONAI Label server: a small one laid over the ordinary one.

    python apps/cytology/environment/build.py .venv .venv-app

MONAI Label 0.8.5 cannot be resolved beside a current MONAI: what it asks for contradicts itself. What of it runs is
``requirements.lock``, every package pinned, installed without dependencies. Everything else (PyTorch is gigabytes) is
taken from the ordinary environment by a line of a ``.pth`` file, behind what is installed here. Radiology is left out:
``without/`` has stand-ins for the packages that MONAI Label imports for it (:mod:`itk` alone has 1.5 GB).
"""

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "requirements.lock"


def site_packages(environment: Path) -> Path:
    """Where an environment has its packages."""
    program = "import sysconfig; print(sysconfig.get_path('purelib'))"
    said = subprocess.run([python_of(environment), "-c", program], check=True, capture_output=True, text=True)
    return Path(said.stdout.strip())


def python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def build(base: Path, target: Path) -> None:
    """Install what is locked into ``target``, and lay it over ``base``."""
    base, target = base.absolute(), target.absolute()
    venv.EnvBuilder(clear=False, symlinks=sys.platform != "win32").create(target)
    overlay = site_packages(target) / "zz_ordinary_environment.pth"
    overlay.unlink(missing_ok=True)  # pip is to see only what is installed here
    pip = [python_of(base), "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", python_of(target)]
    subprocess.run([*pip, "install", "--no-deps", "-r", LOCK], check=True)
    # The ordinary environment has .pth files of its own (an editable install is one): addsitedir reads them.
    lines = [f"import site; site.addsitedir({str(site_packages(base))!r})", str(HERE / "without")]
    overlay.write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([python_of(target), "-W", "ignore", "-c", "import monailabel.interfaces.app"], check=True)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
