"""Where settings come from: YAML files, a folder of secrets and environment variables, each as one layer.

A layer knows the exact place of every value (`file:line` or a variable's name), so that a refusal and
`fleet check` can name it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.exceptions import SettingsError as VendorSettingsError
from pydantic_settings.sources.utils import parse_env_vars

from pipeline.errors import SettingsError

PREFIX: Final = "FLEET_"
DELIMITER: Final = "__"
ALIASES: Final = {"FLEET_REDIS_URL": "FLEET_REDIS__URL"}
STEERING: Final = frozenset({"FLEET_PROFILE", "FLEET_SECRETS_DIR", "FLEET_SETTINGS_FILE"})
SECRET_MAX_BYTES: Final = 65_536

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """Values of one place, nested by section, and where each key stands: path -> `file:line` or variable."""

    name: str
    values: dict[str, Any]
    places: dict[KeyPath, str]

    def place(self, path: KeyPath) -> str:
        """Where the value at `path` was written, or the nearest section around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.name)

    def holds(self, path: KeyPath) -> bool:
        """Whether this layer says something about `path`."""
        here: Any = self.values
        for key in path:
            if not isinstance(here, Mapping) or key not in here:
                return False
            here = here[key]
        return True


def merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one, section by section; where both give a value the higher layer's counts."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def anchored(layer: Layer, model: type[BaseModel], base: Path) -> Layer:
    """The layer with its relative paths starting at `base`."""
    values = layer.values
    for path, info in parameters(model):
        found = value_at(values, path)
        if Path in (info.annotation, *get_args(info.annotation)) and isinstance(found, str):
            *sections, name = path
            nested: dict[str, Any] = {name: str(base / found)}
            for section in reversed(sections):
                nested = {section: nested}
            values = merge(values, nested)
    return Layer(layer.name, values, layer.places)


def value_at(values: Any, path: KeyPath) -> Any:
    """What stands exactly at the path, else None."""
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The settings class behind an annotation, if it is one."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def parameters(model: type[BaseModel], above: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """Every parameter below `model` with its path, in the order of the classes."""
    for name, info in model.model_fields.items():
        section = model_of(info.annotation)
        if section is None:
            yield (*above, name), info
        else:
            yield from parameters(section, (*above, name))


# ---- YAML ----------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain words: only `true` and `false` are booleans (`off`, `no` are text), 10:30 is no number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:int"}]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789"))


def yaml_layer(file: Path) -> Layer:
    """The file's values. Raises SettingsError when it is missing, no YAML, no mapping, or names a key twice."""
    name = str(file)
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        places = dict(_places(node, name, ()))
        values = {} if node is None else loader.construct_document(node)
    except FileNotFoundError as missing:
        raise SettingsError(f"{name}: there is no such settings file") from missing
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as broken:
        raise SettingsError(f"{name}: cannot be read as YAML: {' '.join(str(broken).split())}") from broken
    if not isinstance(values, dict):
        raise SettingsError(f"{name}: must hold sections (`section:` lines), received {type(values).__name__}")
    return Layer(name, values, places)


def _places(node: yaml.Node | None, file: str, above: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Path and `file:line` of every key below `node`. Raises SettingsError for a key that is there twice."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        path = (*above, key)
        if key in seen:
            raise SettingsError(f"{file}:{line}: {'.'.join(path)} is there twice, first in line {seen[key]}")
        seen[key] = line
        yield path, f"{file}:{line}"
        yield from _places(value_node, file, path)


# ---- environment and secrets -----------------------------------------------------------------------------


def secret_variables(folder: Path) -> dict[str, str]:
    """One variable for each file `FLEET_*` (any case) of the folder: its name and text without the last newline.

    Raises SettingsError when the folder is missing or a secret is unreadable or larger than 64 KiB.
    """
    if not folder.is_dir():
        raise SettingsError(f"FLEET_SECRETS_DIR: {folder} is not a folder")
    files = sorted(file for file in folder.iterdir() if file.name.upper().startswith(PREFIX) and file.is_file())
    return {file.name.upper(): _secret(file) for file in files}


def _secret(file: Path) -> str:
    """The secret's text."""
    if file.stat().st_size > SECRET_MAX_BYTES:
        raise SettingsError(f"{file}: {file.stat().st_size} bytes; a secret has at most {SECRET_MAX_BYTES}")
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as broken:
        raise SettingsError(f"{file}: cannot be read as text ({type(broken).__name__})") from broken


def variables_layer(name: str, settings: type[BaseSettings], variables: Mapping[str, str]) -> Layer:
    """The values of `FLEET_*` variables; an empty one counts as not set.

    Raises SettingsError for a name no parameter has, two names of one parameter, or a list that is no JSON.
    """
    ours = {key: value for key, value in variables.items() if key.startswith(PREFIX) and value and key not in STEERING}
    known = {variable_name(path): path for path, _ in parameters(settings)}
    _refuse_unknown(name, ours, known)
    canonical = _without_aliases(ours)
    for key, value in canonical.items():
        _refuse_unreadable(settings, key, value)
    values = _Variables(settings, canonical)()
    spelled = {canonical_name: given for given in ours for canonical_name in [ALIASES.get(given, given)]}
    return Layer(name, values, {known[key]: spelled[key] for key in canonical})


def variable_name(path: KeyPath) -> str:
    """The variable that sets the parameter: ("risk", "max_order_usd") -> FLEET_RISK__MAX_ORDER_USD."""
    return PREFIX + DELIMITER.join(path).upper()


def _refuse_unknown(name: str, ours: Mapping[str, str], known: Mapping[str, KeyPath]) -> None:
    """Raise for the first variable that no parameter has: a misspelt limit must not fall back to its default."""
    names = sorted({*known, *ALIASES, *STEERING})
    for given in sorted(ours):
        if given not in names:
            near = get_close_matches(given, names, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "`fleet check` lists every parameter"
            raise SettingsError(f"{name}: {given} is no variable of the fleet; {hint}")


def _without_aliases(ours: Mapping[str, str]) -> dict[str, str]:
    """Every variable by its full name. Raises when a short and a full name disagree."""
    canonical: dict[str, str] = {}
    for given, value in ours.items():
        full = ALIASES.get(given, given)
        if canonical.setdefault(full, value) != value:
            raise SettingsError(
                f"{full} and {' and '.join(a for a, f in ALIASES.items() if f == full)} differ; set one"
            )
    return canonical


def _refuse_unreadable(settings: type[BaseSettings], key: str, value: str) -> None:
    """Raise for a list or table that is no JSON. The value is not repeated: it may be a secret in the wrong place."""
    try:
        _Variables(settings, {key: value})()
    except VendorSettingsError as broken:
        raise SettingsError(
            f'{key}: cannot be read; lists are JSON such as ["a", "b"], tables {{"a": "b"}}'
        ) from broken


class _Variables(EnvSettingsSource):
    """pydantic-settings' reading of environment variables, over a mapping that is handed in."""

    def __init__(self, settings: type[BaseSettings], variables: Mapping[str, str]) -> None:
        self._given = variables
        super().__init__(settings, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        """Names in lower case, as the parent class wants them."""
        return parse_env_vars(self._given)
