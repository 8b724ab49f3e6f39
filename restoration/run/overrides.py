"""The command line of the running job."""

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser


class Overrides:
    """What the running job's command line sets. A config file may set the same keys."""

    def __init__(self) -> None:
        parsed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
        self._values = {override.key_or_group: override for override in parsed}

    @property
    def keys(self) -> list[str]:
        """Dotted keys and groups, in order."""
        return list(self._values)

    def given(self, key: str) -> bool:
        """Whether the key, or one below it, is set."""
        return any(below(name, [key]) for name in self._values)

    @property
    def of_run(self) -> list[str]:
        """The overrides as text, sorted; without those that name the run or continue it."""
        kept = (override for name, override in self._values.items() if name not in ("name", "resume"))
        return sorted(str(override.input_line) for override in kept)

    @property
    def ablations(self) -> list[str]:
        """Names of the ablations: none, one, or several (`ablation=[noise,adaptive]`)."""
        override = self._values.get("ablation")
        chosen = None if override is None else override.value()
        return [str(name) for name in (chosen if isinstance(chosen, list) else [chosen] if chosen else [])]


def below(key: str, prefixes: tuple[str, ...] | list[str]) -> bool:
    """Whether a dotted key is one of the prefixes, or below one."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
