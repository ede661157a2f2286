"""Emitters of `evo.strategies.qd`, one file each; see `evo.registry`."""

EMITTERS = {
    "iso_line": "evo.strategies.emitters.iso_line:IsoLine",
    "cma": "evo.strategies.emitters.cma:CMA",
    "climb": "evo.strategies.emitters.climb:Climb",
    "conditioned": "evo.strategies.emitters.conditioned:Conditioned",
}
