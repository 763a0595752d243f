"""Everything that can be configured, each by an environment variable that begins with `CRM_`."""

from datetime import time
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import available_timezones

from pydantic import Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Dsn = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^postgres(ql)?://")]


class Settings(BaseSettings):
    """Read once, at the start of a process; `Settings(port=…)` in tests."""

    model_config = SettingsConfigDict(
        env_prefix="CRM_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: Dsn | None = Field(
        default=None,
        repr=False,
        description="Your own Postgres, 16 or newer, as postgresql://user:password@host/database; "
        "it may be PgBouncer in transaction mode. Left out, Setia runs a Postgres of its own in CRM_DATA_DIR.",
    )
    direct_database_url: Dsn | None = Field(
        default=None,
        repr=False,
        description="The same database without a pooler between, for the worker and for migrations. "
        "By default CRM_DATABASE_URL.",
    )
    data_dir: Path = Field(
        default=Path("data"),
        description="Where Setia's own Postgres keeps its data, and `secret.key` lies where CRM_SECRET_KEY is not set.",
    )
    secret_key: str | None = Field(
        default=None,
        min_length=16,
        repr=False,
        description="Encrypts the secrets of channel accounts; the same for every process. Left out, a key is made "
        "once and kept in CRM_DATA_DIR.",
    )

    host: str = Field(default="127.0.0.1", description="The address the API listens on; 0.0.0.0 for every interface.")
    port: int = Field(default=8000, ge=1, le=65535, description="The port the API listens on.")
    api_processes: int = Field(
        default=1, ge=1, le=64, description="How many processes answer the API, each with its own pool of connections."
    )
    drain_seconds: int = Field(
        default=8, ge=1, le=300, description="How long a stopping process may finish the requests it has begun."
    )

    pool_size_max: int = Field(default=10, ge=1, le=500, description="Connections each API process opens at most.")
    worker_pool_size_max: int = Field(default=4, ge=2, le=100, description="Connections the worker opens at most.")

    default_region: str = Field(
        default="ID",
        pattern=r"^[A-Z]{2}$",
        description="The country (ISO 3166-1) of a phone number written without its country code.",
    )

    default_time_zone: str = Field(
        default="Asia/Jakarta", description="The time zone (IANA) of people of whom none is known."
    )
    quiet_from: time = Field(
        default=time(21),
        description="From when on nothing is sent that needs a consent, by the clock of whoever it would go to; "
        "it waits until CRM_QUIET_UNTIL. The same time for both: at any hour.",
    )
    quiet_until: time = Field(default=time(8), description="See CRM_QUIET_FROM.")

    deliveries_kept_days: int = Field(
        default=30, ge=1, le=3650, description="After how many days the content of what providers delivered is deleted."
    )
    thread_gap_hours: int = Field(
        default=24,
        ge=1,
        le=8760,
        description="After how many hours without a message the next one begins a new thread.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="`auto` is `console` at a terminal and `json` elsewhere."
    )

    @field_validator("default_time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError('must be an IANA time zone, such as "Asia/Jakarta"')
        return value

    @field_validator("quiet_from", "quiet_until")
    @classmethod
    def _local(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError("must be a time without a zone, such as 21:00")
        return value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()
