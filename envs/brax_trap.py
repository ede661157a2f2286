"""The ant in front of a U-shaped trap: reward for going forward leads into its dead end (after Colas et al. 2020).

The ant starts at the origin, forward is +x, and the trap opens towards it. Its walls are boxes as tall as anything the
ant does; torso and feet run into them.
"""

from __future__ import annotations

from typing import Any

MOUTH, DEPTH, HALF, THICK, TALL = 2.0, 6.0, 3.0, 0.5, 2.0  # metres: where it begins and ends, half its width, its walls
FLOOR, WALL = 1, 2  # bits of what collides with what


def trapped(env: Any) -> Any:
    """Brax's ant env with the trap in its world. Call it where JAX computes at once (see `evo.envs.brax`)."""
    import importlib.resources
    import xml.etree.ElementTree as xml

    from brax.io import mjcf

    model = xml.fromstring((importlib.resources.files("brax") / "envs/assets/ant.xml").read_text())
    for geom in model.iter("geom"):
        name = geom.get("name", "")
        if name == "torso_geom" or name.endswith("foot_geom"):
            geom.set("contype", str(int(geom.get("contype", 0)) | WALL))
    world = model.find("worldbody")
    assert world is not None
    for name, (x, y), (dx, dy) in walls():
        wall = {"name": name, "type": "box", "conaffinity": str(WALL), "rgba": "0.6 0.62 0.66 1"}
        wall |= {"pos": f"{x} {y} {TALL / 2}", "size": f"{dx} {dy} {TALL / 2}"}
        xml.SubElement(world, "geom", wall)
    made = mjcf.loads(xml.tostring(model, encoding="unicode"))
    env.sys = made.replace(opt=env.sys.opt, actuator=env.sys.actuator)
    return env


def walls() -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
    """Each wall's name, middle and half extents in the plane."""
    length, side = DEPTH + THICK - MOUTH, HALF + THICK / 2
    along, middle = length / 2, MOUTH + length / 2
    return [
        ("trap_end", (DEPTH + THICK / 2, 0.0), (THICK / 2, HALF)),
        ("trap_left", (middle, side), (along, THICK / 2)),
        ("trap_right", (middle, -side), (along, THICK / 2)),
    ]
