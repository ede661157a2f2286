"""Tasks, and the networks that act in them; see `evo.registry`. What a kind is, its class's docstring says."""

TASKS = {
    "sphere": "evo.envs.functions:Sphere",
    "rastrigin": "evo.envs.functions:Rastrigin",
    "ackley": "evo.envs.functions:Ackley",
    "rosenbrock": "evo.envs.functions:Rosenbrock",
    "bbob": "evo.envs.functions:BBOB",
    "arm": "evo.envs.arm:Arm",
    "projection": "evo.envs.projection:Projection",
    "brax": "evo.envs.brax:Brax",
    "maze": "evo.envs.maze:Maze",
    "gymnasium": "evo.envs.gymnasium:Gymnasium",
    "prompted": "evo.envs.language.prompted:Prompted",
    "text": "evo.envs.language.likelihood:Text",
    "custom": "evo.envs.custom:Custom",
}
