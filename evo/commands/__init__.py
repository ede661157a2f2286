"""The subcommands of `evo`, each a frozen dataclass of its arguments with a call that does it."""
