"""Every number of the fleet in one frozen object: environment > secrets > extra file > profile > settings.yaml."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from pydantic import Field, PrivateAttr, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.explain import explain, leaf_text, refuse_booleans
from config.layers import (
    Layer,
    anchored,
    merge,
    parameters,
    secret_variables,
    value_at,
    variable_name,
    variables_layer,
    yaml_layer,
)
from config.paper import PaperSettings
from config.sections import (
    DashboardSettings,
    LogSettings,
    MarketSettings,
    PlaybackSettings,
    RedisSettings,
    ScheduleSettings,
    SourceSettings,
    WorkersSettings,
)
from config.venue import VenueSettings
from config.watch import MetricsSettings, WatchSettings
from pipeline.analyzer import AnalyzerSettings
from pipeline.consensus import ConsensusSettings
from pipeline.errors import SettingsError
from pipeline.executor import ExecutorSettings
from pipeline.gate import GateSettings
from pipeline.models import Frozen
from pipeline.orchestrator import OrchestratorSettings
from pipeline.risk import RiskSettings
from pipeline.router import RouterSettings
from pipeline.scorer import ScorerSettings
from pipeline.tickers import TickerSettings
from pipeline.validator import ValidatorSettings

FOLDER: Final = Path(__file__).resolve().parent
PROFILES: Final = ("paper", "replay", "live", "demo")
DEFAULT_PROFILE: Final = "paper"
SHELL: Final = frozenset({"redis", "data_dir", "log", "source", "workers", "schedule", "dashboard", "watch", "metrics"})


class Settings(BaseSettings):
    """The whole fleet's settings. `Settings()` alone is the class defaults; `load_settings` reads the world."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )

    profile: Literal["paper", "replay", "live", "demo"] = Field(
        default="paper", description="the chosen profile; given by --profile or FLEET_PROFILE, never by a file"
    )
    environment: str = Field(
        default="paper", pattern=r"^[a-z0-9-]{1,16}$", description="name of this fleet; part of every client order id"
    )
    live_confirmed: bool = Field(default=False, description="the second switch without which nothing trades real money")
    clock: Literal["live", "event"] = Field(
        default="live", description="live = now is the wall clock; event = now is the message's own time"
    )
    data_dir: Path = Field(default=Path(".fleet"), description="folder of the embedded server and of what runs leave")

    redis: RedisSettings = RedisSettings()
    market: MarketSettings = MarketSettings()
    source: SourceSettings = SourceSettings()
    playback: PlaybackSettings = PlaybackSettings()
    workers: WorkersSettings = WorkersSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    dashboard: DashboardSettings = DashboardSettings()
    log: LogSettings = LogSettings()
    watch: WatchSettings = WatchSettings()
    metrics: MetricsSettings = MetricsSettings()

    orchestrator: OrchestratorSettings = OrchestratorSettings()
    tickers: TickerSettings = TickerSettings()
    analyzer: AnalyzerSettings = AnalyzerSettings()
    router: RouterSettings = RouterSettings()
    consensus: ConsensusSettings = ConsensusSettings()
    validator: ValidatorSettings = ValidatorSettings()
    scorer: ScorerSettings = ScorerSettings()
    risk: RiskSettings = RiskSettings()
    gate: GateSettings = GateSettings()
    executor: ExecutorSettings = ExecutorSettings()
    paper: PaperSettings = PaperSettings()
    venue: VenueSettings = VenueSettings()

    _layers: tuple[Layer, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library names it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library names it
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library names it
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library names it
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` hands in: it has read and merged every place itself, to name it in errors."""
        return (init_settings,)

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change when any value that could change a decision does."""
        lines = (
            f"{'.'.join(path)}={leaf_text(self, path)}" for path, _ in parameters(type(self)) if path[0] not in SHELL
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]

    @property
    def rq_prefix(self) -> str:
        """What RQ's keys begin with: `rq`, as every tool expects, or a part of a namespace of one's own."""
        return "rq" if self.redis.key_prefix == "fleet" else f"{self.redis.key_prefix}:rq"

    @property
    def is_live(self) -> bool:
        """Whether real money may move."""
        return self.profile == "live" or self.environment == "live"

    @model_validator(mode="after")
    def _a_venue_outside_live_moves_play_money(self) -> Self:
        """An order may reach a real venue only from a fleet that knows it is live."""
        if self.venue.kind == "http" and not self.is_live and not self.venue.sandbox:
            raise ValueError("venue.sandbox is false; outside profile live, kind http accepts only true")
        return self

    @model_validator(mode="after")
    def _only_practice_is_played_back(self) -> Self:
        """A recording moved to now must never move money, and needs the clock it is moved to."""
        if self.playback.first is not None and self.source.kind != "jsonl":
            raise ValueError(f"playback.first is set with source.kind {self.source.kind}; valid: jsonl")
        if self.playback.first is not None and (self.is_live or self.clock != "live" or self.venue.kind != "paper"):
            raise ValueError(
                f"playback.first is set with profile {self.profile}, clock {self.clock}, venue.kind {self.venue.kind}; "
                "valid: profile paper, clock live, venue.kind paper"
            )
        return self

    @model_validator(mode="after")
    def _live_needs_two_switches(self) -> Self:
        """Real money wants a second, explicit yes, a venue, a closed gate on error and the wall clock."""
        if not self.is_live:
            return self
        if not self.live_confirmed:
            raise ValueError("live_confirmed is false; set FLEET_LIVE_CONFIRMED=yes to trade real money")
        if self.clock != "live":
            raise ValueError(f"clock is {self.clock}; live accepts only live")
        if not self.orchestrator.gate_fail_safe_closed:
            raise ValueError("orchestrator.gate_fail_safe_closed is false; live accepts only true")
        if self.venue.kind != "http":
            raise ValueError(f"venue.kind is {self.venue.kind}; live accepts only http")
        return self

    @classmethod
    def from_layers(cls, layers: tuple[Layer, ...]) -> Self:
        """The settings of these layers, lowest first. Raises SettingsError naming place, path, value and range."""
        values: dict[str, Any] = {}
        for layer in layers:
            values = merge(values, layer.values)
        refuse_booleans(cls, layers, values)
        try:
            settings = cls(**values)
        except ValidationError as wrong:
            raise SettingsError(explain(cls, layers, wrong, values)) from None
        settings._layers = layers
        return settings

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Where the values came from, the lowest first."""
        return self._layers


class Row(Frozen):
    """One line of `fleet check`: a parameter, its value as text (secrets masked) and the place it came from."""

    path: str
    value: str
    origin: str


def load_settings(
    profile: str | None = None, extra_file: Path | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """The effective settings: environment > secrets > extra file > profile > settings.yaml.

    `extra_file` wins over FLEET_SETTINGS_FILE, `profile` over FLEET_PROFILE; without both it is `paper`.
    `environ` is the process's own when not given.
    Relative paths start at the working directory, those of a shipped profile at `config/`.
    Raises SettingsError with file or variable, parameter path, value received and valid range.
    """
    variables = os.environ if environ is None else environ
    chosen, where = _profile(profile, variables)
    layers = [
        _without_profile(yaml_layer(FOLDER / "settings.yaml")),
        anchored(_without_profile(yaml_layer(FOLDER / "profiles" / f"{chosen}.yaml")), Settings, FOLDER),
        Layer(where, {"profile": chosen}, {}),
    ]
    if extra_file is None and (named := variables.get("FLEET_SETTINGS_FILE")):
        extra_file = Path(named)
    if extra_file is not None:
        layers.append(_without_profile(yaml_layer(extra_file)))
    for layer in layers:
        _refuse_secrets(layer)
    folders = filter(None, variables.get("FLEET_SECRETS_DIR", "").split(os.pathsep))
    layers += [variables_layer(folder, Settings, secret_variables(Path(folder))) for folder in folders]
    layers.append(variables_layer("environment", Settings, variables))
    return Settings.from_layers(tuple(layers))


def _profile(asked: str | None, variables: Mapping[str, str]) -> tuple[str, str]:
    """The profile's name, checked, and who chose it."""
    named = variables.get("FLEET_PROFILE")
    chosen = asked or named or DEFAULT_PROFILE
    where = "--profile" if asked else "FLEET_PROFILE" if named else "default"
    if chosen not in PROFILES:
        raise SettingsError(f"{where}: {chosen!r} is no profile; valid: {', '.join(PROFILES)}")
    return chosen, where


def _without_profile(layer: Layer) -> Layer:
    """The layer, refused when it names a profile: a file cannot choose the files that are read."""
    if "profile" in layer.values:
        raise SettingsError(f"{layer.place(('profile',))}: profile is chosen by --profile or FLEET_PROFILE only")
    return layer


def _refuse_secrets(layer: Layer) -> None:
    """Raise for a secret in a settings file: files are copied, shown and committed. It is not repeated."""
    for path, info in parameters(Settings):
        found = value_at(layer.values, path)
        harmless = path == ("redis", "url") and "@" not in str(found)
        if found is not None and SecretStr in (info.annotation, *get_args(info.annotation)) and not harmless:
            raise SettingsError(
                f"{layer.place(path)}: {'.'.join(path)} holds a secret; valid: {variable_name(path)} or a secret file"
            )


def effective(settings: Settings) -> tuple[Row, ...]:
    """Every parameter with its value and where it came from, in the order of the classes."""
    return tuple(
        Row(path=".".join(path), value=leaf_text(settings, path), origin=_origin(settings.layers, path))
        for path, _ in parameters(Settings)
    )


def _origin(layers: tuple[Layer, ...], path: tuple[str, ...]) -> str:
    """The highest place that names the parameter."""
    return next((layer.place(path) for layer in reversed(layers) if layer.holds(path)), "default")
