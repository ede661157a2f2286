"""What a wheel installs, given the folder that it was installed to: `python tests/wheel.py SITE`."""

import subprocess
import sys
import tempfile
from pathlib import Path

ALONE = """
import sys, evo, evo.cli
assert not {"brax", "matplotlib", "mujoco"} & set(sys.modules), "`import evo` imports too much"
sys.exit(evo.cli.main(["list"]))
"""


def main(site: Path):
    top = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} - {"bin", "__pycache__"}
    assert top == {"evo"}, f"the wheel installs {sorted(top)}, wanted evo alone"
    for folder, suffix in (
        ("configs", ".yaml"),
        ("view", ".html"),
        ("view", ".js"),
        ("view", ".css"),
        ("strategies", ".py"),
        ("envs", ".py"),
    ):
        source = Path("evo/view" if folder == "view" else folder)
        missing = {p.name for p in source.glob(f"*{suffix}")} - {p.name for p in (site / "evo" / folder).iterdir()}
        assert not missing, f"the wheel lacks {sorted(missing)} of evo/{folder}"
    assert (site / "evo/py.typed").exists(), "the wheel lacks evo/py.typed"
    with tempfile.TemporaryDirectory() as elsewhere:
        command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site.resolve())!r}){ALONE}"]
        listed = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert "hopper_eggroll" in listed.stdout, listed.stdout
    print("the wheel installs evo alone, with its configs and pages")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
