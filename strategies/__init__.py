"""Strategies, one file each; see `evo.registry`."""

STRATEGIES = {
    "es": "evo.strategies.es:ES",
    "eggroll": "evo.strategies.es:EGGROLL",
    "openai_es": "evo.strategies.es:OpenAIES",
    "egg": "evo.strategies.egg:EGG",
    "deep_ga": "evo.strategies.deep_ga:DeepGA",
    "map_elites": "evo.strategies.map_elites:MapElites",
    "qd": "evo.strategies.qd:QD",
    "evosax": "evo.strategies.evosax:Evosax",
    "novelty_ga": "evo.strategies.novelty_ga:NoveltyGA",
    "novelty_es": "evo.strategies.novelty_es:NoveltyES",
    "qzo": "evo.strategies.qzo:QZO",
    "qes": "evo.strategies.qes:QES",
    "random_search": "evo.strategies.random_search:RandomSearch",
}
